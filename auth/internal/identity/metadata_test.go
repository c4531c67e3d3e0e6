package identity

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/codec"
)

func TestValue(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "alice": "alice", "CN=Alice Smith": "CN=Alice Smith", " a ": "%20a%20", " ": "%20",
		"100%": "100%25", "%41": "%2541", "J\u00fcrgen": "J%C3%BCrgen", "a\nb\x7f": "a%0Ab%7F",
	} {
		if got := valueOf(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for want, in := range map[string][]string{
		"": nil, "read": {"read"}, "read write": {"read", "write"}, "a%20b c": {"a b", "c"}, "c 100%25 a%20b": {"c", "100%", "a b"},
	} {
		if got := valueOfAll(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzValue: values are legal metadata, and no two names have the same.
func FuzzValue(f *testing.F) {
	for _, seed := range []string{"alice", " %41\n", "J\u00fcrgen ", "\xff"} {
		f.Add(seed, "b")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		value := valueOf(one)
		if back, err := url.PathUnescape(value); err != nil || back != one || !codec.ValidValue(value) || strings.Trim(value, " ") != value {
			t.Errorf("%q is %q, and that %q, %v", one, value, back, err)
		}
		both := strings.Split(valueOfAll([]string{one, two}), " ")
		for i := range both {
			both[i], _ = url.PathUnescape(both[i])
		}
		if !slices.Equal(both, []string{one, two}) {
			t.Errorf("%q and %q are %q", one, two, both)
		}
	})
}

// TestForBackend: what Prepare has made is what the identity says.
func TestForBackend(t *testing.T) {
	id := Identity{Subject: "a%", Issuer: "https://id.test", Kind: JWT, Scopes: []string{"read", "write all"}}
	want := []string{"a%25", "https://id.test", "jwt", "read write%20all"}
	for range 2 {
		if got := id.ForBackend(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if cost := id.Prepare(); cost < len(want[3]) {
			t.Errorf("it costs %d bytes", cost)
		}
	}
}

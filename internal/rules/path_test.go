package rules

import (
	"path"
	"strings"
	"testing"
)

func TestPathElements(t *testing.T) {
	for prefix, want := range map[string]int{"": 0, "/": 0, "/team-a": 1, "/a/b.c~d_e-f": 2, "/$:@!*+/...": 2} {
		if got, err := PathElements(prefix); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", prefix, got, err, want)
		}
	}
	for _, prefix := range []string{"team-a", "//", "/a/", "/a//b", "/.", "/a/..", "/a%2Fb", "/a?b", "/a b", "/caf\u00e9", "/a\x00"} {
		if got, err := PathElements(prefix); err == nil || !strings.HasPrefix(err.Error(), "can match no path: write ") {
			t.Errorf("%q: %d, %v", prefix, got, err)
		}
	}
}

// FuzzPathElements checks that a prefix is the path that everybody reads in it.
func FuzzPathElements(f *testing.F) {
	for _, seed := range []string{"/a", "/a/b/", "/a/../b", "/a//b", "a", "/a%2e"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, prefix string) {
		n, err := PathElements(prefix)
		if err != nil || n == 0 {
			return
		}
		if path.Clean(prefix) != prefix || strings.Count(prefix, "/") != n || strings.ContainsAny(prefix, "%?#\\ ") {
			t.Errorf("%q has %d elements", prefix, n)
		}
	})
}

func TestCutPattern(t *testing.T) {
	for text, want := range map[string][2]string{
		"shop.v1.Orders/Get": {"shop.v1.Orders", "Get"}, "/shop.v1.Orders/*": {"shop.v1.Orders", "*"}, "*/*": {"*", "*"},
		"a/[A-C]*": {"a", "[A-C]*"}, "a/": {"a", ""}, "//b": {"", "b"}, `a/\*`: {"a", `\*`},
	} {
		if service, method, ok := CutPattern(text); !ok || service != want[0] || method != want[1] {
			t.Errorf("%q: %q, %q, %v; want %q", text, service, method, ok, want)
		}
	}
	for _, text := range []string{"", "/", "*", "acme.Admin", "/acme.Admin", "a/b/c", "a//b", "/a/b/", "acme.[/Drop", "acme.Admin/[", `acme.Admin/\`, "a/[]"} {
		if service, method, ok := CutPattern(text); ok {
			t.Errorf("%q is taken for %q, %q", text, service, method)
		}
	}
}

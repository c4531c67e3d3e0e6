package codec

import (
	"net/url"
	"strings"
	"testing"
)

func TestEventID(t *testing.T) {
	for id, want := range map[string]string{"": "", "7": "id: 7\n", "a\nb": "", "a\rb": "", "a\x00": "", "a\tb": "", "\x01": "", "a\x7f": "", " a": "", "a ": "", " ": "", "\xff": "", "a b": "id: a b\n", "ä b": "id: ä b\n"} {
		if got := EventID(id); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}

// FuzzParseMessageQuery: a message that is in the query isn't lost.
func FuzzParseMessageQuery(f *testing.F) {
	for _, raw := range []string{"", "message={}", "message=%7B%7D&x=1", "message=a;b", "message=%zz", "message=1&message=2", "x=message", "message"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := ParseMessageQuery(raw)
		if err == nil && got == "{}" && strings.HasPrefix(raw, "message=") && !strings.ContainsAny(raw, "%{") {
			t.Errorf("%q lost its message", raw)
		}
		if again, err := ParseMessageQuery("message=" + url.QueryEscape(raw)); err != nil || again != raw {
			t.Errorf("%q became %q, %v", raw, again, err)
		}
	})
}

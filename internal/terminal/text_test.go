package terminal

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"403 Forbidden":            "403 Forbidden",
		"Zürich\t東京 🙂":             "Zürich\t東京 🙂",
		"No\x1b]0;PWNED\x07\x1b[m": "No?]0;PWNED??[m",
		"a\x7fb\u009b31m":          "a?b?31m",
		"\x9b31m\xff\xfe":          "?31m?",
		"a\r\nb\x00":               "a??b?",
		"\u202eevil\u2066\u200f":   "?evil??",
		"a\u2028b\ufeffc\ufffd":    "a?b?c?",
	} {
		if got := Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"abcd": "abcd", "abcde": "abcd…", "abcä": "abc…", strings.Repeat("\x1b", 1<<16): "????…"} {
		if got := Short(in, 4); got != want {
			t.Errorf("%.9q: got %q, want %q", in, got, want)
		}
	}
	if got, want := Lines("a\x1b\n\n\u009bb"), "a?\n\n?b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSays(t *testing.T) {
	for body, want := range map[string]string{
		"<title>Blocked</title>":                           "Blocked",
		"<html><TITLE class='a'>\n Web  Filter\t</TITLE >": "Web Filter",
		"<title></title>":                                  "",
		"<title>no end":                                    "",
		"<title":                                           "",
		"":                                                 "",
		"\xff\xfe<title>\xff</title>":                      "?",
		"<title>\u212a &lt;b&gt;\x00</title>":              "\u212a <b>?",
		"<title>" + strings.Repeat("ö", 200) + "</title>": strings.Repeat("ö", 100) + "…",
		" no way\x1b\nto edge\n":                          "no way? to edge",
		"{\n  \"error\": \"no\"\n}":                       `{ "error": "no" }`,
		"Zür\xc3":                                         "Zür",
		"\x00\x00\x00\x00\x05hello":                       "",
		"\xff\xd8\xffabcd":                                "",
		strings.Repeat("ö", 200):                          strings.Repeat("ö", 100) + "…",
	} {
		if got := Says([]byte(body), 200); got != want {
			t.Errorf("%q says %q, want %q", body, got, want)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	for in, want := range map[string]string{
		"{\n  \"a\": \"ü\"\n}\n":   "{\n  \"a\": \"ü\"\n}\n",
		"\"\u009b31m\x7f\"":        `"\u009b31m\u007f"`,
		"\"\u202e\U000e0001\"":     `"\u202e\udb40\udc01"`,
		"\"\x9b\xff\ufffd\"":       `"\ufffd\ufffd` + "\ufffd\"",
		"{\"message\":\"\u2028\"}": `{"message":"\u2028"}`,
	} {
		if got := string(AppendJSON(nil, []byte(in))); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// FuzzText: a text has no character that a terminal acts on, and JSON means the same as before.
func FuzzText(f *testing.F) {
	for _, s := range []string{"a\x1b[31m\u009bb", "\xff\u202e", `{"a":"\u009b"}`, "\"\u009b\U000e0001\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if got := Says([]byte(in), 8); !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) || len(got) > 8+len("…") {
			t.Errorf("%q says %q", in, got)
		}
		if got := Text(in); !utf8.ValidString(got) || strings.ContainsFunc(got, unprintable) || Text(got) != got {
			t.Errorf("%q: %q", in, got)
		}
		var before, after any
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		got := AppendJSON(nil, b)
		if err := json.Unmarshal(b, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(got, &after); err != nil || !reflect.DeepEqual(before, after) || strings.ContainsFunc(strings.ReplaceAll(string(got), "\ufffd", ""), unprintable) {
			t.Errorf("%q: %q, %v", b, got, err)
		}
	})
}

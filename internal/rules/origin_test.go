package rules

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestMisplacedStar(t *testing.T) {
	for host, want := range map[string]bool{
		"": false, "*": false, "*.": false, "*.example.com": false, "app.example.com": false, "[::1]": false,
		"**": true, "*example.com": true, "app.*": true, "app.*.com": true, "*.*.com": true, "*.com*": true,
	} {
		if got := MisplacedStar(host); got != want {
			t.Errorf("%q has its star elsewhere: %v, want %v", host, got, want)
		}
	}
}

func TestOriginExpression(t *testing.T) {
	for text, scheme := range map[string]string{
		`https://pr-[0-9]+\.example\.com`: "https", `^http://localhost:[0-9]{4,5}$`: "http", `chrome-extension://[a-p]{32}`: "chrome-extension",
		"": "", "^": "", ".*": "", `pr-1\.example\.com`: "", `https?://a`: "", `(https|http)://a`: "", "HTTPS://a": "", "1a://b": "",
	} {
		got, whole, err := OriginExpression(text)
		if got != scheme || errors.Is(err, ErrNoScheme) != (scheme == "") || (whole == nil) != (scheme == "") {
			t.Errorf("%q: got %q, %v, %v, want the scheme %q", text, got, whole, err, scheme)
		}
	}
	for _, text := range []string{"https://(", "https://a)|(?:.*", "https://[", "https://a{2000}", "https://" + strings.Repeat("(a{1000}){1000}", 2)} {
		if _, _, err := OriginExpression(text); err == nil {
			t.Errorf("%.40q is taken", text)
		}
	}
}

// FuzzOriginExpression checks that an expression matches whole origins only.
func FuzzOriginExpression(f *testing.F) {
	for _, seed := range []string{`https://pr-[0-9]+\.example\.com`, `^http://localhost:[0-9]{4,5}$`, `https://a|b`, `https://a)|(?:.*`, `https://a\Q`, `https://a(?i)b`, `https://a#`} {
		f.Add(seed, "https://pr-1.example.com")
	}
	f.Fuzz(func(t *testing.T, text, origin string) {
		_, whole, err := OriginExpression(text)
		if err != nil || !whole.MatchString(origin) {
			return
		}
		longest := regexp.MustCompile("(?i:" + text + ")")
		longest.Longest()
		if at := longest.FindStringIndex(origin); at == nil || at[0] != 0 || at[1] != len(origin) {
			t.Errorf("%q matches %q, of which its match is %v", text, origin, at)
		}
	})
}

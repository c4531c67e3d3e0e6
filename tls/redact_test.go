package proxytls

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// written are the ways in which a provider of DNS may tell a secret again.
var written = map[string]func(s string) string{
	"as it is":            func(s string) string { return s },
	"in a query":          url.QueryEscape,
	"in a path":           url.PathEscape,
	"in a query, twice":   func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"in lower case":       func(s string) string { return lowerEscapes(url.QueryEscape(s)) },
	"every byte in a URL": func(s string) string { return fmt.Sprintf("%%%s", strings.Join(hexBytes(s), "%")) },
	"in JSON": func(s string) string {
		b, _ := json.Marshal(s)
		return strings.Trim(string(b), `"`)
	},
	"in JSON, twice":         func(s string) string { return strings.Trim(strconv.Quote(strconv.Quote(s)), `"\`) },
	"in Go":                  func(s string) string { return strings.Trim(fmt.Sprintf("%q", s), `"`) },
	"as a password":          func(s string) string { return base64.StdEncoding.EncodeToString([]byte("user:" + s)) },
	"in base64":              func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"in base64url":           func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("ab" + s + "c")) },
	"in base64 within a URL": func(s string) string { return url.QueryEscape(base64.StdEncoding.EncodeToString([]byte(s))) },
	"in base64 within a JSON": func(s string) string {
		return strings.ReplaceAll(base64.StdEncoding.EncodeToString([]byte(s)), "/", `\/`)
	},
}

func lowerEscapes(s string) string {
	for i := range len(s) {
		if s[i] == '%' {
			s = s[:i] + strings.ToLower(s[i:i+3]) + s[i+3:]
		}
	}
	return s
}

func hexBytes(s string) []string {
	var all []string
	for _, c := range []byte(s) {
		all = append(all, fmt.Sprintf("%02X", c))
	}
	return all
}

func TestSecretsAreRedactedInEveryForm(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{"a-token-of-dns", "t0ken+with/all=of it", `quo"ted\token<&>`, "wörter sind geheim", "xx?>?>?>xx", "-----BEGIN KEY-----\nsecret\r\n\tkey"} {
		r := newRedactor("user", secret, "1")
		for form, write := range written {
			text := "POST /zones?user=1&token=" + write(secret) + ": 403 Forbidden"
			got := r.redact(text)
			rest, ok := strings.CutPrefix(got, "POST /zones?user=1&token=")
			rest, ended := strings.CutSuffix(rest, ": 403 Forbidden")
			// The text around it in base64 may stay, and bits of its ends.
			if kept := strings.Replace(rest, "…", "", 1); !ok || !ended || kept == rest || len(kept) > 14 {
				t.Errorf("%q %s: %q becomes %q", secret, form, text, got)
			}
		}
	}
}

func TestShortAndLongSecrets(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long secret ", 4000)
	r := newRedactor("true", "prefix", "prefix-and-more", long)
	for text, want := range map[string]string{
		"it is true":      "it is true",
		"prefix":          "…",
		"prefix-and-more": "…",
		"a " + long + ".": "a ….",
	} {
		if got := r.redact(text); got != want {
			t.Errorf("%.40q becomes %.40q, want %q", text, got, want)
		}
	}
	for _, size := range []int{minSecret, 4 << 10} { // of bytes, as a file may hold them
		secret := strings.Repeat("\xff", size)
		if got := newRedactor(secret).redact("a " + secret + "."); got != "a …." {
			t.Errorf("%d bytes that are no text become %.40q", size, got)
		}
	}
	if got := newRedactor("").redact("text"); got != "text" {
		t.Errorf("without a secret a text becomes %q", got)
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("a-token-of-dns", "user:", "\n")
	f.Add("wörter sind geheim", "", "%")
	f.Add("aaaaaa", "aa", "aaaa")
	f.Fuzz(func(t *testing.T, secret, before, after string) {
		if len(secret) < minSecret || len(secret) > 100 || !utf8.ValidString(secret) || !utf8.ValidString(before) || !utf8.ValidString(after) {
			return
		}
		r := newRedactor(secret)
		for _, text := range []string{before + secret + after, before + url.QueryEscape(secret) + after} {
			if got := r.redact(text); strings.Contains(got, secret) && !strings.Contains("…", secret) {
				t.Errorf("%q: %q becomes %q", secret, text, got)
			}
		}
		whole := base64.StdEncoding.EncodeToString([]byte(before + secret + after))
		if got, err := base64.StdEncoding.DecodeString(r.redact(whole)); err == nil && bytes.Contains(got, []byte(secret)) {
			t.Errorf("%q: %q becomes %q", secret, whole, r.redact(whole))
		}
	})
}

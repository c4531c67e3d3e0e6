package check

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"
)

func TestPlainTexts(t *testing.T) {
	for in, want := range map[string]string{
		"":                           "",
		"token expired":              "token expired",
		"  a\r\n\tb  ":               "a b",
		"caf\u00e9 \u4e16":           "caf\u00e9 \u4e16",
		"a\xffb":                     "a b",
		"\x1b[31mred\x00":            "[31mred",
		"right \u202eto left":        "right to left",
		"\ufeff\u200b":               "",
		strings.Repeat("\u00e9", 99): strings.Repeat("\u00e9", 49),
	} {
		got := plain(in, 100, nil)
		if got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
		if len(got) > 100 || !utf8.ValidString(got) {
			t.Errorf("plain(%q) = %q, %d bytes", in, got, len(got))
		}
	}
}

func TestTextsDontRepeatCredentials(t *testing.T) {
	hidden := secretsOf(metadata.MD{
		"authorization": {"Bearer headheadhead.bodybodybody.signsignsign"},
		"cookie":        {"theme=dark; session=0123456789abcdef"},
		"x-api-key":     {"c2VjcmV0/longlonglong+c2Vj"},
		"x-token-bin":   {"\xfb\xffraw bytes of a token"},
	}, nil)
	for text, want := range map[string]bool{
		"Bearer expired":                        false,
		"the theme is dark":                     false,
		"expired: headheadhead.bodybodybody...": true,
		"its claims are bodybodybody":           true,
		"unknown session 0123456789abcdef":      true,
		`{"key":"c2VjcmV0\/longlonglong+c2Vj"}`: true,
		"/login?key=c2VjcmV0%2Flonglonglong%2B": true,
		"no such token: " + base64.RawStdEncoding.EncodeToString([]byte("\xfb\xffraw bytes of a token")): true,
	} {
		if got := hidden.in(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
		if got := plain(text, 100, hidden); (got == "") != want {
			t.Errorf("plain(%q) = %q", text, got)
		}
	}
	for _, shown := range []string{fmt.Sprint(hidden), fmt.Sprintf("%v %+v %#v %s", hidden, hidden, hidden, hidden)} {
		if strings.Contains(shown, "headhead") || strings.Contains(shown, "0123") || strings.Contains(shown, "longlong") {
			t.Errorf("printed, secrets are %q", shown)
		}
	}
}

func TestCausesAreShortLines(t *testing.T) {
	if got := cause("502\ndata: \"<html>\"", nil); got != "502" {
		t.Errorf("got %q, want the first line", got)
	}
	if got := cause("\x00", nil); got == "" {
		t.Error("a cause without a text")
	}
}

// TestLongSecretsAreHiddenByTheirBeginning: what is read of a body may end within one.
func TestLongSecretsAreHiddenByTheirBeginning(t *testing.T) {
	token := strings.Repeat("t0k3n", 2000)
	hidden := secretsOf(metadata.MD{"authorization": {"Bearer " + token}}, nil)
	if got := plain(("no such token: " + token)[:maxBodyBytes], maxCauseBytes, hidden); got != "" {
		t.Errorf("got %q", got)
	}
}

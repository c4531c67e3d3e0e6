package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenFile: what can't be a token is an error that names the file, and shows nothing of it.
func TestTokenFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tok")
	for text, says := range map[string]string{
		"secret\n":                        "",
		"\ufeffsecret\r\n":                "",
		" \n":                             "is empty",
		"secret\nsecond\n":                "has a character that no token has",
		"Bearer secret":                   "has a character that no token has",
		"secret\x01":                      "has a character that no token has",
		"secret\u00e4":                    "has a character that no token has",
		strings.Repeat("secret", maxText): "is over 64 KiB",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		switch token, err := tokenOf(file)(t.Context()); {
		case says == "" && (err != nil || token != "secret"):
			t.Errorf("%q: %q, %v", text, token, err)
		case says != "" && (err == nil || token != "" || !strings.Contains(err.Error(), file+" "+says) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%.20q: %q, %v, want %q", text, token, err, says)
		}
	}
	if err := os.WriteFile(file, []byte("secret\nsecond"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := new(strings.Builder)
	if code := run([]string{"dial", "https://edge.test", "--token-file", file, "--listen", "unix:" + filepath.Join(t.TempDir(), "s")}, out, out); code != exitMisuse || !strings.Contains(out.String(), "--token-file: "+file) {
		t.Errorf("exit code %d: %s", code, out)
	}
}

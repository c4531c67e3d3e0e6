package config

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestExampleFile holds proxy.yaml to what it is for: it is short, it loads
// without a warning, also with its keys that are commented out, and it names
// the schema.
func TestExampleFile(t *testing.T) {
	clearEnvironment(t)
	const name, most = "../proxy.yaml", 60
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if lines := bytes.Count(text, []byte("\n")); lines > most {
		t.Errorf("proxy.yaml has %d lines, want at most %d", lines, most)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	schema, found := strings.CutPrefix(first, "# yaml-language-server: $schema=")
	if _, err := os.Stat(filepath.Join("..", schema)); !found || err != nil {
		t.Errorf("proxy.yaml begins with %q, want the schema of editors (%v)", first, err)
	}
	// A comment has a blank behind its "#", a key has none.
	whole := regexp.MustCompile(`(?m)^( *)#([^\s#])`).ReplaceAll(text, []byte("$1$2"))
	whole = regexp.MustCompile(`(?m)^( *)#(  \S)`).ReplaceAll(whole, []byte("$1$2"))
	if bytes.Equal(whole, text) {
		t.Error("proxy.yaml has no key that is commented out")
	}
	for what, file := range map[string][]byte{"as it stands": text, "with all keys": whole} {
		path := filepath.Join(t.TempDir(), "proxy.yaml")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(Options{}, path, nil)
		if err != nil || len(l.Warnings) > 0 {
			t.Errorf("proxy.yaml %s: %v, warnings %q\n%s", what, err, l.Warnings, file)
		}
		if !l.IsSet("backend.address") {
			t.Errorf("proxy.yaml %s doesn't name a backend", what)
		}
	}
}

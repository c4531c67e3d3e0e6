package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// warns reports whether culvert warns of a configuration. A part without listen is about
// something else, so the warning of the default listener doesn't count.
func warns(said string) bool {
	for line := range strings.Lines(said) {
		if strings.Contains(line, "warning") && !strings.Contains(line, "warning: listen: the default") {
			return true
		}
	}
	return false
}

// runYAML has culvert check the block as its configuration.
func runYAML(t *testing.T, b block) {
	if fetchesCertificates(b) {
		runACME(t, b)
		return
	}
	if holdsCertificates(b) {
		runTLS(t, b)
		return
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "proxy.yaml"), []byte(withKeys(t, culvertFiles(b.text))), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "api-keys"), []byte("# nobody\n"), 0o600); err != nil { // docs/reference/auth.md
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "otlp.token"), []byte("Bearer x\n"), 0o600); err != nil { // docs/guides/otlp.md
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(worldDir, "cert.pem"), filepath.Join(dir, "otlp-ca.pem")); err != nil { // likewise
		t.Fatal(err)
	}
	text, err := output(t, dir, culvertProgram, "validate", "--partial", "proxy.yaml")
	if err != nil || warns(text) {
		t.Errorf("culvert validate: %v\n%s", err, text)
	}
}

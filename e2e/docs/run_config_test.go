package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

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
	if err := os.WriteFile(filepath.Join(dir, "proxy.yaml"), []byte(culvertFiles(b.text)), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := output(t, dir, 10*time.Second, culvertProgram, "validate", "--partial", "proxy.yaml")
	if err != nil || strings.Contains(text, "warning") {
		t.Errorf("culvert validate: %v\n%s", err, text)
	}
}

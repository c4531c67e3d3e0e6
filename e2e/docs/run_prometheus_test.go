package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// wantPrometheus has Prometheus' own tool judge a configuration, with the alerts that it
// names, or a file of alerts.
func wantPrometheus(t *testing.T, b block) {
	dir := t.TempDir()
	if strings.Contains(b.text, "groups:\n") {
		file := writeFile(t, "rules.yaml", b.text)
		if text, err := output(t, dir, "promtool", "check", "rules", file); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		return
	}
	rules, err := os.ReadFile(filepath.Join(root, "deploy", "grafana", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"alerts.yaml": rules, "prometheus.yml": []byte(b.text)} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := output(t, dir, "promtool", "check", "config", "prometheus.yml"); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

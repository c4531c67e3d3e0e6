package tools

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAlerts has Prometheus' own tool judge deploy/grafana/alerts.yaml and run its tests. Each
// alert must have a case in which it fires, one in which it is quiet, and a section of
// the run book.
func TestAlerts(t *testing.T) {
	const folder = "../deploy/grafana/"
	run(t, nil, "promtool", "check", "rules", folder+"alerts.yaml")
	run(t, nil, "promtool", "test", "rules", folder+"alerts_test.yaml")

	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	rules, cases, guide := read(folder+"alerts.yaml"), read(folder+"alerts_test.yaml"), read("../docs/guides/runbook.md")
	var names []string
	for _, rule := range strings.Split(rules, "- alert: ")[1:] {
		name, _, _ := strings.Cut(rule, "\n")
		names = append(names, name)
		for _, want := range []string{"name: " + name + " fires\n", "name: " + name + " is quiet\n"} {
			if !strings.Contains(cases, want) {
				t.Errorf("alerts_test.yaml has no case %q", strings.TrimSpace(want))
			}
		}
		if !strings.Contains(rule, "docs/guides/runbook.md#"+strings.ToLower(name)+"\n") {
			t.Errorf("%s: its runbook_url isn't its section of the run book", name)
		}
	}
	sections := regexp.MustCompile(`(?m)^### (Culvert\w+)$`).FindAllStringSubmatch(guide, -1)
	var explained []string
	for _, m := range sections {
		explained = append(explained, m[1])
	}
	if !slices.Equal(names, explained) || len(names) == 0 {
		t.Errorf("the run book explains %v, want the alerts in their order: %v", explained, names)
	}
}

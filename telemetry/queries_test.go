package telemetry

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// queries returns what the dashboard, the alerts and the run book's example ask Prometheus.
func queries(t testing.TB) []string {
	t.Helper()
	const folder = "../deploy/grafana/"
	dashboard, err := os.ReadFile(folder + "culvert.json")
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(dashboard, &tree); err != nil {
		t.Fatal(err)
	}
	var all []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				if text, is := inner.(string); is && (key == "expr" || key == "query" && strings.HasPrefix(text, "label_values(")) {
					all = append(all, text)
				}
				walk(inner)
			}
		case []any:
			for _, inner := range v {
				walk(inner)
			}
		}
	}
	walk(tree)
	alerts, err := os.ReadFile(folder + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../docs/guides/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range slices.Concat(strings.Split(string(alerts), "expr: ")[1:], strings.Split(string(guide), "expr: ")[1:]) {
		expr, _, _ := strings.Cut(rule, "\n        labels:")
		expr, _, _ = strings.Cut(expr, "\n        for:")
		all = append(all, strings.TrimPrefix(expr, "|\n"))
	}
	return all
}

var (
	selector = regexp.MustCompile(`\b((?:culvert|rpc|process|go)_[a-z_]+|up)\b(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring) \(([^)]*)\)`)
)

// TestQueriesAskForWhatThereIs: the dashboard and the alerts name metrics of the table
// and their labels, and those that Prometheus adds.
func TestQueriesAskForWhatThereIs(t *testing.T) {
	added := []string{"job", "instance", "le"}
	all := queries(t)
	used := map[string]bool{}
	for _, query := range all {
		known := slices.Clone(added)
		for _, m := range selector.FindAllStringSubmatch(grouping.ReplaceAllString(query, ""), -1) {
			f, ok := named(m[1])
			if !ok {
				t.Errorf("%s: there is no metric %s", query, m[1])
				continue
			}
			used[f.Name] = true
			known = append(known, f.Labels...)
			for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(f.Labels, l[1]) && !slices.Contains(added, l[1]) {
					t.Errorf("%s: %s has no label %s", query, f.Name, l[1])
				}
			}
		}
		for _, m := range grouping.FindAllStringSubmatch(query, -1) {
			for _, l := range strings.FieldsFunc(m[1], func(r rune) bool { return r == ',' || r == ' ' }) {
				if !slices.Contains(known, l) {
					t.Errorf("%s: no metric in it has the label %s", query, l)
				}
			}
		}
	}
	for _, f := range families {
		if !used[f.Name] && f.Name != connsBegan.Name {
			t.Errorf("neither the dashboard nor an alert uses %s", f.Name)
		}
	}
	if len(all) < 40 {
		t.Errorf("only %d queries were found", len(all))
	}
}

// named returns the family of a metric in a query. Those of the process and of Go aren't
// in the table, nor is Prometheus' own.
func named(metric string) (Family, bool) {
	if metric == "up" || strings.HasPrefix(metric, "process_") || strings.HasPrefix(metric, "go_") {
		return Family{Name: metric}, true
	}
	for _, f := range families {
		base := metric
		if f.Kind == Histogram {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, suffix)
			}
		}
		if base == f.Name {
			return f, true
		}
	}
	return Family{}, false
}

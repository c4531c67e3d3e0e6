package config

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestLimitsByScope compares the table of limits by scope in docs/guides/limits.md with
// the keys.
func TestLimitsByScope(t *testing.T) {
	page, err := os.ReadFile("../docs/guides/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	const head = "| limit |"
	_, table, found := strings.Cut(string(page), head)
	if !found {
		t.Fatalf("no line begins with %q", head)
	}
	table, _, _ = strings.Cut(head+table, "\n\n")
	rows := strings.Split(table, "\n")
	scopes := cells(rows[0])[1:]
	var told []string
	for _, row := range rows[2:] {
		cells := cells(row)
		name := strings.Split(cells[0], "`")[1]
		for i, scope := range scopes {
			switch key := strings.Trim(scope, "`") + name; cells[i+1] {
			case "yes":
				told = append(told, key)
			case "–":
			default:
				t.Errorf("%s: %q", key, cells[i+1])
			}
		}
	}
	others := []string{ // that count nothing, or hold for the whole process
		"limits.buffered_bytes", "limits.memory", "limits.address", "limits.methods", "limits.methods[].pattern", "limits.enforce",
		"limits.slow_consumer_timeout", "limits.slow_sender_timeout", "limits.idle_timeout", "limits.max_age",
		"limits.connection_idle_timeout", "limits.connection_max_age",
	}
	var are []string
	add := func(k Key) {
		if slices.Contains(scopes, "`"+strings.TrimSuffix(k.Name, k.last())+"`") && !slices.Contains(others, k.Name) {
			are = append(are, k.Name)
		}
	}
	for _, k := range Keys() {
		add(k)
		for _, of := range k.Entries() {
			add(of)
		}
	}
	slices.Sort(told)
	slices.Sort(are)
	if !slices.Equal(told, are) {
		t.Errorf("the table tells of %q, the keys are %q", told, are)
	}
}

// cells are those of a table's row.
func cells(row string) []string {
	var list []string
	for cell := range strings.SplitSeq(strings.Trim(row, "|"), "|") {
		list = append(list, strings.TrimSpace(cell))
	}
	return list
}

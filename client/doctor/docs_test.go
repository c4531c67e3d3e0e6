package doctor

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestReportInTheReference holds the report in docs/reference/doctor.md to the types and to the
// table of verdicts, and its table of probes to the probes.
func TestReportInTheReference(t *testing.T) {
	page, err := os.ReadFile("../../docs/reference/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatal("it has no report")
	}
	var got map[string]any
	if err := json.Unmarshal(block[1], &got); err != nil {
		t.Fatal(err)
	}
	whole, err := json.Marshal(Report{
		Proxy: "p", Notes: []string{"n"}, Findings: []Finding{{Answer: &Answer{Reason: "r", Says: "s", Server: "s", Via: "v", Product: "p"}, Cause: "c", Evidence: "e", After: 1e9}},
		Judgement: Judgement{Verdicts: []Verdict{{Programs: "p", Pages: "p", Ask: "a", Evidence: "e"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var have map[string]any
	if err := json.Unmarshal(whole, &have); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, "", got, have)
	for _, v := range got["verdicts"].([]any) {
		row := v.(map[string]any)
		known, ok := verdicts()[row["id"].(string)]
		if words, _ := strings.CutSuffix(row["words"].(string), "…"); !ok || !strings.HasPrefix(known.Words, words) || known.Docs != row["docs"] || known.Programs != row["programs"] {
			t.Errorf("the verdict %v isn't that of the table: %+v", row, known)
		}
	}
	for _, p := range order {
		if !strings.HasPrefix(string(p), "idle-") && !strings.Contains(string(page), "`"+string(p)+"`") {
			t.Errorf("it has no probe %s", p)
		}
	}
}

// wantKeys checks that each key in a document is one that a report has.
func wantKeys(t *testing.T, at string, got, have any) {
	t.Helper()
	switch got := got.(type) {
	case map[string]any:
		all, _ := have.(map[string]any)
		for key, v := range got {
			if _, ok := all[key]; !ok {
				t.Errorf("a report has no %s.%s", at, key)
				continue
			}
			wantKeys(t, at+"."+key, v, all[key])
		}
	case []any:
		all, _ := have.([]any)
		for v := range slices.Values(got) {
			if len(all) == 0 {
				t.Errorf("a report has no list %s", at)
				return
			}
			wantKeys(t, at+"[]", v, all[0])
		}
	}
}

// TestLimitsHaveSources: the guide has the time of each product that the doctor names, with a link,
// and no other times.
func TestLimitsHaveSources(t *testing.T) {
	page, err := os.ReadFile("../../docs/guides/corporate-proxies.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "\n### Connections are cut\n")
	sources := map[string]string{} // by time
	for _, row := range regexp.MustCompile(`(?m)^\| (\d[^|]*) \| (.*) \|$`).FindAllStringSubmatch(table, -1) {
		for at := range strings.SplitSeq(row[1], ", ") {
			sources[at] = row[2]
		}
	}
	known := map[string]bool{}
	for _, l := range limits {
		at := fmt.Sprintf("%d s", int(l.after.Seconds()))
		switch whole := l.after % time.Minute; {
		case l.after >= time.Hour:
			at = fmt.Sprintf("%d h", int(l.after.Hours()))
		case l.after > 2*time.Minute && whole == 0:
			at = fmt.Sprintf("%d min", int(l.after.Minutes()))
		}
		at += map[bool]string{true: " idle", false: " in all"}[l.idle]
		for _, product := range regexp.MustCompile(`\b(?:[A-Z]\w+|nginx)`).FindAllString(regexp.MustCompile(`\(.*?\)`).ReplaceAllString(l.who, ""), -1) {
			known[at] = true
			if !regexp.MustCompile(`\b` + product + `\b[^,]*\]\(https://`).MatchString(sources[at]) {
				t.Errorf("%s of %s has no source: %q", at, product, sources[at])
			}
		}
	}
	for at := range sources {
		if !known[at] {
			t.Errorf("the guide has a limit of %s, and the doctor doesn't know it", at)
		}
	}
}

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

//go:generate go test -count=1 -run ^TestNothingIsRemovedSilently$ . -update

// compatLists are the names that people's files, scripts, alerts and clients depend
// on. A list in testdata/compat has all that ever were: names are added to it, and
// never removed.
var compatLists = map[string]func() []string{
	"keys.txt":    compatKeys,
	"reasons.txt": compatReasons,
	"metrics.txt": compatMetrics,
	"exit-codes.txt": func() []string {
		return []string{fmt.Sprint(exitDone, " done"), fmt.Sprint(exitFailed, " failed"), fmt.Sprint(exitMisuse, " misuse"), fmt.Sprint(exitStatus, " plus the code of a call's status"), fmt.Sprint(exitInterrupted, " interrupted call"), fmt.Sprint(exitUntold, " untold by doctor"), fmt.Sprint(exitInterrupted, " interrupted doctor")}
	},
}

// compatKeys has a line for each key, its flag, and each of its words.
func compatKeys() []string {
	var lines []string
	add := func(k config.Key) {
		lines = append(lines, k.Name)
		if k.Flag != "" {
			lines = append(lines, k.Name+" --"+k.Flag)
		}
		for _, word := range k.Words() {
			lines = append(lines, k.Name+"="+word)
		}
	}
	for _, k := range config.Keys() {
		add(k)
		for _, e := range k.Entries() {
			add(e)
			for _, inner := range e.Entries() {
				add(inner)
			}
		}
	}
	return lines
}

// compatReasons has a line for each reason with its code, which clients may act on.
func compatReasons() []string {
	var lines []string
	for _, r := range report.Reasons(nil) {
		lines = append(lines, fmt.Sprintf("%s %s", r.Reason, r.Code))
	}
	return lines
}

// compatMetrics has a line for each metric with its kind, and for each of its labels.
func compatMetrics() []string {
	var lines []string
	for _, f := range telemetry.Families() {
		lines = append(lines, fmt.Sprintf("%s %s", f.Name, f.Kind))
		for _, l := range f.Labels {
			lines = append(lines, f.Name+"{"+l+"}")
		}
	}
	return lines
}

// TestNothingIsRemovedSilently: a name that is removed or renamed needs a line in
// the CHANGELOG that begins with "- Migration:" and has the line of the list in
// backticks.
func TestNothingIsRemovedSilently(t *testing.T) {
	changelog, err := os.ReadFile(filepath.Join("..", "..", "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	for name, now := range compatLists {
		file, lines := filepath.Join("testdata", "compat", name), now()
		data, err := os.ReadFile(file)
		if err != nil && !*update {
			t.Fatal(err)
		}
		before := strings.FieldsFunc(string(data), func(r rune) bool { return r == '\n' })
		missing, added := compare(before, lines, migrations(changelog))
		for _, line := range missing {
			t.Errorf("%s: %q is gone: keep it, or begin a line of CHANGELOG.md with \"- Migration: `%s`\" and say what to do instead", file, line, line)
		}
		if len(added) > 0 && *update {
			all := append(before, added...)
			slices.Sort(all)
			if err := os.WriteFile(file, []byte(strings.Join(all, "\n")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		} else if len(added) > 0 {
			t.Errorf("%s lacks %q: run go generate ./cmd/culvert", file, added)
		}
	}
}

// migrations returns what the CHANGELOG says is gone.
func migrations(changelog []byte) []string {
	var gone []string
	for line := range bytes.Lines(changelog) {
		rest, found := strings.CutPrefix(string(line), "- Migration: ")
		if !found {
			continue
		}
		for i, part := range strings.Split(rest, "`") {
			if i%2 == 1 {
				gone = append(gone, part)
			}
		}
	}
	return gone
}

// compare returns the names of before that are neither in now nor said to be gone,
// and the new names.
func compare(before, now, gone []string) (missing, added []string) {
	for _, name := range before {
		if !slices.Contains(now, name) && !slices.Contains(gone, name) {
			missing = append(missing, name)
		}
	}
	for _, name := range now {
		if !slices.Contains(before, name) {
			added = append(added, name)
		}
	}
	return missing, added
}

func TestRemovalsNeedAMigration(t *testing.T) {
	changelog := []byte("- Migration: `a.b` is `a.c` now.\n- `d` moved.\n")
	missing, added := compare([]string{"a.b", "a.d", "d"}, []string{"a.d", "a.c"}, migrations(changelog))
	if got, want := fmt.Sprint(missing, added), "[d] [a.c]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

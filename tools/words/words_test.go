package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaults plants a fault of each kind, and beside it what looks like one.
func TestFaults(t *testing.T) {
	long := strings.Repeat("word ", 31)
	for _, c := range []struct{ name, text, want string }{
		{"page.md", "# What a title may say\n\n" + long + "end.\n", "3: 32 words"},
		{"page.md", strings.Repeat("word ", 29) + "end. " + strings.Repeat("word ", 29) + "end.\n", ""},
		{"page.md", "- " + strings.Repeat("word ", 20) + "\n- " + strings.Repeat("word ", 20) + "\n", ""},
		{"page.md", "```sh\nwhat " + long + "\n```\n\nFine.\n", ""},
		{"page.md", "Fine.\n\n| a | What it is |\n|---|---|\n| b | fine |\n", "3: name the actor first: What it is"},
		{"page.md", "Fine. Who calls?\n", ""},
		{"page.md", "Fine.\n\nFine. Whoever calls\nis served.\n", "3: name the actor first: Whoever calls is served."},
		{"page.md", "The claim holds for each.\n", `1: "holds for"`},
		{"page.md", "`holds for` is a name, `What it is` another.\n", ""},
		{"docs/decisions/0001-x.md", "# What was decided\n\nFine.\n\nWhat follows is old.\n", ""},
		{"docs/decisions/0001-x.md", "# What was decided\n\nWhat was decided is this.\n\nOld.\n", "3: name the actor first"},
		{"proxy.yaml", "a: 1\n\n# What it is.\nb: what # Fine.\n", "3: name the actor first"},
		{"proxy.yaml", "a: " + long + "\n", ""},
		{"help.txt", "Set --drain-timeout.\n", ""},
		{"help.txt", "Usage:\n  culvert\n\nFlags:\n  -a, --all   all\n      --one name   What it is\n", "6: name the actor first"},
	} {
		found := strings.Join(faultsOf(c.name, c.text), "\n")
		if !strings.HasPrefix(found, c.want) || c.want == "" && found != "" || strings.Contains(found, "\n") {
			t.Errorf("%s: %q: found %q, want %q", c.name, c.text, found, c.want)
		}
	}
}

// TestShort keeps the program what it is: a net for the worst.
func TestShort(t *testing.T) {
	text, err := os.ReadFile("main.go")
	if n := strings.Count(string(text), "\n"); err != nil || n >= 100 {
		t.Errorf("%s has %d lines (%v), want fewer than 100: readers judge the rest", filepath.Base("main.go"), n, err)
	}
}

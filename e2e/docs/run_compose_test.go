package docs

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// wantFolder compares a Compose file with the configuration beside it: the ports, and
// the folder that has every file the configuration names.
func wantFolder(t *testing.T, b block) {
	wantTimeToDrain(t, b)
	folder := regexp.MustCompile(`- \./\S+:(/\S+):ro`).FindStringSubmatch(b.text)
	if folder == nil {
		t.Fatal("no folder is mounted")
	}
	for _, p := range readPages(t) {
		for _, other := range p.blocks {
			if p.path != b.page || other.section != b.section || !strings.HasPrefix(other.text, "listen:") {
				continue
			}
			wantMappedPorts(t, b, other)
			for _, file := range regexp.MustCompile(`: (/\S+)`).FindAllStringSubmatch(b.text+other.text, -1) {
				if !strings.HasPrefix(file[1], folder[1]+"/") {
					t.Errorf("%s isn't in the folder %s", file[1], folder[1])
				}
			}
			return
		}
	}
	t.Error("no configuration stands beside it")
}

// wantTimeToDrain compares the time that a Compose file gives culvert to end with the
// program's default for running calls.
func wantTimeToDrain(t *testing.T, b block) {
	t.Helper()
	defaults, err := output(t, root, culvertProgram, "config", "defaults")
	if err != nil {
		t.Fatal(err)
	}
	of := func(key, text string) time.Duration {
		t.Helper()
		found := regexp.MustCompile(`(?m)^[ #]*` + key + `: (\S+)`).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("no %s", key)
		}
		d, err := time.ParseDuration(found[1])
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if grace, drain := of("stop_grace_period", b.text), of("drain_timeout", defaults); grace < drain+2*time.Second {
		t.Errorf("the engine waits %v, and culvert drains for %v", grace, drain)
	}
}

package identity

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A guide is a page of docs/guides/auth.
type guide struct {
	name, text string
	blocks     []block
	seen       map[string]bool // messages that clients got
}

// A block is a fenced one.
type block struct{ kind, text string }

var fenced = regexp.MustCompile("(?ms)^```(.*?)\n(.*?)^```$")

func readGuide(t *testing.T, name string) *guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/guides/auth", name))
	if err != nil {
		t.Fatal(err)
	}
	g := &guide{name: name, text: string(text), seen: map[string]bool{}}
	for _, m := range fenced.FindAllStringSubmatch(g.text, -1) {
		g.blocks = append(g.blocks, block{m[1], m[2]})
	}
	return g
}

// block returns the page's nth block of a kind, from 0.
func (g *guide) block(t *testing.T, kind string, n int) string {
	t.Helper()
	for _, b := range g.blocks {
		if b.kind != kind {
			continue
		}
		if n == 0 {
			return b.text
		}
		n--
	}
	t.Fatalf("%s has too few blocks of the kind %q", g.name, kind)
	return ""
}

// with replaces parts of a configuration. Pairs are what the page has, and what is there in the
// test: each must be on the page, so that a test isn't about something else.
func with(t *testing.T, config string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(config, pairs[i]) {
			t.Fatalf("the page's configuration has no %q:\n%s", pairs[i], config)
		}
		config = strings.ReplaceAll(config, pairs[i], pairs[i+1])
	}
	return config
}

var message = regexp.MustCompile("^ `([^`]+)` $")

// refusals are the messages in the page's tables of refusals.
func (g *guide) refusals() (all []string) {
	table := false
	for line := range strings.Lines(g.text) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 {
			table = false
			continue
		}
		table = table || strings.TrimSpace(cells[1]) == "message"
		if m := message.FindStringSubmatch(cells[1]); table && m != nil {
			all = append(all, m[1])
		}
	}
	return all
}

// explains fails if the page's tables don't have a message that a client got.
func (g *guide) explains(t *testing.T, got string) {
	t.Helper()
	g.seen[got] = true
	if !slices.Contains(g.refusals(), got) {
		t.Errorf("%s has no row for the message %q", g.name, got)
	}
}

// wasSeen fails if no client of the test got one of the page's messages, but for those that
// other tests of the page provoke.
func (g *guide) wasSeen(t *testing.T, others ...string) {
	t.Helper()
	for _, m := range g.refusals() {
		if !g.seen[m] && !slices.Contains(others, m) {
			t.Errorf("no client got %q, which %s has", m, g.name)
		}
	}
}

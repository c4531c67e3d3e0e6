package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// A page is one Markdown file.
type page struct {
	path     string // in the repository, with slashes
	headings []heading
	blocks   []block
	prose    []line // what stands outside of fenced blocks
}

type heading struct {
	anchor string
	line   int
}

// A line is a line of prose.
type line struct {
	number int
	text   string
}

// A block is a fenced one.
type block struct {
	page     string
	line     int      // of its first line of text
	section  string   // the anchor of the heading it stands under
	language string   // the fence's first word
	options  []string // its other words
	text     string
	before   []block // those above it on the page
}

func (b block) place() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// readPages reads every Markdown file of the repository.
func readPages(t testing.TB) []page {
	t.Helper()
	var pages []page
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == ".git"):
			return fs.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		p, err := parsePage(filepath.ToSlash(name), string(text))
		pages = append(pages, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func parsePage(path, text string) (page, error) {
	p := page{path: path}
	var open *block
	seen := map[string]int{}
	for i, l := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimLeft(l, " "), "```")
		switch {
		case isFence && open == nil:
			words := append(strings.Fields(fence), "")
			section := ""
			if n := len(p.headings); n > 0 {
				section = p.headings[n-1].anchor
			}
			open = &block{page: path, line: i + 2, section: section, language: words[0], options: slices.DeleteFunc(words[1:], func(w string) bool { return w == "" })}
		case isFence:
			open.before = slices.Clone(p.blocks)
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += l + "\n"
		default:
			p.prose = append(p.prose, line{i + 1, l})
			if level := len(l) - len(strings.TrimLeft(l, "#")); level > 0 && strings.HasPrefix(l[level:], " ") {
				a := anchor(l[level+1:])
				seen[a]++
				if n := seen[a]; n > 1 {
					a = fmt.Sprintf("%s-%d", a, n-1)
				}
				p.headings = append(p.headings, heading{a, i + 1})
			}
		}
	}
	if open != nil {
		return p, fmt.Errorf("%s: a fenced block has no end", open.place())
	}
	return p, nil
}

var linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)

// anchor is the name that GitHub gives to a heading.
func anchor(title string) string {
	title = linkText.ReplaceAllString(title, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, strings.TrimSpace(title))
}

func TestAnchorsAreThoseOfGitHub(t *testing.T) {
	for title, want := range map[string]string{
		"In a minute":                       "in-a-minute",
		"h2ts: HTTP/2 inside a WebSocket":   "h2ts-http2-inside-a-websocket",
		"`backend.tls.ca`":                  "backendtlsca",
		"NO_ROUTE":                          "no_route",
		"What isn't a call":                 "what-isnt-a-call",
		"[Unreleased](https://example.com)": "unreleased",
	} {
		if got := anchor(title); got != want {
			t.Errorf("the anchor of %q is %q, want %q", title, got, want)
		}
	}
}

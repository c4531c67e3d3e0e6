package docs

import (
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	link       = regexp.MustCompile(`\]\(([^)\s]+)(?:\s+"[^"]*")?\)`)
	inlineCode = regexp.MustCompile("`[^`]*`")
	anchorTag  = regexp.MustCompile(`<a id="([^"]+)"></a>`)
)

// TestLinksLeadSomewhere holds every relative link to a file that is there, and
// to a heading where it names one.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := readPages(t)
	anchors := map[string][]string{}
	for _, p := range pages {
		for _, h := range p.headings {
			anchors[p.path] = append(anchors[p.path], h.anchor)
		}
		for _, l := range p.prose {
			for _, m := range anchorTag.FindAllStringSubmatch(l.text, -1) {
				anchors[p.path] = append(anchors[p.path], m[1])
			}
		}
	}
	for _, p := range pages {
		for _, l := range p.prose {
			for _, m := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(l.text, "``"), -1) {
				if err := followLink(p.path, m[1], anchors); err != "" {
					t.Errorf("%s:%d: %s: %s", p.path, l.number, m[1], err)
				}
			}
		}
	}
}

// followLink says what is wrong with a link, "" if nothing is.
func followLink(from, target string, anchors map[string][]string) string {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return err.Error()
	case u.Scheme == "mailto":
		return ""
	case u.Scheme != "":
		if u.Scheme != "https" || u.Host == "" {
			return "neither https nor relative"
		}
		return ""
	}
	to := from
	if u.Path != "" {
		to = path.Join(path.Dir(from), u.Path)
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
		return "no such file"
	}
	if u.Fragment != "" && !slices.Contains(anchors[to], u.Fragment) {
		return "no such heading"
	}
	return ""
}

// TestEveryPageIsFound follows the links from the README: a page that no other
// leads to is read by nobody.
func TestEveryPageIsFound(t *testing.T) {
	pages := map[string]page{}
	for _, p := range readPages(t) {
		pages[p.path] = p
	}
	found, next := map[string]bool{}, []string{"README.md"}
	for len(next) > 0 {
		p := pages[next[0]]
		next = next[1:]
		for _, l := range p.prose {
			for _, m := range link.FindAllStringSubmatch(l.text, -1) {
				file, _, _ := strings.Cut(m[1], "#")
				to := path.Join(path.Dir(p.path), file)
				if _, is := pages[to]; is && !found[to] {
					found[to] = true
					next = append(next, to)
				}
			}
		}
	}
	for name := range pages {
		if !found[name] && strings.HasPrefix(name, "docs/") {
			t.Errorf("no page leads to %s: docs/README.md and docs/decisions/README.md are the indexes", name)
		}
	}
}

// TestEveryPageSaysWhereToGoNext holds the documents to their form: whom a page
// is for, and where to go from it.
func TestEveryPageSaysWhereToGoNext(t *testing.T) {
	for _, p := range readPages(t) {
		if !strings.HasPrefix(p.path, "docs/") || strings.HasPrefix(p.path, "docs/decisions/") {
			continue
		}
		last, begins := "", ""
		for _, l := range p.prose {
			if strings.TrimSpace(l.text) == "" {
				continue
			}
			last = l.text
			if l.number > 1 && begins == "" {
				begins = l.text
			}
		}
		if !strings.HasPrefix(begins, "For ") {
			t.Errorf("%s begins with %q, want whom it is for: \"For …\"", p.path, begins)
		}
		if !link.MatchString(last) {
			t.Errorf("%s ends with %q, want links: where to go next", p.path, last)
		}
	}
}

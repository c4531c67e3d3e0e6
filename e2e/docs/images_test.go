package docs

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var shownImage = regexp.MustCompile(`!\[([^\]]*)\]\(([^)\s]+)\)`)

// TestImages checks that each picture in docs/images is shown by a page, with a text
// for readers who don't see it. TestLinksLeadSomewhere checks that it exists.
func TestImages(t *testing.T) {
	shown := map[string]bool{}
	for _, p := range readPages(t) {
		for _, l := range p.prose {
			for _, m := range shownImage.FindAllStringSubmatch(l.text, -1) {
				shown[path.Join(path.Dir(p.path), m[2])] = true
				if len(strings.Fields(m[1])) < 5 {
					t.Errorf("%s:%d: %s has the text %q, want a sentence that says what it shows", p.path, l.number, m[2], m[1])
				}
			}
		}
	}
	files, err := os.ReadDir(filepath.Join(root, "docs", "images"))
	if err != nil || len(files) == 0 {
		t.Fatalf("docs/images: %v", err)
	}
	for _, f := range files {
		if name := "docs/images/" + f.Name(); !shown[name] {
			t.Errorf("no page shows %s", name)
		}
	}
}

var (
	darkStyle = regexp.MustCompile(`(?s)@media \(prefers-color-scheme: dark\) \{(.*)\}`)
	styleRule = regexp.MustCompile(`([^{}]+)\{([^{}]*)\}`)
	colour    = regexp.MustCompile(`#[0-9a-f]{6}\b`)
)

// TestDrawings checks that each SVG can be parsed, has a title and a description, uses
// only classes that it has rules for, and has another colour in dark mode for each.
func TestDrawings(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "images", "*.svg"))
	if err != nil || len(files) == 0 {
		t.Fatalf("docs/images has no SVG (%v)", err)
	}
	pictures, err := filepath.Glob(filepath.Join(root, "examples", "*", "picture.svg"))
	if err != nil || len(pictures) == 0 {
		t.Fatalf("the examples have no pictures (%v)", err)
	}
	for _, file := range append(files, pictures...) {
		t.Run(filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), func(t *testing.T) {
			texts, classes := readDrawing(t, file)
			if len(strings.Fields(texts["title"])) < 3 || len(strings.Fields(texts["desc"])) < 10 {
				t.Errorf("its title is %q, its description %q", texts["title"], texts["desc"])
			}
			dark := darkStyle.FindStringSubmatch(texts["style"])
			if dark == nil {
				t.Fatal("it has no style for dark mode")
			}
			light, night := coloured(darkStyle.ReplaceAllString(texts["style"], "")), coloured(dark[1])
			for selector, colours := range light {
				if colours != "" && (night[selector] == "" || night[selector] == colours) {
					t.Errorf("%s is %q in the light and %q in the dark", selector, colours, night[selector])
				}
			}
			for _, class := range classes {
				if _, is := light["."+class]; !is {
					t.Errorf("no rule for the class %s", class)
				}
			}
		})
	}
}

// readDrawing parses an SVG. It returns the texts by element, and the classes that
// are used.
func readDrawing(t *testing.T, file string) (texts map[string]string, classes []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	texts = map[string]string{}
	var open []string
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts, classes
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if len(open) == 0 && (token.Name != xml.Name{Space: "http://www.w3.org/2000/svg", Local: "svg"}) {
				t.Errorf("it begins with %v", token.Name)
			}
			open = append(open, token.Name.Local)
			for _, a := range token.Attr {
				if a.Name.Local == "class" {
					classes = append(classes, strings.Fields(a.Value)...)
				}
			}
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				texts[open[len(open)-1]] += string(token)
			}
		}
	}
}

// coloured returns the selectors of a style, each with its colours.
func coloured(style string) map[string]string {
	out := map[string]string{}
	for _, m := range styleRule.FindAllStringSubmatch(style, -1) {
		colours := colour.FindAllString(m[2], -1)
		slices.Sort(colours)
		for selector := range strings.SplitSeq(m[1], ",") {
			out[strings.TrimSpace(selector)] = strings.Join(colours, " ")
		}
	}
	return out
}

package docs

import (
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The README's picture is what its script makes of a running demo: a page that has
// come to life.
func TestScreenshot(t *testing.T) {
	startProcess(t, root, culvertProgram, "demo").await(t, "that it can be stopped", func(l string) bool { return strings.Contains(l, "Ctrl-C") })
	file := filepath.Join(t.TempDir(), "demo.png")
	text, err := output(t, root, time.Minute, "node", "demo/web/screenshot.mjs", "http://127.0.0.1:8080/", file)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var seen struct {
		Title, Native, Bridged string
		Messages               int
		Conversation           []string
	}
	if err := json.Unmarshal([]byte(text), &seen); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if seen.Native != "UNAVAILABLE" || !strings.Contains(seen.Bridged, "Through the proxy") || seen.Messages < 10 || len(seen.Conversation) < 4 {
		t.Errorf("the page shows %+v, want a native call that failed and a conversation that went on", seen)
	}
	made, kept := decodePNG(t, file), decodePNG(t, filepath.Join(root, "docs", "images", "demo.png"))
	if made.Bounds() != kept.Bounds() {
		t.Errorf("the picture is %v, docs/images/demo.png %v: take it anew with demo/web/screenshot.mjs", made.Bounds(), kept.Bounds())
	}
	for name, picture := range map[string]image.Image{"taken now": made, "docs/images/demo.png": kept} {
		if n := colours(picture); n < 200 {
			t.Errorf("%s has %d colours: it is no picture of a page", name, n)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "docs", "images", "demo.png")); err != nil || info.Size() > 150<<10 {
		t.Errorf("docs/images/demo.png is too large or not there: %v", err)
	}
}

func decodePNG(t *testing.T, file string) image.Image {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return picture
}

func colours(picture image.Image) int {
	seen := map[color.Color]bool{}
	b := picture.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			seen[picture.At(x, y)] = true
		}
	}
	return len(seen)
}

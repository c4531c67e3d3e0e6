package docs

import (
	"encoding/json"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const demoPage = "http://127.0.0.1:8080/"

func startDemo(t *testing.T) {
	t.Helper()
	startProcess(t, root, culvertProgram, "demo").await(t, "that it can be stopped", func(l string) bool { return strings.Contains(l, "Ctrl-C") })
}

// The demo's page has no findings in light and dark, on screens of five widths:
// text that is cut off, axe-core's rules, what the keyboard can't reach or do.
func TestDemoPage(t *testing.T) {
	startDemo(t)
	text, err := output(t, root, "node", "e2e/docs/demo.mjs", demoPage)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var looks []struct {
		Name     string
		Findings []string
	}
	if err := json.Unmarshal([]byte(text), &looks); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	var names []string
	for _, look := range looks {
		names = append(names, look.Name)
		for _, finding := range look.Findings {
			t.Errorf("%s: %s", look.Name, finding)
		}
	}
	want := []string{"light 390", "light 768", "light 1024", "light 1280", "light 1920", "dark 390", "dark 768", "dark 1024", "dark 1280", "dark 1920"}
	if !slices.Equal(names, want) {
		t.Errorf("looked at %q, want %q", names, want)
	}
}

// The demo's picture is what its script takes of a running demo.
func TestScreenshot(t *testing.T) {
	startDemo(t)
	file := filepath.Join(t.TempDir(), "demo.png")
	text, err := output(t, root, "node", "demo/web/screenshot.mjs", demoPage, file)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var seen struct {
		Title, Direct, Culvert string
		Codes                  []string
		Messages               int
		Conversation           []string
	}
	if err := json.Unmarshal([]byte(text), &seen); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	wantCodes := []string{
		"Converse UNAVAILABLE", "Countdown UNAVAILABLE", "Reserve UNAVAILABLE",
		"Converse OK", "Countdown OK", "Reserve INVALID_ARGUMENT",
		"Converse OPEN", "Countdown OK", "Reserve INVALID_ARGUMENT",
	}
	if !strings.Contains(seen.Direct, "0 of 3 calls") || !strings.Contains(seen.Culvert, "6 of 6 calls") || !slices.Equal(seen.Codes, wantCodes) {
		t.Errorf("the lanes show %+v, want 0 of 3 and 6 of 6 calls with %q", seen, wantCodes)
	}
	if seen.Messages < 8 || len(seen.Conversation) < 3 {
		t.Errorf("the page shows %+v, want a conversation and its messages on the wire", seen)
	}
	made, kept := decodePNG(t, file), decodePNG(t, filepath.Join(root, "docs", "images", "demo.png"))
	if made.Bounds() != kept.Bounds() {
		t.Errorf("the picture is %v, docs/images/demo.png %v: take it again with demo/web/screenshot.mjs", made.Bounds(), kept.Bounds())
	}
	for name, picture := range map[string]image.Image{"taken now": made, "docs/images/demo.png": kept} {
		if n := colours(picture); n < 200 {
			t.Errorf("%s has %d colours: it is no picture of a page", name, n)
		}
		if direct, culvert := laneColours(picture); direct != "red" || culvert != "green" {
			t.Errorf("%s shows a %s and a %s lane, want red and green", name, direct, culvert)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "docs", "images", "demo.png")); err != nil || info.Size() > 150<<10 {
		t.Errorf("docs/images/demo.png is too large or not there: %v", err)
	}
}

// The README's animation is what its scripts make of a running demo: the proxy
// comes into the path and leaves again.
func TestAnimation(t *testing.T) {
	startDemo(t)
	dir := t.TempDir()
	if text, err := output(t, root, "node", "demo/web/screenshot.mjs", demoPage, dir); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	file := filepath.Join(dir, "demo.gif")
	if text, err := output(t, filepath.Join(root, "e2e"), "go", "run", "./docs/animate", dir, file); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	kept := filepath.Join(root, "docs", "images", "demo.gif")
	// However slow the machine is: the begin, the end without culvert, the end with it, and
	// a frame of each way.
	made, old := checkAnimation(t, file, 5), checkAnimation(t, kept, 6)
	if made != old {
		t.Errorf("the animation is %v, docs/images/demo.gif %v: make it again with demo/web/screenshot.mjs and e2e/docs/animate", made, old)
	}
}

// checkAnimation checks the size, the length and the plot of an animation.
func checkAnimation(t *testing.T, file string, least int) image.Point {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= 1<<20 {
		t.Errorf("%s has %d bytes, want less than 1 MiB", file, info.Size())
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // it was only read
	g, err := gif.DecodeAll(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if n := len(g.Image); n < least || n > 30 || g.LoopCount != 0 {
		t.Errorf("%s has %d frames and loops %d times, want %d to 30 frames for ever", file, n, g.LoopCount, least)
	}
	screen := image.NewRGBA(image.Rect(0, 0, g.Config.Width, g.Config.Height))
	var directs []string
	seconds, held := 0.0, map[string]float64{} // by the colours of both lanes
	for i, picture := range g.Image {
		draw.Draw(screen, picture.Bounds(), picture, picture.Bounds().Min, draw.Over)
		direct, culvert := laneColours(screen)
		if culvert == "red" {
			t.Errorf("%s: frame %d has a red lane through culvert", file, i)
		}
		if direct != "neither" && (len(directs) == 0 || directs[len(directs)-1] != direct) {
			directs = append(directs, direct)
		}
		delay := float64(g.Delay[i]) / 100
		seconds += delay
		held[direct+" "+culvert] += delay
	}
	if want := []string{"green", "red", "green"}; !slices.Equal(directs, want) {
		t.Errorf("%s: the lane without culvert is %q, want %q", file, directs, want)
	}
	if held["green green"] < 1 || held["red green"] < 2 || seconds > 20 {
		t.Errorf("%s shows the lanes for %v of %.1f seconds, want a second of green and green, and two of red and green", file, held, seconds)
	}
	return screen.Bounds().Size()
}

// laneColours returns the colours of the headings of both lanes: red, green or
// neither.
func laneColours(picture image.Image) (direct, culvert string) {
	b := picture.Bounds()
	heading := func(from, to float64) string {
		red, green, all := 0, 0, 0
		// The headings are between 27 and 31 % of the picture's height.
		for y := b.Min.Y + b.Dy()*27/100; y < b.Min.Y+b.Dy()*31/100; y++ {
			for x := b.Min.X + int(float64(b.Dx())*from); x < b.Min.X+int(float64(b.Dx())*to); x++ {
				r, g, _, _ := picture.At(x, y).RGBA()
				all++
				switch {
				case r > g+0x800:
					red++
				case g > r+0x800:
					green++
				}
			}
		}
		switch {
		case red > all/2:
			return "red"
		case green > all/2:
			return "green"
		}
		return "neither"
	}
	return heading(0.04, 0.48), heading(0.52, 0.96)
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

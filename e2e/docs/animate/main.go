// Command animate makes an animated GIF from the frames that
// demo/web/screenshot.mjs has taken.
//
//	go run ./docs/animate DIRECTORY FILE.gif
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/gif"
	"image/png"
	"io/fs"
	"maps"
	"os"
	"slices"
)

// A frame is one of frames.json.
type frame struct {
	File string
	At   float64 // milliseconds
	Hold float64 // milliseconds, or 0 for the time until the next frame
}

// GIF counts hundredths of a second. These bounds make the animation independent
// of the speed of the machine that took the frames.
const (
	minDelay = 8
	maxDelay = 25
)

// maxMoving is the number of frames between two that are held. It bounds the
// size of the animation.
const maxMoving = 12

// maxColours is what the palette of a GIF can hold.
const maxColours = 256

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: animate DIRECTORY FILE.gif")
		os.Exit(2)
	}
	if err := run(os.DirFS(os.Args[1]), os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "animate:", err)
		os.Exit(1)
	}
}

func run(dir fs.FS, file string) error {
	text, err := fs.ReadFile(dir, "frames.json")
	if err != nil {
		return err
	}
	var frames []frame
	if err := json.Unmarshal(text, &frames); err != nil {
		return err
	}
	frames = thin(frames)
	var pictures []*image.RGBA
	var delays []int
	for i, f := range frames {
		picture, err := readPicture(dir, f.File)
		if err != nil {
			return err
		}
		pictures = append(pictures, picture)
		delay := int(f.Hold / 10)
		if delay == 0 && i+1 < len(frames) {
			delay = max(minDelay, min(maxDelay, int((frames[i+1].At-f.At)/10)))
		}
		delays = append(delays, delay)
	}
	if len(pictures) == 0 {
		return errors.New("there are no frames")
	}
	out, err := os.Create(file) //nolint:gosec // the person who runs this names it
	if err != nil {
		return err
	}
	return errors.Join(gif.EncodeAll(out, animate(pictures, delays)), out.Close())
}

// thin leaves out frames at even distances where there are more than maxMoving
// between two that are held.
func thin(frames []frame) (kept []frame) {
	begin := 0 // of the frames since the last that is held
	for i, f := range frames {
		if f.Hold == 0 {
			continue
		}
		moving := frames[begin:i]
		step := max(1, (len(moving)+maxMoving-1)/maxMoving)
		for j := 0; j < len(moving); j += step {
			kept = append(kept, moving[j])
		}
		kept = append(kept, f)
		begin = i + 1
	}
	return kept
}

func readPicture(dir fs.FS, file string) (*image.RGBA, error) {
	f, err := dir.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	decoded, err := png.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	picture := image.NewRGBA(decoded.Bounds())
	draw.Draw(picture, picture.Bounds(), decoded, decoded.Bounds().Min, draw.Src)
	return picture, nil
}

// animate returns the animation. Each frame holds only the rectangle that differs
// from the frame before.
func animate(pictures []*image.RGBA, delays []int) *gif.GIF {
	palette := commonColours(pictures)
	nearest := map[color.RGBA]uint8{}
	g := new(gif.GIF)
	for i, picture := range pictures {
		changed := picture.Bounds()
		if i > 0 {
			changed = difference(pictures[i-1], picture)
		}
		if changed.Empty() {
			g.Delay[len(g.Delay)-1] += delays[i]
			continue
		}
		paletted := image.NewPaletted(changed, palette)
		for y := changed.Min.Y; y < changed.Max.Y; y++ {
			for x := changed.Min.X; x < changed.Max.X; x++ {
				c := picture.RGBAAt(x, y)
				index, ok := nearest[c]
				if !ok {
					index = uint8(palette.Index(c))
					nearest[c] = index
				}
				paletted.SetColorIndex(x, y, index)
			}
		}
		g.Image = append(g.Image, paletted)
		g.Delay = append(g.Delay, delays[i])
		g.Disposal = append(g.Disposal, gif.DisposalNone)
	}
	return g
}

// commonColours returns the most frequent colours of all pictures.
func commonColours(pictures []*image.RGBA) color.Palette {
	count := map[color.RGBA]int{}
	for _, picture := range pictures {
		b := picture.Bounds()
		for y := b.Min.Y; y < b.Max.Y; y++ {
			for x := b.Min.X; x < b.Max.X; x++ {
				count[picture.RGBAAt(x, y)]++
			}
		}
	}
	byCount := slices.SortedFunc(maps.Keys(count), func(a, b color.RGBA) int {
		return cmp.Or(count[b]-count[a], slices.Compare([]uint8{a.R, a.G, a.B}, []uint8{b.R, b.G, b.B}))
	})
	var palette color.Palette
	for _, c := range byCount[:min(maxColours, len(byCount))] {
		palette = append(palette, c)
	}
	return palette
}

// difference returns the smallest rectangle that holds every pixel in which the
// pictures differ.
func difference(a, b *image.RGBA) image.Rectangle {
	var changed image.Rectangle
	bounds := b.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			if a.RGBAAt(x, y) != b.RGBAAt(x, y) {
				changed = changed.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	return changed
}

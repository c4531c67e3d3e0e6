package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// A sample is an image with a program of a few bytes, and what check expects of it.
type sample struct {
	recipe   recipe
	contents [][]byte
	builder  builder
}

func newSample() sample {
	return sample{
		recipe: recipe{
			name: "culvert",
			copies: []copied{
				{source: certificates, path: certificates},
				{source: "/culvert", path: "/culvert", build: "go build"},
			},
			config: v1.Config{User: "65532:65532", Entrypoint: []string{"/culvert"}, Labels: map[string]string{"a": "b"}},
		},
		contents: [][]byte{caCertificates(), program(elf.EM_X86_64)},
		builder:  builder{version: "v1", platforms: []string{"linux/amd64"}, created: time.Unix(1234567890, 0).UTC()},
	}
}

// program returns the header of a program without segments, which are what a dynamic
// program has more.
func program(machine elf.Machine, segments ...elf.ProgType) []byte {
	var text bytes.Buffer
	header := elf.Header64{
		Ident:   [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:    uint16(elf.ET_EXEC),
		Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: uint16(len(segments)),
	}
	_ = binary.Write(&text, binary.LittleEndian, header) // a Buffer has no errors
	for _, segment := range segments {
		_ = binary.Write(&text, binary.LittleEndian, elf.Prog64{Type: uint32(segment)})
	}
	return text.Bytes()
}

// write writes the sample's layout, and returns its folder.
func (s sample) write(t *testing.T) string {
	t.Helper()
	platform, err := v1.ParsePlatform(s.builder.platforms[0])
	if err != nil {
		t.Fatal(err)
	}
	image, err := assemble(s.recipe, s.contents, platform, s.builder.created)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	if err := writeLayout(dir, index, s.builder.version); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCheckFinds breaks an image in each way that check looks for.
func TestCheckFinds(t *testing.T) {
	sound := newSample()
	if err := check(sound.write(t), sound.recipe, sound.builder); err != nil {
		t.Fatalf("nothing is broken: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*sample)            // before the image is assembled; check then expects the changed image…
		expect func(*sample)            // …with this other change
		damage func(*testing.T, string) // in the layout
		want   string
	}{
		"a program for another processor": {change: func(s *sample) { s.contents[1] = program(elf.EM_AARCH64) }, want: "a program for EM_AARCH64"},
		"a program that wants a loader":   {change: func(s *sample) { s.contents[1] = program(elf.EM_X86_64, elf.PT_INTERP) }, want: "wants a loader"},
		"no program":                      {change: func(s *sample) { s.contents[1] = bytes.Repeat([]byte("#!/bin/sh\n"), 10) }, want: "bad magic number"},
		"no certificates":                 {change: func(s *sample) { s.contents[0] = nil }, want: "holds no certificate"},
		"root":                            {change: func(s *sample) { s.recipe.config.User = "0:0" }, want: `its user is "0:0"`},
		"no user":                         {change: func(s *sample) { s.recipe.config.User = "" }, want: `its user is ""`},
		"a user's name":                   {change: func(s *sample) { s.recipe.config.User = "culvert:culvert" }, want: `its user is "culvert:culvert"`},
		"another configuration":           {expect: func(s *sample) { s.recipe.config.Cmd = []string{"serve"} }, want: "its configuration is"},
		"another time":                    {expect: func(s *sample) { s.builder.created = time.Unix(1, 0) }, want: "it was created at"},
		"another version":                 {expect: func(s *sample) { s.builder.version = "v2" }, want: refName + "=v2"},
		"a platform too few":              {expect: func(s *sample) { s.builder.platforms = []string{"linux/amd64", "linux/arm64"} }, want: "the platforms are [linux/amd64]"},
		"a file too many":                 {expect: func(s *sample) { s.recipe.copies = s.recipe.copies[1:] }, want: "doesn't copy etc/ssl/certs"},
		"a file too few": {
			expect: func(s *sample) { s.recipe.copies = append(slices.Clone(s.recipe.copies), copied{path: "/b"}) },
			want:   "doesn't have b",
		},
		"too large": {change: func(s *sample) { s.contents[1] = noise(largest) }, want: "want 20971520 at most"},
		"a changed layer": {
			damage: func(t *testing.T, dir string) {
				edit(t, largestBlob(t, dir), func(text []byte) { text[len(text)-1] ^= 1 })
			},
			want: "invalid checksum",
		},
		"a blob that nothing uses": {
			damage: func(t *testing.T, dir string) {
				text := []byte("unused")
				l, err := layout.FromPath(dir)
				if err != nil {
					t.Fatal(err)
				}
				hash, _, err := v1.SHA256(bytes.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				if err := l.WriteFile("blobs/sha256/"+hash.Hex, text, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: "nothing uses the blob",
		},
		"another layout": {
			damage: func(t *testing.T, dir string) {
				edit(t, filepath.Join(dir, "oci-layout"), func(text []byte) { copy(text[bytes.IndexByte(text, '1'):], "9") })
			},
			want: "want version 1.0.0",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSample()
			if c.change != nil {
				c.change(&s)
			}
			dir := s.write(t)
			s.recipe.config.Labels = maps.Clone(s.recipe.config.Labels)
			if c.expect != nil {
				c.expect(&s)
			}
			if c.damage != nil {
				c.damage(t, dir)
			}
			if err := check(dir, s.recipe, s.builder); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("check says %v, want %q in it", err, c.want)
			}
		})
	}
}

// noise returns bytes that gzip can't make smaller.
func noise(size int) []byte {
	text := make([]byte, size)
	state := uint64(1)
	for i := range text {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
		text[i] = byte(state)
	}
	return text
}

func edit(t *testing.T, file string, change func([]byte)) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	change(text)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// largestBlob returns the file of the layer with the certificates.
func largestBlob(t *testing.T, dir string) (file string) {
	t.Helper()
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, blob := range blobs {
		info, err := os.Stat(blob)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			file, size = blob, info.Size()
		}
	}
	return file
}

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// largest is the most that all layers of an image may take, compressed.
const largest = 20 << 20

// check reads the layout in the folder as a container engine does, and returns all that
// is wrong with it.
func check(dir string, want recipe, b builder) error {
	if err := checkVersion(dir); err != nil {
		return err
	}
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return err
	}
	// The digests and sizes of all that the layout names.
	if err := validate.Index(top); err != nil {
		return err
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		return err
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations[refName] != b.version {
		return fmt.Errorf("index.json: want one image, with the annotation %s=%s", refName, b.version)
	}
	index, err := top.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		return err
	}
	platforms, err := index.IndexManifest()
	if err != nil {
		return err
	}
	used := map[string]bool{manifest.Manifests[0].Digest.Hex: true}
	var problems []error
	var found []string
	for _, descriptor := range platforms.Manifests {
		found = append(found, descriptor.Platform.String())
		image, err := index.Image(descriptor.Digest)
		if err != nil {
			return err
		}
		used[descriptor.Digest.Hex] = true
		if err := checkImage(image, descriptor.Platform, want, b, used); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", descriptor.Platform, err))
		}
	}
	if !slices.Equal(found, b.platforms) {
		problems = append(problems, fmt.Errorf("the platforms are %v, want %v", found, b.platforms))
	}
	return errors.Join(append(problems, checkBlobs(dir, used))...)
}

// checkVersion reads the file that says that the folder is a layout.
func checkVersion(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	if err != nil {
		return err
	}
	var version struct {
		Layout string `json:"imageLayoutVersion"`
	}
	if json.Unmarshal(text, &version) != nil || version.Layout != "1.0.0" {
		return fmt.Errorf("oci-layout: %q: want version 1.0.0", text)
	}
	return nil
}

// checkBlobs looks for blobs that have another name than their digest, or that nothing uses.
func checkBlobs(dir string, used map[string]bool) error {
	folder := filepath.Join(dir, "blobs", "sha256")
	blobs, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, blob := range blobs {
		content, err := os.ReadFile(filepath.Join(folder, blob.Name()))
		if err != nil {
			return err
		}
		if fmt.Sprintf("%x", sha256.Sum256(content)) != blob.Name() {
			return fmt.Errorf("the blob %s has another digest", blob.Name())
		}
		if !used[blob.Name()] {
			return fmt.Errorf("nothing uses the blob %s", blob.Name())
		}
	}
	return nil
}

// checkImage checks the image for one platform, and adds its blobs to the used ones.
func checkImage(image v1.Image, platform *v1.Platform, want recipe, b builder, used map[string]bool) error {
	manifest, err := image.Manifest()
	if err != nil {
		return err
	}
	size := int64(0)
	used[manifest.Config.Digest.Hex] = true
	for _, l := range manifest.Layers {
		used[l.Digest.Hex] = true
		size += l.Size
	}
	config, err := image.ConfigFile()
	if err != nil {
		return err
	}
	var problems []error
	wrong := func(format string, a ...any) { problems = append(problems, fmt.Errorf(format, a...)) }
	if size > largest {
		wrong("its layers take %d bytes, compressed: want %d at most", size, largest)
	}
	if got := config.Platform().String(); got != platform.String() {
		wrong("its configuration says %s", got)
	}
	if !config.Created.Equal(b.created) {
		wrong("it was created at %v, want %v", config.Created, b.created)
	}
	if !reflect.DeepEqual(config.Config, want.config) {
		wrong("its configuration is %+v, and the Dockerfile's %+v", config.Config, want.config)
	}
	if !reflect.DeepEqual(manifest.Annotations, config.Config.Labels) {
		wrong("its annotations are %v, and its labels %v", manifest.Annotations, config.Config.Labels)
	}
	if user, group, _ := strings.Cut(config.Config.User, ":"); !positive(user) || user != group {
		wrong("its user is %q: want a number that isn't root's, twice", config.Config.User)
	}
	return errors.Join(append(problems, checkFiles(image, platform, want, b))...)
}

// positive reports whether the text is a number above zero.
func positive(text string) bool {
	return strings.Trim(text, "0123456789") == "" && strings.Trim(text, "0") != ""
}

// checkFiles checks what the container finds in its root directory.
func checkFiles(image v1.Image, platform *v1.Platform, want recipe, b builder) error {
	files := map[string]copied{}
	for _, c := range want.copies {
		files[strings.TrimPrefix(c.path, "/")] = c
	}
	content := mutate.Extract(image)
	defer content.Close()
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if header.Uid != 0 || header.Gid != 0 || header.Mode&0o7022 != 0 || !header.ModTime.Equal(b.created) {
			return fmt.Errorf("%s has owner %d:%d, mode %o and time %v", header.Name, header.Uid, header.Gid, header.Mode, header.ModTime)
		}
		if header.Typeflag == tar.TypeDir {
			continue
		}
		c, wanted := files[header.Name]
		if !wanted || header.Typeflag != tar.TypeReg {
			return fmt.Errorf("the Dockerfile doesn't copy %s", header.Name)
		}
		delete(files, header.Name)
		text, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if c.build == "" {
			err = checkCertificates(text)
		} else {
			err = checkProgram(text, header.Mode, platform)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	for name := range files {
		return fmt.Errorf("the image doesn't have %s", name)
	}
	return nil
}

func checkCertificates(text []byte) error {
	if !x509.NewCertPool().AppendCertsFromPEM(text) {
		return errors.New("it holds no certificate")
	}
	return nil
}

// machines are the processors of the platforms, as programs name them.
var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkProgram checks that the program runs on the platform without a loader.
func checkProgram(text []byte, mode int64, platform *v1.Platform) error {
	if mode != 0o755 {
		return fmt.Errorf("its mode is %o, want 755", mode)
	}
	program, err := elf.NewFile(bytes.NewReader(text))
	if err != nil {
		return err
	}
	if want, known := machines[platform.Architecture]; !known || program.Machine != want {
		return fmt.Errorf("it is a program for %v", program.Machine)
	}
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			return fmt.Errorf("it has a segment %v: it wants a loader, and the image has none", segment.Type)
		}
	}
	return nil
}

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// refName is the annotation with the tag of an image in a layout.
const refName = "org.opencontainers.image.ref.name"

// write assembles the image for each platform, and replaces the folder by its layout.
func (b builder) write(ctx context.Context, r recipe, dir string) error {
	index := v1.ImageIndex(empty.Index)
	for _, name := range b.platforms {
		platform, err := v1.ParsePlatform(name)
		if err != nil {
			return err
		}
		var contents [][]byte
		for _, c := range r.copies {
			content, err := b.content(ctx, c, platform)
			if err != nil {
				return err
			}
			contents = append(contents, content)
		}
		image, err := assemble(r, contents, platform, b.created)
		if err != nil {
			return err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	index, _ = mutate.Annotations(index, r.config.Labels).(v1.ImageIndex)
	return writeLayout(dir, index, b.version)
}

// writeLayout replaces the folder by a layout with the index as its only image.
func writeLayout(dir string, index v1.ImageIndex, tag string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // a container engine of another user reads it
		return err
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := l.AppendIndex(index, layout.WithAnnotations(map[string]string{refName: tag})); err != nil {
		return err
	}
	return readable(dir)
}

// readable gives every file the same mode. The library makes some that only their
// owner can read, and a container engine may be another user.
func readable(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return root.Chmod(name, 0o644)
	})
	return errors.Join(err, root.Close())
}

// assemble returns the image for one platform. Each file is a layer, so that a registry
// keeps the certificates once.
func assemble(r recipe, contents [][]byte, platform *v1.Platform, created time.Time) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, &v1.ConfigFile{
		OS: platform.OS, Architecture: platform.Architecture, Variant: platform.Variant,
		Created: v1.Time{Time: created},
		RootFS:  v1.RootFS{Type: "layers"},
		Config:  r.config,
	})
	if err != nil {
		return nil, err
	}
	for i, c := range r.copies {
		files, err := fileLayer(c, contents[i], created)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:   files,
			History: v1.History{Created: v1.Time{Time: created}, CreatedBy: fmt.Sprintf("COPY %s %s", c.source, c.path)},
		})
		if err != nil {
			return nil, err
		}
	}
	annotated, _ := mutate.Annotations(image, r.config.Labels).(v1.Image)
	return annotated, nil
}

// fileLayer returns a layer with one file of root's and the folders above it.
func fileLayer(c copied, content []byte, created time.Time) (v1.Layer, error) {
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	parts := strings.Split(strings.Trim(path.Dir(c.path), "/"), "/")
	for i := range parts {
		if parts[i] == "" {
			continue
		}
		folder := strings.Join(parts[:i+1], "/") + "/"
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: folder, Mode: 0o755, ModTime: created}); err != nil {
			return nil, err
		}
	}
	mode := int64(0o644)
	if c.build != "" {
		mode = 0o755
	}
	if err := addFile(w, strings.TrimPrefix(c.path, "/"), mode, content, created); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

func addFile(w *tar.Writer, name string, mode int64, content []byte, created time.Time) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: created}); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// archive writes the layout into one file.
func archive(dir, file string, created time.Time) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	err = fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error { // in lexical order
		if err != nil || name == "." {
			return err
		}
		if entry.IsDir() {
			return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: created})
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		return addFile(w, name, 0o644, content, created)
	})
	return errors.Join(err, w.Close(), out.Close())
}

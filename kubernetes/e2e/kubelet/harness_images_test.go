package kubelet

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// The version of all images. Without one, the kubelet would ask a registry each time.
const version = "e2e"

// Names by which the kubelet asks for images that have no host in theirs.
const library = "docker.io/library/"

// root is the folder of the whole tree.
const root = "../../.."

// buildImages builds culvert's images as "make images" does, and those of the service
// behind it and of pause. It returns the archives.
func buildImages(ctx context.Context, dir string) ([]string, error) {
	if err := command(ctx, filepath.Join(root, "tools/images"), "go", "run", ".",
		"-out", dir, "-version", version, "-commit", version, "-platforms", runtime.GOOS+"/"+runtime.GOARCH); err != nil {
		return nil, err
	}
	archives := []string{filepath.Join(dir, "culvert.tar"), filepath.Join(dir, "culvert-kube.tar")}
	for program, source := range map[string]string{"backend": filepath.Join(root, "e2e"), "pause": "."} {
		archive := filepath.Join(dir, program+".tar")
		if err := buildImage(ctx, archive, program, source); err != nil {
			return nil, fmt.Errorf("%s: %w", program, err)
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

// buildImage compiles the program in a folder of its name, and makes an image of nothing
// else.
func buildImage(ctx context.Context, archive, program, source string) error {
	file := strings.TrimSuffix(archive, ".tar")
	if err := command(ctx, source, "go", "build", "-o", file, "./"+program); err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	if err := w.WriteHeader(&tar.Header{Name: program, Mode: 0o755, Size: int64(len(content))}); err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text.Bytes())), nil })
	if err != nil {
		return err
	}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: runtime.GOOS, Architecture: runtime.GOARCH,
		RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{Entrypoint: []string{"/" + program}, User: "65532:65532"},
	})
	if err != nil {
		return err
	}
	if image, err = mutate.AppendLayers(image, layer); err != nil {
		return err
	}
	tag, err := name.NewTag(library + program + ":" + version)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(archive, tag, image)
}

// command runs a command without cgo: the images have no C library.
func command(ctx context.Context, dir string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", argv, err, text)
	}
	return nil
}

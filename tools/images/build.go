package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// certificates is the only file that images take from a base image.
const certificates = "/etc/ssl/certs/ca-certificates.crt"

// A builder makes images from a source tree.
type builder struct {
	source    string // the root of the tree
	version   string
	commit    string
	platforms []string
	created   time.Time // the time of all that is in the images
}

// recipes reads the tree's Dockerfile.
func (b builder) recipes() ([]recipe, error) {
	file, err := os.Open(filepath.Join(b.source, "Dockerfile"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readDockerfile(file, map[string]string{"VERSION": b.version, "COMMIT": b.commit})
}

// content returns the bytes of a file of the image.
func (b builder) content(ctx context.Context, c copied, platform *v1.Platform) ([]byte, error) {
	if c.build != "" {
		return b.compile(ctx, c, platform)
	}
	if c.source != certificates {
		return nil, fmt.Errorf("%s: no command of the Dockerfile makes it with -o", c.source)
	}
	return caCertificates(), nil
}

// compile runs the Dockerfile's command for a program, with another place for the result.
func (b builder) compile(ctx context.Context, c copied, platform *v1.Platform) ([]byte, error) {
	dir, err := os.MkdirTemp("", "culvert-images-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is in the system's temporary folder
	file := filepath.Join(dir, "program")
	command := strings.Replace(c.build, " -o "+c.source+" ", " -o "+file+" ", 1)
	build := exec.CommandContext(ctx, "sh", "-c", command)
	build.Dir = b.source
	// GOFLAGS may be set by whoever calls; the Dockerfile's command has its own.
	build.Env = append(os.Environ(), "GOFLAGS=", "VERSION="+b.version, "COMMIT="+b.commit,
		"TARGETOS="+platform.OS, "TARGETARCH="+platform.Architecture)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return os.ReadFile(file)
}

// caCertificates returns Mozilla's CA certificates from the Go module that pins them:
// the file of this machine would make other images on other machines. As in Debian's
// package, dates after which a CA is distrusted have no place in the file.
func caCertificates() []byte {
	var text bytes.Buffer
	for root := range bundle.Roots() {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a Buffer has no errors
	}
	return text.Bytes()
}

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// TestImage assembles the images for this machine, from what .dockerignore lets
// through, and starts them: the layers and nothing else in a root directory, as the
// image's user, with the image's arguments.
func TestImage(t *testing.T) {
	b := builder{
		source: "../..", version: "v0.0.0-image", commit: "0123456789abcdef",
		platforms: []string{"linux/" + runtime.GOARCH}, created: time.Unix(1234567890, 0).UTC(),
	}
	images, err := b.recipes()
	if err != nil {
		t.Fatal(err)
	}
	b.source = buildContext(t)
	for _, image := range images {
		t.Run(image.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), image.name)
			if err := b.write(t.Context(), image, dir); err != nil {
				t.Fatal(err)
			}
			if err := check(dir, image, b); err != nil {
				t.Error(err)
			}
			root := unpacked(t, dir)
			out, err := inside(t, root, image.config, image.config.Entrypoint[0], "version").Output()
			if err != nil || !strings.Contains(string(out), b.version) || !strings.Contains(string(out), b.commit) {
				t.Errorf("version printed %q (%v), want %s and %s in it", out, err, b.version, b.commit)
			}
			if image.name == "culvert" {
				t.Run("serves", func(t *testing.T) { serves(t, root, image.config) })
			}
			t.Run("again", func(t *testing.T) { sameAgain(t, b, image, dir) })
		})
	}
}

// sameAgain assembles the image from another folder, and compares it with the first.
func sameAgain(t *testing.T, b builder, image recipe, first string) {
	second := filepath.Join(t.TempDir(), image.name)
	b.source = "../.."
	if err := b.write(t.Context(), image, second); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{first, second} {
		if err := archive(dir, dir+".tar", b.created); err != nil {
			t.Fatal(err)
		}
	}
	one, err := os.ReadFile(first + ".tar")
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(second + ".tar")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("two builds from different folders differ")
	}
}

// serves starts culvert as the container does, asks its health check, and stops it.
func serves(t *testing.T, root string, config v1.Config) {
	health := "CULVERT_HEALTH_LISTEN=" + freeAddress(t)
	healthy := func() ([]byte, error) {
		if config.Healthcheck.Test[0] != "CMD" {
			t.Fatalf("the health check is %q: the image has no shell", config.Healthcheck.Test)
		}
		cmd := inside(t, root, config, config.Healthcheck.Test[1], config.Healthcheck.Test[2:]...)
		cmd.Env = append(cmd.Env, health)
		return cmd.CombinedOutput()
	}
	if out, err := healthy(); err == nil {
		t.Errorf("the health check says %q, and nothing runs yet", out)
	}
	args := slices.Concat(config.Cmd, []string{"--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0"})
	cmd := inside(t, root, config, config.Entrypoint[0], args...)
	cmd.Env = append(cmd.Env, health)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	address := loggedAddress(t, io.TeeReader(stderr, &log))
	if address != "" {
		ask(t, "http://"+address+"/")
	}
	if out, err := healthy(); err != nil || string(out) != "ready\n" {
		t.Errorf("the health check says %q (%v), want ready", out, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(&log, stderr); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after TERM: %v", err)
	}
	if t.Failed() {
		t.Logf("its log:\n%s", log.Bytes())
	}
}

// unpacked returns a root directory with the files of the only image in the layout.
func unpacked(t *testing.T, dir string) string {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil { // the image's user looks into it
		t.Fatal(err)
	}
	content := mutate.Extract(onlyImage(t, dir))
	defer content.Close()
	for r := tar.NewReader(content); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(root, header.Name)
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(name, header.FileInfo().Mode().Perm())
		} else {
			var text []byte
			if text, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(name, text, header.FileInfo().Mode().Perm())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// buildContext copies what git has and .dockerignore lets through.
func buildContext(t *testing.T) string {
	t.Helper()
	ignore, err := os.Open("../../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	defer ignore.Close()
	patterns, err := ignorefile.ReadAll(ignore)
	if err != nil {
		t.Fatal(err)
	}
	ignored, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	dir := t.TempDir()
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		if skip, err := ignored.MatchesOrParentMatches(name); err != nil || skip {
			continue
		}
		b, err := os.ReadFile(filepath.Join("../..", name))
		if os.IsNotExist(err) {
			continue // removed, and not yet committed
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// inside returns a command that runs in root, as the image's user and with its
// environment. Another user than root becomes root in a user namespace first, for chroot.
func inside(t *testing.T, root string, config v1.Config, entrypoint string, args ...string) *exec.Cmd {
	t.Helper()
	uid, _, _ := strings.Cut(config.User, ":")
	user, err := strconv.Atoi(uid)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, entrypoint, args...)
	cmd.Env = slices.Clone(config.Env)
	cmd.Dir = config.WorkingDir
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}
		return cmd
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getuid(), Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: user, HostID: os.Getgid(), Size: 1}}
	return cmd
}

// freeAddress returns an address that nothing listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// loggedAddress reads log lines until the one that says where culvert listens.
func loggedAddress(t *testing.T, log io.Reader) string {
	t.Helper()
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			return line.Address
		}
	}
	t.Errorf("no log line says where it listens: %v", lines.Err())
	return ""
}

// ask makes a request that culvert has to answer itself.
func ask(t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{}).DialContext}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if got, want := resp.StatusCode, http.StatusNotFound; got != want {
		t.Errorf("GET / answered %d, want %d", got, want)
	}
}

// onlyImage returns the image of a layout for one platform.
func onlyImage(t *testing.T, dir string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	for {
		manifest, err := index.IndexManifest()
		if err != nil || len(manifest.Manifests) != 1 {
			t.Fatalf("%v: want one manifest (%v)", manifest, err)
		}
		only := manifest.Manifests[0]
		if only.MediaType.IsImage() {
			image, err := index.Image(only.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return image
		}
		if index, err = index.ImageIndex(only.Digest); err != nil {
			t.Fatal(err)
		}
	}
}

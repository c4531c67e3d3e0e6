package tools

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
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

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

const dockerfile = "../Dockerfile"

// TestImage does what the Dockerfile says without a container engine: it builds
// with the Dockerfile's own command from what .dockerignore lets through, puts
// the result and nothing else into a root directory, and starts it there as the
// image's user with the image's arguments.
func TestImage(t *testing.T) {
	image := readDockerfile(t)
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil { // the image's user looks into it
		t.Fatal(err)
	}
	program := filepath.Join(root, "culvert")
	const version = "v0.0.0-image"

	build := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(image.build, "-o /culvert ", "-o "+program+" "))
	build.Dir = buildContext(t)
	build.Env = append(os.Environ(), "VERSION="+version, "TARGETOS="+runtime.GOOS, "TARGETARCH="+runtime.GOARCH)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", image.build, err, out)
	}

	t.Run("the program is static", func(t *testing.T) {
		f, err := elf.Open(program)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("the program has a segment %v: it wants a loader, and scratch has none", p.Type)
			}
		}
	})

	t.Run("the program knows its version", func(t *testing.T) {
		out, err := inside(t, root, image.user, image.entrypoint, "version").Output()
		if err != nil || !strings.Contains(string(out), version) {
			t.Errorf("version printed %q (%v), want %s in it", out, err, version)
		}
	})

	t.Run("it serves and drains as the image's user", func(t *testing.T) {
		health := "CULVERT_HEALTH_LISTEN=" + freeAddress(t)
		check := func() ([]byte, error) {
			cmd := inside(t, root, image.user, image.check[0], image.check[1:]...)
			cmd.Env = append(cmd.Env, health)
			return cmd.CombinedOutput()
		}
		if out, err := check(); err == nil {
			t.Errorf("the health check says %q, and nothing runs yet", out)
		}
		args := slices.Concat(image.cmd, []string{"--backend", "127.0.0.1:1", "--listen", "127.0.0.1:0"})
		cmd := inside(t, root, image.user, image.entrypoint, args...)
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
		if out, err := check(); err != nil || string(out) != "ready\n" {
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
	})
}

// An imageSpec is what the Dockerfile says of the image.
type imageSpec struct {
	build      string // the command that builds the program
	user       int
	entrypoint string
	cmd        []string
	check      []string // the health check
}

// readDockerfile reads the instructions that matter here, and fails if one is
// missing or has another shape than this test understands.
func readDockerfile(t *testing.T) imageSpec {
	t.Helper()
	b, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	var spec imageSpec
	var base string
	for line := range strings.Lines(strings.ReplaceAll(string(b), "\\\n", " ")) {
		instruction, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch instruction {
		case "FROM":
			base = rest
		case "RUN":
			if strings.Contains(rest, "go build") {
				spec.build = rest
			}
		case "USER":
			uid, gid, _ := strings.Cut(rest, ":")
			if spec.user, err = strconv.Atoi(uid); err != nil || spec.user == 0 || gid != uid {
				t.Errorf("USER %s: want a number that isn't root's, twice", rest)
			}
		case "ENTRYPOINT":
			var argv []string
			if err := json.Unmarshal([]byte(rest), &argv); err != nil || len(argv) != 1 {
				t.Fatalf("ENTRYPOINT %s: want one string in a list: %v", rest, err)
			}
			spec.entrypoint = argv[0]
		case "CMD":
			if err := json.Unmarshal([]byte(rest), &spec.cmd); err != nil {
				t.Fatalf("CMD %s: %v", rest, err)
			}
		case "HEALTHCHECK":
			_, argv, _ := strings.Cut(rest, " CMD ")
			if err := json.Unmarshal([]byte(argv), &spec.check); err != nil || len(spec.check) == 0 {
				t.Fatalf("HEALTHCHECK %s: want the check's strings in a list, since the image has no shell: %v", rest, err)
			}
		}
	}
	if base != "scratch" {
		t.Errorf("the image is made from %s, want scratch", base)
	}
	if spec.build == "" || spec.user == 0 || spec.entrypoint == "" || spec.cmd == nil || spec.check == nil {
		t.Fatalf("%s lacks an instruction: %+v", dockerfile, spec)
	}
	return spec
}

// buildContext copies what git has and .dockerignore lets through.
func buildContext(t *testing.T) string {
	t.Helper()
	ignore, err := os.Open("../.dockerignore")
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
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	dir := t.TempDir()
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		if skip, err := ignored.MatchesOrParentMatches(name); err != nil || skip {
			continue
		}
		b, err := os.ReadFile(filepath.Join("..", name))
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

// inside returns a command that runs in root, as user, with an empty
// environment. Who isn't root becomes it in a user namespace first, for chroot.
func inside(t *testing.T, root string, user int, entrypoint string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, entrypoint, args...)
	cmd.Env = []string{}
	cmd.Dir = "/"
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

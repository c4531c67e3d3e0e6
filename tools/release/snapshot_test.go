package release

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	root          = "../.."
	configuration = ".goreleaser.yaml"
)

// The first build for a platform compiles everything, which takes minutes.
var everyPlatform = flag.Bool("platforms", false, "build for all platforms, not only for this one")

var scratch string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(inScratch(m.Run))
}

func inScratch(run func() int) int {
	var err error
	if scratch, err = os.MkdirTemp("", "culvert-release-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(scratch) }() // it is in the system's temporary folder
	return run()
}

// A snapshot is what goreleaser made of the tree.
type snapshot struct {
	dir     string
	key     string // the public half of the key that signed it
	version string
	commit  string
}

// made returns the snapshot that the tests share.
var made = sync.OnceValues(func() (*snapshot, error) { return makeSnapshot("first") })

func snapshotOf(t *testing.T) *snapshot {
	t.Helper()
	s, err := made()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// makeSnapshot runs goreleaser with the configuration of the tree, but another folder
// for the results, and a key that nobody else has.
func makeSnapshot(name string) (*snapshot, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
	defer cancel()
	s := &snapshot{dir: filepath.Join(scratch, name), key: filepath.Join(scratch, name+".gpg")}
	text, err := os.ReadFile(filepath.Join(root, configuration))
	if err != nil {
		return nil, err
	}
	changes := []string{"\ndist: dist/release\n", "\ndist: " + s.dir + "\n"}
	if !*everyPlatform {
		changes = append(changes,
			"goos: [linux, darwin, windows]", "goos: [linux]",
			"goarch: [amd64, arm64]", "goarch: ["+runtime.GOARCH+"]")
	}
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(string(text), changes[i]) {
			return nil, fmt.Errorf("%s has no %q", configuration, changes[i])
		}
	}
	config := s.dir + ".yaml"
	if err := os.WriteFile(config, []byte(strings.NewReplacer(changes...).Replace(string(text))), 0o600); err != nil {
		return nil, err
	}

	keys := s.dir + ".keys"
	if err := os.Mkdir(keys, 0o700); err != nil {
		return nil, err
	}
	home := "GNUPGHOME=" + keys
	if _, err := command(ctx, home, "gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "release test", "ed25519", "sign", "never"); err != nil {
		return nil, err
	}
	// gpg leaves its agent running.
	defer func() { _, _ = command(ctx, home, "gpgconf", "--kill", "gpg-agent") }() // without one there is nothing to end
	if _, err := command(ctx, home, "gpg", "--batch", "--output", s.key, "--export"); err != nil {
		return nil, err
	}
	if _, err := command(ctx, home, "./goreleaser.sh", "release", "--config", config, "--snapshot", "--clean"); err != nil {
		return nil, err
	}

	// Beside the others, as on the release's page: goreleaser uploads it from where it is.
	if _, err := command(ctx, home, "sh", "-c", `cp ../../bin/packages/npm/*.tgz "$0"`, s.dir); err != nil {
		return nil, err
	}

	var meta struct{ Version, Commit string }
	if text, err = os.ReadFile(filepath.Join(s.dir, "metadata.json")); err != nil {
		return nil, err
	}
	err = json.Unmarshal(text, &meta)
	s.version, s.commit = meta.Version, meta.Commit
	return s, err
}

// command runs a command and returns its output.
func command(ctx context.Context, env, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %q: %w\n%s", name, args, err, out)
	}
	return string(out), nil
}

// run is command for a test. A command that fails fails the test.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), "LC_ALL=C", name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// only returns the only file of the snapshot that the pattern matches.
func (s *snapshot) only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q (%v), want one file", pattern, found, err)
	}
	return found[0]
}

// platforms returns the snapshot's, as in the names of archives.
func platforms() []string {
	if *everyPlatform {
		return []string{"linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64", "windows_amd64", "windows_arm64"}
	}
	return []string{runtime.GOOS + "_" + runtime.GOARCH}
}

// files returns the names of the files of the snapshot, without goreleaser's own.
func (s *snapshot) files(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && !slices.Contains([]string{"artifacts.json", "config.yaml", "metadata.json"}, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestCheck(t *testing.T) {
	if out := run(t, "./goreleaser.sh", "check"); strings.Contains(out, "deprecated") {
		t.Errorf("%s has keys that goreleaser is about to remove:\n%s", configuration, out)
	}
}

// TestFiles compares the files of the snapshot with those that the configuration promises.
func TestFiles(t *testing.T) {
	s := snapshotOf(t)
	want := map[string]bool{"checksums.txt": true, "checksums.txt.asc": true, "culvert-web-" + s.version + ".tgz": true}
	packaged := strings.Replace(s.version, "-", "~", 1) // of the two, dpkg and rpm sort only ~ before the release
	for _, program := range []string{"culvert", "culvert-kube"} {
		for _, platform := range platforms() {
			system, arch, _ := strings.Cut(platform, "_")
			name := program + "_" + s.version + "_" + platform
			want[name+".cdx.json"] = true
			if system == "windows" {
				want[name+".zip"] = true
				continue
			}
			want[name+".tar.gz"] = true
			if system == "linux" {
				machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
				want[program+"_"+packaged+"_"+arch+".deb"] = true
				want[program+"-"+packaged+"-1."+machine+".rpm"] = true
			}
		}
	}
	if got, want := s.files(t), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
		t.Errorf("the snapshot has %q, want %q", got, want)
	}
}

// TestSecondSnapshotIsTheSame builds everything twice. Only the signature has a time.
func TestSecondSnapshotIsTheSame(t *testing.T) {
	first := snapshotOf(t)
	second, err := makeSnapshot("second")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range first.files(t) {
		if name == "checksums.txt.asc" {
			continue
		}
		a, err := os.ReadFile(filepath.Join(first.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(second.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s differs between two builds", name)
		}
	}
}

// tree returns the files below a folder, with their modes.
func tree(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	found := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		found[filepath.ToSlash(name)] = info.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

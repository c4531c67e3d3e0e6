package release

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestArchives unpacks each archive, and runs those programs that run here.
func TestArchives(t *testing.T) {
	s := snapshotOf(t)
	for _, platform := range platforms() {
		for program, page := range map[string][]string{"culvert": {"README.md", "CHANGELOG.md", "proxy.yaml"}, "culvert-kube": {"culvert-kube.md"}} {
			t.Run(program+"_"+platform, func(t *testing.T) {
				dir := t.TempDir()
				name := program + "_" + s.version + "_" + platform
				suffix := ""
				if strings.HasPrefix(platform, "windows") {
					suffix = ".exe"
					run(t, "bsdtar", "-xpf", filepath.Join(s.dir, name+".zip"), "-C", dir)
				} else {
					run(t, "tar", "-xpf", filepath.Join(s.dir, name+".tar.gz"), "-C", dir)
				}
				want := map[string]fs.FileMode{program + suffix: 0o755, "LICENSE": 0o644}
				for _, p := range page {
					want[p] = 0o644
				}
				for _, shell := range []string{"bash", "zsh", "fish"} {
					want["completions/"+program+"."+shell] = 0o644
				}
				dir = filepath.Join(dir, name)
				if got := tree(t, dir); !maps.Equal(got, want) {
					t.Errorf("%s has %v, want %v", name, got, want)
				}
				if platform == runtime.GOOS+"_"+runtime.GOARCH {
					useArchive(t, s, dir, program)
				}
			})
		}
	}
}

// useArchive runs the program of an archive, which must print its version, and the
// completions beside it.
func useArchive(t *testing.T, s *snapshot, dir, program string) {
	t.Helper()
	file := filepath.Join(dir, program)
	if got := run(t, file, "version"); !strings.Contains(got, program+" "+s.version+" (commit "+s.commit+",") {
		t.Errorf("%s version: %q, want version %s and commit %s", program, got, s.version, s.commit)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		text, err := os.ReadFile(filepath.Join(dir, "completions", program+"."+shell))
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, file, "completion", shell); got != string(text) {
			t.Errorf("%s completion %s prints another text than the archive has", program, shell)
		}
	}
	if program == "culvert" {
		run(t, file, "validate", "--config", filepath.Join(dir, "proxy.yaml"))
	}
}

// TestNPMPackage looks into the npm package, which "make web" has installed and used.
func TestNPMPackage(t *testing.T) {
	s := snapshotOf(t)
	dir := t.TempDir()
	run(t, "tar", "-xf", s.only(t, "*.tgz"), "-C", dir)
	var manifest struct{ Name, Version string }
	text, err := os.ReadFile(filepath.Join(dir, "package", "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Name != "@culvert/web" || manifest.Version != s.version {
		t.Errorf("the npm package is %+v, want @culvert/web %s", manifest, s.version)
	}
	if files := tree(t, dir); files["package/dist/index.js"] == 0 || files["package/LICENSE"] == 0 {
		t.Errorf("the npm package has %v", files)
	}
}

// TestProgramsAreThoseOfTheMakefile compares the program with that of "make build".
func TestProgramsAreThoseOfTheMakefile(t *testing.T) {
	s := snapshotOf(t)
	file := filepath.Join(t.TempDir(), "culvert")
	build := run(t, "make", "--no-print-directory", "-s", "-n", "-C", root, "build", "VERSION="+s.version, "COMMIT="+s.commit)
	before, after, found := strings.Cut(build, " -o bin/culvert$(go env GOEXE) ")
	if !found {
		t.Fatalf("make build runs %q", build)
	}
	run(t, "sh", "-c", "cd "+root+" && "+before+" -o "+file+" "+after)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(s.only(t, "culvert_"+runtime.GOOS+"_"+runtime.GOARCH+"_*/culvert"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("the released program differs from that of make build")
	}
	// Function names are in any program, for stacks.
	if bytes.Contains(want, []byte("text/template.(*state).evalField")) {
		t.Error("the program evaluates templates, so the linker keeps all exported methods: see with -ldflags=-dumpdep what calls text/template")
	}
}

package docs

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fileOf returns the file that a block is to be saved as, "" if none is named.
func fileOf(b block) string {
	for _, o := range b.options {
		if strings.Contains(o, ".") {
			return o
		}
	}
	return ""
}

func isProject(b block) bool { return b.language == "sh" && slices.Contains(b.options, "project") }

// project makes the directory of a reader who has done what the blocks of a page
// say up to a point: saved the files, run the commands marked "project". The demo's
// demo.proto is in it from the beginning, as in any project that has its own.
func project(t testing.TB, done []block) string {
	t.Helper()
	dir := t.TempDir()
	install(t, dir)
	definition, err := os.ReadFile(filepath.Join(root, "demo", "demopb", "demo.proto"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"demo.proto": string(definition), "package.json": "{}"} {
		save(t, dir, name, text)
	}
	for _, b := range done {
		if file := fileOf(b); file != "" {
			save(t, dir, file, b.text)
		} else if isProject(b) {
			work(t, dir, b, false)
		}
	}
	return dir
}

// install gives a project the packages of e2e/node, and @culvert/web as npm would
// install it: a package that takes its peers from the project.
func install(t testing.TB, dir string) {
	t.Helper()
	modules, err := filepath.Abs("../node/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(modules)
	if err != nil {
		t.Fatalf("the JavaScript clients are not installed: npm ci --prefix e2e/node (%v)", err)
	}
	own := filepath.Join(dir, "node_modules", "@culvert", "web")
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(modules, e.Name()), filepath.Join(dir, "node_modules", e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	web := filepath.Join(root, "web")
	if err := os.CopyFS(filepath.Join(own, "dist"), os.DirFS(filepath.Join(web, "dist"))); err != nil {
		t.Fatalf("@culvert/web is not built: npm run build --prefix web (%v)", err)
	}
	manifest, err := os.ReadFile(filepath.Join(web, "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	save(t, own, "package.json", string(manifest))
}

// clientPages are the pages of the clients that scripts import, by the beginning of
// the package's name. The first one that fits counts.
var clientPages = [][2]string{
	{"@culvert/", "web"},
	{"@connectrpc/", "connect-web"},
	{"@improbable-eng/", "improbable-grpc-web"},
	{"nice-grpc-web", "nice-grpc-web"},
	{"@grpc/", "grpc-js"},
}

// projectOf makes the project of a client that a script imports, by its page.
func projectOf(t testing.TB, script string) string {
	t.Helper()
	for _, row := range clientPages {
		name, client := row[0], row[1]
		if !strings.Contains(script, `from "`+name) {
			continue
		}
		for _, p := range readPages(t) {
			if p.path == "docs/clients/"+client+".md" {
				return project(t, p.blocks)
			}
		}
	}
	t.Fatalf("no page of a client fits\n%s", script)
	return ""
}

func save(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// runProject runs the commands of a block in the project that the page has made so
// far, where stubs are generated, pages bundled and programs run.
func runProject(t *testing.T, b block) {
	dir := project(t, b.before)
	if strings.Contains(b.text, " run ") || isServing.MatchString(b.text) {
		startPath(t, b)
	}
	work(t, dir, b, true)
	wantSameGo(t, dir)
	for _, c := range commands(b.text) {
		if isServing.MatchString(c) {
			useServed(t, dir, c)
		}
	}
}

var isServing = regexp.MustCompile(`(?m)^npx esbuild .*--serve=(\S+)`)

// useServed serves a project's page as the command says, and opens it. The page of
// docs/start/page.md then shows a countdown.
func useServed(t *testing.T, dir, command string) {
	startProcess(t, dir, shell(command+" < <(tail -f /dev/null)")...) // esbuild serves as long as somebody may type
	address := isServing.FindStringSubmatch(command)[1]
	awaitPort(t, address)
	visit, err := filepath.Abs("visit.mjs")
	if err != nil {
		t.Fatal(err)
	}
	if text, err := output(t, dir, "node", visit, "http://"+address, "3 2 1 0"); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

// wantSameGo compares Go code that a block generated with the repository's own, but
// for the path that it was generated from.
func wantSameGo(t *testing.T, dir string) {
	got, err := os.ReadFile(filepath.Join(dir, "demo_grpc.pb.go"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	want, err2 := os.ReadFile(filepath.Join(root, "demo", "demopb", "demo_grpc.pb.go"))
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if string(got) != strings.ReplaceAll(string(want), "demo/demopb/demo.proto", "demo.proto") {
		t.Errorf("the generated code isn't that of demo/demopb:\n%s", got)
	}
}

// work runs the commands of a block in a project. The packages are installed by
// now, at the versions that the tests pin; a Go program is run with the
// repository's modules, unless only what it leaves behind is wanted. A remark
// behind a command is what it prints.
func work(t testing.TB, dir string, b block, calls bool) {
	t.Helper()
	for _, c := range commands(b.text) {
		c, prints, _ := strings.Cut(c, " # ")
		switch {
		case strings.HasPrefix(c, "npm install "):
			wantPackages(t, c)
		case strings.HasPrefix(c, "go get "):
			wantModules(t, c)
		case c == "go mod tidy": // the repository's modules are there, and no network
		case isServing.MatchString(c): // useServed runs it when all files are there
		default:
			from := dir
			if strings.Contains(c+" ", "go run . ") {
				if !calls {
					continue
				}
				from, c = root, strings.Replace(c, "go run .", "go run "+filepath.Join(dir, "main.go"), 1)
			}
			text, err := output(t, from, shell(environmentOf(b)+installed(t, c))...)
			if err != nil || prints != "" && strings.TrimSpace(text) != prints {
				t.Fatalf("%s: %v, want %q\n%s", c, err, prints, text)
			}
		}
	}
}

// wantPackages holds the packages of "npm install" to those that the tests use.
func wantPackages(t testing.TB, command string) {
	t.Helper()
	text, err := os.ReadFile("../node/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Dependencies map[string]string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(command)[2:] {
		own := name == "@culvert/web" || strings.HasSuffix(name, "/web/culvert-web-0.0.0.tgz")
		if _, used := manifest.Dependencies[name]; !used && !own && !strings.HasPrefix(name, "-") {
			t.Errorf("%s: e2e/node/package.json has no %s: nothing here uses it", command, name)
		}
	}
}

// wantModules holds the modules of "go get" to those that the repository requires.
func wantModules(t testing.TB, command string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(command)[2:] {
		if !regexp.MustCompile(`(?m)^(module |\t)` + regexp.QuoteMeta(path) + `( v\S+)?$`).Match(text) {
			t.Errorf("%s: go.mod has no %s: nothing here uses it", command, path)
		}
	}
}

var goInstall = regexp.MustCompile(`go install (\S+)`)

// installed makes "go install" install what is here: culvert, or a tool that the
// repository pins.
func installed(t testing.TB, command string) string {
	t.Helper()
	if strings.HasPrefix(command, installKube) {
		// Without cgo, as make has built it before: the first build takes minutes.
		return "CGO_ENABLED=0 GOBIN=" + filepath.Join(worldDir, "gobin") + " " + command
	}
	return goInstall.ReplaceAllStringFunc(command, func(c string) string {
		path, latest := strings.CutSuffix(goInstall.FindStringSubmatch(c)[1], "@latest")
		module := filepath.Join(root, "tools")
		if !latest { // culvert, from the clone
			module = root
		}
		module, err := filepath.Abs(module)
		if err != nil {
			t.Fatal(err)
		}
		return "GOBIN=" + filepath.Join(worldDir, "gobin") + " go -C " + module + " install " + path
	})
}

// runProto compiles a service's definition.
func runProto(t *testing.T, b block) {
	dir := t.TempDir()
	save(t, dir, fileOf(b), b.text)
	if text, err := output(t, dir, "protoc", "--descriptor_set_out=set.binpb", fileOf(b)); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// runJavaScript runs a snippet in Node or, with the option "browser", in a page
// of http://localhost:5173 in Chromium.
func runJavaScript(t *testing.T, b block) {
	startPath(t, b)
	for _, v := range variants(b.text) {
		dir := project(t, b.text, v.stubs)
		file := filepath.Join(dir, "snippet.mjs")
		if err := os.WriteFile(file, []byte(v.snippet), 0o600); err != nil {
			t.Fatal(err)
		}
		command := "exec node " + file
		if slices.Contains(b.options, "browser") {
			script, err := filepath.Abs("browser.mjs")
			if err != nil {
				t.Fatal(err)
			}
			command = "exec node " + script + " " + file
		} else if !slices.Contains(b.options, "node") {
			t.Fatal("write ```js node or ```js browser: where the snippet runs")
		}
		text, err := output(t, dir, time.Minute, shell(environmentOf(b)+command)...)
		wantPrinted(t, b, text, err, "console.log(")
	}
}

// A variant is a snippet with another setting that the words around it name.
type variant struct {
	snippet string
	stubs   string // what stands in the stubs for format: "text"
}

const (
	textFormat   = `format: "text"`
	binaryFormat = `format: "binary"`
)

func variants(snippet string) []variant {
	all := []variant{{snippet, textFormat}}
	if strings.Contains(snippet, "demo_grpc_web_pb.js") {
		all = append(all, variant{snippet, binaryFormat}) // the generator's mode=grpcweb
	}
	for _, other := range [][2]string{
		{binaryFormat, textFormat},
		{"createGrpcTransport({", `createGrpcWebTransport({ httpVersion: "1.1",`},
		{"createGrpcTransport({", `createGrpcWebTransport({ httpVersion: "2",`},
	} {
		if strings.Contains(snippet, other[0]) {
			changed := strings.ReplaceAll(snippet, other[0], other[1])
			all = append(all, variant{strings.ReplaceAll(changed, "createGrpcTransport }", "createGrpcWebTransport }"), textFormat})
		}
	}
	return all
}

// project is the directory of a project that has installed the published clients
// and generated its stubs into gen/, with the generator of the client that the
// snippet uses.
func project(t testing.TB, snippet, format string) string {
	t.Helper()
	dir := t.TempDir()
	modules, err := filepath.Abs("../node/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Fatalf("the JavaScript clients are not installed: npm ci --prefix e2e/node (%v)", err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	stubs := map[string]string{} // from, to
	switch {
	case strings.Contains(snippet, `"@protobuf-ts/`):
		stubs["gen/protobuf-ts"] = "gen"
	case strings.Contains(snippet, `"nice-grpc-web"`):
		stubs["gen/ts-proto"] = "gen"
	case strings.Contains(snippet, `"@connectrpc/`):
		stubs["gen/es"] = "gen"
	default:
		stubs["classic"], stubs["gen/es"] = "gen", "gen/es"
	}
	for from, to := range stubs {
		copyFiles(t, from, filepath.Join(dir, to), format)
	}
	copyFiles(t, filepath.Join(root, "demo", "demopb"), dir, format)
	return dir
}

// copyFiles copies what is in a directory: copies, not links, since Node looks
// for packages where a file really is.
func copyFiles(t testing.TB, from, to, format string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.Replace(string(text), textFormat, format, 1))
		if err := os.WriteFile(filepath.Join(to, e.Name()), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

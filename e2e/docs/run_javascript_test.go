package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// runJavaScript runs a snippet in Node or, with the option "browser", in a page
// of http://localhost:5173 in Chromium.
func runJavaScript(t *testing.T, b block) {
	startPath(t, b)
	for _, v := range variants(b) {
		var dir string
		if strings.HasPrefix(b.page, "docs/guides/from-") { // the reader has the project of that client's page
			dir = projectOf(t, v.text)
		} else {
			dir = project(t, v.before)
		}
		file := filepath.Join(dir, "snippet.mjs")
		if err := os.WriteFile(file, []byte(v.text), 0o600); err != nil {
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
		text, err := output(t, dir, shell(environmentOf(b)+command)...)
		wantPrinted(t, b, text, err, "console.log(")
	}
}

// variants returns a snippet, and the snippet with other settings that the words
// around it name: in the code or in the command that generates the stubs.
func variants(b block) []block {
	all := []block{b}
	for _, other := range [][2]string{
		{`format: "binary"`, `format: "text"`},
		{"createGrpcTransport({", `createGrpcWebTransport({ httpVersion: "1.1",`},
		{"createGrpcTransport({", `createGrpcWebTransport({ httpVersion: "2",`},
	} {
		if strings.Contains(b.text, other[0]) {
			changed := b
			changed.text = strings.ReplaceAll(b.text, other[0], other[1])
			changed.text = strings.ReplaceAll(changed.text, "createGrpcTransport }", "createGrpcWebTransport }")
			all = append(all, changed)
		}
	}
	if strings.Contains(b.text, "demo_grpc_web_pb.js") {
		changed := b
		changed.before = slices.Clone(b.before)
		for i := range changed.before {
			changed.before[i].text = strings.ReplaceAll(changed.before[i].text, "mode=grpcwebtext", "mode=grpcweb")
		}
		all = append(all, changed)
	}
	return all
}

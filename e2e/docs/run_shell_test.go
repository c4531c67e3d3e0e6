package docs

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// commands splits a block of shell into commands; a backslash continues one.
func commands(text string) []string {
	var all []string
	for l := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "#") {
			all = append(all, l)
		}
	}
	return all
}

var (
	isCulvert = regexp.MustCompile(`^(?:\w+=\S* )*(?:culvert|go run \./cmd/culvert) (\w+)`)
	isExample = regexp.MustCompile(`^go -C examples run \./[\w-]+( --check)?$`)
	isClone   = regexp.MustCompile(`^(git clone https://github\.com/culvert-grpc/culvert|cd culvert)$`)
	isMake    = regexp.MustCompile(`^(?:\w+=\S* )*make\b`)
)

// runShell runs a block of commands, with the demo's service on its port. A
// command that serves is used, then ended as a person ends it.
func runShell(t *testing.T, b block) {
	if strings.Contains(b.text, "//grpc.example.com") || strings.Contains(b.text, "grpc.example.com:443") {
		startPath(t, b)
	} else if !strings.Contains(b.text, "--backend-only") { // which is that service
		startDemoBackend(t)
	}
	needKube(t, b.text)
	for _, c := range commands(b.text) {
		if flag := "--backend-descriptors "; strings.Contains(c, flag) { // a block above writes the file
			c = strings.Replace(c, flag, flag+project(t, b.before)+"/", 1)
		}
		m := isCulvert.FindStringSubmatch(c)
		switch {
		case isClone.MatchString(c): // this very clone
		case isMake.MatchString(c):
			// make test runs this very test: what it would do is enough here.
			wantOK(t, strings.Replace(c, "make", "make -n", 1))
		case m != nil && m[1] == "serve" && strings.Contains(c, "--config proxy.yaml") && slices.ContainsFunc(b.before, func(above block) bool { return fileOf(above) == "proxy.yaml" }):
			useServe(t, strings.Replace(c, "proxy.yaml", writeFile(t, "proxy.yaml", savedAs(t, b, "proxy.yaml")), 1))
		case m != nil && m[1] == "serve" && !strings.Contains(c, "localhost:9000") && !strings.Contains(c, "--config"):
			// A backend that isn't here: the command line is checked as serve would.
			wantOK(t, strings.Replace(c, " serve ", " validate ", 1))
		case m != nil && m[1] == "serve" && !strings.Contains(c, "--help"):
			useServe(t, c)
		case m != nil && m[1] == "dial":
			useDial(t, b, c)
		case m != nil && m[1] == "demo" && !strings.Contains(c, "--check") && !strings.Contains(c, "--help"):
			useDemo(t, c)
		case isExample.MatchString(c):
			wantOK(t, strings.TrimSuffix(c, " --check")+" --check") // without, it ends on Ctrl-C
		default:
			wantOK(t, c)
		}
	}
}

// scratch is a directory to run in: the repository's files, where what is
// written harms nobody.
func scratch(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(here, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// shell is how a command line is run. The modules are in Go's cache by now, and
// there is no network.
func shell(command string) []string {
	return []string{"bash", "-euo", "pipefail", "-c", "export GOFLAGS=\"${GOFLAGS-} -mod=readonly\" GOPROXY=off\n" + command}
}

func wantOK(t testing.TB, command string) string {
	t.Helper()
	command = installed(t, command)
	dir := root
	if strings.Contains(command, ">") {
		dir = scratch(t)
	}
	text, err := output(t, dir, shell(command)...)
	if err != nil {
		t.Errorf("%s: %v\n%s", command, err, text)
	}
	return text
}

// useServe starts culvert as the command says, calls through it and ends it.
func useServe(t *testing.T, command string) {
	if strings.Contains(command, "--tls-self-signed") {
		useSelfSigned(t, command)
		return
	}
	p := startProcess(t, root, shell("exec "+command)...)
	address := fmt.Sprint(p.logged(t, "listening", "address")["address"])
	address = strings.Replace(address, "[::]", "localhost", 1)
	if err := callEcho(t, address); err != nil {
		t.Errorf("%s: a call: %v", command, err)
	}
	p.end(t)
}

var demoURL = regexp.MustCompile(`http://\S+/`)

// useDemo starts the demo as the command says, looks at its page and ends it.
func useDemo(t *testing.T, command string) {
	p := startProcess(t, root, shell("exec "+command)...)
	if strings.Contains(command, "--backend-only") {
		p.await(t, "where it listens", func(l string) bool { return strings.Contains(l, "listens on") })
		p.end(t)
		return
	}
	url := demoURL.FindString(p.await(t, "its address", demoURL.MatchString))
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(text), "<title>culvert") {
		t.Errorf("%s: the page is %s, %v: %.200s", command, res.Status, err, text)
	}
	http.DefaultClient.CloseIdleConnections()
	p.end(t)
}

// runConsole runs the commands of a session, those behind "$ ", and holds what
// they write to the lines below each, up to what differs from run to run.
func runConsole(t *testing.T, b block) {
	startDemoBackend(t)
	args := []string{"--allow-origin", "https://app.example.com"}
	if slices.Contains(b.options, "configured") {
		args = append(args, "--config", writeFile(t, "proxy.yaml", savedAs(t, b, "proxy.yaml")))
	}
	startCulvert(t, args...)
	needKube(t, b.text)
	command, want := "", []string{}
	check := func() {
		if command == "" {
			return
		}
		dir := root
		if isWritten.MatchString(command) {
			dir = scratch(t)
		}
		text, err := output(t, dir, shell(installed(t, command))...) // its exit code may be part of the story
		var got []string
		for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
			got = append(got, s.Text())
		}
		for _, w := range want {
			if w != "…" && !slices.ContainsFunc(got, func(g string) bool { return steady(g) == steady(w) }) {
				t.Errorf("%s (%v) has not written\n  %s\nbut\n%s", command, err, w, text)
			}
		}
	}
	for l := range strings.Lines(b.text) {
		l = strings.TrimSuffix(l, "\n")
		if c, ok := strings.CutPrefix(l, "$ "); ok {
			check()
			command, want = c, nil
		} else if l != "" {
			want = append(want, l)
		}
	}
	check()
}

// changing is what differs from run to run in what programs write, and what is
// put in its place before two lines are compared.
var changing = []struct {
	pattern *regexp.Regexp
	steady  string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`(127\.0\.0\.1|\[::1\]|localhost):\d{4,5}`), "ADDRESS"},
	{regexp.MustCompile(`\b[0-9a-f]{16}\b`), "ID"},
	{regexp.MustCompile(`("?duration_ms"?[=:])[\d.]+`), "${1}N"},
	{regexp.MustCompile(`(bytes_(?:in|out)"?[=:])\d+`), "${1}N"},
	{regexp.MustCompile(`not_logged"?[=:]\d+`), "not_logged N"},
	{regexp.MustCompile(`\b\d+ bytes\b`), "N bytes"},
	{regexp.MustCompile(`\s+`), " "},
	{regexp.MustCompile(`, `), ","}, // protojson writes some builds' commas with a blank
}

// steady is a line without what differs from run to run.
func steady(line string) string {
	line = strings.TrimSpace(line)
	for _, c := range changing {
		line = c.pattern.ReplaceAllString(line, c.steady)
	}
	return line
}

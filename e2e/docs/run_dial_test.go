package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var dialledAt = regexp.MustCompile(` at (\S+), in plaintext$`)

// useDial starts culvert dial as the command says, calls through it and ends it. Its usual
// port is that of the demo's service here, so it takes another.
func useDial(t *testing.T, b block, command string) {
	if !strings.Contains(command, "--listen") {
		command += " --listen localhost:0"
	}
	home := t.TempDir()
	save(t, home, ".edge-token", "secret")
	command = environmentOf(b) + "export HOME=" + home + " XDG_RUNTIME_DIR=" + home + "\n" + command
	if strings.Contains(command, "--once") {
		wantOK(t, command)
		return
	}
	p := startProcess(t, root, shell(strings.Replace(command, "\nculvert", "\nexec culvert", 1))...)
	if err := callEcho(t, dialledAt.FindStringSubmatch(p.await(t, "its port", dialledAt.MatchString))[1]); err != nil {
		t.Errorf("%s: a call: %v", command, err)
	}
	p.end(t)
}

var latency = regexp.MustCompile(`,[\d.]+(ms|µs|s)$`) // of a steady line

// wantDialLines holds the lines of a block to what culvert dial prints.
func wantDialLines(t *testing.T, b block) {
	startPath(t, b)
	p := startProcess(t, root, shell(environmentOf(b)+"exec culvert dial https://grpc.example.com --via websocket --listen localhost:0")...)
	if err := callEcho(t, dialledAt.FindStringSubmatch(p.await(t, "its port", dialledAt.MatchString))[1]); err != nil {
		t.Error(err)
	}
	p.end(t)
	same := func(line string) string { return latency.ReplaceAllString(steady(line), ", N") }
	var printed []string
	for l := range strings.Lines(p.output()) {
		printed = append(printed, same(l))
	}
	for l := range strings.Lines(b.text) {
		if !slices.Contains(printed, same(l)) {
			t.Errorf("it hasn't printed %q, but\n%s", l, strings.Join(printed, "\n"))
		}
	}
}

// runPython makes a call over the channel of a snippet, with Debian's Python.
func runPython(t *testing.T, b block) {
	startPath(t, b)
	file := filepath.Join(t.TempDir(), "snippet.py")
	program := "import grpc\n" + b.text + "print(channel.unary_unary(\"/grpc.health.v1.Health/Check\")(b\"\", timeout=30))\n"
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := output(t, root, "/usr/bin/python3", file); err != nil || !strings.Contains(text, `\x08\x01`) {
		t.Errorf("%v\n%s", err, text)
	}
}

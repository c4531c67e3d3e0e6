package main

import (
	"bytes"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/script"
)

// TestMain also makes this binary the programs that the scripts run: culvert
// itself, a gRPC server to put it in front of, and clients.
func TestMain(m *testing.M) {
	testscript.Main(quiet{script.LeakChecked{M: m}}, map[string]func(){
		"culvert": main,
		"backend": backendMain,
		"call":    callMain,
		"hold":    holdMain,
		"fetch":   fetchMain,
		"issuer":  issuerMain,
	})
}

// quiet are tests of commands that run in this process.
type quiet struct{ script.LeakChecked }

func (q quiet) Run() int {
	quietLibraries()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP) // else the scripts' programs ignore it under nohup
	return q.LeakChecked.Run()
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup:              setUp,
		Cmds: script.Commands(map[string]func(*testscript.TestScript, bool, []string){
			"descriptors": descriptors,
			"mute":        mute,
			"notified":    notified,
			"occupy":      occupy,
			"reserve":     reserve,
			"socket":      socketPath,
			"systemd":     systemd,
		}),
	})
}

func TestExitCodes(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("bad.yaml", []byte("limts: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want int
	}{
		{nil, exitDone},
		{[]string{"--help"}, exitDone},
		{[]string{"help", "serve"}, exitDone},
		{[]string{"version"}, exitDone},
		{[]string{"version", "--json"}, exitDone},
		{[]string{"validate", "--partial"}, exitDone},
		{[]string{"validate"}, exitFailed},
		{[]string{"--version"}, exitDone},
		{[]string{"completion", "bash"}, exitDone},
		{[]string{"validate", "bad.yaml"}, exitFailed},
		{[]string{"validate", "missing.yaml"}, exitFailed},
		{[]string{"serve", "--backend", "localhost:9000", "--config", "bad.yaml"}, exitFailed},
		{[]string{"srve"}, exitMisuse},
		{[]string{"srve", "--backend", "x"}, exitMisuse},
		{[]string{"serve", "--port", "1"}, exitMisuse},
		{[]string{"serve", "-c", "x"}, exitMisuse},
		{[]string{"help", "srve"}, exitMisuse},
		{[]string{"completion", "bsh"}, exitMisuse},
		{[]string{"completion", "bash", "twice"}, exitMisuse},
		{[]string{"version", "--jsn"}, exitMisuse},
		{[]string{"version", "please"}, exitMisuse},
		{[]string{"validate", "a", "b"}, exitMisuse},
		{[]string{"config"}, exitDone},
		{[]string{"config", "defaults"}, exitDone},
		{[]string{"config", "print"}, exitDone},
		{[]string{"config", "print", "bad.yaml"}, exitFailed},
		{[]string{"config", "prnt"}, exitMisuse},
		{[]string{"config", "print", "a", "b"}, exitMisuse},
		{[]string{"healthcheck", "--config", "missing.yaml"}, exitFailed},
		{[]string{"healthcheck", "--health-listen", "127.0.0.1:1"}, exitFailed},
		{[]string{"healthcheck", "--health-listen", "off"}, exitFailed},
		{[]string{"healthcheck", "--health-listen", "1"}, exitMisuse},
		{[]string{"healthcheck", "--timeout", "0s"}, exitMisuse},
		{[]string{"healthcheck", "--timeout", "soon"}, exitMisuse},
		{[]string{"healthcheck", "now"}, exitMisuse},
		{[]string{"dial", "ftp://edge.example.com"}, exitMisuse},
		{[]string{"dial", "https://edge.example.com/?q"}, exitMisuse},
		{[]string{"dial", "http://127.0.0.1:1", "--listen", "0.0.0.0:0"}, exitMisuse},
		{[]string{"dial", "http://127.0.0.1:1", "--listen", "9000"}, exitMisuse},
		{[]string{"dial", "http://127.0.0.1:1", "--listen", "unix:"}, exitMisuse},
		{[]string{"dial", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--token-file", "token"}, exitMisuse},
		{[]string{"dial", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--proxy", "ftp://u:p@x"}, exitMisuse},
		{[]string{"dial", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--connect", "unix:/x"}, exitMisuse},
		{[]string{"dial", "http://127.0.0.1:1", "--listen", occupied(t)}, exitFailed},
		{[]string{"dial", "ftp://edge.example.com", "--listen", occupied(t)}, exitMisuse},
		{[]string{"call", "http://127.0.0.1:1", "list", "--proxy", "ftp://u:p@x"}, exitMisuse},
		{[]string{"call", "http://127.0.0.1:1", "list", "--connect", "unix:/x"}, exitMisuse},
		{[]string{"doctor", "http://127.0.0.1:1", "--proxy", "ftp://u:p@x"}, exitMisuse},
		{[]string{"doctor", "http://127.0.0.1:1", "--connect", "unix:/x"}, exitMisuse},
		{[]string{"serve"}, exitMisuse},
		{[]string{"serve", "localhost:9000"}, exitMisuse},
		{[]string{"serve", "--bakend", "localhost:9000"}, exitMisuse},
		{[]string{"serve", "--backend"}, exitMisuse},
		{[]string{"serve", "--backend", "nowhere"}, exitMisuse},
	} {
		var stdout, stderr bytes.Buffer
		got := run(c.args, &stdout, &stderr)
		if got != c.want || got != exitDone && stdout.Len() > 0 || got == exitDone && stdout.Len() == 0 {
			t.Errorf("culvert %q exits with %d, want %d\nstdout: %s\nstderr: %s", c.args, got, c.want, &stdout, &stderr)
		}
	}
}

// occupied returns an address that a listener has until the test ends.
func occupied(t *testing.T) string { return parts.Listen(t, "127.0.0.1:0").Addr().String() }

func TestHeaderLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "headers")
	if err := os.WriteFile(file, []byte("# a comment\n\n x-user: alice \r\nx-b: c"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := headerLines([]string{"x-a: b", "@" + file, "x-d: @e"})
	if want := []string{"x-a: b", "x-user: alice", "x-b: c", "x-d: @e"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err := headerLines([]string{"@/nowhere"}); err == nil {
		t.Errorf("a file that isn't there has %q", got)
	}
}

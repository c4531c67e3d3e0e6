package main

import (
	"bytes"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

// TestMain also makes this binary the programs that the scripts run: culvert
// itself, a gRPC server to put it in front of, and clients.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){
		"culvert": main,
		"backend": backendMain,
		"call":    callMain,
		"hold":    holdMain,
		"fetch":   fetchMain,
	})
}

// leakChecked fails when a test leaves a goroutine.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup:              setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":        await,
			"certificates": certificates,
			"descriptors":  descriptors,
			"exits":        exits,
			"mute":         mute,
			"notified":     notified,
			"occupy":       occupy,
			"reserve":      reserve,
			"signal":       sendSignal,
			"socket":       socketPath,
			"start":        start,
			"systemd":      systemd,
		},
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

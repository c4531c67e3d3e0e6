package serve

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"weak"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/config"
)

// TestRunningProgramKeepsNoRoutes of its configuration: nobody keeps what was loaded, only
// its compact form.
func TestRunningProgramKeepsNoRoutes(t *testing.T) {
	dir := t.TempDir()
	cmdtest.WritePair(t, dir, "a")
	text := strings.ReplaceAll(`
listen: 127.0.0.1:0
health: {listen: 127.0.0.1:0}
admin: {listen: "off"}
tls: {cert: DIR/a.pem, key: DIR/a.key}
backends: [{name: a, address: "localhost:1", tls: {enabled: true}}]
routes: [{name: one, backend: a}]
`, "DIR", dir)
	loaded := cmdtest.Load(t, text)
	file, kept := loaded.File, map[string]weak.Pointer[config.Loaded]{"at the start": weak.Make(loaded)}
	p := newTestProgram(t, loaded)
	loaded = nil
	round := ""
	p.Again = func() (*config.Loaded, error) {
		next, err := config.Load(config.Options{}, file, nil)
		kept[round] = weak.Make(next)
		return next, err
	}
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, step := range []struct{ name, more string }{
		{"unchanged", "# a comment\n"},
		{"applied", "drain_timeout: 7s\n"},
		{"rejected", "drain_timeout: 8s\nallow_origins: ['*']\nmetadata: {forward_cookies: true}\n"},
	} {
		round = step.name
		if err := os.WriteFile(file, []byte(text+step.more), 0o600); err != nil {
			t.Fatal(err)
		}
		p.reloads.reload(true)
	}
	if now := p.reloads.current(); now.rejected == nil || now.DrainTimeout.String() != "7s" || len(now.Whole().Routes) != 1 {
		t.Errorf("runs with %v, rejected %v", now.DrainTimeout, now.rejected)
	}
	runtime.GC()
	for name, pointer := range kept {
		if pointer.Value() != nil {
			t.Errorf("%s: somebody keeps the configuration", name)
		}
	}
	if len(kept) != 4 {
		t.Errorf("%d configurations were loaded, want 4", len(kept))
	}
	runtime.KeepAlive(p)
}

package serve

import (
	"bytes"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

func TestMemoryLimitSettings(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	m := newMemoryLimit(0)
	set := func(configured config.Size) {
		m.set(log, m.find(configured))
	}
	set(512 << 20)
	if m.bytes != 512<<20 || debug.SetMemoryLimit(-1) != 512<<20 || !strings.Contains(out.String(), "limit=512MiB by=limits.memory") {
		t.Errorf("limits.memory of 512 MiB gives %d, the runtime's is %d: %s", m.bytes, debug.SetMemoryLimit(-1), out.String())
	}
	out.Reset()
	set(512 << 20)
	if out.Len() > 0 {
		t.Errorf("the same limit again is logged: %s", out.String())
	}
	set(1 << 30)
	if got := debug.SetMemoryLimit(-1); got != 1<<30 || !strings.Contains(out.String(), "limit=1GiB by=limits.memory") {
		t.Errorf("after a change to 1 GiB the runtime's limit is %d: %s", got, out.String())
	}
	m.set(log, foundLimit{})
	if got := debug.SetMemoryLimit(-1); got != before || !strings.Contains(out.String(), "no longer limited") {
		t.Errorf("without a limit again the runtime's is %d, want %d: %s", got, before, out.String())
	}
	set(512 << 20)
	m.remove()
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("afterwards the runtime's limit is %d, want %d", got, before)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30) // as the runtime does at the start
	m = newMemoryLimit(0)
	set(512 << 20)
	if m.bytes != 512<<20 || debug.SetMemoryLimit(-1) != 1<<30 {
		t.Errorf("beside GOMEMLIMIT: %d, the runtime's is %d", m.bytes, debug.SetMemoryLimit(-1))
	}
	set(0)
	if m.bytes != 1<<30 || m.source != "GOMEMLIMIT" {
		t.Errorf("GOMEMLIMIT alone gives %d by %s, want %d", m.bytes, m.source, 1<<30)
	}
	m = newMemoryLimit(8 << 20)
	set(0)
	if got := debug.SetMemoryLimit(-1); m.bytes != 1<<30 || got != 1<<30+8<<20 {
		t.Errorf("beside a block that takes no memory the runtime's limit is %d", got)
	}
	m.remove()
	debug.SetMemoryLimit(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "off")
	m = newMemoryLimit(0)
	set(0) // the container's, if this runs in one
	if m.bytes < 0 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("GOMEMLIMIT=off: %d, the runtime's is %d", m.bytes, debug.SetMemoryLimit(-1))
	}
}

// TestMemoryLimitSurvivesAFailedRead: a reload that can't read the container's limit
// keeps the one before, and says so once.
func TestMemoryLimitSurvivesAFailedRead(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "")
	failed := &os.PathError{Op: "open", Path: "/proc/self/mountinfo", Err: syscall.EMFILE}
	for _, c := range []struct {
		err        error
		configured config.Size // limits.memory before; 0: the container's 9 GiB
		want       int64
		source     string
	}{
		{failed, 0, 9 << 30, "container"},
		{failed, 1 << 30, 1 << 30, "limits.memory"},
		{memlimit.ErrNoLimit, 0, 0, ""},
		{memlimit.ErrNoLimit, 1 << 30, 0, ""},
		{memlimit.ErrNoCgroup, 0, 0, ""},
		{memlimit.ErrCgroupsNotSupported, 0, 0, ""},
	} {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		m := newMemoryLimit(0)
		m.container = func() (uint64, error) { return 10 << 30, nil }
		m.set(log, m.find(c.configured))
		m.container = func() (uint64, error) { return 0, c.err }
		out.Reset()
		for range 2 {
			m.set(log, m.find(0))
		}
		if m.bytes != c.want || m.source != c.source {
			t.Errorf("after %v the limit is %d by %q, want %d by %q", c.err, m.bytes, m.source, c.want, c.source)
		}
		warned := strings.Count(out.String(), "level=WARN")
		if kept := c.want > 0; kept && (warned != 1 || !strings.Contains(out.String(), "mountinfo") || !strings.Contains(out.String(), "set limits.memory") || strings.Contains(out.String(), "no longer")) || !kept && warned > 0 {
			t.Errorf("of %v the log says %q", c.err, out.String())
		}
		if got := m.find(1 << 30); got != (foundLimit{bytes: 1 << 30, source: "limits.memory"}) {
			t.Errorf("limits.memory after %v gives %+v", c.err, got)
		}
		m.remove()
		fresh := newMemoryLimit(0)
		fresh.container = m.container
		if got := fresh.find(0); got.bytes != 0 || got.source != "" {
			t.Errorf("%v at the start gives %+v, want none", c.err, got)
		}
	}
}

func TestMemoryBoundsTheBudget(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	for _, c := range []struct {
		flags map[string]any
		limit int64
		want  int64
	}{
		{nil, 0, 256 << 20},
		{nil, 4 << 30, 256 << 20},
		{nil, 120 << 20, 65 << 19},
		{nil, 24 << 20, 16 << 20}, // a message has to fit
		{map[string]any{"limits.buffered_bytes": "100MiB"}, 128 << 20, 100 << 20},
	} {
		loaded, err := config.Load(config.Options{}, "", c.flags)
		if err != nil {
			t.Fatal(err)
		}
		cfg := wiring.Bridge(loaded)
		var out bytes.Buffer
		boundMemory(&cfg, c.limit, loaded)
		var m memoryLimit
		for range 2 { // the second time is no news
			m.warn(slog.New(slog.NewTextHandler(&out, nil)), &cfg)
		}
		if warned := strings.Count(out.String(), "message_bytes="); warned > 1 || warned == 1 != (c.limit == 24<<20) {
			t.Errorf("with %d of memory the log has %q", c.limit, out.String())
		}
		if got := cfg.Limits.BufferedBytes; got != c.want {
			t.Errorf("%v with %d of memory: a budget of %d, want %d", c.flags, c.limit, got, c.want)
		}
		if bounded := cfg.Memory > 0; bounded != (c.limit > 0) || cfg.Memory > c.limit {
			t.Errorf("with %d of memory clients have %d", c.limit, cfg.Memory)
		}
	}
	var none bridge.Config
	boundMemory(&none, 0, nil)
}

// TestTheLargestMessageIsToldOfOnce: reloads that change nothing about it say nothing, and
// neither does one that the bridge rejects.
func TestTheLargestMessageIsToldOfOnce(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	t.Setenv("GOMEMLIMIT", "")
	const file = "listen: 127.0.0.1:0\nhealth: {listen: \"off\"}\nadmin: {listen: \"off\"}\nbackend: {address: \"localhost:1\"}\n"
	loaded := cmdtest.Load(t, file+"limits: {message_bytes: 1GiB, buffered_bytes: 1GiB}\n")
	told, rejected := 0, 0
	log := slog.New(watchedLog{slog.DiscardHandler, func(message string) {
		if strings.HasPrefix(message, "the largest message") {
			told++
		}
		if strings.HasPrefix(message, "configuration not reloaded") {
			rejected++
		}
	}})
	p := newTestProgram(t, loaded)
	p.log.Logger = log
	defer p.memory.remove()
	p.memory.container = func() (uint64, error) { return 1 << 30, nil } // clients get less
	p.memory.set(log, p.memory.find(0))
	if err := p.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, c := range []struct {
		file           string
		told, rejected int
	}{
		{"limits: {message_bytes: 1GiB, buffered_bytes: 1GiB}\ndrain_timeout: 7s\n", 1, 0},
		{"limits: {message_bytes: 1500MiB, buffered_bytes: 1500MiB}\nroutes: [{name: a, backend: gone}]\n", 1, 1},
		{"limits: {message_bytes: 1500MiB, buffered_bytes: 1500MiB}\n", 2, 1},
		{"limits: {message_bytes: 1MiB}\n", 2, 1},
		{"limits: {message_bytes: 1500MiB, buffered_bytes: 1500MiB}\n", 3, 1},
	} {
		if err := os.WriteFile(loaded.File, []byte(file+c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		p.reloads.reload(true)
		if told != c.told || rejected != c.rejected {
			t.Errorf("behind %q the log has told %d times of the largest message, and rejected %d files; want %d and %d", c.file, told, rejected, c.told, c.rejected)
		}
	}
}

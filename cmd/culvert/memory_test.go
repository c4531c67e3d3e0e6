package main

import (
	"bytes"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

func TestMemoryWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1000
		used, looks, collections := uint64(0), 0, 0
		w := newMemoryWatch(limit, func() memoryUse {
			looks++
			return memoryUse{total: used + 500, released: 300, free: 200}
		}, func() { collections++ })
		steps := []struct {
			used        uint64
			spent, gone bool
		}{
			{0, false, false},
			{849, false, false},
			{850, true, false},
			{929, true, false},
			{930, true, true},
			{850, true, true}, // not yet calm
			{849, true, false},
			{750, true, false}, // nor here
			{749, false, false},
			{849, false, false},
			{2000, true, true},
			{0, false, false},
		}
		for _, step := range steps {
			used = step.used
			time.Sleep(memoryLook)
			for range 10 {
				if spent, gone := w.spent(), w.gone(); spent != step.spent || gone != step.gone {
					t.Errorf("with %d of %d used it is spent: %v, gone: %v", used, limit, spent, gone)
				}
			}
		}
		if looks != len(steps) {
			t.Errorf("%d looks in %d times %v", looks, len(steps), memoryLook)
		}
		if collections != 1 {
			t.Errorf("%d collections in less than two seconds of too much, want one", collections)
		}
	})
}

func TestGarbageIsNotWhatLives(t *testing.T) {
	u := memoryUse{total: 1000, released: 100, free: 200, objects: 500, live: 350}
	if got, want := u.lives(), int64(1000-100-200-150); got != want {
		t.Errorf("%+v: %d live, want %d", u, got, want)
	}
	u.live = 900 // the last collection found more than there is now
	if got, want := u.lives(), int64(1000-100-200); got != want {
		t.Errorf("%+v: %d live, want %d", u, got, want)
	}
	if got := readMemory().lives(); got < 1<<20 || got > 1<<34 {
		t.Errorf("%d bytes live in this test", got)
	}
}

func TestMemoryLimitSettings(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	limit, stop := limitMemory(512<<20, log)
	if limit != 512<<20 || debug.SetMemoryLimit(-1) != 512<<20 || !strings.Contains(out.String(), "limit=512MiB by=limits.memory") {
		t.Errorf("limits.memory of 512 MiB gives %d, the runtime's is %d: %s", limit, debug.SetMemoryLimit(-1), out.String())
	}
	stop()
	if got := debug.SetMemoryLimit(-1); got != before {
		t.Errorf("afterwards the runtime's limit is %d, want %d", got, before)
	}
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30) // as the runtime does at the start
	limit, stop = limitMemory(512<<20, log)
	if limit != 512<<20 || debug.SetMemoryLimit(-1) != 1<<30 {
		t.Errorf("beside GOMEMLIMIT: %d, the runtime's is %d", limit, debug.SetMemoryLimit(-1))
	}
	stop()
	limit, stop = limitMemory(0, log)
	if limit != 1<<30 {
		t.Errorf("GOMEMLIMIT alone gives %d, want %d", limit, 1<<30)
	}
	stop()
	debug.SetMemoryLimit(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "off")
	limit, stop = limitMemory(0, log) // the container's, if this runs in one
	if limit < 0 || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("GOMEMLIMIT=off: %d, the runtime's is %d", limit, debug.SetMemoryLimit(-1))
	}
	stop()
}

func TestMemoryBoundsTheBudget(t *testing.T) {
	clearEnvironment(t)
	for _, c := range []struct {
		flags map[string]any
		limit int64
		want  int64
	}{
		{nil, 0, 256 << 20},
		{nil, 4 << 30, 256 << 20},
		{nil, 128 << 20, 64 << 20},
		{nil, 24 << 20, 16 << 20}, // a message has to fit
		{map[string]any{"limits.buffered_bytes": "100MiB"}, 128 << 20, 100 << 20},
	} {
		loaded, err := config.Load("", c.flags)
		if err != nil {
			t.Fatal(err)
		}
		cfg := bridgeConfig(loaded)
		boundMemory(&cfg, c.limit, loaded)
		if got := cfg.Limits.BufferedBytes; got != c.want {
			t.Errorf("%v with %d of memory: a budget of %d, want %d", c.flags, c.limit, got, c.want)
		}
		if watched := cfg.MemorySpent != nil && cfg.MemoryGone != nil; watched != (c.limit > 0) {
			t.Errorf("with %d of memory it is watched: %v", c.limit, watched)
		}
	}
	var none bridge.Config
	boundMemory(&none, 0, nil)
}

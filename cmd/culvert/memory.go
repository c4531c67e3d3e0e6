package main

import (
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/config"
)

// containerShare is how much of a container's memory Go may use: the rest is
// for what the kernel holds for the process, sockets' buffers above all.
const containerShare = 0.9

// someMemory is more than a machine has: how some kernels say that there is no
// limit.
const someMemory = 1 << 50

// limitMemory tells the garbage collector to keep below limits.memory, or
// below its share of the container's limit, unless the operator has set
// GOMEMLIMIT. It returns the limit, 0 for none; stop ends it.
func limitMemory(configured config.Size, log *slog.Logger) (limit int64, stop func()) {
	source := "limits.memory"
	if limit = int64(configured); limit == 0 {
		share, err := memlimit.ApplyRatio(memlimit.FromCgroup, containerShare)()
		if err == nil && share < someMemory { // an error: there is no container, or it has no limit
			limit, source = int64(share), "container"
		}
	}
	before := debug.SetMemoryLimit(-1)
	if os.Getenv("GOMEMLIMIT") != "" {
		if configured == 0 && before < someMemory {
			limit, source = before, "GOMEMLIMIT"
		}
	} else if limit > 0 {
		debug.SetMemoryLimit(limit)
	}
	if limit > 0 {
		log.Info("memory is limited", slog.String("limit", config.Size(limit).String()), slog.String("by", source))
	}
	return limit, func() { debug.SetMemoryLimit(before) }
}

// boundMemory lets the bridge refuse new calls in time. The budget of messages
// has half of the memory at most, unless somebody chose it.
func boundMemory(cfg *bridge.Config, limit int64, c *config.Loaded) {
	if limit == 0 {
		return
	}
	if !c.IsSet("limits.buffered_bytes") {
		cfg.Limits.BufferedBytes = max(min(cfg.Limits.BufferedBytes, limit/2), int64(cfg.Limits.MessageBytes))
	}
	w := newMemoryWatch(limit, readMemory, runtime.GC)
	cfg.MemorySpent, cfg.MemoryGone = w.spent, w.gone
}

// A memoryWatch looks whether so much memory lives that new calls, or new
// connections, could be the end of the process. It looks when it is asked, and
// not more often than memoryLook.
type memoryWatch struct {
	began         time.Time
	calls, conns  memoryMark
	read          func() memoryUse
	collect       func()
	next          atomic.Int64 // look, since began
	mu            sync.Mutex   // held for a look
	lastCollected int64
}

// A memoryMark is passed from full on, until less than calm lives. Both are
// bytes.
type memoryMark struct {
	full, calm int64
	passed     atomic.Bool
}

func (m *memoryMark) judge(lives int64) {
	bound := m.full
	if m.passed.Load() {
		bound = m.calm
	}
	m.passed.Store(lives >= bound)
}

const (
	memoryLook    = 100 * time.Millisecond
	memoryCollect = time.Second

	// Percent of the limit. A call that is refused is told so on a connection,
	// which takes memory, too.
	callsFull = 85
	callsCalm = 75
	connsFull = 93
	connsCalm = 85
)

func newMemoryWatch(limit int64, read func() memoryUse, collect func()) *memoryWatch {
	w := &memoryWatch{began: time.Now(), read: read, collect: collect, lastCollected: -int64(memoryCollect)}
	w.calls.full, w.calls.calm = limit/100*callsFull, limit/100*callsCalm
	w.conns.full, w.conns.calm = limit/100*connsFull, limit/100*connsCalm
	return w
}

// spent says whether new calls have to wait, and gone whether new connections
// have to as well. It costs each a look at the clock.
func (w *memoryWatch) spent() bool { return w.passed(&w.calls) }

func (w *memoryWatch) gone() bool { return w.passed(&w.conns) }

func (w *memoryWatch) passed(m *memoryMark) bool {
	now := int64(time.Since(w.began))
	if now >= w.next.Load() && w.mu.TryLock() {
		w.look(now)
		w.mu.Unlock()
	}
	return m.passed.Load()
}

// look reads what is used. What lives is known from the collector's last
// cycle: while memory is spent there may be none for long, since little is
// allocated, so look has one.
func (w *memoryWatch) look(now int64) {
	w.next.Store(now + int64(memoryLook))
	if w.calls.passed.Load() && now-w.lastCollected >= int64(memoryCollect) {
		w.lastCollected = now
		w.collect()
	}
	lives := w.read().lives()
	w.calls.judge(lives)
	w.conns.judge(lives)
}

// A memoryUse is what the Go runtime has of the system, in bytes.
type memoryUse struct{ total, released, free, objects, live uint64 }

// lives is all that no collection would give back: what it found alive the
// last time, stacks, and the runtime's own.
func (u memoryUse) lives() int64 {
	garbage := u.objects - min(u.live, u.objects)
	return int64(u.total - u.released - u.free - garbage)
}

func readMemory() memoryUse {
	s := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(s)
	return memoryUse{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64(), s[4].Value.Uint64()}
}

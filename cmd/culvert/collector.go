package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// A pacer tells the garbage collector how much garbage may pile up. Most of
// culvert's memory is buffers that are used again, so half of what lives will
// do, which keeps ten thousand idle streams small. Under a load of short calls
// that would be next to nothing of a small heap, and the collector would take
// a fifth of the CPU time: while its cycles follow one another too fast,
// garbage has a few MiB more.
type pacer struct {
	// block counts as living, and takes no memory since nobody ever writes to
	// it: the least that garbage has is half of it.
	block []byte

	mu      sync.Mutex
	stopped bool
	began   time.Time
	cycles  uint64 // of the collector, when began was
	pace    pace
}

// A pace is what the cycles so far have led to.
type pace struct {
	extra int // bytes of garbage on top
	fast  int // cycles in a row that were
}

const (
	pacerPercent = 50
	// What lives may have grown much by the next cycle, of which the percentage then is.
	pacerMaxPercent = 300
	pacerBlock      = 3 << 20
	pacerMinExtra   = 6 << 20
	pacerMaxExtra   = 16 << 20
	fastCycle       = 80 * time.Millisecond
	slowCycle       = time.Second
	fastCycles      = 5 // in a row; a few are no load
)

// paceCollector starts a pacer, unless the operator has set GOGC. stop ends it.
func paceCollector() (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(pacerPercent)
	p := &pacer{block: make([]byte, pacerBlock), began: time.Now(), cycles: readCollector().cycles}
	p.watch()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.stopped = true
		debug.SetGCPercent(before)
		runtime.KeepAlive(p.block)
	}
}

// watch calls cycle when the collector has come round.
func (p *pacer) watch() {
	runtime.AddCleanup(new([64]byte), (*pacer).cycle, p)
}

func (p *pacer) cycle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return
	}
	p.watch()
	now, seen := time.Now(), readCollector()
	if seen.cycles == p.cycles {
		return
	}
	cycles := int(seen.cycles - p.cycles)
	before := p.pace.extra
	p.pace = p.pace.after(cycles, now.Sub(p.began)/time.Duration(cycles))
	p.began, p.cycles = now, seen.cycles
	if p.pace.extra > 0 || before > 0 {
		debug.SetGCPercent(min(pacerPercent+p.pace.extra*100/max(seen.base, pacerBlock), pacerMaxPercent))
	}
}

// after is the pace after cycles that took so long each.
func (p pace) after(cycles int, each time.Duration) pace {
	switch {
	case each > slowCycle:
		return pace{}
	case each >= fastCycle:
		return pace{extra: p.extra}
	case p.fast+cycles < fastCycles:
		return pace{p.extra, p.fast + cycles}
	default:
		return pace{extra: min(max(2*p.extra, pacerMinExtra), pacerMaxExtra)}
	}
}

// collectorState is what the collector goes by: its percentage is of base.
type collectorState struct {
	cycles uint64
	base   int // bytes
}

func readCollector() collectorState {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(s)
	return collectorState{s[0].Value.Uint64(), int(s[1].Value.Uint64() + s[2].Value.Uint64() + s[3].Value.Uint64())}
}

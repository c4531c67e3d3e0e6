package serve

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/recent"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// culvert returns memory after a burst of clients when, for crowdOver, clients
// have used less than half of the peak, and the peak is at least crowdLeast.
const (
	crowdOver  = 10 * time.Second
	crowdLook  = 2 * time.Second
	crowdLeast = 32 << 20
)

// A crowd compares the memory that clients use with the peak since the last
// burst. Its zero value has no peak.
type crowd struct {
	peak  int64     // bytes
	fewer time.Time // since when less than half of peak is in use; zero: more is
}

// look gets the memory in use and the peak since the last look. It reports
// whether a burst is over.
func (c *crowd) look(now time.Time, used, most int64) (over bool) {
	c.peak = max(c.peak, used, most)
	if 2*used >= c.peak {
		c.fewer = time.Time{}
		return false
	}
	if c.fewer.IsZero() {
		c.fewer = now
	}
	if now.Sub(c.fewer) < crowdOver {
		return false
	}
	*c = crowd{peak: used}
	return true
}

// A releaser returns memory to the system after a burst of clients. Go would
// keep most of it for minutes: without allocations the collector doesn't run,
// and Go releases only collected memory. The releaser works only while there
// are connections.
type releaser struct {
	used    func() int64 // by clients, in bytes, about
	mapped  func() int64 // bytes that the process has from the system
	release func()
	log     *slog.Logger

	conns, most atomic.Int64 // open now, and at most since the last look
	resting     atomic.Bool  // run waits for wake
	wake        chan struct{}
}

func newReleaser(used, mapped func() int64, release func(), log *slog.Logger) *releaser {
	return &releaser{used: used, mapped: mapped, release: release, log: log, wake: make(chan struct{}, 1)} // room for the one that ends a rest
}

func (r *releaser) connBegan() {
	n := r.conns.Add(1)
	for most := r.most.Load(); n > most && !r.most.CompareAndSwap(most, n); most = r.most.Load() {
	}
	if r.resting.Load() && r.resting.CompareAndSwap(true, false) {
		r.wake <- struct{}{}
	}
}

func (r *releaser) connEnded() { r.conns.Add(-1) }

func (r *releaser) run(ctx context.Context) {
	left := r.mapped()
	for r.rest(ctx) {
		left = r.watch(ctx, left)
	}
}

// rest waits for connections and returns true, or false when ctx ends.
func (r *releaser) rest(ctx context.Context) bool {
	r.resting.Store(true)
	if (r.conns.Load() > 0 || r.most.Load() > 0) && r.resting.CompareAndSwap(true, false) { // since the last look
		return ctx.Err() == nil
	}
	select {
	case <-ctx.Done():
		return false
	case <-r.wake:
		return true
	}
}

// watch looks at the memory until there are no connections and nothing is left
// to release. left is the memory of the process after the last release, and
// watch returns that of its own last release.
func (r *releaser) watch(ctx context.Context, left int64) int64 {
	look := time.NewTicker(crowdLook)
	defer look.Stop()
	var c crowd
	for {
		select {
		case <-ctx.Done():
			return left
		case now := <-look.C:
			conns := r.conns.Load()
			used := r.used()
			over := c.look(now, used, r.most.Swap(conns)*bridge.ConnBytes)
			if over {
				left = r.giveBack(left)
			}
			if conns <= 0 && c.peak <= used {
				return left
			}
		}
	}
}

// giveBack releases memory, unless there is little to release, and returns
// what the process still has.
func (r *releaser) giveBack(left int64) int64 {
	had := r.mapped()
	if had < left+crowdLeast {
		return left
	}
	r.release()
	left = r.mapped()
	r.log.Debug("returned memory to the system after a burst of clients", slog.String("had", config.Size(had).String()), slog.String("has", config.Size(left).String()))
	return left
}

// releaseMemory collects garbage and returns free memory to the system. A
// sync.Pool keeps its content for one collection, and FreeOSMemory runs the
// second.
func releaseMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}

// mappedMemory returns the bytes that the Go runtime has from the system.
func mappedMemory() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// A connWatcher observes for the log, counts connections for a releaser, and keeps what is
// refused for the admin address.
type connWatcher struct {
	*telemetry.Log
	releaser *releaser
	recent   *recent.Recorder // nil: there is no admin address
}

// Refused implements report.Observer. The log has nothing to write then.
func (w connWatcher) Refused(r report.Refusal) {
	if w.recent != nil {
		w.recent.Refused(r)
	}
}

// WebEnded implements report.Observer.
func (w connWatcher) WebEnded(i *report.WebInfo) {
	w.Log.WebEnded(i)
	if w.recent != nil {
		w.recent.WebEnded(i)
	}
}

func (w connWatcher) ConnBegan(c report.ConnInfo) {
	w.releaser.connBegan()
	w.Log.ConnBegan(c)
}

func (w connWatcher) ConnEnded(c report.ConnInfo) {
	w.Log.ConnEnded(c)
	w.releaser.connEnded()
}

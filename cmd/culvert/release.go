package main

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/config"
	"github.com/culvert-grpc/culvert/telemetry"
)

// A crowd's memory is given back when less than half of what it used has been in
// use for crowdOver, if that is at least crowdLeast.
const (
	crowdOver  = 10 * time.Second
	crowdLook  = 2 * time.Second
	crowdLeast = 32 << 20
)

// A crowd is how much clients use, compared with the most since the last crowd was
// over. Its zero value has seen nobody.
type crowd struct {
	peak  int64     // bytes
	fewer time.Time // since when less than half of that is used; zero: it isn't
}

// look is told what is used and the most that was since the last look, and reports
// whether a crowd is over.
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

// A releaser gives memory back to the system after a crowd. Go would keep most of it
// for minutes: nobody allocates, so the collector doesn't run, and what it hasn't
// collected isn't released. The releaser looks at what is used while there are
// connections, and does nothing else while there are none.
type releaser struct {
	used    func() int64 // by clients, in bytes, about
	mapped  func() int64 // bytes that the process has of the system
	release func()
	log     *slog.Logger

	conns, most atomic.Int64 // open now, and at most since the last look
	resting     atomic.Bool  // run waits for wake
	wake        chan struct{}
}

func newReleaser(used, mapped func() int64, release func(), log *slog.Logger) *releaser {
	return &releaser{used: used, mapped: mapped, release: release, log: log, wake: make(chan struct{}, 1)} // room for the one that ends a rest
}

// connBegan and connEnded are told of each connection.
func (r *releaser) connBegan() {
	n := r.conns.Add(1)
	for most := r.most.Load(); n > most && !r.most.CompareAndSwap(most, n); most = r.most.Load() {
	}
	if r.resting.Load() && r.resting.CompareAndSwap(true, false) {
		r.wake <- struct{}{}
	}
}

func (r *releaser) connEnded() { r.conns.Add(-1) }

// run returns when ctx ends.
func (r *releaser) run(ctx context.Context) {
	left := r.mapped()
	for r.rest(ctx) {
		left = r.watch(ctx, left)
	}
}

// rest returns true when there are connections, and false when ctx has ended.
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

// watch looks until there are no connections and nothing is left to release. left is
// what the process had of the system after the last release, and watch returns the
// same of its own.
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
			over := c.look(now, used, r.most.Swap(conns)*memory.ConnBytes)
			if over {
				left = r.giveBack(left)
			}
			if conns <= 0 && c.peak <= used {
				return left
			}
		}
	}
}

// giveBack releases memory, unless little would come of it, and returns what is left.
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

// releaseMemory collects garbage and returns free memory to the system. What is in a
// sync.Pool survives one collection, and FreeOSMemory makes the second.
func releaseMemory() {
	runtime.GC()
	debug.FreeOSMemory()
}

// mappedMemory returns the bytes that the Go runtime has of the system.
func mappedMemory() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
}

// usedByClients returns the bytes that a server holds for its clients.
func usedByClients(s *bridge.Server) int64 { return s.Snapshot().ClientBytes }

// A connWatcher is the log, and tells a releaser of connections.
type connWatcher struct {
	*telemetry.Log
	releaser *releaser
}

// ConnBegan implements report.Observer.
func (w connWatcher) ConnBegan(c report.ConnInfo) {
	w.releaser.connBegan()
	w.Log.ConnBegan(c)
}

// ConnEnded implements report.Observer.
func (w connWatcher) ConnEnded(c report.ConnInfo) {
	w.Log.ConnEnded(c)
	w.releaser.connEnded()
}

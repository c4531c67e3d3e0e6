package serve

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A clientele is a process with clients, for a releaser.
type clientele struct {
	*releaser
	used, mapped    atomic.Int64
	looks, releases atomic.Int64
}

// leastMapped is what a clientele has of the system after a release.
const leastMapped = 40 << 20

// withClientele runs a test in a bubble with a releaser that runs.
func withClientele(t *testing.T, test func(c *clientele)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := new(clientele)
		c.mapped.Store(20 << 20)
		c.releaser = newReleaser(
			func() int64 { c.looks.Add(1); return c.used.Load() },
			c.mapped.Load,
			func() { c.releases.Add(1); c.mapped.Store(leastMapped) },
			slog.New(slog.DiscardHandler),
		)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { c.run(ctx) })
		synctest.Wait()
		test(c)
		cancel()
		running.Wait()
	})
}

// after lets time pass and wants as many releases by then.
func (c *clientele) after(t *testing.T, d time.Duration, releases int64, what string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if got := c.releases.Load(); got != releases {
		t.Errorf("%s: memory was released %d times, want %d", what, got, releases)
	}
}

// come and leave have n connections begin or end, and say what is used then.
func (c *clientele) come(n int, used, mapped int64) {
	for range n {
		c.connBegan()
	}
	c.used.Store(used)
	c.mapped.Store(mapped)
}

func (c *clientele) leave(n int, used int64) {
	for range n {
		c.connEnded()
	}
	c.used.Store(used)
}

func TestMemoryIsReleasedOnceAfterACrowd(t *testing.T) {
	withClientele(t, func(c *clientele) {
		c.come(1000, 200<<20, 230<<20)
		c.after(t, time.Hour, 0, "while the crowd is there")
		c.leave(400, 100<<20)
		c.after(t, time.Hour, 0, "with half of it")
		c.leave(300, 60<<20)
		c.after(t, crowdOver-time.Millisecond, 0, "before less than half has been left for long")
		c.after(t, 2*crowdLook, 1, "with less than half")
		c.leave(300, 0)
		c.after(t, time.Hour, 1, "with nobody left and little to release")

		looks := c.looks.Load()
		c.after(t, time.Hour, 1, "at rest")
		if more := c.looks.Load() - looks; more != 0 {
			t.Errorf("without connections it looked %d times", more)
		}

		c.come(10, 1<<20, leastMapped+crowdLeast-1)
		c.leave(10, 0)
		c.after(t, time.Hour, 1, "after a few")
		c.come(1000, 200<<20, leastMapped+crowdLeast)
		c.after(t, time.Minute, 1, "while another crowd is there")
		c.leave(1000, 0)
		c.after(t, crowdOver+2*crowdLook, 2, "after another crowd")
	})
}

// TestReleaseWaitsForThoseWhoComeBack: what is used for a moment only was no crowd's end.
func TestReleaseWaitsForThoseWhoComeBack(t *testing.T) {
	withClientele(t, func(c *clientele) {
		c.come(1000, 200<<20, 230<<20)
		c.after(t, time.Minute, 0, "while the crowd is there")
		for range 10 {
			c.leave(900, 10<<20)
			c.after(t, crowdOver-2*crowdLook, 0, "before it is back")
			c.come(900, 200<<20, 230<<20)
			c.after(t, 2*crowdLook, 0, "when it is back")
		}
	})
}

// TestReleaseAfterAMoment: a crowd that came and went between two looks is seen.
func TestReleaseAfterAMoment(t *testing.T) {
	withClientele(t, func(c *clientele) {
		c.come(1000, 200<<20, 230<<20)
		c.leave(1000, 0)
		c.after(t, crowdOver+2*crowdLook, 1, "after a crowd of a moment")
	})
}

// TestReleaserMissesNobody: connections that begin while it goes to rest wake it.
func TestReleaserMissesNobody(t *testing.T) {
	var looks atomic.Int64
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			looks.Store(0)
			r := newReleaser(func() int64 { looks.Add(1); return 0 }, func() int64 { return 0 }, func() {}, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { r.run(ctx) })
			for range 3 {
				running.Go(r.connBegan)
			}
			time.Sleep(crowdLook)
			synctest.Wait()
			if looks.Load() != 1 {
				t.Errorf("it looked %d times in the first %v, want once", looks.Load(), crowdLook)
			}
			cancel()
			running.Wait()
		})
	}
}

func TestMappedMemory(t *testing.T) {
	if got := mappedMemory(); got < 1<<20 || got > 1<<34 {
		t.Errorf("this test has %d bytes of the system", got)
	}
}

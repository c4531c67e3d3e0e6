package check

import (
	"sync/atomic"
	"time"
)

// LatencyBounds are the upper bounds of the buckets in Snapshot.Latency. The last bucket has
// none.
var LatencyBounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, time.Second,
}

// A Snapshot has what happened since the Checker was made. Each call is in exactly one of
// Allowed, Denied, Failed, Open and Cancelled.
type Snapshot struct {
	Allowed   uint64 // calls that the service permitted
	Denied    uint64 // calls that it refused, and those that are too large to ask about
	Failed    uint64 // calls that nobody could judge, refused
	Open      uint64 // calls that nobody could judge, let pass by Options.FailOpen
	Cancelled uint64 // calls that ended before their answer

	Cached uint64 // of them, calls with an answer from the cache
	Shared uint64 // of them, calls that waited for another call's question

	Entries int // in the cache now
	Asking  int // questions at the service now

	// Latency has, by LatencyBounds, how many questions took how long, with and without an
	// answer, including the wait for a slot.
	Latency    [len(LatencyBounds) + 1]uint64
	LatencySum time.Duration
}

// counts are what a Snapshot is made of.
type counts struct {
	allowed, denied, failed, open, cancelled, cached, shared atomic.Uint64

	latency    [len(LatencyBounds) + 1]atomic.Uint64
	latencySum atomic.Int64
}

// took counts a question.
func (c *counts) took(d time.Duration) {
	i := 0
	for i < len(LatencyBounds) && d > LatencyBounds[i] {
		i++
	}
	c.latency[i].Add(1)
	c.latencySum.Add(int64(d))
}

// Snapshot returns the counts.
func (c *Checker) Snapshot() Snapshot {
	s := Snapshot{
		Allowed: c.counts.allowed.Load(), Denied: c.counts.denied.Load(), Failed: c.counts.failed.Load(),
		Open: c.counts.open.Load(), Cancelled: c.counts.cancelled.Load(),
		Cached: c.counts.cached.Load(), Shared: c.counts.shared.Load(),
		Asking:     len(c.slots),
		LatencySum: time.Duration(c.counts.latencySum.Load()),
	}
	for i := range s.Latency {
		s.Latency[i] = c.counts.latency[i].Load()
	}
	if c.life.Err() != nil {
		s.Asking = 0 // Close has taken the slots
	}
	if c.cache != nil {
		s.Entries, _ = c.cache.known.Size()
	}
	return s
}

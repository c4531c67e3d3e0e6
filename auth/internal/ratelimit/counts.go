package ratelimit

import (
	"sync/atomic"
	"time"
)

// LatencyBounds are the upper bounds of the buckets in Snapshot.Latency. The last bucket has
// none.
var LatencyBounds = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, time.Second,
}

// A Snapshot has what happened since the Limiter was made. Each call is in exactly one of
// Allowed, OverLimit, Failed, Open, Cancelled and Unasked.
type Snapshot struct {
	Allowed   uint64 // calls that the service let pass
	OverLimit uint64 // calls that it refused
	Failed    uint64 // calls without a usable answer, refused
	Open      uint64 // calls without a usable answer that passed
	Cancelled uint64 // calls that ended before their answer
	Unasked   uint64 // calls without a descriptor

	Asking int // questions at the service now

	// Latency has, by LatencyBounds, how many questions took how long, with and without an
	// answer, including the wait for a slot.
	Latency    [len(LatencyBounds) + 1]uint64
	LatencySum time.Duration
}

// counts are what a Snapshot is made of.
type counts struct {
	allowed, over, failed, open, cancelled, unasked atomic.Uint64

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
func (l *Limiter) Snapshot() Snapshot {
	s := Snapshot{
		Allowed: l.counts.allowed.Load(), OverLimit: l.counts.over.Load(), Failed: l.counts.failed.Load(),
		Open: l.counts.open.Load(), Cancelled: l.counts.cancelled.Load(), Unasked: l.counts.unasked.Load(),
		Asking:     len(l.slots),
		LatencySum: time.Duration(l.counts.latencySum.Load()),
	}
	for i := range s.Latency {
		s.Latency[i] = l.counts.latency[i].Load()
	}
	if l.life.Err() != nil {
		s.Asking = 0 // Close has taken the slots
	}
	return s
}

package check

import (
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

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

	Asked uint64        // questions, with and without an answer
	Mean  time.Duration // that one took, including the wait for a slot

	Problem error // why the last question had no usable answer; nil: it had one
}

// counts are what a Snapshot is made of.
type counts struct {
	allowed, denied, failed, open, cancelled, cached, shared atomic.Uint64
	times                                                    ask.Times
	problem                                                  ask.Problem
}

// Snapshot returns the counts.
func (c *Checker) Snapshot() Snapshot {
	s := Snapshot{
		Allowed: c.counts.allowed.Load(), Denied: c.counts.denied.Load(), Failed: c.counts.failed.Load(),
		Open: c.counts.open.Load(), Cancelled: c.counts.cancelled.Load(),
		Cached: c.counts.cached.Load(), Shared: c.counts.shared.Load(),
		Asking: len(c.slots), Problem: c.counts.problem.Load(),
	}
	s.Asked, s.Mean = c.counts.times.Load()
	if c.life.Err() != nil {
		s.Asking = 0 // Close has taken the slots
	}
	if c.cache != nil {
		s.Entries, _ = c.cache.known.Size()
	}
	return s
}

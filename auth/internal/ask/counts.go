package ask

import (
	"context"
	"sync/atomic"
	"time"
)

// A Snapshot has what happened since a service is asked. Each call is in exactly one of the
// counts up to Unasked.
type Snapshot struct {
	Allowed   uint64 // calls that the service let pass
	Denied    uint64 // calls that it refused, and those that are too large to ask about
	Failed    uint64 // calls without a usable answer, refused
	Open      uint64 // calls without a usable answer that passed
	Cancelled uint64 // calls that ended before their answer
	Unasked   uint64 // calls about which there was nothing to ask

	Cached uint64 // of them all, calls with an answer from the cache
	Shared uint64 // of them all, calls that waited for another call's question

	Entries int // in the cache now
	Asking  int // questions at the service now

	Asked uint64        // questions, with and without an answer
	Mean  time.Duration // that one took, including the wait for a slot

	Problem error // why the last question had no usable answer; nil: it had one
}

// Counts are what a Snapshot is made of. The zero value is ready.
type Counts struct {
	Allowed, Denied, Failed, Open, Cancelled, Unasked, Cached, Shared atomic.Uint64

	Times   Times
	Problem Problem
}

// Snapshot returns the counts. Once life has ended, Close takes the slots: they don't count even
// if it begins meanwhile, since life's end is looked for behind them.
func (c *Counts) Snapshot(life context.Context, slots Slots) Snapshot {
	s := Snapshot{
		Allowed: c.Allowed.Load(), Denied: c.Denied.Load(), Failed: c.Failed.Load(), Open: c.Open.Load(), Cancelled: c.Cancelled.Load(), Unasked: c.Unasked.Load(),
		Cached: c.Cached.Load(), Shared: c.Shared.Load(), Asking: len(slots), Problem: c.Problem.Load(),
	}
	s.Asked, s.Mean = c.Times.Load()
	if life.Err() != nil {
		s.Asking = 0
	}
	return s
}

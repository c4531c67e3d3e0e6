package ratelimit

import (
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/ask"
)

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

	Asked uint64        // questions, with and without an answer
	Mean  time.Duration // that one took, including the wait for a slot

	Problem error // why the last question had no usable answer; nil: it had one
}

// counts are what a Snapshot is made of.
type counts struct {
	allowed, over, failed, open, cancelled, unasked atomic.Uint64
	times                                           ask.Times
	problem                                         ask.Problem
}

// Snapshot returns the counts.
func (l *Limiter) Snapshot() Snapshot {
	s := Snapshot{
		Allowed: l.counts.allowed.Load(), OverLimit: l.counts.over.Load(), Failed: l.counts.failed.Load(),
		Open: l.counts.open.Load(), Cancelled: l.counts.cancelled.Load(), Unasked: l.counts.unasked.Load(),
		Asking: len(l.slots), Problem: l.counts.problem.Load(),
	}
	s.Asked, s.Mean = l.counts.times.Load()
	if l.life.Err() != nil {
		s.Asking = 0 // Close has taken the slots
	}
	return s
}

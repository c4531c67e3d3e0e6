package quota

import (
	"sync/atomic"
	"time"
)

// A perSecond is a number a second; 0 means no limit.
type perSecond int64

// cost returns the time that n take at this rate.
func (r perSecond) cost(n int64) int64 { return n * int64(time.Second) / int64(r) }

// A clock returns the time in nanoseconds since some epoch. It never goes back.
type clock func() int64

// A bucket has tokens for one second of a rate, and is full at first. It stores the
// time when it will be full again, so no timer has to fill it. If the rate changes,
// the missing fraction of the bucket stays the same, and the number of missing tokens
// changes with the rate.
type bucket struct{ full atomic.Int64 }

// take takes a token, or returns how long there will be none.
//
// It reads the clock after the bucket. A time read earlier, by a goroutine or process
// that was then stopped, may be long before the last token was taken, and a full
// bucket would look empty.
func (b *bucket) take(r perSecond, clock clock) (wait time.Duration) {
	if r <= 0 {
		return 0
	}
	for {
		full := b.full.Load()
		now := clock()
		next := max(full, now) + r.cost(1)
		if wait := next - now - int64(time.Second); wait > 0 {
			return time.Duration(wait)
		}
		if b.full.CompareAndSwap(full, next) {
			return 0
		}
	}
}

// give returns a token that was taken in vain, at once: if the bucket was full in
// between, it would have one too many.
func (b *bucket) give(r perSecond) {
	if r > 0 {
		b.full.Add(-r.cost(1))
	}
}

// A tally counts the usage of one scope.
type tally struct {
	connections, calls          atomic.Int32
	fallbackRequests            atomic.Int32
	calling, upgrading, shaking bucket
	expanding                   overdraft
}

// enter counts one more, unless the count has reached the limit; 0 means no limit. A
// refused one isn't counted even for a moment, so that no other is refused because of
// it.
func enter(n *atomic.Int32, limit int32) bool {
	if limit == 0 {
		n.Add(1)
		return true
	}
	for {
		have := n.Load()
		if have >= limit {
			return false
		}
		if n.CompareAndSwap(have, have+1) {
			return true
		}
	}
}

// rested reports whether the buckets are full: then nothing is lost by forgetting
// them.
func (t *tally) rested(now int64) bool {
	return max(t.calling.full.Load(), t.upgrading.full.Load(), t.shaking.full.Load()) <= now && t.expanding.rested(now)
}

package quota

import (
	"math"
	"sync"
	"time"
)

// An overdraft is a bucket from which calls may spend more than it has. The excess is
// a debt, and nothing may be spent until it is paid. The calls that share the
// overdraft may have different rates: calls that are running when a limit changes
// keep their rate. The debt is the same number of tokens at each rate.
type overdraft struct {
	mu   sync.Mutex
	full int64     // when it will be full, at rate
	rate perSecond // of the call that spent last
}

// spend takes n tokens, and returns how long nothing more may be spent.
func (o *overdraft) spend(r perSecond, now, n int64) (debt time.Duration) {
	if r <= 0 {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	missing := min(o.missing(r, now)+min(r.cost(n), longest), longest)
	o.full, o.rate = now+missing, r
	return time.Duration(max(missing-int64(time.Second), 0))
}

// longest is the longest time to pay a debt, so that adding times can't overflow.
const longest = math.MaxInt64 / 4

// debt returns how long nothing may be spent. It reads the clock as bucket.take does.
func (o *overdraft) debt(r perSecond, clock clock) time.Duration {
	if r <= 0 {
		return 0
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Duration(max(o.missing(r, clock())-int64(time.Second), 0))
}

// missing returns how long the rate takes to fill the bucket. The caller holds mu.
func (o *overdraft) missing(r perSecond, now int64) int64 {
	left := max(o.full-now, 0)
	if left == 0 || r == o.rate {
		return left
	}
	return int64(min(float64(left)*float64(o.rate)/float64(r), longest))
}

func (o *overdraft) rested(now int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.full <= now
}

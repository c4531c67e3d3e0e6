package bridge

import (
	"math/rand/v2"
	"time"
)

// Connections that a backend's restart or one reply to all left alike would
// come to their limits, and come back, at one moment. So each has its own: up
// to a tenth less or more than what was configured.
const spreadParts = 10

// A spread is how far one connection or call is from what was configured, in
// thousandths.
type spread int

// newSpread returns one by chance.
func newSpread() spread {
	const most = 1000 / spreadParts
	return spread(rand.IntN(2*most+1) - most) //nolint:gosec // it is no secret
}

// Of is 0, which stands for no limit, only of 0.
func (s spread) Of(d time.Duration) time.Duration { return d + d/1000*time.Duration(s) }

package edge

import (
	"math/rand/v2"
	"time"
)

// Connections that a backend's restart or one reply to all left alike would
// come to their limits, and come back, at one moment. So each has its own: up
// to a tenth less or more than what was configured.
const spreadParts = 10

// A Spread is how far one connection or call is from what was configured, in
// thousandths.
type Spread int

// NewSpread returns a random Spread.
func NewSpread() Spread {
	const most = 1000 / spreadParts
	return Spread(rand.IntN(2*most+1) - most) //nolint:gosec // it is no secret
}

// Of returns d changed by the spread. Only 0, which stands for no limit, gives 0.
func (s Spread) Of(d time.Duration) time.Duration { return d + d/1000*time.Duration(s) }

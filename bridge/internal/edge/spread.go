package edge

import (
	"math/rand/v2"
	"time"
)

// Connections that began together, after a backend's restart for example, would all
// reach their limits, and come back, at one moment. So each has its own limits: up to a
// tenth less or more than configured.
const spreadParts = 10

// A Spread is the difference of one connection or call from the configured time, in
// thousandths.
type Spread int

// NewSpread returns a random Spread.
func NewSpread() Spread {
	const most = 1000 / spreadParts
	return Spread(rand.IntN(2*most+1) - most) //nolint:gosec // it is no secret
}

// Of returns d changed by the spread. Only 0, which means no limit, gives 0.
func (s Spread) Of(d time.Duration) time.Duration { return d + d/1000*time.Duration(s) }

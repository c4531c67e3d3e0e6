package rules

import "time"

// Defaults and bounds of the service of external authorization.
const (
	// CheckTimeout is long enough for a segment that was lost on the way: Linux sends it
	// again after 200 ms at the earliest. It is short enough that a person doesn't take a
	// call that waits for it for one that hangs.
	CheckTimeout       = 250 * time.Millisecond
	MaxCheckTimeout    = 10 * time.Second
	CheckConcurrent    = 256
	MaxCheckConcurrent = 10_000
	CheckBytes         = 128 << 10
	MaxCheckBytes      = 4 << 20 // what a grpc-go server takes by default
	MaxCheckTTL        = 5 * time.Minute
	CheckEntries       = 10_000
	MaxCheckEntries    = 100_000
)

// Default and bound of the rate limit service's time-out. It is short, since the service only
// counts.
const (
	RateLimitTimeout    = 50 * time.Millisecond
	MaxRateLimitTimeout = time.Second
)

// MaxSkew bounds how far the clocks of an issuer and of culvert may differ.
const MaxSkew = 10 * time.Minute

// Package rules has the rules for values that a configuration file and package bridge
// share: their grammar, bounds, defaults and names. Pure functions. Package config words
// its own errors.
package rules

import "time"

// AttemptsRange continues a sentence that begins with what WrongAttempts refuses.
const AttemptsRange = "is out of range: write 2 to 5, or 0 for no retries"

// WrongAttempts reports whether a route can't have n attempts for a call. gRFC A6.
func WrongAttempts(n int) bool { return n != 0 && (n < 2 || n > 5) }

// OrDefault returns v, or def if v is zero, or none if v is negative. That is the meaning of
// zero in bridge.Config. In the file a zero has the meaning that the key's description says.
func OrDefault[T int | int64 | time.Duration](v, def, none T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return none
	default:
		return v
	}
}

// Defaults of the limits of all clients together. The other limits have none, or depend on
// the machine.
const (
	MessageBytes          = 16 << 20
	HeaderBytes           = 64 << 10
	BufferedBytes         = 256 << 20
	CallsPerConnection    = 100
	WebRequests           = 1000
	SlowConsumerTimeout   = 5 * time.Minute
	SlowSenderTimeout     = 30 * time.Second
	ConnectionIdleTimeout = time.Minute
)

// Defaults of the limits of one address. They are far more than one client needs, since an
// address often stands for thousands: a company's or a carrier's gateway, or a proxy that
// isn't trusted. They keep one address from taking everything.
const (
	AddressConnections         = 20_000
	AddressCalls               = 20_000
	AddressCallsPerSecond      = 20_000
	AddressHandshakesPerSecond = 10_000
	AddressWebRequests         = 500
)

// Defaults of a backend.
const (
	MaxConnections  = 64
	ConnectTimeout  = 5 * time.Second
	QueueTimeout    = 5 * time.Second
	PingTimeout     = 10 * time.Second
	MaxWaiting      = 10_000
	ResolveInterval = 30 * time.Second
)

// DefaultBackend is the name of a backend that has no other.
const DefaultBackend = "default"

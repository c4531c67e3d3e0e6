package quota

import (
	"math"
	"runtime"
	"time"
)

// Limits bound what clients can make culvert hold or do. A zero field means its
// default; a negative one means no limit.
type Limits struct {
	MessageBytes        int           // of one message, either way. Default 16 MiB.
	HeaderBytes         int           // of one metadata block, either way, counted as HTTP/2 does. Default 64 KiB.
	BufferedBytes       int64         // of message bytes held for all calls together. Default 256 MiB.
	CallsPerConnection  int           // at once, on one HTTP/2 connection or tunnel. Default 100.
	Connections         int           // at once. Default: what the file-descriptor limit leaves.
	Calls               int           // at once. Default: no limit.
	CallsPerSecond      int           // that begin. Default: no limit.
	HandshakesPerSecond int           // WebSocket upgrades and, counted apart from them, TLS handshakes. Default: no limit.
	SlowConsumerTimeout time.Duration // how long a client may accept none of the data that is ready for it. Default 5 min.
	IdleTimeout         time.Duration // of a call without messages, ±10 % and up to 2 s more. Default: none.
	MaxAge              time.Duration // of a call, ±10 % and up to 2 s more. Default: none.

	SlowSenderTimeout     time.Duration // how long a client may take for a message's next KiB, or its end. Default 30 s.
	ConnectionIdleTimeout time.Duration // of a connection without a call. Default 60 s.
	ConnectionMaxAge      time.Duration // of a connection that takes new calls. Default: none.

	DecompressedPerSecond int   // bytes of decompressed requests. Default: 32 MiB for each CPU of GOMAXPROCS.
	WebRequests           int   // to the web server, at once. Default 1,000, and 500 of an address.
	Address               Quota // of each client address: an IPv4 address or the first 64 bits of an IPv6 one. Default: generous, with 16 MiB of decompressed bytes for each CPU.
}

// defaultAddress is far more than one client needs, since an address often stands for
// thousands: a company's or a carrier's gateway, or a proxy that isn't trusted. It
// keeps one address from taking everything.
var defaultAddress = Quota{Connections: 20_000, Calls: 20_000, CallsPerSecond: 20_000, HandshakesPerSecond: 10_000, WebRequests: 500}

// To decompress a byte and to compress it again for the backend takes 1 to 23 ns,
// depending on the bytes (upstream.BenchmarkGzip; more in the program). So all clients
// together take at most three quarters of the CPU time, and one address two fifths. An
// address alone uses up half of the server's limit at most, so its debt is nobody
// else's.
const (
	expansionPerCPU        = 32 << 20
	addressExpansionPerCPU = expansionPerCPU / 2
)

// byCPU returns a default in proportion to the number of CPUs.
func byCPU(each int) int { return min(each*runtime.GOMAXPROCS(0), math.MaxInt32-1) }

// NoLimit stands for the absence of a limit that is counted in bytes or calls.
const NoLimit = 1<<31 - 1

// WithDefaults returns the limits spelt out. connections is the default of Connections.
func (l Limits) WithDefaults(connections int) Limits {
	l.MessageBytes = orDefault(l.MessageBytes, 16<<20, NoLimit)
	l.HeaderBytes = orDefault(l.HeaderBytes, 64<<10, NoLimit)
	l.BufferedBytes = orDefault(l.BufferedBytes, 256<<20, 1<<62)
	l.CallsPerConnection = orDefault(l.CallsPerConnection, 100, NoLimit)
	l.Connections = orDefault(l.Connections, connections, NoLimit)
	l.Calls = orDefault(l.Calls, NoLimit, NoLimit)
	l.CallsPerSecond = orDefault(l.CallsPerSecond, NoLimit, NoLimit)
	l.HandshakesPerSecond = orDefault(l.HandshakesPerSecond, NoLimit, NoLimit)
	l.DecompressedPerSecond = orDefault(l.DecompressedPerSecond, byCPU(expansionPerCPU), NoLimit)
	l.WebRequests = orDefault(l.WebRequests, 1000, NoLimit)
	l.Address = addressLimits(l.Address)
	l.SlowConsumerTimeout = orDefault(l.SlowConsumerTimeout, 5*time.Minute, 0)
	l.IdleTimeout = orDefault(l.IdleTimeout, 0, 0)
	l.MaxAge = orDefault(l.MaxAge, 0, 0)
	l.SlowSenderTimeout = orDefault(l.SlowSenderTimeout, 30*time.Second, 0)
	l.ConnectionIdleTimeout = orDefault(l.ConnectionIdleTimeout, time.Minute, 0)
	l.ConnectionMaxAge = orDefault(l.ConnectionMaxAge, 0, 0)
	return l
}

// addressLimits returns the limits of an address with their defaults.
func addressLimits(q Quota) Quota {
	q.Connections = orDefault(q.Connections, defaultAddress.Connections, NoLimit)
	q.Calls = orDefault(q.Calls, defaultAddress.Calls, NoLimit)
	q.CallsPerSecond = orDefault(q.CallsPerSecond, defaultAddress.CallsPerSecond, NoLimit)
	q.HandshakesPerSecond = orDefault(q.HandshakesPerSecond, defaultAddress.HandshakesPerSecond, NoLimit)
	q.DecompressedPerSecond = orDefault(q.DecompressedPerSecond, byCPU(addressExpansionPerCPU), NoLimit)
	q.WebRequests = orDefault(q.WebRequests, defaultAddress.WebRequests, NoLimit)
	return q
}

// Shared returns the limits of all clients together that are quotas. The limit of
// connections isn't one: the listeners judge it.
func (l *Limits) Shared() Quota {
	return Quota{
		Calls: l.Calls, CallsPerSecond: l.CallsPerSecond,
		HandshakesPerSecond: l.HandshakesPerSecond, DecompressedPerSecond: l.DecompressedPerSecond,
		WebRequests: l.WebRequests,
	}
}

func orDefault[T int | int64 | time.Duration](v, def, none T) T {
	switch {
	case v == 0:
		return def
	case v < 0:
		return none
	default:
		return v
	}
}

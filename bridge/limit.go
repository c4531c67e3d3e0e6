package bridge

import (
	"math"
	"runtime"
	"time"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/quota"
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

// A Quota bounds what one address, or one listener, may use of a Server.
type Quota = quota.Quota

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

// Fixed bounds: none of them cuts a well-behaved call.
const (
	pingInterval = 20 * time.Second // towards clients
	pingTimeout  = 10 * time.Second
	closeTimeout = 5 * time.Second // for a peer to answer a WebSocket close
	writeGrace   = 250 * time.Millisecond
	evictedGrace = 500 * time.Millisecond // for a client to receive the end of a call that ends to free memory for others
)

// noLimit stands for the absence of a limit that is counted in bytes or calls.
const noLimit = 1<<31 - 1

// DefaultLimits returns the limits of a zero Limits, spelt out.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	l.MessageBytes = orDefault(l.MessageBytes, 16<<20, noLimit)
	l.HeaderBytes = orDefault(l.HeaderBytes, 64<<10, noLimit)
	l.BufferedBytes = orDefault(l.BufferedBytes, 256<<20, 1<<62)
	l.CallsPerConnection = orDefault(l.CallsPerConnection, 100, noLimit)
	l.Connections = orDefault(l.Connections, edge.DefaultConnections(), noLimit)
	l.Calls = orDefault(l.Calls, noLimit, noLimit)
	l.CallsPerSecond = orDefault(l.CallsPerSecond, noLimit, noLimit)
	l.HandshakesPerSecond = orDefault(l.HandshakesPerSecond, noLimit, noLimit)
	l.DecompressedPerSecond = orDefault(l.DecompressedPerSecond, byCPU(expansionPerCPU), noLimit)
	l.WebRequests = orDefault(l.WebRequests, 1000, noLimit)
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
	q.Connections = orDefault(q.Connections, defaultAddress.Connections, noLimit)
	q.Calls = orDefault(q.Calls, defaultAddress.Calls, noLimit)
	q.CallsPerSecond = orDefault(q.CallsPerSecond, defaultAddress.CallsPerSecond, noLimit)
	q.HandshakesPerSecond = orDefault(q.HandshakesPerSecond, defaultAddress.HandshakesPerSecond, noLimit)
	q.DecompressedPerSecond = orDefault(q.DecompressedPerSecond, byCPU(addressExpansionPerCPU), noLimit)
	q.WebRequests = orDefault(q.WebRequests, defaultAddress.WebRequests, noLimit)
	return q
}

// shared returns the limits of all clients together that are quotas. The limit of
// connections isn't one: the listeners judge it.
func (l *Limits) shared() Quota {
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

// looseHeaderBytes returns the header limit for HTTP itself. Beyond it a call gets no
// answer in its own protocol, and a block of more than twice that ends the whole
// connection with every call on it. So culvert judges limits.header_bytes itself, call
// by call. Clients get less room than the backend, since each of their connections may
// take it at once.
func looseHeaderBytes(limit int) int { return min(2*limit, noLimit) }

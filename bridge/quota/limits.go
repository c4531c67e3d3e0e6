package quota

import (
	"math"
	"runtime"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// defaultAddress is far more than one client needs, since an address often stands for
// thousands: a company's or a carrier's gateway, or a proxy that isn't trusted. It
// keeps one address from taking everything.
var defaultAddress = report.Quota{Connections: 20_000, Calls: 20_000, CallsPerSecond: 20_000, HandshakesPerSecond: 10_000, WebRequests: 500}

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

// WithDefaults returns limits spelt out. connections is the default of Connections.
func WithDefaults(l report.Limits, connections int) report.Limits {
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
func addressLimits(q report.Quota) report.Quota {
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
func Shared(l *report.Limits) report.Quota {
	return report.Quota{
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

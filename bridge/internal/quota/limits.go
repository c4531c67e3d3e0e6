package quota

import (
	"math"
	"runtime"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// To decompress a byte and to compress it again for the backend takes 1 to 23 ns,
// depending on the bytes (wire.BenchmarkGzip; more in the program). So all clients
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
	l.MessageBytes = rules.OrDefault(l.MessageBytes, rules.MessageBytes, NoLimit)
	l.HeaderBytes = rules.OrDefault(l.HeaderBytes, rules.HeaderBytes, NoLimit)
	l.BufferedBytes = rules.OrDefault(l.BufferedBytes, rules.BufferedBytes, 1<<62)
	l.CallsPerConnection = rules.OrDefault(l.CallsPerConnection, rules.CallsPerConnection, NoLimit)
	l.Connections = rules.OrDefault(l.Connections, connections, NoLimit)
	l.Calls = rules.OrDefault(l.Calls, NoLimit, NoLimit)
	l.CallsPerSecond = rules.OrDefault(l.CallsPerSecond, NoLimit, NoLimit)
	l.HandshakesPerSecond = rules.OrDefault(l.HandshakesPerSecond, NoLimit, NoLimit)
	l.DecompressedPerSecond = rules.OrDefault(l.DecompressedPerSecond, byCPU(expansionPerCPU), NoLimit)
	l.WebRequests = rules.OrDefault(l.WebRequests, rules.WebRequests, NoLimit)
	l.Address = addressLimits(l.Address)
	l.Identity.Calls = rules.OrDefault(l.Identity.Calls, NoLimit, NoLimit)
	l.Identity.CallsPerSecond = rules.OrDefault(l.Identity.CallsPerSecond, NoLimit, NoLimit)
	l.SlowConsumerTimeout = rules.OrDefault(l.SlowConsumerTimeout, rules.SlowConsumerTimeout, 0)
	l.IdleTimeout = rules.OrDefault(l.IdleTimeout, 0, 0)
	l.MaxAge = rules.OrDefault(l.MaxAge, 0, 0)
	l.SlowSenderTimeout = rules.OrDefault(l.SlowSenderTimeout, rules.SlowSenderTimeout, 0)
	l.ConnectionIdleTimeout = rules.OrDefault(l.ConnectionIdleTimeout, rules.ConnectionIdleTimeout, 0)
	l.ConnectionMaxAge = rules.OrDefault(l.ConnectionMaxAge, 0, 0)
	return l
}

// addressLimits returns the limits of an address with their defaults.
func addressLimits(q report.Quota) report.Quota {
	q.Connections = rules.OrDefault(q.Connections, rules.AddressConnections, NoLimit)
	q.Calls = rules.OrDefault(q.Calls, rules.AddressCalls, NoLimit)
	q.CallsPerSecond = rules.OrDefault(q.CallsPerSecond, rules.AddressCallsPerSecond, NoLimit)
	q.HandshakesPerSecond = rules.OrDefault(q.HandshakesPerSecond, rules.AddressHandshakesPerSecond, NoLimit)
	q.DecompressedPerSecond = rules.OrDefault(q.DecompressedPerSecond, byCPU(addressExpansionPerCPU), NoLimit)
	q.WebRequests = rules.OrDefault(q.WebRequests, rules.AddressWebRequests, NoLimit)
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

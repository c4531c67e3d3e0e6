package edge

import (
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Listening is a Listener that is being served.
type Listening struct {
	report.Listener
	scope *quota.Scope // the counts of its connections and calls
	open  tally        // its connections
}

// ServesHost reports whether a certificate is for the host, which may have a port.
func (l *Listening) ServesHost(host string) bool {
	return l.Serves != nil && l.Serves(strings.TrimSuffix(strings.ToLower(gate.HostOf(host)), "."))
}

// Takes reports whether clients may call by the transport.
func (l *Listening) Takes(transport string) bool {
	return len(l.Transports) == 0 || slices.Contains(l.Transports, transport)
}

// NewListening returns the rules of a listener with counts of its own.
func NewListening(l report.Listener) *Listening {
	return &Listening{Listener: l, scope: quota.NewListenerScope(l.Limits)}
}

// With returns l with the rules that may change while it is served: trust, PROXY
// headers, transports, sizes, limits and LoopbackOnly. The counts of l continue, and
// its connections stay its own.
func (l *Listening) With(rules report.Listener) *Listening {
	with := &Listening{Listener: l.Listener, scope: l.scope.With(rules.Limits)}
	with.TrustedProxies, with.Forwarded = slices.Clone(rules.TrustedProxies), rules.Forwarded
	with.ProxyProtocol, with.CallsPerConnection = slices.Clone(rules.ProxyProtocol), rules.CallsPerConnection
	with.LoopbackOnly, with.Transports = rules.LoopbackOnly, slices.Clone(rules.Transports)
	with.Limits, with.MessageBytes, with.HeaderBytes = rules.Limits, rules.MessageBytes, rules.HeaderBytes
	return with
}

// Open returns how many connections of the listener are open. It never misses one.
func (l *Listening) Open() int64 {
	n := int64(0)
	for k := range kindGone { // in the order that a connection goes through them
		n += l.open[k].Load()
	}
	return n
}

// Scope returns the counts of the listener's connections and calls.
func (l *Listening) Scope() *quota.Scope { return l.scope }

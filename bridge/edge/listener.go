package edge

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/quota"
)

// A Listener has the rules of one address that a Server listens on. It inherits nothing
// from Config: the zero value trusts nobody and serves plaintext.
type Listener struct {
	Name string // in logs; empty if there is only one

	// TLS serves TLS if it isn't nil, after a PROXY header. It must offer "h2" and
	// "http/1.1".
	TLS *tls.Config

	// SamePolicy reports whether a connection may carry requests for a host: whether
	// both have the same rules for client certificates. It identifies the connection by
	// its SNI ("" for none) and by the local address that the client connected to.
	// Other requests are answered 421. Nil: all hosts have the same rules.
	SamePolicy func(sni string, local net.Addr, host string) bool

	// TrustedProxies are the peers whose forwarding headers count. A peer on a unix
	// socket has no address, and counts as 127.0.0.1.
	TrustedProxies []netip.Prefix

	// Forwarded means that these proxies describe their clients by Forwarded, as in RFC
	// 7239, and not by X-Forwarded-For, -Proto and -Host. culvert then ignores the
	// other headers.
	Forwarded bool

	// ProxyProtocol are the peers that begin each connection with a PROXY header,
	// version 1 or 2. culvert requires the header from these peers, and reads none from
	// others.
	ProxyProtocol []netip.Prefix

	// LoopbackOnly means that the listener is on loopback. A Host must then be an IP,
	// localhost, one of Config.Hosts or a host that Serves accepts, so that no page can
	// rebind its own name.
	LoopbackOnly bool

	// Serves reports whether a certificate is for the host. Nobody has a certificate
	// for a name of somebody else. It may be nil.
	Serves func(host string) bool

	// Transports are the client protocols that may call, by the names that Transports
	// returns. Empty: all.
	Transports []string

	// Limits apply to all clients of this listener together.
	Limits quota.Quota

	// MessageBytes, HeaderBytes and CallsPerConnection lower those of Config's Limits.
	// Values that aren't positive have no effect.
	MessageBytes, HeaderBytes, CallsPerConnection int
}

// ServesHost reports whether a certificate is for the host, which may have a port.
func (l *Listener) ServesHost(host string) bool {
	return l.Serves != nil && l.Serves(strings.TrimSuffix(strings.ToLower(gate.HostOf(host)), "."))
}

// Takes reports whether clients may call by the transport.
func (l *Listener) Takes(transport string) bool {
	return len(l.Transports) == 0 || slices.Contains(l.Transports, transport)
}

// A Listening is a Listener that is being served.
type Listening struct {
	Listener
	scope *quota.Scope // the counts of its connections and calls
	open  tally        // its connections
}

// NewListening returns the rules of a listener with counts of its own.
func NewListening(l Listener) *Listening {
	return &Listening{Listener: l, scope: quota.NewListenerScope(l.Limits)}
}

// With returns l with the rules that may change while it is served: trust, PROXY
// headers, transports, sizes, limits and LoopbackOnly. The counts of l continue, and
// its connections stay its own.
func (l *Listening) With(rules Listener) *Listening {
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

// expectsHeader reports whether a connection begins with a PROXY header.
func (l *Listening) expectsHeader(c *clientConn) bool {
	return len(l.ProxyProtocol) > 0 && gate.ContainsPeer(l.ProxyProtocol, c.address())
}

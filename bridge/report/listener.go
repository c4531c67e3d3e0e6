package report

import (
	"crypto/tls"
	"net"
	"net/netip"
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
	Limits Quota

	// MessageBytes, HeaderBytes and CallsPerConnection lower those of Config's Limits.
	// Values that aren't positive have no effect.
	MessageBytes, HeaderBytes, CallsPerConnection int
}

package bridge

import (
	"crypto/tls"
	"net"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A caller is what is known of who sends a request, and over which connection. A call has a
// copy: a pointer would keep the whole arrival for as long as the call runs. Inside a tunnel,
// the caller is that of the outer request.
type caller struct {
	s         *Server
	policy    *policy         // that judges it: the one in force at the arrival
	on        *edge.Conn      // nil: the call is that of a session, which outlives connections
	listening *edge.Listening // the listener's rules
	peer      Peer            // with the transport and the identity once they are known
	local     net.Addr        // the address that the client connected to; nil: unknown
	usage     *quota.Address  // of its address; nil: the connection's address isn't the client's own
	trusted   bool            // the peer is a trusted proxy: its forwarding headers count
	relayed   bool            // the peer is a trusted proxy that names another client: what it can't see, such as frames, is that client's
	tunnel    bool
}

// A Peer is the caller, as the connection and trusted proxies show it.
type Peer struct {
	Addr      string               // the client's address: an IP, with a port when the connection is its own
	TLS       *tls.ConnectionState // nil: the connection is plaintext
	Client    *report.ClientNames  // from its certificate; nil: it showed none, or none that was verified
	Transport string               // the transport's name, as in logs: "grpc-web"
	Identity  *Identity            // as Config.Authenticator returned it; nil: none
}

// An Identity is the caller's identity, as an Authenticator returns it. It doesn't change, so
// calls may share one.
type Identity struct {
	Name   string // for logs: "alice@example.com", "spiffe://example.org/orders"
	Issuer string // names are unique for an issuer only; "": there is one source of names

	// Expires is when the identity ends, by the system's clock. A call that still runs then ends
	// UNAUTHENTICATED (TOKEN_EXPIRED) within about a second. Zero: the identity doesn't end.
	Expires time.Time
}

// trusts reports whether what the request for a call says of the caller counts. A trusted proxy
// doesn't see what is in a tunnel.
func (k *caller) trusts() bool {
	return (k.trusted || k.peer.Client != nil) && !(k.relayed && k.tunnel)
}

// use returns the quotas that a call with the decision counts with.
func (k *caller) use(d *decision) quota.Call {
	use := k.policy.quotas.Call(k.listening.Scope(), d.limit.scopeOf(), k.peer.Addr, k.usage)
	if d.route != nil {
		_ = use.Move(d.limit.scopeOf(), d.route.scope, d.Method) // it hasn't begun, so nothing is refused
	}
	return use
}

package bridge

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/quota"
)

// An arrival is what is known of a request before any of its bytes count:
// who sent it, over what, to whom. Inside a tunnel all but the method and the
// protocol is the outer request's.
type arrival struct {
	policy     *policy
	on         *edge.Conn
	listening  *edge.Listening // what it came in on
	method     string          // the gRPC method
	host       string
	local      net.Addr // that the client connected to; nil: unknown
	peer       Peer
	from       *quota.Address  // what its address uses; nil: it isn't the connection's own
	trusted    bool            // the peer is a trusted proxy: its forwarding headers count
	forward    gate.Forwarding // what culvert vouches for
	unreadable error           // why that isn't known
	origin     gate.Verdict    // who the page is
	refused    error           // why no call can come of it, if that is to be said in its own protocol
	conn       net.Conn        // of HTTP/1.1; nil on HTTP/2
	tunnel     bool
	protocol   string // "1.1" or "2", for via
}

// A Peer is who called, as far as the connection and trusted proxies tell.
type Peer struct {
	Addr      string               // the client's address: an IP, with a port when the connection is its own
	TLS       *tls.ConnectionState // nil: the connection is plaintext
	Client    *gate.ClientNames    // by its certificate; nil: it showed none, or none that was verified
	Transport string               // the transport's name, as in logs: "grpc-web"
	Identity  Identity             // as Config.Authenticator says, once it was asked
}

// An Identity is who makes a call, as an Authenticator says. The zero value is
// nobody in particular.
type Identity struct {
	Name string // for logs: "alice@example.com", "spiffe://example.org/orders"
}

// arrive reads the facts of a request, and judges its page by the policy.
func (s *Server) arrive(r *http.Request, p *policy) *arrival {
	on := s.edge.Of(r)
	a := &arrival{policy: p, on: on, listening: p.listening(on.Listener()), host: r.Host, protocol: "1.1", tunnel: on.Tunnel() != nil}
	a.peer.Addr, a.peer.TLS = on.Peer(r)
	a.local, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if r.ProtoMajor == 1 && !a.tunnel {
		a.conn = on.NetConn()
	}
	if r.ProtoMajor == 2 {
		a.protocol = "2"
	}
	a.peer.Client = on.Names(a.peer.TLS)
	direct := gate.HostOf(a.peer.Addr)
	if addr, err := netip.ParseAddr(direct); err == nil {
		if bare := addr.Unmap().WithZone(""); bare != addr {
			addr, direct = bare, bare.String()
		}
		a.trusted = on.Trusts(a.listening.TrustedProxies, addr)
	}
	a.forward = gate.Forwarding{For: direct, Proto: scheme(a.peer.TLS), Host: r.Host, Via: a.protocol + " culvert"}
	if a.trusted {
		var client string
		client, a.unreadable = a.forward.Trust(r.Header, gate.Proxies{Trusted: a.listening.TrustedProxies, Forwarded: a.listening.Forwarded})
		if client != "" {
			a.peer.Addr = client
		}
	}
	if !a.trusted {
		a.from = on.Uses()
	}
	a.origin = p.origins.Judge(a.asker(r))
	return a
}

// asker reads what the request says of its page.
func (a *arrival) asker(r *http.Request) gate.Asker {
	return gate.Asker{
		Origins: r.Header["Origin"],
		Site:    r.Header.Get("Sec-Fetch-Site"),
		Cookies: a.policy.forwardCookies && len(r.Header["Cookie"]) > 0,
		Host:    r.Host,
		Secure:  a.forward.Proto == "https",
	}
}

func scheme(t *tls.ConnectionState) string {
	if t != nil {
		return "https"
	}
	return "http"
}

// use returns the quotas that the call counts with, and the limit of its method or
// nil.
func (a *arrival) use() (quota.Call, *methodLimit) {
	m := a.policy.methods.of(a.method)
	var scope *quota.Scope
	if m != nil {
		scope = m.scope
	}
	return a.policy.quotas.Call(a.listening.Scope(), scope, a.peer.Addr, a.from), m
}

// throughTunnel replaces what the inner request of a tunnel claims by what
// the outer one showed: host, origin, cookies and all that proxies vouch for.
func (s *Server) throughTunnel(r *http.Request, p *policy) *http.Request {
	outer := s.edge.Of(r).Tunnel()
	if outer == nil {
		return r
	}
	inner := r.WithContext(r.Context())
	inner.Host = outer.Host
	inner.RemoteAddr = outer.Addr
	applies := outer.Applies(p)
	inner.Header = make(http.Header, len(r.Header)+len(applies))
	for name, values := range r.Header {
		if !p.ofOuter(name) {
			inner.Header[name] = values
		}
	}
	for name, values := range applies {
		if name != "Authorization" || len(inner.Header[name]) == 0 { // a call's own wins
			inner.Header[name] = values
		}
	}
	return inner
}

// ofOuter reports whether only the request for the tunnel may set the header.
func (p *policy) ofOuter(name string) bool {
	switch name {
	case "Origin", "Sec-Fetch-Site", "Cookie":
		return true
	}
	return p.isVouched(strings.ToLower(name))
}

func (p *policy) isVouched(name string) bool {
	return toUpstream.of(name) == vouched || p.vouched.exact[name]
}

// AppliesInside reports whether a field of the request for a tunnel applies to every
// call inside. It implements edge.HeaderFilter.
func (p *policy) AppliesInside(name string) bool { return name == "Authorization" || p.ofOuter(name) }

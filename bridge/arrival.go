package bridge

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// An arrival holds the facts of a request that don't depend on its body: the sender,
// the connection, the host. Inside a tunnel, all but the method and the protocol come
// from the outer request.
type arrival struct {
	s      *Server
	policy *policy
	on     *edge.Conn
	facts
	decision // without metadata

	local      net.Addr // the address that the client connected to; nil: unknown
	peer       Peer
	from       *quota.Address  // the usage of its address; nil: the connection's address isn't the client's own
	trusted    bool            // the peer is a trusted proxy: its forwarding headers count
	forward    gate.Forwarding // what culvert confirms to the backend
	unreadable error           // why forward isn't known
	refused    error           // why no call can follow, if the call's own protocol must say it
	conn       net.Conn        // of HTTP/1.1; nil on HTTP/2
	tunnel     bool
	served     bool   // its transport has it, or what answers requests that are no calls
	protocol   string // "1.1" or "2", for via
}

// A Peer is the caller, as the connection and trusted proxies show it.
type Peer struct {
	Addr      string               // the client's address: an IP, with a port when the connection is its own
	TLS       *tls.ConnectionState // nil: the connection is plaintext
	Client    *report.ClientNames  // from its certificate; nil: it showed none, or none that was verified
	Transport string               // the transport's name, as in logs: "grpc-web"
	Identity  Identity             // as Config.Authenticator returned it
}

// An Identity is the caller's identity, as an Authenticator returns it. The zero value
// means no identity.
type Identity struct {
	Name string // for logs: "alice@example.com", "spiffe://example.org/orders"
}

// arrive reads the facts of a request of a transport, or of none, and judges its page
// by the policy.
func (s *Server) arrive(r *http.Request, p *policy, t *transport) *arrival {
	on := s.edge.Of(r)
	a := &arrival{s: s, policy: p, on: on, protocol: "1.1", tunnel: on.Tunnel() != nil}
	a.listening, a.host = p.listening(on.Listener()), r.Host
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
	a.ask(r, t)
	a.decision = p.decide(&a.facts)
	return a
}

// ask reads what a request of a transport, or of none, asks for.
func (a *arrival) ask(r *http.Request, t *transport) {
	a.path, a.post = r.URL.EscapedPath(), r.Method == http.MethodPost
	a.opensTunnel = t != nil && t.name == tunnelName
	switch {
	case a.tunnel:
		a.transport = tunnelName
	case t == nil:
		a.bare = true
	default:
		a.transport = t.name
		a.bare = t.name == connectName && len(r.Header["Connect-Protocol-Version"]) == 0 && !hasConnectQuery(r)
	}
	secure := a.forward.Proto == "https"
	get := r.Method == http.MethodGet && !a.tunnel && !gate.IsUpgrade(r)
	a.asker = gate.Asker{
		Origins: r.Header["Origin"],
		Site:    r.Header.Get("Sec-Fetch-Site"),
		Cookies: a.policy.forwardCookies && len(r.Header["Cookie"]) > 0,
		Host:    r.Host,
		Secure:  secure,
		Get:     get,
		Served:  get && !secure && a.listening.ServesHost(r.Host),
	}
}

func scheme(t *tls.ConnectionState) string {
	if t != nil {
		return "https"
	}
	return "http"
}

// use returns the quotas that the call counts with.
func (a *arrival) use() quota.Call {
	use := a.policy.quotas.Call(a.listening.Scope(), a.limit.scopeOf(), a.peer.Addr, a.from)
	if a.route != nil {
		_ = use.Move(a.limit.scopeOf(), a.route.scope, a.Method) // it hasn't begun, so nothing is refused
	}
	return use
}

// throughTunnel replaces the claims of a tunnel's inner request by the facts of the
// outer one: host, origin, cookies and the headers of trusted proxies.
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
		if name != "Authorization" || len(inner.Header[name]) == 0 { // a call's own value wins
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
	return headers.OfRequest(name) == headers.Vouched || p.vouched.Has(name)
}

// AppliesInside reports whether a field of the request for a tunnel applies to every
// call inside. It implements edge.HeaderFilter.
func (p *policy) AppliesInside(name string) bool { return name == "Authorization" || p.ofOuter(name) }

package bridge

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
)

// An arrival is a request with what its header says: nothing of it depends on the body.
// Inside a tunnel, all but the method comes from the outer request.
type arrival struct {
	caller
	facts
	decision // without metadata

	forward    gate.Forwarding // what culvert confirms to the backend
	unreadable error           // why forward isn't known
	refused    error           // why no call can follow, if the call's own protocol must say it
	conn       net.Conn        // that the request has for itself: of HTTP/1.1; nil on HTTP/2
	own        bool            // inside a tunnel: the call itself has an authorization
	served     bool            // its transport has it, or what answers requests that are no calls
}

// arrivals holds those of calls that have ended.
var arrivals = sync.Pool{New: func() any { return new(arrival) }}

// free gives the arrival back, which nothing may use any more.
func (a *arrival) free() {
	*a = arrival{}
	arrivals.Put(a)
}

// arrive reads the facts of a request of a transport, or of none, and judges its page
// by the policy.
func (s *Server) arrive(r *http.Request, p *policy, t *transport) *arrival {
	a := arrivals.Get().(*arrival) //nolint:forcetypeassert // nothing else is in the pool
	a.meet(s, r, p)
	a.ask(r, t)
	a.decision = p.decide(&a.facts)
	return a
}

// meet reads who sends the request, and over what.
func (a *arrival) meet(s *Server, r *http.Request, p *policy) {
	on := s.edge.Of(r)
	a.caller = caller{s: s, policy: p, on: on, listening: p.listening(on.Listener()), tunnel: on.Tunnel() != nil}
	a.peer.Addr, a.peer.TLS = on.Peer(r)
	a.peer.Client = on.Names(a.peer.TLS)
	a.local, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if r.ProtoMajor == 1 && !a.tunnel {
		a.conn = on.NetConn()
	}
	direct := gate.HostOf(a.peer.Addr)
	if addr, err := netip.ParseAddr(direct); err == nil {
		if bare := addr.Unmap().WithZone(""); bare != addr {
			addr, direct = bare, bare.String()
		}
		a.trusted = on.Trusts(a.listening.TrustedProxies, addr)
	}
	a.forward = gate.Forwarding{For: direct, Proto: scheme(a.peer.TLS), Host: r.Host, Via: "1.1 culvert"}
	if r.ProtoMajor == 2 {
		a.forward.Via = "2 culvert"
	}
	if !a.trusted {
		a.usage = on.Uses()
		return
	}
	var client string
	client, a.unreadable = a.forward.Trust(r.Header, gate.Proxies{Trusted: a.listening.TrustedProxies, Forwarded: a.listening.Forwarded})
	if client != "" {
		a.peer.Addr, a.relayed = client, true
	}
}

// ask reads what a request of a transport, or of none, asks for.
func (a *arrival) ask(r *http.Request, t *transport) {
	a.facts.caller = &a.caller
	a.host, a.path, a.post = r.Host, r.URL.EscapedPath(), r.Method == http.MethodPost
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
	a.asker = a.policy.asker(r.Header, r.Host, secure)
	a.asker.Get = r.Method == http.MethodGet && !a.tunnel && !gate.IsUpgrade(r)
	a.asker.Served = a.asker.Get && !secure && a.listening.ServesHost(r.Host)
}

// asker returns what the header of a request says of its page.
func (p *policy) asker(h http.Header, host string, secure bool) gate.Asker {
	return gate.Asker{
		Origins: h["Origin"],
		Site:    h.Get("Sec-Fetch-Site"),
		Cookies: p.takesCookies() && len(h["Cookie"]) > 0,
		Host:    host,
		Secure:  secure,
	}
}

func scheme(t *tls.ConnectionState) string {
	if t != nil {
		return "https"
	}
	return "http"
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
	name = strings.ToLower(name)
	return headers.OfRequest(name) == headers.Vouched || p.vouched.Has(name)
}

// AppliesInside reports whether a field of the request for a tunnel applies to every
// call inside. It implements edge.HeaderFilter.
func (p *policy) AppliesInside(name string) bool { return name == "Authorization" || p.ofOuter(name) }

package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Conn is one connection of a client, and what the requests that come in on
// it share. Its methods may be called at the same time.
type Conn struct {
	edge      *Edge
	conn      net.Conn    // as the HTTP server has it; nil: Watch hasn't seen that server
	listening *Listening  // what it came in on; inside a tunnel, what the WebSocket came in on
	tunnel    *Tunnel     // nil: it isn't one
	client    *clientConn // the client's socket; nil: Serve didn't accept it
	life      *life       // nil: nothing is known of it
	kind      atomic.Uint32
}

// A Tunnel is what the request for a tunnel's WebSocket showed. It applies to every
// request inside.
type Tunnel struct {
	Outer  *Conn  // that the WebSocket came in on
	Addr   string // of the client
	Host   string
	TLS    *tls.ConnectionState
	Header http.Header // of the request, as far as it may apply inside; nobody changes it

	// applies is what Applies returned last. Its filter, and what that refers to, is
	// kept until a request inside brings another one.
	applies atomic.Pointer[appliedHeader]
}

// A HeaderFilter says which fields of a tunnel's Header apply to requests inside. It
// must be comparable, and always say the same.
type HeaderFilter interface{ AppliesInside(name string) bool }

// An appliedHeader is what a filter leaves of a Header.
type appliedHeader struct {
	filter HeaderFilter
	header http.Header
}

// Applies returns the fields that apply to requests inside the tunnel. The caller must
// not change them.
func (t *Tunnel) Applies(filter HeaderFilter) http.Header {
	if last := t.applies.Load(); last != nil && last.filter == filter {
		return last.header
	}
	header := make(http.Header)
	for name, values := range t.Header {
		if filter.AppliesInside(name) {
			header[name] = values
		}
	}
	t.applies.Store(&appliedHeader{filter, header})
	return header
}

// connKey is where Watch keeps the connection in the context of its requests.
type connKey struct{}

// meet returns the connection that an HTTP server has accepted.
func (e *Edge) meet(c net.Conn, l *Listening) *Conn {
	on := find(c)
	if on == nil {
		return e.foreign(c, l)
	}
	on.conn = c // nobody has served it yet
	return on
}

// foreign returns the Conn of a connection that Serve didn't accept.
func (e *Edge) foreign(c net.Conn, l *Listening) *Conn {
	return &Conn{edge: e, conn: c, listening: l}
}

// NewTunnel returns the connection inside a WebSocket. The net.Conn that carries it
// has to return it from EdgeConn.
func (e *Edge) NewTunnel(t *Tunnel) *Conn {
	on := &Conn{edge: e, listening: t.Outer.listening, tunnel: t, client: t.Outer.client, life: new(life)}
	on.life.begin(e.o.MaxAge)
	return on
}

// find returns the Conn of a connection, looking under TLS, or nil if Serve didn't
// accept it. ConnState and the hooks of HTTP/2 need it, since they have no request.
func find(c net.Conn) *Conn {
	for {
		switch v := c.(type) {
		case interface{ EdgeConn() *Conn }:
			return v.EdgeConn()
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

// Of returns the connection that a request came in on. In an http.Server that
// Watch hasn't seen, all requests share one, and the request itself has all that is
// known.
func (e *Edge) Of(r *http.Request) *Conn {
	if c, ok := r.Context().Value(connKey{}).(*Conn); ok && c.edge == e {
		return c
	}
	return e.unknown
}

// Listener returns what the connection came in on.
func (c *Conn) Listener() *Listening { return c.listening }

// Tunnel returns what the WebSocket's request showed if the connection is a
// tunnel, else nil.
func (c *Conn) Tunnel() *Tunnel { return c.tunnel }

// NetConn returns the connection as the HTTP server has it, so that package socket
// can look at it. It is nil in an http.Server that Watch hasn't seen.
func (c *Conn) NetConn() net.Conn { return c.conn }

// Peer returns the address of a request's client, and the state of its TLS or nil.
// Inside a tunnel these are the WebSocket's.
func (c *Conn) Peer(r *http.Request) (string, *tls.ConnectionState) {
	if c.tunnel != nil {
		return c.tunnel.Addr, c.tunnel.TLS
	}
	return r.RemoteAddr, r.TLS
}

// Names returns the names in the client's verified certificate, or nil. They are
// read once where the socket is known.
func (c *Conn) Names(state *tls.ConnectionState) *gate.ClientNames {
	if state == nil || len(state.VerifiedChains) == 0 {
		return nil
	}
	if c.client == nil {
		return gate.NamesOf(state)
	}
	n := c.client.names.Load()
	if n == nil {
		n = gate.NamesOf(state)
		c.client.names.Store(n)
	}
	return n
}

// Trusts reports whether the peer with the address is one of the proxies. A proxy
// whose PROXY header names no client isn't: its forwarding headers may be a
// client's own then.
func (c *Conn) Trusts(proxies []netip.Prefix, peer netip.Addr) bool {
	return gate.Contains(proxies, peer) && !c.speaksForNobody()
}

func (c *Conn) speaksForNobody() bool {
	return len(c.listening.ProxyProtocol) > 0 && c.client != nil && c.client.proxied != nil && c.client.proxied.client == nil
}

// Uses returns what the address of the client's socket uses, or nil.
func (c *Conn) Uses() *quota.Address {
	if c.client == nil {
		return nil
	}
	return c.client.use.From()
}

// End notes why the connection is about to end, unless that is known.
func (c *Conn) End(why string) { c.life.end(why) }

// EndFor notes why the connection ends, if the error that ended a call ends it too.
func (c *Conn) EndFor(err error) {
	var f *report.Fault
	if errors.As(err, &f) {
		c.life.end(f.Ends)
	}
}

// Ended returns what End has noted.
func (c *Conn) Ended() string { return c.life.endedAs() }

// NoteRead takes note of a read that failed. Only the carrier of a tunnel has to
// call it.
func (c *Conn) NoteRead(err error) { c.life.noteRead(err) }

// Left reports whether the client has closed the connection.
func (c *Conn) Left() bool { return c.life.left.Load() }

// Taken returns what a WebSocket that takes the connection over has to call when
// it closes. It is called before the takeover. It is nil in an http.Server that Watch
// hasn't seen.
func (c *Conn) Taken() func(net.Conn) {
	if c.conn == nil {
		return nil
	}
	c.became(kindWebSocket)
	c.edge.takeovers.announce(c.conn)
	return c.noteEnd
}

// Streams returns the listener's own limit of calls at once on a connection of
// HTTP/2, or 0.
func (e *Edge) Streams(c net.Conn) int {
	if on := find(c); on != nil {
		return on.listening.CallsPerConnection
	}
	return e.own.CallsPerConnection // Serve didn't accept it
}

// Settle notes why a connection of HTTP/2 ends. The HTTP/2 server knows best.
func (e *Edge) Settle(c net.Conn, why string) {
	if on := find(c); on != nil {
		on.life.settle(why)
	}
}

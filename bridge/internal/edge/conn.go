package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A Conn is one connection of a client, with the facts that its requests share. Its
// methods may be called at the same time.
type Conn struct {
	edge      *Edge
	conn      net.Conn    // as the HTTP server has it; nil: Watch hasn't seen that server
	listening *Listening  // the listener that accepted it; inside a tunnel, the WebSocket's
	tunnel    *Tunnel     // nil: it isn't one
	client    *clientConn // the client's socket; nil: Serve didn't accept it
	life      *life       // nil: nothing is known of it
	kind      atomic.Uint32
}

// A Tunnel has the facts of the request for a tunnel's WebSocket. They apply to every
// request inside.
type Tunnel struct {
	Outer  *Conn  // the connection that the WebSocket came in on
	Addr   string // of the client
	Host   string
	TLS    *tls.ConnectionState
	Header http.Header // the request's, as far as it may apply inside; it never changes

	Session atomic.Value // the Handler's own

	// applies is the last result of Applies. Its filter, and the values that the filter
	// refers to, are kept until a request inside brings another one.
	applies atomic.Pointer[appliedHeader]
}

// A HeaderFilter decides which fields of a tunnel's Header apply to requests inside. It
// must be comparable, and always give the same answer.
type HeaderFilter interface{ AppliesInside(name string) bool }

// An appliedHeader is the part of a Header that a filter keeps.
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

// outerHeader returns the fields of the request for a tunnel that are kept for the
// tunnel's life. It leaves out those of the WebSocket's handshake: they never apply
// inside, and some clients put a token into Sec-WebSocket-Protocol. It keeps all
// others, at most limits.header_bytes for a tunnel, since a later policy may list any
// name among the vouched headers.
func outerHeader(h http.Header) http.Header {
	kept := make(http.Header, len(h))
	for name, values := range h {
		if name != "Connection" && name != "Upgrade" && !strings.HasPrefix(name, "Sec-Websocket-") {
			kept[name] = values
		}
	}
	return kept
}

// connKey is where Watch keeps the connection in the context of its requests.
type connKey struct{}

// meet returns the Conn of a connection that an HTTP server has accepted.
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

// NewTunnel returns the connection inside the WebSocket that the request has opened. The
// net.Conn that carries it must return it from EdgeConn.
func (e *Edge) NewTunnel(r *http.Request) *Conn {
	t := &Tunnel{Outer: e.Of(r), Addr: r.RemoteAddr, Host: r.Host, TLS: r.TLS, Header: outerHeader(r.Header)}
	on := &Conn{edge: e, listening: t.Outer.listening, tunnel: t, client: t.Outer.client, life: new(life)}
	on.life.begin(e.o.Bounds(on.listening), e.left.Load())
	return on
}

// find returns the Conn of a connection, looking under TLS, or nil if Serve didn't
// accept the connection. ConnState and the hooks of HTTP/2 need find, since they have
// no request.
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

// Of returns the connection that a request came in on. In an http.Server that Watch
// hasn't seen, all requests share one Conn, and only the request itself has the facts.
func (e *Edge) Of(r *http.Request) *Conn {
	if c, ok := r.Context().Value(connKey{}).(*Conn); ok && c.edge == e {
		return c
	}
	return e.unknown
}

// Listener returns the listener that accepted the connection.
func (c *Conn) Listener() *Listening { return c.listening }

// Tunnel returns the facts of the WebSocket's request if the connection is a tunnel,
// else nil.
func (c *Conn) Tunnel() *Tunnel { return c.tunnel }

// NetConn returns the HTTP server's connection, so that package socket can inspect it.
// It is nil in an http.Server that Watch hasn't seen.
func (c *Conn) NetConn() net.Conn { return c.conn }

// CutsReaders reports whether a write deadline that passes also ends a write to a client that
// reads, as when a busy machine is slow. net/http's HTTP/2 resets the stream then, whatever
// the write waits for.
func (c *Conn) CutsReaders(r *http.Request) bool {
	switch {
	case c.conn == nil:
		return true
	case r.ProtoMajor == 1:
		return c.client == nil || !socket.WritesLate(c.client.Conn)
	default:
		return c.edge.o.StandardHTTP2
	}
}

// Peer returns the address of a request's client, and the state of its TLS or nil.
// Inside a tunnel both are the WebSocket's.
func (c *Conn) Peer(r *http.Request) (string, *tls.ConnectionState) {
	if c.tunnel != nil {
		return c.tunnel.Addr, c.tunnel.TLS
	}
	return r.RemoteAddr, r.TLS
}

// Names returns the names in the client's verified certificate, or nil. If the socket
// is known, they are read once.
func (c *Conn) Names(state *tls.ConnectionState) *report.ClientNames {
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

// Certificates returns certificates in DER, one of which the client was shown: the only one if
// the handshake has noted it, and all that the listener has if its configuration selects
// none by itself. It returns nil if nothing is known, as of a session that was resumed.
func (c *Conn) Certificates() (leaves [][]byte) {
	var all []tls.Certificate
	switch t := c.listening.TLS; {
	case t == nil:
	case c.client != nil && c.client.shown != nil: // else it is no socket, and nobody notes it
		all = []tls.Certificate{*c.client.shown}
	case t.GetCertificate == nil && t.GetConfigForClient == nil:
		all = t.Certificates
	}
	for _, pair := range all {
		leaves = append(leaves, pair.Certificate[0])
	}
	return leaves
}

// Trusts reports whether the peer with the address is one of the proxies. A proxy whose
// PROXY header names no client isn't: its forwarding headers may come from a client.
func (c *Conn) Trusts(proxies []netip.Prefix, peer netip.Addr) bool {
	speaksForNobody := c.client != nil && c.client.proxied != nil && c.client.proxied.client == nil
	return gate.Contains(proxies, peer) && !speaksForNobody
}

// Uses returns the usage of the address of the client's socket, or nil.
func (c *Conn) Uses() *quota.Address {
	if c.client == nil {
		return nil
	}
	return c.client.use.From()
}

// End notes why the connection is about to end, unless a reason is already known.
func (c *Conn) End(why string) { c.life.end(why) }

// EndFor notes why the connection ends, if the error that ended a call ends the
// connection too.
func (c *Conn) EndFor(err error) {
	if f, ok := errors.AsType[*report.Fault](err); ok {
		c.life.end(f.Ends)
	}
}

// Ended returns the reason noted by End.
func (c *Conn) Ended() string { return c.life.endedAs() }

// NoteRead notes a failed read. Only the carrier of a tunnel must call it.
func (c *Conn) NoteRead(err error) { c.life.noteRead(err) }

// Left reports whether the client has closed the connection.
func (c *Conn) Left() bool { return c.life.left.Load() }

// Taken returns the function that a WebSocket must call when it closes, if it takes the
// connection over. Taken is called before the takeover. It returns nil in an
// http.Server that Watch hasn't seen.
func (c *Conn) Taken() func(net.Conn) {
	if c.conn == nil {
		return nil
	}
	c.became(kindWebSocket)
	c.edge.takeovers.announce(c.conn)
	return c.noteEnd
}

// ListenerOf returns the listener that accepted a connection or the WebSocket around
// it. The HTTP/2 server asks, which has no request yet.
func (e *Edge) ListenerOf(c net.Conn) *Listening {
	if on := find(c); on != nil {
		return on.listening
	}
	return e.own // Serve didn't accept it
}

// Count counts n more bytes with a connection, or with the one around a tunnel, or fewer if n is
// negative. It returns false if there is no room for them.
func (e *Edge) Count(c net.Conn, n int) bool {
	on := find(c)
	switch {
	case on == nil || on.Held() == nil: // Serve didn't accept it
		return true
	case n < 0:
		on.Held().Sub(memory.Fixed, -n)
		return true
	}
	return on.Held().Enter(int64(n))
}

// Settle notes why an HTTP/2 connection ends. The HTTP/2 server knows best.
func (e *Edge) Settle(c net.Conn, why string) {
	if on := find(c); on != nil {
		on.life.settle(why)
	}
}

package bridge

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/quota"
)

// A connection is what the requests that come in on it share. connectionOf finds
// it through a request's context. ConnState and the hooks of HTTP/2 have no
// request; they look under the net.Conn themselves.
type connection struct {
	conn      net.Conn   // as the HTTP server has it; nil: ConfigureHTTP hasn't seen that server
	listening *listening // what it came in on; inside a tunnel, what the WebSocket came in on
	tunnel    *tunnelConn
	client    *clientConn // the client's socket; nil: a listener of the caller's own accepted it
	life      *life       // nil: nothing is known of it
}

// connectionKey is where ConnContext keeps the *connection of a request.
type connectionKey struct{}

// withConnection adds a connection to the context of its requests.
func withConnection(ctx context.Context, c net.Conn, l *listening) context.Context {
	return context.WithValue(ctx, connectionKey{}, newConnection(c, l))
}

func newConnection(c net.Conn, l *listening) *connection {
	if t, ok := c.(*tunnelConn); ok {
		return &connection{conn: c, listening: t.outer.listening, tunnel: t, client: t.outer.client, life: &t.life}
	}
	return &connection{conn: c, listening: l, client: clientUnder(c), life: lifeOf(c)}
}

// connectionOf returns the connection that a request came in on. In an
// http.Server that ConfigureHTTP hasn't seen, that is one for all requests.
func (s *Server) connectionOf(r *http.Request) *connection {
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		return c
	}
	return s.unknown
}

// counted reports whether noteConn is told of the connection.
func (c *connection) counted() bool { return c.conn != nil }

// plain returns the client's socket if the HTTP server writes to it with no TLS in
// between, else nil.
func (c *connection) plain() *clientConn {
	if c.client != nil && c.conn == net.Conn(c.client) {
		return c.client
	}
	return nil
}

// names returns the names in the client's verified certificate, or nil. They are
// read once where the socket is known.
func (c *connection) names(state *tls.ConnectionState) *gate.ClientNames {
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

// uses returns what the address of the client's socket uses, or nil.
func (c *connection) uses() *quota.Address {
	if c.client == nil {
		return nil
	}
	return c.client.use.From()
}

// speaksForNobody reports whether the connection's PROXY header names no client.
// Its forwarding headers may be a client's own then.
func (c *connection) speaksForNobody() bool {
	return len(c.listening.ProxyProtocol) > 0 && c.client != nil && c.client.proxied != nil && c.client.proxied.client == nil
}

// lingerOn lets the client read the answer when the connection closes with bytes
// unread.
func (c *connection) lingerOn() {
	if c.client != nil {
		c.client.linger.Store(true)
	}
}

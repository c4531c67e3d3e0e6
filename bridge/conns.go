package bridge

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/socket"
)

// noteConn counts the connections of the servers that this Server set up.
// A connection that a WebSocket took over goes on counting until it closes.
func (s *Server) noteConn(l *listening, c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.countConn(c, 1)
		if !unheardOf(c) {
			s.obs.ConnBegan(connInfo(l, c))
		}
	case http.StateClosed:
		s.connEnded(l, c)
	case http.StateHijacked, http.StateActive, http.StateIdle:
		handshakeDone(l, c)
		lifeOf(c).enterState(state)
	}
}

func (s *Server) connEnded(l *listening, c net.Conn) {
	s.countConn(c, -1)
	if unheardOf(c) {
		return
	}
	info := connInfo(l, c)
	info.Ended, info.Cause = s.endOf(c)
	s.obs.ConnEnded(info)
}

// unheardOf holds for a connection of which the Observer doesn't know: that
// waits for its PROXY header.
func unheardOf(c net.Conn) bool {
	if _, tunnel := c.(*tunnelConn); tunnel {
		return false
	}
	client := clientUnder(c)
	return client != nil && client.proxied != nil && !client.proxied.announced
}

// countConn counts sockets; a tunnel is one of them already.
func (s *Server) countConn(c net.Conn, n int64) {
	if _, tunnel := c.(*tunnelConn); !tunnel {
		s.conns.Add(n)
		if n < 0 {
			s.files.free()
		}
	}
}

func connInfo(l *listening, c net.Conn) report.ConnInfo {
	_, tunnel := c.(*tunnelConn)
	return report.ConnInfo{Peer: c.RemoteAddr().String(), Listener: l.Name, Tunnel: tunnel}
}

// boundListener gives each connection TCP's own watch over silent peers, and
// refuses those over the limit.
func (s *Server) boundListener(ln net.Listener, l *listening) *boundedListener {
	return &boundedListener{Listener: ln, s: s, of: l, closed: make(chan struct{})}
}

type boundedListener struct {
	net.Listener
	s      *Server
	of     *listening
	once   sync.Once
	closed chan struct{}
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func (l *boundedListener) Accept() (net.Conn, error) {
	refuse := func(c net.Conn) { refuseConn(l.wrap(c), errNoDescriptor) }
	for {
		c, err := l.s.files.accept(l.Listener, l.closed, l.s.files.reserve, refuse)
		if err != nil {
			return nil, err
		}
		watchTCP(c)
		c = l.wrap(c)
		if err := l.admit(c); err != nil {
			refuseConn(c, err)
			continue
		}
		return c, nil
	}
}

// wrap makes a connection one that can linger. net/http has to see a tls.Conn
// as it is.
func (l *boundedListener) wrap(c net.Conn) net.Conn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
		client := &clientConn{Conn: c, s: l.s, listening: l.of}
		client.life.begin(&l.s.limits)
		if l.of.expectsHeader(client) {
			client.proxied = new(proxied)
		}
		client.linger.Store(l.of.TLS != nil) // until handshakeDone
		return client
	}
	return c
}

var errNoDescriptor = report.OverLimit(report.KeyConnections, connectionRetry, "too many connections: file descriptors run out")

// admit counts a connection, or returns why there are too many.
func (l *boundedListener) admit(c net.Conn) error {
	if l.s.cfg.MemoryGone() {
		return l.s.noMemory(addressOf(c).String(), "", "connections")
	}
	if l.s.conns.Load() >= int64(l.s.limits.Connections) {
		l.s.refusals.Note(report.Refusal{Reason: report.ReasonLimitExceeded, Key: report.KeyConnections, Peer: addressOf(c).String()}, "raise "+report.KeyConnections)
		return report.OverLimit(report.KeyConnections, connectionRetry, "too many connections")
	}
	if c, ok := c.(*clientConn); ok && c.proxied == nil {
		return c.admit()
	}
	return nil
}

// admit counts a connection with its address, which has to be known, and its
// listener.
func (c *clientConn) admit() error {
	return c.use.Begin(c.s.quotas, c.address().String(), c.listening.scope, c.listening.TLS != nil)
}

// connectionRetry is when a client may try to connect again.
const connectionRetry = 5 * time.Second

// ListenConfig is how to listen so that a connection costs few system calls:
// on Linux it begins with the probes of silent peers that Serve would set.
func ListenConfig() *net.ListenConfig {
	return &net.ListenConfig{KeepAlive: -1, Control: socket.ControlProbes(probes)}
}

// probes is TCP's own keep-alive of clients' connections.
var probes = net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveEvery, Count: keepAliveCount}

// watchTCP has TCP notice within 20 s that an idle peer has vanished. Go's
// defaults take 150 s. While data is under way, lookAtConn and the pings watch
// the peer; boundRest does once the connection is closed.
func watchTCP(c net.Conn) {
	under := c
	for {
		w, ok := under.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		under = w.NetConn()
	}
	if t, ok := under.(*net.TCPConn); ok {
		if !socket.BeganProbing(t, probes) {
			_ = t.SetKeepAliveConfig(probes) // it is closed then
		}
	}
}

// refuseConn ends a connection before anything is read.
func refuseConn(c net.Conn, why error) {
	if c, ok := c.(*clientConn); ok {
		c.tellRefusal(why)
	}
	_ = c.Close() // all of this is for a client that may be gone
}

// tellRefusal tells a client of HTTP/1.1 why its connection will be closed.
func (c *clientConn) tellRefusal(why error) {
	if c.listening.TLS == nil {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" +
			"culvert: " + why.Error() + "\n"))
	}
	c.linger.Store(c.listening.TLS == nil) // else nothing can be told
}

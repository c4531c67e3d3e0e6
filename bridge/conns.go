package bridge

import (
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// noteConn counts the connections of the servers that this Server set up.
// A connection that a WebSocket took over goes on counting until it closes.
func (s *Server) noteConn(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.countConn(c, 1)
		s.obs.ConnBegan(connInfo(c))
	case http.StateClosed:
		s.connEnded(c)
	case http.StateHijacked, http.StateActive, http.StateIdle:
	}
}

func (s *Server) connEnded(c net.Conn) {
	s.countConn(c, -1)
	s.obs.ConnEnded(connInfo(c))
}

// countConn counts sockets; a tunnel is one of them already.
func (s *Server) countConn(c net.Conn, n int64) {
	if _, tunnel := c.(*tunnelConn); !tunnel {
		s.conns.Add(n)
	}
}

func connInfo(c net.Conn) ConnInfo {
	_, tunnel := c.(*tunnelConn)
	return ConnInfo{Peer: c.RemoteAddr().String(), Tunnel: tunnel}
}

// boundListener gives each connection TCP's own watch over silent peers, and
// refuses those over the limit.
func (s *Server) boundListener(ln net.Listener) net.Listener { return &boundedListener{ln, s} }

type boundedListener struct {
	net.Listener
	s *Server
}

func (l *boundedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		watchTCP(c)
		if _, ok := c.(*net.TCPConn); ok { // net/http has to see a tls.Conn as it is
			c = &clientConn{Conn: c, s: l.s}
		}
		if l.s.conns.Load() < int64(l.s.limits.Connections) {
			return c, nil
		}
		l.s.refusals.note(Refusal{ReasonLimitExceeded, keyConnections, c.RemoteAddr().String(), ""}, "raise "+keyConnections)
		refuseConn(c)
	}
}

// watchTCP notices a peer that vanished: an idle one by probes within 30 s,
// one that owes acknowledgements within userTimeout. Go's defaults take 150 s
// and 15 min.
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
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAliveIdle, Interval: keepAliveEvery, Count: keepAliveCount}) // it is closed then
		setUserTimeout(t, userTimeout)
	}
}

// refuseConn tells a client of HTTP/1.1 why, before its request is read.
func refuseConn(c net.Conn) {
	if c, ok := c.(*clientConn); ok {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n" +
			"culvert: too many connections (" + keyConnections + ")\n"))
		c.linger.Store(true)
	}
	_ = c.Close() // all of this is for a client that may be gone
}

// A clientConn can linger when it closes. A close with bytes unread makes the
// kernel send a reset, and the client's kernel then drops what its program has
// not read yet of the answer. So the sending side is closed first, and what
// still comes is read and dropped until the client closes, too.
// RFC 9112 §9.6.
type clientConn struct {
	net.Conn
	s      *Server
	linger atomic.Bool
	once   sync.Once
}

// NetConn is the connection under it.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// Close doesn't wait for the lingering; the server's Close does, and cuts it.
func (c *clientConn) Close() error {
	if c.linger.Load() {
		lingers := false
		c.once.Do(func() { lingers = c.s.lingering.start(c) })
		if lingers {
			return nil
		}
	}
	return c.Conn.Close()
}

func (c *clientConn) drop() {
	defer c.Conn.Close() //nolint:errcheck // nobody can act on it
	if t, ok := c.Conn.(*net.TCPConn); ok {
		_ = t.CloseWrite() // it fails when the client is gone, and so does Read
	}
	buf := make([]byte, 4<<10)
	for end := time.Now().Add(lingerTime); time.Now().Before(end); {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingerSilence)) // likewise
		if _, err := c.Conn.Read(buf); err != nil {
			return
		}
	}
}

// maxLingering bounds the connections that linger; more are cut.
const maxLingering = 1000

// lingering is the set of connections that linger.
type lingering struct {
	tasks
	mu    sync.Mutex
	conns map[*clientConn]struct{}
}

func (l *lingering) start(c *clientConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) >= maxLingering {
		return false
	}
	if !l.tasks.start(func() { c.drop(); l.forget(c) }) {
		return false
	}
	if l.conns == nil {
		l.conns = make(map[*clientConn]struct{})
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *lingering) forget(c *clientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// stop cuts those that are left and waits for them.
func (l *lingering) stop() {
	l.mu.Lock()
	for c := range l.conns {
		_ = c.Conn.Close() // it is over either way
	}
	l.mu.Unlock()
	l.tasks.stop()
}

// tasks are goroutines that start until stop, which waits for them.
type tasks struct {
	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

// start runs the function on a goroutine of its own, or returns false.
func (t *tasks) start(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return false
	}
	t.running.Go(f)
	return true
}

func (t *tasks) stop() {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.running.Wait()
}

package edge

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A clientConn can linger when it closes. A close with bytes unread makes the kernel
// send a reset, and the client's kernel then drops the part of the answer that its
// program has not read yet. So clientConn closes the sending side first, and then reads
// and drops data until the client closes, too. RFC 9112 §9.6.
type clientConn struct {
	net.Conn
	on      Conn
	life    life
	linger  atomic.Bool
	scarce  bool        // it was refused because descriptors are scarce
	greeted atomic.Bool // TLS: the handshake was done
	given   atomic.Bool // an embedder's handler took it over
	once    sync.Once
	use     quota.Conn
	idle    idleness
	batch   batch                              // gathers writes
	proxied *proxied                           // nil: no PROXY header is expected
	names   atomic.Pointer[report.ClientNames] // from its certificate, once something asks for them
	shown   *tls.Certificate                   // to the client, in a handshake that has ended; nil: unknown
}

func (e *Edge) newClient(c net.Conn, l *Listening, b Bounds) *clientConn {
	client := &clientConn{Conn: c}
	client.on = Conn{edge: e, listening: l, client: client, life: &client.life}
	client.life.begin(b, e.left.Load())
	return client
}

// EdgeConn lets find find the connection.
func (c *clientConn) EdgeConn() *Conn { return &c.on }

// ShowsCertificate notes the certificate that the handshake shows to the client. Who has the
// certificates calls it with the connection in the tls.ClientHelloInfo (proxytls.Provider).
// crypto/tls doesn't keep it.
func (c *clientConn) ShowsCertificate(shown *tls.Certificate) { c.shown = shown }

// Read reads the bytes after a PROXY header, and notes how the reading ends.
func (c *clientConn) Read(p []byte) (n int, err error) {
	defer c.fail(&err)
	if err = c.awaitHeader(); err != nil {
		return 0, err
	}
	n, err = c.Conn.Read(p)
	if n > 0 && !c.life.heard.Load() {
		c.life.heard.Store(true)
		c.beginHeader()
	}
	if err != nil {
		c.life.noteRead(err)
	}
	return n, err
}

// Write writes, or holds the part of a batch.
func (c *clientConn) Write(p []byte) (n int, err error) {
	defer c.fail(&err)
	return c.batch.write(c.Conn, p)
}

// NetConn returns the connection underneath.
func (c *clientConn) NetConn() net.Conn { return c.Conn }

// SyscallConn returns the socket's: HTTP/2 writes to it without waiting.
func (c *clientConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// SetWriteDeadline sets the deadline of writes. crypto/tls allows 5 s for the alert
// with which it closes a connection. After Cut there is no time for that.
func (c *clientConn) SetWriteDeadline(t time.Time) error {
	err := c.Conn.SetWriteDeadline(t)
	if c.on.edge.cut.Load() { // after t, which may have replaced Cut's deadline
		err = c.Conn.SetWriteDeadline(socket.LongAgo)
	}
	return err
}

// SetDeadline sets both deadlines.
func (c *clientConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// CloseWrite closes the sending side, if the connection has one.
func (c *clientConn) CloseWrite() error { return socket.CloseWrite(c.Conn) }

// Close doesn't wait for the lingering; the server's Close waits for it and cuts it.
func (c *clientConn) Close() (err error) {
	defer c.fail(&err)
	if c.given.Swap(false) {
		defer c.on.noteEnd(c.on.conn)
	}
	c.use.End()
	c.on.edge.clients.remove(c)
	c.boundRest()
	if c.linger.Load() {
		lingers := false
		c.once.Do(func() { lingers = c.on.edge.lingering.start(c) })
		if lingers {
			return nil
		}
	}
	return c.Conn.Close()
}

// boundRest bounds how long the kernel keeps a closed connection for data that the
// client has not accepted yet. A client that acknowledges may read the rest as slowly
// as it may read a call.
func (c *clientConn) boundRest() {
	limit := userTimeout
	switch c.life.endedAs() {
	case report.EndedSlow, report.EndedSilent, report.EndedFlood, report.EndedProtocol:
	default:
		if socket.Unacked(c.Conn) && socket.Look(c.Conn).Retransmits == 0 {
			limit = max(limit, c.on.edge.o.Bounds(c.on.listening).SlowConsumerTimeout)
		}
	}
	socket.SetUserTimeout(c.Conn, limit)
}

func (c *clientConn) drop() {
	defer c.Conn.Close()
	_ = c.CloseWrite() // it fails when the client is gone, and so does Read
	buf := make([]byte, 4<<10)
	for end := time.Now().Add(lingerTime); time.Now().Before(end); {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingerSilence)) // if it fails, so does Read
		if _, err := c.Conn.Read(buf); err != nil {
			return
		}
	}
}

const (
	lingerSilence = 5 * time.Second  // of a client that is still sending to a closed connection
	lingerTime    = 30 * time.Second // all in all
	userTimeout   = 20 * time.Second // TCP, of a closed connection: bytes that its client doesn't acknowledge or accept
)

// scarcePart leaves the reserve to others than refused connections.
const scarcePart = 4

// lingering is the set of connections that linger. They use the reserve of descriptors,
// since they no longer count as open. So their number is bounded, and culvert cuts the
// others.
type lingering struct {
	most int // a scarcePart of it while descriptors are scarce

	mu      sync.Mutex
	stopped bool
	conns   map[*clientConn]struct{}
	running sync.WaitGroup
}

func (l *lingering) start(c *clientConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := l.most
	if c.scarce {
		most /= scarcePart
	}
	if l.stopped || len(l.conns) >= most {
		return false
	}
	l.conns[c] = struct{}{}
	l.running.Go(func() {
		defer c.on.edge.files.free()
		defer l.forget(c)
		defer c.on.edge.catch(c.Conn)
		c.drop()
	})
	return true
}

func (l *lingering) forget(c *clientConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// stop cuts the remaining connections and waits for them.
func (l *lingering) stop() {
	l.cut()
	l.running.Wait()
}

func (l *lingering) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for c := range l.conns {
		_ = c.Conn.Close() // it is over either way
	}
}

// lingerOn lets the client read the answer when the connection closes with bytes
// unread.
func (c *Conn) lingerOn() {
	if c.client != nil {
		c.client.linger.Store(true)
	}
}

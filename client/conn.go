package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/client/internal/frame"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A conn is an HTTP/2 connection to an edge, for grpc-go. It has proven that it delivers: see
// prove.
type conn struct {
	net.Conn
	way     Way
	culvert bool                 // the edge is known to be one
	watched bool                 // see watch
	state   *tls.ConnectionState // nil: plaintext
	remote  net.Addr             // nil: unknown
	dialer  *Dialer              // nil: it hasn't been kept
	renewal *renewal             // nil: it needs none
	ended   sync.Once
	doomed  context.Context //nolint:containedctx // it ends with the connection
	doom    context.CancelFunc

	preface int // bytes of grpc-go's preface that are left to drop: prove has sent one

	// Read's own.
	replay []byte // whole frames that come first
	frames frame.Follower

	retired atomic.Bool
	unused  atomic.Int64 // 1 more than the Dialer's wants was when the edge said goodbye; 0: it hasn't, or has answered a call

	// In nanoseconds of Unix time, by now.
	began time.Time
	read  atomic.Int64 // when bytes last came
	asked atomic.Int64 // when the first bytes went that nothing has followed; 0: something has

	writing  sync.Mutex     // if it is watched
	out      frame.Follower // what has been written; writing guards it
	due      atomic.Bool    // a ping, once the frame that is being written has ended
	position atomic.Uint64  // of the ping in the bytes sent, or ping.Unsent
	gone     atomic.Bool    // the edge is silent

	mu       sync.Mutex // held over the deadlines of reads, so that the last one is the right one
	deadline time.Time  // of reads, as grpc-go has set it
}

func newConn(raw net.Conn, way Way, state *tls.ConnectionState) *conn {
	c := &conn{Conn: raw, way: way, state: state, remote: raw.RemoteAddr(), began: time.Now()}
	c.doomed, c.doom = context.WithCancel(context.Background())
	return c
}

// now is the time as if nobody had set the clock since the connection began.
func (c *conn) now() int64 { return c.began.Add(time.Since(c.began)).UnixNano() }

// A secureConn is a conn with TLS.
type secureConn struct{ *conn }

// ConnectionState returns the state of the TLS between this machine and the edge.
func (c *secureConn) ConnectionState() tls.ConnectionState { return *c.state }

// Write drops the preface.
func (c *conn) Write(p []byte) (int, error) {
	dropped := min(c.preface, len(p))
	c.preface -= dropped
	if dropped == len(p) {
		return dropped, nil
	}
	n, err := c.write(p[dropped:])
	if err == nil && c.watched {
		c.pingIfDue()
	}
	return dropped + n, err
}

func (c *conn) write(p []byte) (int, error) {
	c.asked.CompareAndSwap(0, c.now())
	if !c.watched {
		return c.Conn.Write(p)
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	n, err := c.Conn.Write(p)
	c.out.Pass(p[:n])
	return n, err
}

// Read reads what prove has left, and then from the connection. Once the connection is retired,
// it adds a GOAWAY between two frames, if there was none: a further one may not name a higher
// stream. RFC 9113 §6.8.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if len(c.replay) > 0 {
			n := copy(p, c.replay)
			c.replay = c.replay[n:]
			return n, nil
		}
		if c.retired.Load() && c.frames.Between() && !c.frames.Seen(http2.FrameGoAway) {
			c.frames.Pass(goAway)
			c.restoreDeadline()
			c.replay = append(c.replay, goAway...)
			continue
		}
		n, err := c.Conn.Read(p)
		c.frames.Pass(p[:n])
		switch {
		case c.dialer == nil || c.retired.Load() || !c.frames.Seen(http2.FrameGoAway):
		case c.frames.Seen(http2.FrameHeaders): // of a call that was under way
			c.unused.Store(0)
		default:
			c.unused.CompareAndSwap(0, c.dialer.wants.Load()+1)
		}
		if n > 0 {
			c.read.Store(c.now())
			c.asked.Store(0)
		}
		switch {
		case err != nil && c.gone.Load():
			err = errGone
		case errors.Is(err, syscall.ETIMEDOUT): // TCP has noticed
			c.gone.Store(true)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
			c.asked.Store(0) // the other end has spoken, or a box
		case err != nil && !socket.TimedOut(err) && c.silent(): // who uses it has given it up
			c.gone.Store(true)
		}
		// A connection in memory may time out even once its deadline is another one: bufconn's
		// timer is late.
		if socket.TimedOut(err) && c.retired.Load() && c.restoreDeadline() {
			err = nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

// goAway tells grpc-go to finish its calls here, and to begin others on a new connection. It
// names the highest stream: all calls go on. RFC 9113 §6.8.
var goAway = frame.Make(http2.FrameGoAway, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, byte(http2.ErrCodeNo))

// retire has grpc-go begin further calls on a new connection. Read tells it: once that has, it
// restores the deadline, which must come after this one.
func (c *conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.retired.Swap(true) {
		_ = c.Conn.SetReadDeadline(socket.LongAgo) // it fails only on a closed connection
	}
}

// NetConn returns the connection below, for those that ask the kernel about it.
func (c *conn) NetConn() net.Conn { return c.Conn }

// silent reports whether the connection has ended because nothing came any more. watch finds
// that out, and loseWeb. Others who use the connection may ping it, and close it: then something
// has been without an answer for long. Half of pingTimeout is less than that of dial's pings.
func (c *conn) silent() bool {
	if c.watched || c.way == GRPCWeb || c.gone.Load() {
		return c.gone.Load()
	}
	asked, now := c.asked.Load(), c.now()
	return asked != 0 && time.Duration(now-asked) >= pingTimeout/2 && time.Duration(now-c.read.Load()) >= pingAfter
}

// restoreDeadline sets grpc-go's deadline, and reports whether it isn't over.
func (c *conn) restoreDeadline() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.Conn.SetReadDeadline(c.deadline) // it fails only on a closed connection
	return c.deadline.IsZero() || time.Until(c.deadline) > 0
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.Conn.SetWriteDeadline(t))
}

// Close closes the connection, and tells its owner.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.ended.Do(func() {
		c.doom()
		if c.dialer != nil {
			c.dialer.lose(c)
		}
	})
	return err
}

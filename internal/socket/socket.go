package socket

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// LongAgo is a deadline that makes waiting calls return now.
var LongAgo = time.Unix(1, 0)

// WhenEnded runs f when the context ends, unless stop was called before: to cut reads and
// writes that don't know the context. stop waits for a running f, so f may use something
// that is gone afterwards.
func WhenEnded(ctx context.Context, f func()) (stop func()) {
	done := make(chan struct{})
	undo := context.AfterFunc(ctx, func() {
		defer close(done)
		f()
	})
	return func() {
		if !undo() {
			<-done
		}
	}
}

// rawConn returns the socket under a connection, through any wrappers, or nil.
func rawConn(c net.Conn) syscall.RawConn {
	for {
		switch v := c.(type) {
		case nil:
			return nil
		case interface{ NetConn() net.Conn }: // TLS, and culvert's own wrappers
			c = v.NetConn()
		case syscall.Conn:
			raw, err := v.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		default:
			return nil
		}
	}
}

// Plain returns the socket whose bytes are the connection's, a *net.TCPConn or
// *net.UnixConn, or nil if something else is between, like TLS. A wrapper that passes
// bytes unchanged has SyscallConn beside its NetConn.
func Plain(c net.Conn) net.Conn {
	for {
		switch v := c.(type) {
		case *net.TCPConn, *net.UnixConn:
			return c
		case interface {
			syscall.Conn
			NetConn() net.Conn
		}:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

// Probe makes TCP probe a silent peer as p says, unless the connection began so, with a
// listener of ControlProbes: it reports that. A caller that knows it says so. On Linux
// Probe also bounds the kernel's unsent data of the connection. It does nothing if there
// is no TCP socket at the bottom.
func Probe(c net.Conn, p net.KeepAliveConfig, known bool) (began bool) {
	t, ok := bottom(c).(*net.TCPConn)
	if !ok {
		return false
	}
	began = known || BeganProbing(t, p)
	if !began {
		_ = t.SetKeepAliveConfig(p) // it is closed then
	}
	boundUnsent(t)
	return began
}

// Cut closes the connection at the bottom, under TLS and each wrapper. It writes
// nothing first, unlike TLS, so it doesn't wait for the peer.
func Cut(c net.Conn) {
	var err error // the connection is of no use any more
	if s := safeAbove(c); s != nil {
		defer s.fail(&err)
	}
	err = bottom(c).Close()
}

// CloseWrite closes the sending side, if the connection has one.
func CloseWrite(c net.Conn) error {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// WriteAll writes the pieces with one call, if c is a socket. It consumes them.
func WriteAll(c net.Conn, pieces *net.Buffers) (n int, err error) {
	done, err := pieces.WriteTo(c)
	n = int(done)
	for err != nil && len(*pieces) > 0 {
		m, late := WriteLate(c, (*pieces)[0], 0, err)
		n += m
		if late != nil {
			return n, late
		}
		*pieces = (*pieces)[1:]
	}
	return n, nil
}

// TimedOut reports whether a read deadline has passed. The errors of bufconn, which tests
// listen on, aren't os.ErrDeadlineExceeded.
func TimedOut(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// bottom returns the connection under TLS and each wrapper.
func bottom(c net.Conn) net.Conn {
	for {
		under, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = under.NetConn()
	}
}

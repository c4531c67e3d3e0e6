package parts

import (
	"context"
	"net"
	"testing"
)

// A PipeListener listens in memory, for tests in a bubble. Each connection of bufconn
// begins with a timer of zero, for which Go 1.26 sometimes crashes in a bubble with the
// race detector. A write waits until the other end has read it.
type PipeListener struct {
	conns chan net.Conn
	ctx   context.Context // until Close
	close context.CancelFunc
}

// ListenPipe listens until the test ends.
func ListenPipe(t testing.TB) *PipeListener {
	l := &PipeListener{conns: make(chan net.Conn)}
	l.ctx, l.close = context.WithCancel(t.Context())
	return l
}

// Accept implements net.Listener.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Hand returns once the listener accepts the connection.
func (l *PipeListener) Hand(ctx context.Context, c net.Conn) error {
	select {
	case l.conns <- c:
		return nil
	case <-l.ctx.Done():
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// DialContext connects once the listener accepts the connection.
func (l *PipeListener) DialContext(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	if err := l.Hand(ctx, far); err != nil {
		return nil, err
	}
	return near, nil
}

// Close implements net.Listener. Connections stay.
func (l *PipeListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (*PipeListener) Addr() net.Addr { return &net.UnixAddr{} }

package bridgetest

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// A relay is a TCP middlebox that interferes: it passes bytes on one at a time, or
// cuts a connection after a number of bytes.
type relay struct {
	acceptor
	target string

	// dribble passes every byte on as a segment of its own, so that no reader
	// gets more at once.
	dribble bool
	// forthLeft and backLeft are the bytes that pass from the dialing side, and
	// to it, before the connections of both sides are cut. Negative: no end.
	forthLeft, backLeft atomic.Int64
	how                 atomic.Int32 // a cut
}

// An acceptor serves connections to an address of its own.
type acceptor struct {
	address string

	ln      net.Listener
	ctx     context.Context // ends with close
	stop    context.CancelFunc
	running sync.WaitGroup
}

// start serves each connection until close.
func (a *acceptor) start(t *trial, serve func(net.Conn)) {
	t.Helper()
	a.ln = parts.Listen(t, "127.0.0.1:0")
	a.address = a.ln.Addr().String()
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.running.Go(func() {
		for {
			conn, err := a.ln.Accept()
			if err != nil {
				return
			}
			a.running.Go(func() { serve(conn) })
		}
	})
}

func (a *acceptor) close() {
	a.stop()
	_ = a.ln.Close() // start's goroutine is all that uses it
	a.running.Wait()
}

// startRelay starts a relay. Its caller closes it.
func startRelay(t *trial, target string, dribble bool) *relay {
	t.Helper()
	r := &relay{target: target, dribble: dribble}
	r.forthLeft.Store(-1)
	r.backLeft.Store(-1)
	r.start(t, r.carry)
	return r
}

// carry copies both ways until both have ended.
func (r *relay) carry(near net.Conn) {
	defer near.Close() // nothing is left to be lost
	var d net.Dialer
	far, err := d.DialContext(r.ctx, "tcp", r.target)
	if err != nil {
		return
	}
	defer far.Close() // nothing is left to be lost
	defer context.AfterFunc(r.ctx, func() { _ = near.Close(); _ = far.Close() })()
	both := func() {
		how := cut(r.how.Load())
		cutConn(near, how)
		cutConn(far, how)
	}
	var forth sync.WaitGroup
	forth.Go(func() { r.copy(far, near, &r.forthLeft, both) })
	r.copy(near, far, &r.backLeft, both)
	forth.Wait()
}

// copy passes bytes on, and the end with a FIN, until left has reached zero.
func (r *relay) copy(dst, src net.Conn, left *atomic.Int64, cutBoth func()) {
	buf := make([]byte, 4096)
	for {
		n, err := src.Read(buf)
		pass := buf[:n]
		last := false
		if was := left.Load(); was >= 0 {
			pass = pass[:min(int64(n), was)]
			last = left.Add(-int64(len(pass))) == 0
		}
		if r.write(dst, pass) != nil {
			return
		}
		if last {
			cutBoth()
			return
		}
		if err != nil {
			_ = dst.(*net.TCPConn).CloseWrite() // or it is closed already
			return
		}
	}
}

func (r *relay) write(dst net.Conn, b []byte) error {
	if !r.dribble {
		_, err := dst.Write(b)
		return err
	}
	for i := range b {
		if _, err := dst.Write(b[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

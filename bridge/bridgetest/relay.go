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
	address string
	target  string

	// dribble passes every byte on as a segment of its own, so that no reader
	// gets more at once.
	dribble bool
	// forthLeft and backLeft are the bytes that pass from the dialing side, and
	// to it, before the connections of both sides are cut. Negative: no end.
	forthLeft, backLeft atomic.Int64
	how                 atomic.Int32 // a cut

	ln      net.Listener
	ctx     context.Context // ends when the relay closes
	stop    context.CancelFunc
	running sync.WaitGroup
}

// startRelay starts a relay. Its caller closes it.
func startRelay(t *trial, target string, dribble bool) *relay {
	t.Helper()
	ln := parts.Listen(t, "127.0.0.1:0")
	r := &relay{address: ln.Addr().String(), target: target, dribble: dribble, ln: ln}
	r.forthLeft.Store(-1)
	r.backLeft.Store(-1)
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.running.Go(r.accept)
	return r
}

func (r *relay) close() {
	r.stop()
	_ = r.ln.Close() // accept is all that uses it
	r.running.Wait()
}

func (r *relay) accept() {
	for {
		near, err := r.ln.Accept()
		if err != nil {
			return
		}
		r.running.Go(func() { r.carry(near) })
	}
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

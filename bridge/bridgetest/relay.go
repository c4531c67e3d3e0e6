package bridgetest

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// A relay is a TCP middlebox between a client and culvert that passes every
// byte on as a segment of its own, so that no reader gets more at once.
type relay struct {
	address string
	target  string

	ln      net.Listener
	ctx     context.Context // ends when the relay closes
	stop    context.CancelFunc
	running sync.WaitGroup
}

func startRelay(target string) (*relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &relay{address: ln.Addr().String(), target: target, ln: ln}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.running.Go(r.accept)
	return r, nil
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
	defer near.Close()
	var d net.Dialer
	far, err := d.DialContext(r.ctx, "tcp", r.target)
	if err != nil {
		return
	}
	defer far.Close()
	defer context.AfterFunc(r.ctx, func() { _ = near.Close(); _ = far.Close() })()
	var up sync.WaitGroup
	up.Go(func() { dribble(far.(*net.TCPConn), near) })
	dribble(near.(*net.TCPConn), far)
	up.Wait()
}

// dribble copies byte by byte, and the end with a FIN.
func dribble(dst *net.TCPConn, src net.Conn) {
	_ = dst.SetNoDelay(true) // Go's default, and what dribbling rests on
	buf := make([]byte, 4096)
	for {
		n, err := src.Read(buf)
		for i := range n {
			if _, err := dst.Write(buf[i : i+1]); err != nil {
				return
			}
		}
		if err != nil {
			_ = dst.CloseWrite() // or it is closed already
			return
		}
	}
}

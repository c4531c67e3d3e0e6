package pool

import (
	"context"
	"log/slog"
	"net"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// grpc-go calls parts of this package on its own goroutines, which recover nothing: dialers,
// handshakes, the connections themselves, the balancer, the buffers. A
// panic in one of them ends its connection, and the calls on it end as with any lost
// connection. If it is in what all connections of a backend share, all of them end.

// broke ends the connections to the backend after a panic in what they share. Those that
// replace them bring the pool up to date. mu isn't held.
func (p *Pool) broke(*report.Fault) {
	p.mu.Lock()
	defer p.unlock()
	for _, a := range p.addresses {
		for _, s := range a.slots {
			s.restart()
		}
	}
}

// restart ends the connection after a panic, and has another one opened: by grpc-go, which
// tells of the lost one, or later if there was none. The pool's mu is held.
func (s *slot) restart() {
	p := s.address.pool
	if s.closed || p.closed {
		return
	}
	if s.next != nil {
		p.notes = append(p.notes, s.next.wire.Cut) // the next one when the notes are worked off is another
	}
	s.reconnect(unusedPause)
}

// safely returns a dialer that doesn't panic, nor do its connections.
func safely(dial dialer, panics *report.Panics) dialer {
	return func(ctx context.Context, address string) (c net.Conn, err error) {
		defer func() {
			if err != nil {
				slotOf(ctx).noteFailure(err)
			}
		}()
		defer panics.Catch("a dialer", func(f *report.Fault) { err = f })
		if c, err = dial(ctx, address); err != nil {
			return nil, err
		}
		return socket.Safe(c, func(v any) error { return panics.Note("a dialer's connection", v, slog.String("peer", address)) }), nil
	}
}

type dialer = func(context.Context, string) (net.Conn, error)

// A safePool is the pool that grpc-go reads into, on all connections to a backend. It
// can't tell for which of them it is asked.
type safePool struct {
	mem.BufferPool
	of *Pool
}

// Get implements mem.BufferPool.
func (p safePool) Get(length int) (buf *[]byte) {
	defer p.of.panics.Catch("a buffer pool", func(f *report.Fault) {
		b := make([]byte, length)
		buf = &b
		p.of.broke(f)
	})
	return p.BufferPool.Get(length)
}

// Put implements mem.BufferPool.
func (p safePool) Put(buf *[]byte) {
	defer p.of.panics.Catch("a buffer pool", p.of.broke)
	p.BufferPool.Put(buf)
}

// catchPick ends a panic of Pick: the call ends with it, and so does the connection of its
// place. its is what the call has got; nil: none. It must be deferred itself.
func (p *Pool) catchPick(k *Call, its **place, err *error) {
	if v := recover(); v != nil {
		f := p.panics.Note("the choice of a connection", v)
		if k != nil {
			k.refusal.Store(f)
		}
		*err = status.Error(codes.Unavailable, f.Text)
		if *its != nil {
			(*its).done(balancer.DoneInfo{})
			(*its).conn.wire.Cut()
		}
	}
}

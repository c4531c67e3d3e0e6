package webcall

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// HTTP/1.1 has no ping, and a backend may take its time. So when nothing has come for a while,
// another request shows whether the path still delivers: one for all calls.
const (
	silentAfter = 8 * time.Second
	proofTime   = 6 * time.Second // a new connection takes several round trips

	// deafAfter is how long nothing may come in answer to a call that has heart-beats: two of
	// culvert's looks, one a second, are part of codec.HeartbeatEvery.
	deafAfter = 13 * time.Second

	// goneAfter is how long the other end of a connection may leave retransmissions
	// unacknowledged.
	goneAfter = 7 * time.Second

	// late is by how much a timer of a running process may be late. One that was stopped has
	// its answers still to read.
	late = time.Second
)

// ErrSilent is what Options.Lost is told when the path has gone silent.
var ErrSilent = errors.New("nothing comes from the edge, which doesn't answer another request either: a box on the way, or the edge, has gone silent")

// ErrNoBeat is what Options.Lost is told when nothing comes on one connection, though the edge
// sends heart-beats.
var ErrNoBeat = errors.New("nothing comes in answer to this call, not even the heart-beats of culvert: a box on the way has forgotten its connection, or the edge has gone silent")

// A path is what a Server knows about the path of its calls.
type path struct {
	base  time.Time    // of the times here: a monotonic clock
	heard atomic.Int64 // when a byte came last

	mu    sync.Mutex
	calls map[*waiting]struct{}
	first chan struct{} // told of a call, if no other was open. It has room for one
}

// A waiting call has been sent, and has no end yet.
type waiting struct {
	begun time.Duration
	end   context.CancelCauseFunc
	conn  net.Conn // nil: none yet. path.mu guards it
	acked uint64   // at the last look, which owns it

	expects atomic.Bool  // heart-beats
	waits   atomic.Int64 // since when it waits for bytes, on the path's clock; notSent, or hasBytes
}

// These stand in place of times.
const (
	notSent  = 0
	hasBytes = -1
)

// A beating is the body of an answer with heart-beats.
type beating struct {
	io.Reader
	p *path
	c *waiting
}

func (b *beating) Read(p []byte) (int, error) {
	b.c.waits.Store(int64(b.p.now()))
	defer b.c.waits.Store(hasBytes)
	return b.Reader.Read(p)
}

func newPath() *path {
	return &path{base: time.Now(), calls: make(map[*waiting]struct{}), first: make(chan struct{}, 1)}
}

func (p *path) now() time.Duration { return time.Since(p.base) }

func (p *path) hear() { p.heard.Store(int64(p.now())) }

// quiet returns for how long nothing has come.
func (p *path) quiet() time.Duration { return p.now() - time.Duration(p.heard.Load()) }

// enter notes a call. The context that it returns is for its request, and ends with a cause if
// the path is lost. The caller calls leave. beats says that the edge answers with heart-beats as
// soon as it has the request: the whole one, or its header.
func (p *path) enter(ctx context.Context, beats, whole bool) (context.Context, *waiting) {
	ctx, end := context.WithCancelCause(ctx)
	c := &waiting{begun: p.now(), end: end}
	c.expects.Store(beats)
	sent := func() { c.waits.CompareAndSwap(notSent, int64(p.now())) }
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		p.mu.Lock()
		defer p.mu.Unlock()
		c.conn = info.Conn
	}}
	if whole {
		trace.WroteRequest = func(httptrace.WroteRequestInfo) { sent() }
	} else {
		trace.WroteHeaders = sent
	}
	ctx = httptrace.WithClientTrace(ctx, trace)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.calls) == 0 {
		p.hear() // nobody has listened
		select {
		case p.first <- struct{}{}:
		default:
		}
	}
	p.calls[c] = struct{}{}
	return ctx, c
}

func (p *path) leave(c *waiting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c)
	c.end(nil)
}

// look asks the kernel about the connections of all calls.
func (p *path) look() map[*waiting]socket.Sight {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := make(map[*waiting]socket.Sight, len(p.calls))
	for c := range p.calls {
		seen[c] = socket.Look(c.conn)
	}
	return seen
}

// watch ends calls whose path has gone silent, until the context ends.
func (s *Server) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.path.first:
		}
		for stopped := false; ; {
			seen := s.path.look()
			if len(seen) == 0 {
				break
			}
			s.endGone(seen)
			due := s.endDeaf(seen, stopped)
			if s.path.quiet() >= silentAfter {
				s.prove(ctx, seen)
			}
			pause := max(time.Second, min(goneAfter, due, silentAfter-s.path.quiet()))
			begun := s.path.now()
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			stopped = s.path.now()-begun > pause+late
		}
	}
}

// endGone ends calls whose connection the other end's kernel has left: a box forgets a
// connection, and drops what comes on it.
func (s *Server) endGone(seen map[*waiting]socket.Sight) {
	for c, sight := range seen {
		if sight.Unanswered(goneAfter) {
			c.end(&fault{codes.Unavailable, "CONNECTION_LOST", "the connection to the edge is dead: nothing that is sent on it is acknowledged: the call may have been made"})
		}
	}
}

// endDeaf ends calls that get no heart-beats, and returns when it must look again at the latest. It
// spares those whose request is still moving, and all after a time in which this process was stopped.
func (s *Server) endDeaf(seen map[*waiting]socket.Sight, stopped bool) (due time.Duration) {
	due = deafAfter
	for c, sight := range seen {
		moves := sight.Outstanding && sight.Acked != c.acked
		c.acked = sight.Acked
		since := c.waits.Load()
		if since <= 0 || !c.expects.Load() {
			continue
		}
		left := time.Duration(since) + deafAfter - s.path.now()
		switch {
		case left <= 0 && (moves || stopped):
			c.waits.CompareAndSwap(since, int64(s.path.now()))
		case left <= 0:
			s.o.Lost(ErrNoBeat)
			c.end(&fault{codes.Unavailable, "CONNECTION_SILENT", ErrNoBeat.Error() + ": the call may have been made"})
		default:
			due = min(due, left)
		}
	}
	return due
}

// prove finds out whether the path still delivers, and ends the calls if it doesn't. It leaves
// those whose request is still moving: it may fill a slow path.
func (s *Server) prove(ctx context.Context, before map[*waiting]socket.Sight) {
	p := s.path
	begun := p.now()
	short, cancel := context.WithTimeout(ctx, proofTime)
	defer cancel()
	err := s.o.Prove(short)
	switch {
	case err == nil:
		p.hear()
		return
	case ctx.Err() != nil, time.Duration(p.heard.Load()) > begun, p.now()-begun > proofTime+late:
		return
	}
	var silent []*waiting
	for c, now := range p.look() {
		moves := now.Outstanding && before[c].Outstanding && now.Acked != before[c].Acked
		if c.begun <= begun && !moves {
			silent = append(silent, c)
		}
	}
	if len(silent) == 0 {
		return
	}
	s.o.Lost(ErrSilent) // so that calls which are repeated take another way
	f := &fault{codes.Unavailable, "CONNECTION_SILENT", ErrSilent.Error() + ": the call may have been made"}
	for _, c := range silent {
		c.end(f)
	}
}

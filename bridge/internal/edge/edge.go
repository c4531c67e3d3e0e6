package edge

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// Options are the settings and functions that connections need from their server.
// StandardHTTP2 and Panics may be zero; all others are required.
type Options struct {
	Log      *slog.Logger
	Panics   *report.Panics
	Observer report.Observer
	Refusals *report.Refusals
	Words    report.Words

	Own report.Listener // the rules of connections without a listener of their own

	// Bounds returns the bounds of a connection that the listener accepts now.
	Bounds func(l *Listening) Bounds

	// Memory is the account that connections count with while they are open.
	Memory *memory.Account

	// Leaving reports whether an HTTP/1.1 connection must end with its request.
	Leaving func() bool

	// Draining reports whether every connection must end.
	Draining func() bool

	// StandardHTTP2 reports that net/http serves HTTP/2.
	StandardHTTP2 bool
}

// Bounds are the bounds of connections at their accept. They may change while an Edge
// serves.
type Bounds struct {
	Quotas      *quota.Limiter // the quotas that the connection counts with
	Connections int            // at once
	Listener    *Listening     // the listener, with its current rules

	Idle                time.Duration // of a connection without a request; 0: no limit but MaxAge
	MaxAge              time.Duration // of a connection that takes new requests; 0: no limit
	SlowConsumerTimeout time.Duration // how long a client may accept none of the data that is ready for it; 0: no limit
}

// An Edge has the connections of one server: it accepts them, counts them, and
// knows each until it has ended.
type Edge struct {
	o         Options
	own       *Listening
	unknown   *Conn // of requests from servers that Watch hasn't seen
	open      atomic.Int64
	files     *descriptors
	lingering lingering // connections that close after their client does
	takeovers takeovers
	clients   clients
	left      atomic.Bool // Leave was called
	cut       atomic.Bool // no close waits for a client any more

	mu      sync.Mutex
	servers map[*Server]struct{} // those that serve, and those that have ended and may have connections
	closed  bool
}

// New returns an Edge without connections.
func New(o Options) *Edge {
	e := &Edge{o: o, own: NewListening(o.Own), servers: make(map[*Server]struct{})}
	e.clients.all, e.lingering.conns = make(map[*clientConn]struct{}), make(map[*clientConn]struct{})
	e.unknown = &Conn{edge: e, listening: e.own}
	limit := socket.DescriptorLimit()
	e.files = newDescriptors(o.Refusals, o.Panics, o.Log, limit)
	e.lingering.most = min(descriptorReserve/2, limit/8) // within the reserve, beside the rest of the program
	return e
}

// Own returns the rules of connections without a listener of their own.
func (e *Edge) Own() *Listening { return e.own }

// Open returns how many connections are open. A tunnel doesn't count: its WebSocket
// does.
func (e *Edge) Open() int64 { return e.open.Load() }

// Mutex returns the lock that every accepted connection takes, for a watchdog.
func (e *Edge) Mutex() *sync.Mutex { return &e.files.mu }

// IdleMutex returns the lock that connections take as they begin and end, for a
// watchdog.
func (e *Edge) IdleMutex() *sync.Mutex { return &e.clients.mu }

// settleTime is how long CloseListeners waits for the first request of connections that
// were just accepted.
const settleTime = 100 * time.Millisecond

func settle(ctx context.Context) {
	settled, stop := context.WithTimeout(ctx, settleTime)
	defer stop()
	<-settled.Done()
}

// CloseListeners refuses new connections, but accepts those in the kernel's queue,
// which the kernel would reset. It returns after the last of them have had time to send
// a request.
func (e *Edge) CloseListeners(ctx context.Context) {
	listeners := e.listeners() // Serve adds none meanwhile, since the server drains
	closing := false
	for _, ln := range listeners {
		closing = socket.RefuseArrivals(ln.Listener) || closing
	}
	if closing {
		settle(ctx)
	}
	for _, ln := range listeners {
		for range 20 { // a busy machine is given up to 2 s more
			if socket.QueueEmpty(ln.Listener) || ctx.Err() != nil {
				break
			}
			settle(ctx)
		}
		_ = ln.Close() // there is nothing to do about it
	}
	settle(ctx)
}

// listeners returns the listeners that Serve serves, and those that have ended and may
// have connections.
func (e *Edge) listeners() []*boundedListener {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgetEnded()
	var all []*boundedListener
	for s := range e.servers {
		if s.of != nil {
			all = append(all, s.of)
		}
	}
	return all
}

// Cut makes every close return at once, without the goodbye of TLS: those from now on, and
// those that wait for their client already.
func (e *Edge) Cut() {
	e.cut.Store(true)
	for _, c := range e.clients.list() {
		_ = c.Conn.SetWriteDeadline(socket.LongAgo) // a closed connection needs none
	}
}

// CutLingering closes the connections that linger, and waits for them. No connection
// lingers afterwards.
func (e *Edge) CutLingering() { e.lingering.stop() }

// noteState counts the connections of the servers that Watch has seen. A connection
// that a WebSocket took over still counts until it closes. So does one that an
// embedder's handler took over, if Serve accepted it. If Serve didn't, nothing reports
// its close, so it no longer counts.
func (e *Edge) noteState(l *Listening, c net.Conn, state http.ConnState) {
	on := find(c)
	if on != nil && on.client != nil {
		on.client.idle.note(state)
	}
	switch state {
	case http.StateNew:
		e.began(on, l, c)
	case http.StateClosed:
		if on == nil {
			on = e.foreign(c, l)
		}
		e.takeovers.forget(c)
		on.noteEnd(c)
	case http.StateHijacked, http.StateActive, http.StateIdle:
		if on != nil {
			on.greet()
			on.life.enterState(state)
		}
		if state == http.StateHijacked && !e.takeovers.forget(c) {
			e.gaveAway(on, l, c)
		}
	}
}

// gaveAway notes that an embedder's handler has taken the connection over.
func (e *Edge) gaveAway(on *Conn, l *Listening, c net.Conn) {
	switch {
	case on == nil:
		e.foreign(c, l).noteEnd(c)
	case on.client != nil:
		on.client.given.Store(true)
	}
}

func (e *Edge) began(on *Conn, l *Listening, c net.Conn) {
	if on == nil {
		on = e.foreign(c, l)
	}
	if on.tunnel == nil { // a tunnel's socket counts already
		e.open.Add(1)
		on.listening.open[kindUnheard].Add(1)
	}
	if !on.unheardOf() {
		e.o.Observer.ConnBegan(on.info(c))
	}
}

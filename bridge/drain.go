package bridge

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// lastWords is the time that clients have at the end of Shutdown to receive the end of
// their calls and the goodbye of their connections.
const lastWords = time.Second

// leaving has the functions that send goodbyes on the HTTP/2 connections of each
// http.Server that ConfigureHTTP has prepared. All of them belong to bridge/internal/h2:
// net/http's own server has none, and sends its goodbye with the next answer (edge.Leave),
// but not in an embedder's http.Server.
type leaving struct {
	mu  sync.Mutex
	all []func()
}

// RefuseCalls makes the Server refuse new calls with DRAINING. Running calls continue,
// and clients can still connect. It is a step before Shutdown, for a client's load
// balancer that already sends new calls elsewhere.
//
// First RefuseCalls tells the clients of open HTTP/2 connections to open another one
// (GOAWAY), and serves the calls that are on their way meanwhile. It returns when new
// calls are refused.
func (s *Server) RefuseCalls() {
	if s.refusing.Load() {
		return
	}
	s.leave()
	<-s.goodbyeArrived()
	s.refusing.Store(true)
}

// leave tells the clients of open HTTP/2 connections to open another one. Clients of
// HTTP/1.1 learn it with their next answer.
func (s *Server) leave() {
	s.leaving.mu.Lock()
	all := slices.Clone(s.leaving.all)
	s.leaving.mu.Unlock()
	for _, leave := range all {
		leave()
	}
	s.edge.Leave()
}

// afterGoodbye waits for the time in which a GOAWAY reaches most clients.
func afterGoodbye() <-chan time.Time { return time.After(200 * time.Millisecond) }

// RefusesCalls reports whether the Server accepts no new calls.
func (s *Server) RefusesCalls() bool { return s.refusing.Load() }

// Shutdown drains. First it tells clients in their own protocol to go elsewhere, and
// serves the calls that are on their way meanwhile. Then it refuses new calls with
// DRAINING, and lets the others finish. It is over by the context's deadline. So it ends
// the remaining calls before that with UNAVAILABLE (DRAINING): at random times within
// Config.DrainSpread of the deadline, so that their clients don't all come back at once.
// The last second, or the last half of a shorter time, is for clients to receive the
// end, which can only follow a message that is being written. Then Shutdown closes the
// connections of clients that take nothing. If the context ends without a deadline,
// Shutdown ends the calls at once, and clients have a second. It returns nil even if it
// had to end calls.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	d := newDrain(ctx, s)
	d.closeListeners(ctx)
	s.leave()
	d.awaitLateCalls(ctx)
	s.refusing.Store(true)
	s.polls.Close(errDraining) // no poll comes any more

	// Not before: net/http answers no first request of a connection after Shutdown, and
	// tunnels' listener closes.
	var goodbyes sync.WaitGroup // of connections that are newer than leave's
	farewell, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	for _, hs := range s.edge.TakeServers() {
		goodbyes.Go(func() {
			defer s.panics.Catch("the goodbyes of a drain", nil)
			_ = hs.Shutdown(farewell)
		})
	}
	if d.finishBy(ctx, d.first) || d.endCalls(ctx) {
		d.sooner()
	}
	// First connections say goodbye by themselves, when their last stream ends. Then
	// Close says it to tunnels that haven't, and closes the other connections. In the
	// end, clients that accept nothing are cut.
	delivered, stop := context.WithDeadline(context.WithoutCancel(ctx), d.deliverBy)
	defer stop()
	_ = s.registry.wait(delivered) // for new calls, which are refused
	defer context.AfterFunc(delivered, cancel)()
	goodbyes.Wait()
	return d.close(ctx)
}

// A drain is one Shutdown with its moments. All are zero without a deadline, until sooner.
type drain struct {
	s         *Server
	begin     time.Time
	first     time.Time // from here on, Shutdown ends the calls that are left
	last      time.Time // by here, all of them
	deliverBy time.Time // by here, clients have received their ends
	end       time.Time // by here, it is over
}

func newDrain(ctx context.Context, s *Server) *drain {
	d := &drain{s: s}
	end, limited := ctx.Deadline()
	if !limited {
		return d
	}
	d.begin, d.end = time.Now(), end
	words := min(lastWords, end.Sub(d.begin)/2)
	d.last, d.deliverBy = end.Add(-words), end.Add(-words/4)
	d.first = earlier(d.last, end.Add(-s.policy.Load().drainSpread))
	return d
}

// endCalls ends the calls that are left, in random order (registry.cancelOver), and
// reports whether all clients have been told in time.
func (d *drain) endCalls(ctx context.Context) bool {
	d.s.log.Warn("drain time-out: ending the remaining calls", slog.Int("calls", d.s.RunningCalls()))
	if ctx.Err() == nil {
		d.s.registry.cancelOver(ctx, d.last, d.cause(), d.s.random)
	}
	if ctx.Err() != nil {
		d.sooner()
	}
	d.s.registry.cancelAll(d.cause())
	return d.finishBy(context.WithoutCancel(ctx), d.deliverBy)
}

// sooner leaves clients no more time from now on than they need for a goodbye.
func (d *drain) sooner() {
	now := time.Now()
	d.deliverBy = earlier(d.deliverBy, now.Add(lastWords))
	d.end = earlier(d.end, now.Add(2*lastWords))
}

// earlier returns the limit, or the time if that is earlier or there is no limit.
func earlier(limit, t time.Time) time.Time {
	if limit.IsZero() || t.Before(limit) {
		return t
	}
	return limit
}

// cause returns why the calls that are left end. The status can only follow a whole
// message, so a slow client may accept the message that is being written until told, when
// Close closes its connection: gRPC's clients see UNAVAILABLE then. A stream that is
// reset is INTERNAL to them, so writes are only cut after that, where Close would wait.
func (d *drain) cause() error {
	f := *errDraining
	f.WriteBy = d.deliverBy.Add(d.end.Sub(d.deliverBy) / 2)
	return &f
}

// closeListeners takes at most a quarter of the time.
func (d *drain) closeListeners(ctx context.Context) {
	ctx, stop := d.part(ctx, 4)
	defer stop()
	d.s.edge.CloseListeners(ctx)
}

// part returns a context that also ends when the nth part of the drain's time has passed, if
// that has a limit.
func (d *drain) part(ctx context.Context, n time.Duration) (context.Context, context.CancelFunc) {
	if d.end.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, d.begin.Add(d.end.Sub(d.begin)/n))
}

// awaitLateCalls gives calls the time to arrive that clients began before they had the
// goodbye: at most until half of the drain's time has passed.
func (d *drain) awaitLateCalls(ctx context.Context) {
	if d.s.refusing.Load() || d.s.edge.Open() == 0 {
		return // they had it, or there are none
	}
	ctx, stop := d.part(ctx, 2)
	defer stop()
	select {
	case <-d.s.goodbyeArrived():
	case <-ctx.Done():
	}
}

// finishBy waits for the calls until the time, if it isn't zero, or the context's end.
// It reports whether they have ended.
func (d *drain) finishBy(ctx context.Context, t time.Time) bool {
	if !t.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, t)
		defer stop()
	}
	return d.s.registry.wait(ctx) == nil
}

// close is Close. At the end of the time, it cuts the connections whose clients have not said
// goodbye.
func (d *drain) close(ctx context.Context) error {
	ctx, stop := context.WithDeadline(context.WithoutCancel(ctx), d.end)
	defer stop()
	defer socket.WhenEnded(ctx, func() {
		d.s.edge.Cut()
		d.s.tunnels.Cut()
		for _, w := range d.s.registry.list() {
			if w.conn != nil { // the call has it for itself
				_ = w.conn.Close() // it is over either way
			}
		}
	})()
	return d.s.Close() //nolint:contextcheck // what is left is cut, in no time of the caller's
}

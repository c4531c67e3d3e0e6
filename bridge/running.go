package bridge

import (
	"context"
	"maps"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/replies"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/socket"
	"github.com/culvert-grpc/culvert/bridge/upstream"
)

// running is one call under way. The pump updates it and the watch reads it.
type running struct {
	call   *call
	down   downstream
	cancel context.CancelCauseFunc
	conn   net.Conn // of an HTTP/1.1 request or a WebSocket; nil: HTTP/2, whose own pings watch it

	obs      report.CallObserver   // of this call
	limits   *Limits               // of its policy
	spread   edge.Spread           // for the call's own time limits
	route    atomic.Pointer[route] // of the call, once it is selected for good; nil: none
	began    int64                 // seconds on the registry's clock
	lastSeen atomic.Int64          // when the last message passed

	in, out traffic

	// These are set by the steps, for later steps and for the pump.
	timed    context.Context // the call's, with its deadline
	stopTime func()          // ends timed
	told     bool            // the Observer knows of the call
	telling  bool            // the client is being told the end, or was
	to       *upstream.Upstream
	up       *upstream.Stream
	from     *replies.Queue  // the replies of up; nil: the client doesn't have the header yet
	first    mem.BufferSlice // the message of a complete request, if it is converted already
	answered *answered       // nil: replies aren't waited for

	others sync.WaitGroup // the call's goroutines but handle's
	early  *earlyRead     // nil: requests are copied only once the stream is open

	// These belong to look.
	watch   socket.Watch
	seen    int64 // progress.Sends at the last look at the connection
	settled int64 // those of which the client has acknowledged all

	among  *registry
	totals *Traffic // the registry's; guarded by its mu

	// This belongs to relief, under the registry's noting.
	trace  trace
	relief memory.Candidate
}

// traffic counts one direction. Two goroutines of a call may end at different
// times, so it is read while it may still be counting.
type traffic struct{ messages, bytes atomic.Int64 }

// A registry has the calls under way. While there are any, it checks them once a
// second: this one timer replaces all the timers that calls would need.
type registry struct {
	account *memory.Account
	panics  *report.Panics
	clock   atomic.Int64 // seconds of looks so far, from 1; a coarse clock that is cheap to read

	mu      sync.Mutex
	changed sync.Cond // a call ended, or a look
	calls   map[*running]struct{}
	traffic map[trafficKey]*Traffic // of calls that have ended; Blocked: of all
	timer   *time.Timer             // nil: no calls, no looks
	looking bool

	relief    *time.Timer // nil: nobody waits for room, or relieve runs
	relieving bool
	pressed   bool      // since relieve began
	relieved  time.Time // when it last ended
	over      bool      // it doesn't run any more

	idle    func([]*memory.Candidate) []*memory.Candidate // adds connections without calls
	noting  sync.Mutex                                    // held for noteAll, Count and Choose
	evicted atomic.Int64                                  // calls that were ended to free memory for others
}

// newRegistry returns a registry without calls. idle adds the connections without calls
// to those that may be ended.
func newRegistry(account *memory.Account, panics *report.Panics, idle func([]*memory.Candidate) []*memory.Candidate) *registry {
	g := &registry{account: account, panics: panics, idle: idle, calls: make(map[*running]struct{}), traffic: make(map[trafficKey]*Traffic)}
	g.changed.L = &g.mu
	account.OnPressed = g.press
	g.clock.Store(1)
	return g
}

const lookInterval = time.Second

func (g *registry) now() int64 { return g.clock.Load() }

// add takes a call in.
func (g *registry) add(r *running) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.among, r.began = g, g.now()
	r.relief.Of, r.relief.Held = r, r.call.held
	r.lastSeen.Store(r.began)
	g.calls[r] = struct{}{}
	r.totals = g.totals(r.trafficKey())
	if g.timer == nil && !g.looking {
		g.timer = time.AfterFunc(lookInterval, g.look)
	}
}

func (g *registry) remove(r *running) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, r)
	r.totals.carried(r)
	if len(g.calls) == 0 && g.timer != nil && g.timer.Stop() {
		g.timer = nil
	}
	g.changed.Broadcast()
}

// look checks each call for a reason to end. It copies the calls first: questions to
// the kernel must not delay calls that begin and end.
func (g *registry) look() {
	defer g.looked()
	defer g.panics.Catch("the look at all calls", nil)
	now := g.clock.Add(1)
	beats := 0
	calls := g.beginLook()
	for _, r := range calls {
		if g.lookAt(r, now) {
			if beats++; beats%beatsAtOnce == 0 {
				runtime.Gosched()
			}
		}
	}
	g.countBlocked(calls)
	g.noting.Lock()
	defer g.noting.Unlock()
	g.account.Count(g.noteAll(calls), time.Now())
}

// beginLook returns the calls to look at.
func (g *registry) beginLook() []*running {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer, g.looking = nil, true
	return slices.Collect(maps.Keys(g.calls))
}

// lookAt ends a call that has a reason to end, or in which the look panics. It reports
// whether it has begun a beat.
func (g *registry) lookAt(r *running, now int64) (beats bool) {
	defer g.panics.Catch("the look at a call", func(f *report.Fault) { r.cancel(f) })
	if cause := r.look(now, r.limits); cause != nil {
		r.cancel(cause)
		return false
	}
	b := r.quiet(now)
	return b != nil && b.startBeat(r)
}

// looked ends look, and has it run again later.
func (g *registry) looked() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.looking = false
	if len(g.calls) > 0 {
		g.timer = time.AfterFunc(lookInterval, g.look)
	}
	g.changed.Broadcast()
}

// list returns the calls under way.
func (g *registry) list() []*running {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.calls))
}

// cancelAll ends every call with the cause.
func (g *registry) cancelAll(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for r := range g.calls {
		r.cancel(cause)
	}
}

// cancelOver ends the calls with the cause, in random order and at random times from now
// to last. It returns when it has ended all of them, or with the context.
func (g *registry) cancelOver(ctx context.Context, last time.Time, cause error, random func() float64) {
	calls := g.list()
	for i := len(calls) - 1; i > 0; i-- { // Fisher and Yates
		j := int(random() * float64(i+1))
		calls[i], calls[j] = calls[j], calls[i]
	}
	first := time.Now()
	each := last.Sub(first) / time.Duration(max(len(calls), 1))
	for i, r := range calls {
		at := first.Add(time.Duration((float64(i) + random()) * float64(each)))
		if time.Until(at) > 0 {
			until, stop := context.WithDeadline(ctx, at)
			err := g.wait(until)
			stop()
			if err == nil || ctx.Err() != nil {
				return // none is left, or no time
			}
		}
		r.cancel(cause)
	}
}

// cutConns closes the connections that calls have for themselves.
func (g *registry) cutConns() {
	for _, r := range g.list() {
		if r.conn != nil {
			_ = r.conn.Close() // it is over either way
		}
	}
}

// wait returns when no call is under way and look isn't running, or with the context's
// error.
func (g *registry) wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.changed.Broadcast()
	})
	defer stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.calls) > 0 || g.looking || g.relieving || g.over && g.relief != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		g.changed.Wait()
	}
	return nil
}

// look returns why the call must end now, or nil. It asks the kernel for facts that
// otherwise only the connection's owner knows, and only while culvert isn't reading or
// a write is blocked.
func (r *running) look(now int64, limits *Limits) error {
	age, idle := timeLimit{limits.MaxAge, report.KeyMaxAge}, timeLimit{limits.IdleTimeout, report.KeyIdle}
	if to := r.route.Load(); to != nil {
		age, idle = age.or(to.maxAge, report.KeyRouteMaxAge), idle.or(to.idleTimeout, report.KeyRouteIdle)
	}
	switch {
	case age.max > 0 && elapsed(now, r.began) >= r.spread.Of(age.max):
		return age.reached(report.ReasonMaxAge, "the call reached the age limit of ")
	case idle.max > 0 && elapsed(now, r.lastSeen.Load()) >= r.spread.Of(idle.max):
		return idle.reached(report.ReasonIdleTimeout, "no message passed for ")
	}
	if since := r.call.progress.MessageSince(); since > 0 && limits.SlowSenderTimeout > 0 && elapsed(now, since) >= limits.SlowSenderTimeout {
		return report.New(report.ReasonSlowSender, "less than 1 KiB of a message came within "+limits.SlowSenderTimeout.String()+" ("+report.KeySlowSender+")").Ending(report.EndedSlow)
	}
	if cause := r.lookAtConn(now, limits); cause != nil {
		return cause
	}
	if since := r.call.progress.Sending.Load(); since > 0 && limits.SlowConsumerTimeout > 0 && elapsed(now, since) >= limits.SlowConsumerTimeout {
		return slowConsumer(limits)
	}
	return nil
}

// A timeLimit is a limit of a call's time, and the key that sets it.
type timeLimit struct {
	max time.Duration // 0: no limit
	key string
}

// or returns the limit that a route sets in its place: 0 is no change, a negative time
// no limit.
func (l timeLimit) or(d time.Duration, key string) timeLimit {
	if d == 0 {
		return l
	}
	return timeLimit{max(d, 0), key}
}

func (l timeLimit) reached(reason report.Reason, text string) *report.Fault {
	f := &report.Fault{Reason: reason, Text: text + l.max.String() + " (" + l.key + ")", Sent: report.SentMaybe}
	return f.UnlessRaised(l.key)
}

func slowConsumer(limits *Limits) error {
	return report.New(report.ReasonSlowConsumer, "the client accepted no data for "+limits.SlowConsumerTimeout.String()+" ("+report.KeySlowConsumer+")").Ending(report.EndedSlow)
}

// lookAtConn asks the kernel about a connection that only this call uses. It does so
// while a write is blocked, while the client may not have acknowledged all data, and
// while culvert isn't reading: the kernel's buffer may have room although the client's
// window is closed, so no write blocks.
func (r *running) lookAtConn(now int64, limits *Limits) error {
	p := &r.call.progress
	since, sends, reads := p.Sending.Load(), p.Sends.Load(), p.Receiving()
	if r.conn == nil || since == 0 && (now%3 != 0 || reads && sends == r.settled) {
		return nil
	}
	at := time.Unix(now, 0)
	s := r.watch.Look(r.conn, at, false)
	if !s.Outstanding && sends == r.seen { // a write that began before the last look is in the kernel by now
		r.settled = sends
	}
	r.seen = sends
	stalled := r.watch.Stalled(at)
	if since > 0 && stalled == 0 && s.Known {
		// A blocked write wakes only when a third of the socket's buffer is free, but
		// the client is reading.
		p.Taken(since)
	}
	switch {
	case r.watch.Silent():
		return errSilent
	case limits.SlowConsumerTimeout > 0 && stalled >= limits.SlowConsumerTimeout:
		return slowConsumer(limits)
	case !reads && socket.HungUp(r.conn):
		return errGone
	}
	return nil
}

// elapsed returns the time that certainly passed between a reading of the clock and
// now: the reading may have been taken just before the next look.
func elapsed(now, since int64) time.Duration { return time.Duration(now-since-1) * lookInterval }

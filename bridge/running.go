package bridge

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// running is one call under way, as the pump marks it and the watch sees it.
type running struct {
	call   *Call
	cancel context.CancelCauseFunc
	conn   net.Conn // of an HTTP/1.1 request or a WebSocket; nil: HTTP/2, whose own pings watch it

	began     int64        // seconds on the registry's clock
	lastSeen  atomic.Int64 // when the last message passed
	sendSince atomic.Int64 // when the Send that is under way began; 0: none is
	receiving atomic.Bool  // Recv is reading the connection, so it notices its end

	in, out traffic

	lifted bool // the watch's own: TCP's bound on unacknowledged bytes is off
}

// traffic counts one direction. Two goroutines of a call may end at different
// times, so it is read while it may still be counting.
type traffic struct{ messages, bytes atomic.Int64 }

func (r *running) beginSend(now int64) { r.sendSince.Store(now) }
func (r *running) endSend()            { r.sendSince.Store(0) }

// A registry holds the calls under way. While there are any, it looks after
// them once a second: this one timer stands for all the clocks that calls
// would need.
type registry struct {
	limits Limits
	budget *budget
	clock  atomic.Int64 // seconds of looks so far, from 1; a coarse clock that costs nothing to read

	mu      sync.Mutex
	calls   map[*running]struct{}
	timer   *time.Timer // nil: no calls, no looks
	idle    chan struct{}
	looking sync.WaitGroup
}

func newRegistry(limits Limits, budget *budget) *registry {
	g := &registry{limits: limits, budget: budget, calls: make(map[*running]struct{})}
	g.clock.Store(1)
	return g
}

const lookInterval = time.Second

func (g *registry) now() int64 { return g.clock.Load() }

// add takes a call in unless there are too many.
func (g *registry) add(r *running) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.calls) >= g.limits.Calls {
		return false
	}
	r.began = g.now()
	r.lastSeen.Store(r.began)
	g.calls[r] = struct{}{}
	if g.timer == nil {
		g.arm()
	}
	return true
}

func (g *registry) remove(r *running) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, r)
	if len(g.calls) > 0 {
		return
	}
	if g.timer != nil && g.timer.Stop() {
		g.looking.Done()
		g.timer = nil
	}
	if g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// arm is called with mu held.
func (g *registry) arm() {
	g.looking.Add(1)
	g.timer = time.AfterFunc(lookInterval, g.look)
}

func (g *registry) look() {
	defer g.looking.Done()
	now := g.clock.Add(1)
	g.mu.Lock()
	defer g.mu.Unlock()
	spent := g.budget.spent()
	for r := range g.calls {
		cause := r.look(now, g.limits)
		if spent && cause == nil {
			cause = r.lookAtPartial(now)
		}
		if cause != nil {
			r.cancel(cause)
		}
	}
	if len(g.calls) > 0 {
		g.arm()
	} else {
		g.timer = nil
	}
}

// cancelAll ends every call with the cause.
func (g *registry) cancelAll(cause error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for r := range g.calls {
		r.cancel(cause)
	}
}

// wait returns when no call is under way, or with the context's error.
func (g *registry) wait(ctx context.Context) error {
	for {
		g.mu.Lock()
		if len(g.calls) == 0 {
			g.mu.Unlock()
			g.looking.Wait()
			return nil
		}
		if g.idle == nil {
			g.idle = make(chan struct{})
		}
		idle := g.idle
		g.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// look returns why the call has to end now, or nil. The fields that only the
// connection's owner could tell are asked of the kernel, and only while
// culvert itself is not reading or is held up in writing.
func (r *running) look(now int64, limits Limits) error {
	switch age := seconds(now - r.began); {
	case limits.MaxAge > 0 && age >= limits.MaxAge:
		return &fault{reason: ReasonMaxAge, text: "the call reached the age limit of " + limits.MaxAge.String() + " (" + keyMaxAge + ")", sent: "maybe"}
	case limits.IdleTimeout > 0 && seconds(now-r.lastSeen.Load()) >= limits.IdleTimeout:
		return &fault{reason: ReasonIdleTimeout, text: "no message passed for " + limits.IdleTimeout.String() + " (" + keyIdle + ")", sent: "maybe"}
	}
	if since := r.sendSince.Load(); since > 0 {
		blocked := seconds(now - since)
		if limits.SlowConsumerTimeout > 0 && blocked >= limits.SlowConsumerTimeout {
			return newFault(ReasonSlowConsumer, "the client took nothing for "+limits.SlowConsumerTimeout.String()+" ("+keySlowConsumer+")")
		}
		if cause := r.lookAtBlocked(blocked); cause != nil {
			return cause
		}
	} else if r.lifted {
		setUserTimeout(r.conn, userTimeout)
		r.lifted = false
	}
	if r.conn != nil && now%3 == 0 && !r.receiving.Load() && peerHungUp(r.conn) {
		return errGone
	}
	return nil
}

// lookAtBlocked tells a client that is silent from one that only reads
// nothing. TCP_USER_TIMEOUT would cut both, so it is lifted for the second.
func (r *running) lookAtBlocked(blocked time.Duration) error {
	if r.conn == nil || blocked < 10*time.Second {
		return nil
	}
	if peerSilent(r.conn, userTimeout-10*time.Second) {
		return errGone
	}
	if !r.lifted {
		setUserTimeout(r.conn, 0)
		r.lifted = true
	}
	return nil
}

// lookAtPartial ends a call whose client stopped inside a message, while
// others wait for the memory that it fills.
func (r *running) lookAtPartial(now int64) error {
	if since := r.call.ledger.partial.Load(); since > 0 && seconds(now-since) >= budgetPatience/2 {
		return newFault(ReasonLimitExceeded, "the memory for messages is spent ("+keyBufferedBytes+"), and this call's message did not get on")
	}
	return nil
}

func seconds(n int64) time.Duration { return time.Duration(n) * lookInterval }

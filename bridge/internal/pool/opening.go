package pool

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// connectGrace is how long a call waits for a connection although another backend could take
// it: a backend often ends a connection only to have its calls on a new one.
const connectGrace = time.Second

// An opening is a call that Open waits for. Its timer gives up a call that gets no stream in
// time.
type opening struct {
	pool      *Pool
	timer     *time.Timer
	limit     time.Duration
	giveUp    context.CancelCauseFunc
	elsewhere bool        // another backend may have room for the call
	waits     bool        // the pool counts it as waiting
	began     time.Time   // if it waits and has a trace: when that began
	reset     bool        // the timer may have run out before, and end may be about to run
	late      atomic.Bool // the timer has run out while there was a connection
	over      atomic.Bool // the call has its stream, or is given up
}

// end gives the call up. If there is a connection, the call gets its time once more before
// that: the connection may have come only now, or a busy machine hasn't run the call's
// goroutine.
func (o *opening) end() {
	switch {
	case o.over.Load():
	case o.pool.Ready() && o.late.CompareAndSwap(false, true):
		o.timer.Reset(o.limit)
	case o.over.CompareAndSwap(false, true):
		o.giveUp(ErrPatience)
	}
}

// suspend stops the timer. It reports whether the timer was running, as it does until the
// call has a stream. o may be nil.
func (o *opening) suspend() bool { return o != nil && o.timer.Stop() }

// resume starts the timer anew.
func (o *opening) resume() {
	o.reset = true
	o.timer.Reset(o.limit)
}

// openings has those whose timers were stopped, as nearly all are.
type openings struct{ stopped sync.Pool }

func (s *openings) start(p *Pool, limit time.Duration, giveUp context.CancelCauseFunc, elsewhere bool) *opening {
	o, again := s.stopped.Get().(*opening)
	if !again {
		o = &opening{pool: p}
		o.timer = time.AfterFunc(math.MaxInt64, o.end)
	}
	o.limit, o.giveUp, o.elsewhere, o.waits = limit, giveUp, elsewhere, false
	o.over.Store(false)
	o.timer.Reset(limit)
	return o
}

// stop returns false if the call is given up. Otherwise nothing may use o any more.
func (s *openings) stop(o *opening) bool {
	if !o.over.CompareAndSwap(false, true) {
		return false
	}
	if o.timer.Stop() && !o.reset && !o.late.Load() {
		o.giveUp = nil
		s.stopped.Put(o)
	}
	return true
}

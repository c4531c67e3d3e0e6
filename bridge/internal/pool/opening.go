package pool

import (
	"context"
	"sync"
	"time"
)

// connectGrace is how long a call waits for a connection although another backend could take
// it: a backend often ends a connection only to have its calls on a new one.
const connectGrace = time.Second

// An opening is a call that Open waits for. Its timer gives up a call that gets no stream in
// time.
type opening struct {
	timer     *time.Timer
	limit     time.Duration
	giveUp    context.CancelCauseFunc
	elsewhere bool      // another backend may have room for the call
	waits     bool      // the pool counts it as waiting
	began     time.Time // if it waits and has a trace: when that began
	reset     bool      // the timer may have run out before, and end may be about to run
}

func (o *opening) end() { o.giveUp(ErrPatience) }

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

func (s *openings) start(limit time.Duration, giveUp context.CancelCauseFunc, elsewhere bool) *opening {
	o, again := s.stopped.Get().(*opening)
	if !again {
		o = new(opening)
	}
	o.limit, o.giveUp, o.elsewhere, o.waits = limit, giveUp, elsewhere, false
	if again {
		o.timer.Reset(limit)
	} else {
		o.timer = time.AfterFunc(limit, o.end)
	}
	return o
}

// stop returns false if the time is over. Otherwise nothing may use o any more.
func (s *openings) stop(o *opening) bool {
	if !o.timer.Stop() {
		return false
	}
	if !o.reset {
		o.giveUp = nil
		s.stopped.Put(o)
	}
	return true
}

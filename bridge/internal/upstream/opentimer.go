package upstream

import (
	"context"
	"sync"
	"time"
)

// An openTimer gives up a call that gets no stream in time.
type openTimer struct {
	timer  *time.Timer
	limit  time.Duration
	giveUp context.CancelCauseFunc
	reset  bool // it may have run out before, and end may be about to run
}

func (t *openTimer) end() { t.giveUp(errPatience) }

// suspend reports whether the timer was running.
func (t *openTimer) suspend() bool { return t.timer.Stop() }

// resume starts the timer anew.
func (t *openTimer) resume() {
	t.reset = true
	t.timer.Reset(t.limit)
}

// openTimers has timers that were stopped, as nearly all are.
type openTimers struct{ stopped sync.Pool }

func (ts *openTimers) start(limit time.Duration, giveUp context.CancelCauseFunc) *openTimer {
	t, again := ts.stopped.Get().(*openTimer)
	if !again {
		t = new(openTimer)
	}
	t.limit, t.giveUp = limit, giveUp
	if again {
		t.timer.Reset(limit)
	} else {
		t.timer = time.AfterFunc(limit, t.end)
	}
	return t
}

// stop returns false if the time is over. Otherwise nothing may use the timer any more.
func (ts *openTimers) stop(t *openTimer) bool {
	if !t.timer.Stop() {
		return false
	}
	if !t.reset {
		t.giveUp = nil
		ts.stopped.Put(t)
	}
	return true
}

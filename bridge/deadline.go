package bridge

import (
	"cmp"
	"context"
)

// A deadline is the time by which a call has to end, as its client (ask.go) or its route
// (settle.go) says.
type deadline struct {
	timed    context.Context // the call's, with the deadline
	stopTime func()          // ends timed
	late     error           // why the call ends then; nil: the client has set it
}

// limitTime derives the context that gives the upstream the deadline, and lets the
// deadline end the whole call. stopTime undoes it. It is called again if the call turns
// out to have a shorter deadline.
func (c *call) limitTime(ctx context.Context) {
	c.timed = ctx
	if c.Timeout <= 0 {
		return
	}
	before := c.stopTime
	timed, stop := context.WithDeadlineCause(ctx, c.info.Begin.Add(c.Timeout), cmp.Or[error](c.late, errDeadline))
	unwatch := context.AfterFunc(timed, func() { c.cancel(context.Cause(timed)) })
	c.timed = timed
	c.stopTime = func() {
		unwatch()
		stop()
		before()
	}
}

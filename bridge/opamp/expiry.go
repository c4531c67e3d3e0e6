package opamp

import (
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A list has the sessions without a poll, the one that has waited longest first.
type list struct{ first, last *Session }

func (l *list) push(s *Session) {
	s.isIdle, s.before = true, l.last
	if l.last == nil {
		l.first = s
	} else {
		l.last.after = s
	}
	l.last = s
}

// remove removes the session if it is there.
func (l *list) remove(s *Session) {
	if !s.isIdle {
		return
	}
	if s.before == nil {
		l.first = s.after
	} else {
		s.before.after = s.after
	}
	if s.after == nil {
		l.last = s.before
	} else {
		s.after.before = s.before
	}
	s.isIdle, s.before, s.after = false, nil, nil
}

// rest lets the session wait for its next poll. The caller holds mu.
func (t *Table) rest(s *Session) {
	s.polled = time.Now()
	t.idle.push(s)
	t.watch()
}

// watch sets the timer for the session that has waited longest. A timer that is set too
// early sets itself again. The caller holds mu.
func (t *Table) watch() {
	if t.timer == nil && t.idle.first != nil && t.closed == nil {
		t.expiring.Add(1)
		t.timer = time.AfterFunc(time.Until(t.idle.first.polled.Add(t.options.Expiry)), t.expire)
	}
}

// expire ends the sessions that nobody polls.
func (t *Table) expire() {
	defer t.expiring.Done()
	var expired []*Session
	t.mu.Lock()
	t.timer = nil
	for s := t.idle.first; s != nil && time.Since(s.polled) >= t.options.Expiry; s = t.idle.first {
		t.remove(s)
		expired = append(expired, s)
	}
	t.watch()
	t.mu.Unlock()
	for _, s := range expired {
		s.leave(report.New(report.ReasonClientGone, "the agent sent no poll for "+t.options.Expiry.String()))
	}
}

// leave ends the call of a session that is no longer in the table. s may be nil.
func (s *Session) leave(cause error) {
	if s == nil {
		return
	}
	s.table.mu.Lock()
	s.over = cause // for a Bind that is to come
	cancel := s.cancel
	s.table.mu.Unlock()
	if cancel != nil {
		cancel(cause)
	}
}

// Close ends the table with a cause. Post opens no more sessions. Those that there are end:
// at once, or once their poll is answered. Close doesn't wait for their calls.
func (t *Table) Close(cause error) {
	t.mu.Lock()
	if t.closed == nil {
		t.closed = cause
	}
	if t.timer != nil && t.timer.Stop() {
		t.expiring.Done()
	}
	t.timer = nil
	var idle []*Session
	for s := t.idle.first; s != nil; s = t.idle.first {
		t.remove(s)
		idle = append(idle, s)
	}
	t.mu.Unlock()
	for _, s := range idle {
		s.leave(cause)
	}
	t.expiring.Wait()
}

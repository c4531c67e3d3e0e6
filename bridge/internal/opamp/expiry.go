package opamp

import (
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A list has sessions in the order of push.
type list struct {
	first, last *Session
	of          func(*Session) *links // those of this list
}

// links are a session's neighbours in a list.
type links struct {
	in            *list // nil: none
	before, after *Session
}

func (l *list) push(s *Session) {
	*l.of(s) = links{in: l, before: l.last}
	if l.last == nil {
		l.first = s
	} else {
		l.of(l.last).after = s
	}
	l.last = s
}

func (l *list) remove(s *Session) {
	at := *l.of(s)
	if at.in != l {
		return
	}
	if at.before == nil {
		l.first = at.after
	} else {
		l.of(at.before).after = at.after
	}
	if at.after == nil {
		l.last = at.before
	} else {
		l.of(at.after).before = at.before
	}
	*l.of(s) = links{}
}

// work begins a poll of the session. The caller holds mu.
func (t *Table) work(s *Session) {
	s.poll = &turn{news: make(chan struct{}, 1), done: make(chan struct{})}
	t.idle.remove(s)
	s.address.idle.remove(s)
	s.address.busy.push(s)
}

// rest lets the session wait for its next poll. The caller holds mu.
func (t *Table) rest(s *Session) {
	s.polled = time.Now()
	t.idle.push(s)
	s.address.busy.remove(s)
	s.address.idle.push(s)
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
	defer t.options.Panics.Catch("the end of idle sessions", nil)
	for _, s := range t.expired() {
		s.leave(report.New(report.ReasonClientGone, "the agent sent no poll for "+t.options.Expiry.String()))
	}
}

// expired removes the sessions that have been idle for too long, and returns them.
func (t *Table) expired() (expired []*Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.watch()
	t.timer = nil
	for s := t.idle.first; s != nil && time.Since(s.polled) >= t.options.Expiry; s = t.idle.first {
		t.remove(s)
		expired = append(expired, s)
	}
	return expired
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
	for _, s := range t.end(cause) {
		s.leave(cause)
	}
	t.expiring.Wait()
}

// end begins no more sessions, and returns the idle ones.
func (t *Table) end(cause error) (idle []*Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed == nil {
		t.closed = cause
	}
	if t.timer != nil && t.timer.Stop() {
		t.expiring.Done()
	}
	t.timer = nil
	for s := t.idle.first; s != nil; s = t.idle.first {
		t.remove(s)
		idle = append(idle, s)
	}
	return idle
}

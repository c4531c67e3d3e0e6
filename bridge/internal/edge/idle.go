package edge

import "time"

// SetReadDeadline gives an idle connection its own time.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	return c.Conn.SetReadDeadline(c.life.deadline(t))
}

// deadline returns when a wait of net/http ends. First it bounds how long a connection
// is idle: each has its own time, no later than its age, in place of the http.Server's.
// Then it bounds the header that has begun, or nothing. HTTP/2 sets only deadlines that
// have passed, and none; they stay.
func (l *life) deadline(t time.Time) time.Time {
	if l.phase.CompareAndSwap(int32(phaseWaiting), int32(phaseReading)) ||
		!l.phase.CompareAndSwap(int32(phaseIdle), int32(phaseWaiting)) {
		return t
	}
	now := time.Now()
	switch {
	case !t.After(now):
		return t
	case l.idle == 0:
		return time.Time{}
	}
	t = now.Add(l.idle)
	if l.age.After(now) && l.age.Before(t) {
		t = l.age
	}
	return t
}

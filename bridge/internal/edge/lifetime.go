package edge

import (
	"cmp"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A life has the facts of a connection's life, including why it ended.
type life struct {
	idle  time.Duration // how long an HTTP/1.1 connection may be without a request; 0: for ever
	age   time.Time     // from then on an HTTP/1.1 connection serves one more request at most; zero: never
	stays bool          // it began after Leave

	phase   atomic.Int32
	late    atomic.Bool // a read met its deadline since the last request
	left    atomic.Bool // the client has closed or reset the connection
	settled atomic.Bool // ended is final
	heard   atomic.Bool // the client has sent a byte

	mu    sync.Mutex
	ended string
}

// begin is called before the connection is served. left is Edge.left. An HTTP/1.1
// connection has no goodbye that an idle client would see, so its age bounds its idle
// time, too.
func (l *life) begin(b Bounds, left bool) {
	spread := NewSpread()
	l.idle = spread.Of(cmp.Or(b.Idle, b.MaxAge))
	l.stays = left
	if b.MaxAge > 0 {
		l.age = time.Now().Add(spread.Of(b.MaxAge))
	}
}

func (l *life) noteRead(err error) {
	if socket.TimedOut(err) {
		l.late.Store(true)
	} else if !errors.Is(err, net.ErrClosed) {
		l.left.Store(true)
	}
}

// old reports whether the connection has reached its maximum age.
func (l *life) old() bool { return l != nil && !l.age.IsZero() && !time.Now().Before(l.age) }

// leaves reports whether the connection began before Leave, if that was called.
func (l *life) leaves(left bool) bool { return l != nil && left && !l.stays }

// end notes why the connection is about to end, unless a reason is already known.
func (l *life) end(why string) {
	if l == nil || why == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = cmp.Or(l.ended, why)
}

// settle is end for the HTTP/2 server, which knows best.
func (l *life) settle(why string) {
	l.end(why)
	if l != nil {
		l.settled.Store(true)
	}
}

// why returns why the connection ended: the noted reason, or else the one that net/http
// must have had.
func (l *life) why(draining bool) string {
	if l == nil {
		return report.EndedOrderly
	}
	ended := l.endedAs()
	late, left := l.late.Load(), l.left.Load()
	switch p := phase(l.phase.Load()); {
	case ended != report.EndedOrderly || l.settled.Load():
		return ended
	case draining:
		return report.EndedShutdown
	case p == phaseWaiting && late && l.old():
		return report.EndedAge
	case p == phaseWaiting && late:
		return report.EndedIdle
	case p == phaseServing && !left && l.old():
		return report.EndedAge
	case (p == phaseFresh || p == phaseReading) && late:
		return report.EndedSlow
	case (p == phaseFresh || p == phaseReading) && !left:
		return report.EndedProtocol // it was closed because of what it sent
	}
	return report.EndedOrderly
}

// endedAs returns the reason noted by end.
func (l *life) endedAs() string {
	if l == nil {
		return report.EndedOrderly
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

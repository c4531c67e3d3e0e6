package h2

import (
	"cmp"
	"time"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// judgeIdle judges a connection that has had no stream for its idle time. A slow reader
// of the last answer isn't idle. A client that accepts no data is cut, whatever it
// sends: no account counts the data that the kernel holds for it.
//
// The client's kernel may have the answer while its program isn't reading. The end of
// the connection could then overtake the answer: curl 7.88 drops the data that it has
// not handed on, and any client's next frame would be answered with a reset. So
// judgeIdle first pings a client that hasn't shown that it has read everything. The
// caller holds mu.
func (c *conn) judgeIdle(now time.Time) {
	k := &c.clock
	k.idle = now
	switch {
	case c.rest.Busy(now):
		if !k.pinged.IsZero() { // it may have accepted everything but our ping
			k.idle = now.Add(socket.PulseAgain - c.settings.Idle)
		}
	case k.pinged.IsZero() && socket.Look(c.nc).Outstanding:
		c.cut(EndSlow)
	case c.seen < c.sent && now.Sub(k.rested) <= c.settings.Idle+cmp.Or(c.pulse.Patience, unreadTime):
		if k.pinged.IsZero() {
			c.ping(now)
		}
		k.idle = now.Add(socket.PulseAgain - c.settings.Idle)
	default:
		c.announce(EndIdle)
	}
}

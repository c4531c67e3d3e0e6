package wire

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// A backend may send baseAhead bytes of a stream that the client hasn't taken. These are the
// largest small message and a DATA frame: while a message has come in part, the backend may wait
// until a whole frame fits.
const (
	fewAhead  = StreamWindow + prefixBytes
	baseAhead = fewAhead + maxDataBytes
)

// maxWithheld is the most that a backend is denied of grpc-go's window for a stream whose call
// isn't known, once less than a DATA frame fits. grpc-go gives window back only when the reader
// has taken a quarter of it.
const maxWithheld = GRPCWindow - GRPCWindow/4 - maxDataBytes

const maxDataBytes = 16 << 10 // SETTINGS_MAX_FRAME_SIZE

// streamWindowSetting is a SETTINGS frame that lowers the windows of streams that grpc-go's
// SETTINGS before it have announced. RFC 9113 §6.5.2.
var streamWindowSetting = binary.BigEndian.AppendUint32([]byte{0, 0, settingBytes, byte(http2.FrameSettings), 0, 0, 0, 0, 0, 0, byte(http2.SettingInitialWindowSize)}, StreamWindow)

// arriving follows the messages in the DATA of a stream.
type arriving struct {
	size   int64 // of the last message, with its prefix
	left   int64 // bytes of it that haven't arrived
	small  int64 // bytes of small messages in a row; 0: the last message is large
	prefix [prefixBytes]byte
	have   int // bytes of prefix
}

// step reads the beginning of a part of the stream's DATA, and returns the rest. It reports
// whether a message's prefix is complete now; left has the size. gRPC PROTOCOL-HTTP2,
// "Length-Prefixed-Message".
func (m *arriving) step(part []byte) (rest []byte, begun bool) {
	if m.left > 0 {
		n := min(m.left, int64(len(part)))
		m.left -= n
		return part[n:], false
	}
	n := copy(m.prefix[m.have:], part)
	if m.have += n; m.have < prefixBytes {
		return part[n:], false
	}
	m.have = 0
	m.left = int64(binary.BigEndian.Uint32(m.prefix[1:]))
	m.size = m.left + prefixBytes
	if m.left > StreamWindow {
		m.small = 0
	} else {
		m.small += m.size
	}
	return part[n:], true
}

// readData reads a part of the DATA of the stream that sends.
func (c *Conn) readData(part []byte) {
	c.came.passed += int64(len(part))
	m, p := &c.came.messages, c.came.place
	for begun := false; len(part) > 0; {
		part, begun = m.step(part)
		if p == nil {
			continue
		}
		if begun {
			p.begins(m.left)
		}
		if m.isWhole() {
			c.came.whole++
			p.arrived(m.prefix[0], m.size-prefixBytes)
		}
	}
	if c.in.skip > 0 {
		return
	}
	if p != nil && c.came.whole > 0 {
		p.messages.Add(c.came.whole) // before grpc-go can hand them out
	}
	c.came.whole = 0
	if p = c.came.ends; p != nil {
		c.came.ends = nil
		if m.isWhole() {
			p.ends(endNoTrailers.of(p.http))
		} else {
			p.ends(endInside)
		}
	}
}

// isWhole reports whether no message has arrived in part.
func (m *arriving) isWhole() bool { return m.left == 0 && m.have == 0 }

// followMessages continues with the DATA of a stream.
func (c *Conn) followMessages(stream uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[stream]
	c.came.stream, c.came.messages, c.came.place = stream, s.messages, nil
	if s.answer != isOver {
		c.came.place = s.place
	}
}

// askMore reports whether the backend gets the window that grpc-go gives a stream, in this
// frame. Another frame may come in its place, now or later.
func (c *Conn) askMore(f h2Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, open := c.streams[f.stream]
	if !open || c.closed.Err() != nil { // grpc-go asks for a stream that it has reset
		return true
	}
	s.withheld += int64(f.increment)
	more := c.widen(f.stream, &s)
	c.streams[f.stream] = s
	if more > 0 && more != int64(f.increment) {
		c.out.before = windowUpdate(f.stream, more)
	}
	return more == int64(f.increment)
}

// goOn gives the stream of a call the window that it may have now.
func (c *Conn) goOn(stream uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, open := c.streams[stream]; open {
		c.offerMore(stream, &s)
		c.streams[stream] = s
	}
}

// offerMore gives a stream the window that it may have now. mu is held.
func (c *Conn) offerMore(stream uint32, s *stream) {
	if c.closed.Err() != nil {
		return
	}
	if more := c.widen(stream, s); more > 0 {
		c.offer(ownFrame{bytes: windowUpdate(stream, more)})
	}
}

// widen returns how much of what is withheld the backend gets now, and counts it. mu is held.
func (c *Conn) widen(stream uint32, s *stream) int64 {
	if s.grant != nil && !s.grant.open {
		return 0 // letIn goes on
	}
	if s.flow != nil { // before the look at what waits, so that Taken or this sees the other
		s.place.nextAt.Store(c.nextAt(s))
	}
	more, lacks := c.more(s)
	if lacks > 0 && !c.askRoom(stream, s, lacks, more) {
		return 0
	}
	if more > 0 {
		s.give(more)
		if s.flow != nil {
			s.place.nextAt.Store(c.nextAt(s))
		}
	}
	return more
}

// more returns how much of what is withheld the backend may get now, and how much of that needs
// room first. mu is held.
func (c *Conn) more(s *stream) (more, lacks int64) {
	if s.messages.isLarge() && s.isNext() { // asked once, since Taken may change it
		n := s.messages.left - s.window
		if n > s.withheld { // grpc-go asks for it once it has read the length
			return 0, 0
		}
		return min(max(n+maxDataBytes, 0), s.withheld), max(n, 0)
	}
	if s.flow == nil { // grpc-go's updates show what is taken
		if s.window >= maxDataBytes {
			return 0, 0
		}
		return max(s.withheld-maxWithheld, 0), 0
	}
	most, few := c.ahead(s)
	ahead := s.window + s.place.waiting()
	if ahead > few {
		return 0, 0
	}
	return min(most-ahead, s.withheld), 0
}

// nextAt returns with how few bytes that wait for the client the stream may get more. mu is held.
func (c *Conn) nextAt(s *stream) int64 {
	_, few := c.ahead(s)
	if s.messages.isLarge() {
		return max(few-s.window, s.messages.arrived()) // it may be the next one
	}
	return few - s.window
}

// isLarge reports whether a large message arrives.
func (m *arriving) isLarge() bool { return m.small == 0 && m.left > 0 }

// isNext reports whether no message waits for the client before the one that arrives.
func (s *stream) isNext() bool {
	if s.flow == nil {
		return s.withheld > maxWithheld
	}
	return s.flow.Waiting() <= s.messages.arrived()
}

// ahead returns how many bytes of small messages may be on their way or wait for the client, and
// at how few it gets so many again: in halves, since each update is a write of its own, and wakes
// the backend. mu is held.
func (c *Conn) ahead(s *stream) (most, few int64) {
	switch {
	case s.messages.small-s.messages.left >= StreamWindow+s.place.waiting() && !c.account.Pressed(): // so many are taken
		return MaxStreamWindow, MaxStreamWindow / 2
	case s.window < maxDataBytes:
		return baseAhead, fewAhead + s.window
	default:
		return baseAhead, baseAhead / 2
	}
}

// arrived returns how many bytes of the last message have arrived.
func (m *arriving) arrived() int64 { return m.size - m.left }

func (s *stream) give(n int64) {
	s.withheld -= n
	s.window += n
}

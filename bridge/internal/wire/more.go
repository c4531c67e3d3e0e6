package wire

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// maxWithheld is the most that a backend is denied of the window that grpc-go gives a stream,
// once less than a DATA frame fits its first window. grpc-go gives window back only when the
// reader has taken a quarter of it. Until then the backend needs room for another DATA frame:
// it may wait until a whole one fits, and the stream would stand still.
const maxWithheld = MaxStreamWindow - MaxStreamWindow/4 - maxDataBytes

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
// frame. Another frame may come in its place, now or once a large message has its room.
func (c *Conn) askMore(f h2Frame) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, open := c.streams[f.stream]
	if !open || c.closed.Err() != nil { // grpc-go asks for a stream that it has reset
		return true
	}
	s.withheld += int64(f.increment)
	more := c.moreFor(f.stream, &s)
	s.give(more)
	c.streams[f.stream] = s
	if more > 0 && more != int64(f.increment) {
		c.out.before = streamUpdate(f.stream, more)
	}
	return more == int64(f.increment)
}

// moreFor returns how much of what is withheld the backend gets now. mu is held.
func (c *Conn) moreFor(stream uint32, s *stream) int64 {
	if s.grant != nil && !s.grant.open {
		return 0
	}
	if n := s.lacks(); n > 0 {
		if c.askRoom(stream, s, n) {
			return s.grant.more
		}
		return 0
	}
	return c.spare(s)
}

// lacks returns how many bytes of a large message that arrives don't fit the window of the
// stream. For a message that doesn't fit grpc-go's window either, grpc-go asks once it has
// read the length, and lacks returns 0 until then.
func (s *stream) lacks() int64 {
	n := s.messages.left - s.window
	if s.messages.small > 0 || n > s.withheld {
		return 0
	}
	return max(n, 0)
}

// spare returns how much of what is withheld the stream gets without room: for a stream of
// small messages all, unless memory is scarce. mu is held.
func (c *Conn) spare(s *stream) int64 {
	// In halves: each update is a write of its own, and wakes the backend.
	if s.withheld >= MaxStreamWindow/2 && s.flow != nil && s.messages.small >= StreamWindow && !c.account.Pressed() {
		return s.withheld
	}
	return max(s.withheld-maxWithheld, 0)
}

// moreOnArrival returns how much of what is withheld the backend gets before grpc-go gives
// anything back. A large message asks for its room, if no other waits for the reader. mu is
// held.
func (c *Conn) moreOnArrival(stream uint32, s *stream) int64 {
	if s.window >= maxDataBytes || s.withheld <= maxWithheld || s.grant != nil || c.closed.Err() != nil {
		return 0
	}
	n := s.lacks()
	if n == 0 || s.flow != nil && s.flow.Waiting() > s.messages.arrived() {
		return s.withheld - maxWithheld
	}
	if c.askRoom(stream, s, n) {
		return s.grant.more
	}
	return 0
}

// arrived returns how many bytes of the last message have arrived.
func (m *arriving) arrived() int64 { return m.size - m.left }

func (s *stream) give(n int64) {
	s.withheld -= n
	s.window += n
}

// streamUpdate returns a WINDOW_UPDATE of a stream.
func streamUpdate(stream uint32, n int64) []byte {
	return h2Frame{stream: stream, increment: uint32(n)}.append(make([]byte, 0, windowUpdateBytes))
}

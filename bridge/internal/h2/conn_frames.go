package h2

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/net/http2"
)

// take processes one frame. It returns a connError or a streamError.
func (c *conn) take(h frameHeader, p []byte) error {
	if !c.greeted && (h.kind != http2.FrameSettings || h.flags.Has(http2.FlagSettingsAck)) {
		return connError{http2.ErrCodeProtocol, "the first frame is not SETTINGS"}
	}
	if c.block.open && (h.kind != http2.FrameContinuation || h.stream != c.block.stream) {
		return connError{http2.ErrCodeProtocol, "another frame interrupts a header block"}
	}
	switch h.kind {
	case http2.FrameData:
		return c.takeData(h, p)
	case http2.FrameHeaders:
		return c.takeHeaders(h, p)
	case http2.FrameContinuation:
		if !c.block.open {
			return connError{http2.ErrCodeProtocol, "CONTINUATION without HEADERS"}
		}
		return c.takeFragment(h, p)
	case http2.FrameWindowUpdate:
		return c.takeWindowUpdate(h, p)
	case http2.FrameRSTStream:
		return c.takeReset(h, p)
	case http2.FrameSettings:
		return c.takeSettings(h, p)
	case http2.FramePing:
		return c.takePing(h, p)
	case http2.FramePriority:
		return c.takePriority(h, p)
	case http2.FrameGoAway:
		return c.takeGoAway(h, p)
	case http2.FramePushPromise:
		return connError{http2.ErrCodeProtocol, "PUSH_PROMISE from a client"}
	}
	return c.noteUseless(1) // RFC 9113 §5.5: unknown ones are ignored
}

func (c *conn) takeData(h frameHeader, p []byte) error {
	if h.stream == 0 {
		return connError{http2.ErrCodeProtocol, "DATA on stream 0"}
	}
	body, err := h.unpadded(p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[h.stream]
	if st == nil || len(body) < fewBytes && !h.flags.Has(http2.FlagDataEndStream) {
		if err := c.countUseless(1); err != nil {
			return err
		}
	} else if len(body) >= fewBytes {
		c.useless.Earn(framesForMore, 0)
	}
	if st == nil && c.idle(h.stream) {
		return connError{http2.ErrCodeProtocol, "DATA on an idle stream"}
	}
	if !c.recv.take(h.length) {
		return connError{http2.ErrCodeFlowControl, "DATA beyond the connection's window"}
	}
	if st == nil || st.remoteClosed {
		c.giveBack(h.length)
		if c.ignores(h.stream) || c.ended.of(h.stream) == endCut {
			return nil
		}
		return streamError{h.stream, http2.ErrCodeStreamClosed, "DATA on a closed stream"}
	}
	return st.receive(body, h.length, h.flags.Has(http2.FlagDataEndStream))
}

// ignores reports whether a stream came after the last one that a GOAWAY named.
func (c *conn) ignores(id uint32) bool { return c.goodbye.stage >= stageNamed && id > c.goodbye.last }

// idle reports whether the client hasn't begun the stream. Only the server may begin
// even numbers, by a push, and this server never does. RFC 9113 §5.1, §5.1.1. The
// caller holds mu.
func (c *conn) idle(id uint32) bool {
	return id%2 == 0 || id > c.lastID && !c.ignores(id)
}

// giveBack opens the connection's window again. The caller holds mu.
func (c *conn) giveBack(n int) {
	if inc := c.recv.give(n); inc > 0 && !c.closed && c.goodbye.fault == nil {
		f := c.frames()
		f.b = appendWord(f.b, http2.FrameWindowUpdate, 0, uint32(inc))
	}
}

func (c *conn) takeWindowUpdate(h frameHeader, p []byte) error {
	if len(p) != 4 {
		return connError{http2.ErrCodeFrameSize, "WINDOW_UPDATE is not 4 bytes"}
	}
	if err := c.noteUseless(1); err != nil { // the data that it lets through makes up for it
		return err
	}
	inc := int64(binary.BigEndian.Uint32(p) & maxWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stream == 0 {
		if inc == 0 {
			return connError{http2.ErrCodeProtocol, "WINDOW_UPDATE of 0"}
		}
		was := c.send
		if !c.send.add(inc) {
			return connError{http2.ErrCodeFlowControl, "the connection's window is larger than 2^31-1"}
		}
		if was <= 0 {
			for _, st := range c.streams {
				st.queue()
			}
		}
		return nil // parse flushes
	}
	st := c.streams[h.stream]
	switch {
	case st == nil && c.idle(h.stream):
		return connError{http2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream"}
	case st == nil:
		return nil // RFC 9113 §5.1: allowed on a closed stream
	case inc == 0:
		return streamError{h.stream, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0"}
	case !st.window.add(inc):
		return streamError{h.stream, http2.ErrCodeFlowControl, "the stream's window is larger than 2^31-1"}
	}
	st.queue()
	return nil
}

func (c *conn) takeReset(h frameHeader, p []byte) error {
	if len(p) != 4 {
		return connError{http2.ErrCodeFrameSize, "RST_STREAM is not 4 bytes"}
	}
	if known, err := c.endReset(h.stream, resetError(binary.BigEndian.Uint32(p))); known || err != nil {
		return err
	}
	return c.noteUseless(1)
}

// endReset ends a stream that the client has reset. It reports whether there is one.
func (c *conn) endReset(id uint32, why error) (known bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle(id) {
		return false, connError{http2.ErrCodeProtocol, "RST_STREAM on an idle stream"}
	}
	c.ended.add(id, endReset) // also if this side cut it: now the client knows
	st := c.streams[id]
	if st == nil {
		return false, nil
	}
	if !st.answered && c.clock.read.Sub(st.begun) < rapidTime {
		err = c.countWasted()
	}
	st.close(why)
	return true, err
}

func (c *conn) takeSettings(h frameHeader, p []byte) error {
	switch ack := h.flags.Has(http2.FlagSettingsAck); {
	case h.stream != 0:
		return connError{http2.ErrCodeProtocol, "SETTINGS on a stream"}
	case len(p)%6 != 0 || ack && len(p) > 0:
		return connError{http2.ErrCodeFrameSize, "SETTINGS of a wrong length"}
	case len(p) > 6*maxSettings:
		return connError{http2.ErrCodeEnhanceYourCalm, "too many settings"}
	case ack:
		if c.unacked--; c.unacked < 0 {
			return connError{http2.ErrCodeProtocol, "acknowledgement of SETTINGS that were not sent"}
		}
		return nil
	}
	if err := c.noteUseless(1 + len(p)/60); err != nil { // ten settings cost as much as a frame
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.greeted, c.clock.settings = true, time.Time{}
	for ; len(p) > 0; p = p[6:] {
		s := http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(p)), Val: binary.BigEndian.Uint32(p[2:])}
		if err := c.set(s); err != nil {
			return err
		}
	}
	c.answer(func(b []byte) []byte {
		return frameHeader{kind: http2.FrameSettings, flags: http2.FlagSettingsAck}.appendTo(b)
	})
	return nil
}

// set applies one setting of the client. RFC 9113 §6.5.2.
func (c *conn) set(s http2.Setting) error {
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.out.enc.SetMaxDynamicTableSize(s.Val)
	case http2.SettingEnablePush, http2.SettingEnableConnectProtocol, http2.SettingNoRFC7540Priorities:
		if s.Val > 1 { // RFC 9113 §6.5.2, RFC 8441 §3, RFC 9218 §2.1
			return connError{http2.ErrCodeProtocol, s.ID.String() + " is neither 0 nor 1"}
		}
	case http2.SettingInitialWindowSize:
		if s.Val > maxWindow {
			return connError{http2.ErrCodeFlowControl, "INITIAL_WINDOW_SIZE is larger than 2^31-1"}
		}
		more := int64(s.Val) - c.initial
		c.initial = int64(s.Val)
		for _, st := range c.streams {
			if !st.window.add(more) {
				return connError{http2.ErrCodeFlowControl, "INITIAL_WINDOW_SIZE makes a window larger than 2^31-1"}
			}
			st.queue()
		}
	case http2.SettingMaxFrameSize:
		if s.Val < maxFrameBytes || s.Val > 1<<24-1 {
			return connError{http2.ErrCodeProtocol, fmt.Sprintf("MAX_FRAME_SIZE of %d", s.Val)}
		}
	case http2.SettingMaxConcurrentStreams, http2.SettingMaxHeaderListSize:
		// Nothing is pushed, and the handler decides what to send.
	}
	return nil
}

func (c *conn) takePing(h frameHeader, p []byte) error {
	switch {
	case h.stream != 0:
		return connError{http2.ErrCodeProtocol, "PING on a stream"}
	case len(p) != 8:
		return connError{http2.ErrCodeFrameSize, "PING is not 8 bytes"}
	}
	if err := c.noteUseless(1); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.flags.Has(http2.FlagPingAck) {
		c.pong([8]byte(p))
		return nil
	}
	c.answer(func(b []byte) []byte { return appendPing(b, true, [8]byte(p)) })
	return nil
}

func (c *conn) takePriority(h frameHeader, p []byte) error {
	if h.stream == 0 {
		return connError{http2.ErrCodeProtocol, "PRIORITY on stream 0"}
	}
	e := streamError{stream: h.stream}
	switch {
	case len(p) != 5:
		e.code, e.text = http2.ErrCodeFrameSize, "PRIORITY is not 5 bytes"
	case dependsOnItself(h.stream, p):
		e.code, e.text = http2.ErrCodeProtocol, "a stream depends on itself"
	default:
		return c.noteUseless(1) // RFC 9113 §5.3.2: otherwise ignored
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle(h.stream) { // no RST_STREAM can report it, RFC 9113 §6.4
		return connError{e.code, e.text}
	}
	return e
}

func dependsOnItself(stream uint32, priority []byte) bool {
	return binary.BigEndian.Uint32(priority)&maxWindow == stream
}

func (c *conn) takeGoAway(h frameHeader, p []byte) error {
	switch {
	case h.stream != 0:
		return connError{http2.ErrCodeProtocol, "GOAWAY on a stream"}
	case len(p) < 8:
		return connError{http2.ErrCodeFrameSize, "GOAWAY of less than 8 bytes"}
	}
	if err := c.noteUseless(1); err != nil {
		return err
	}
	c.shutdown(EndOrderly, false) // the client will begin no more streams
	return nil
}

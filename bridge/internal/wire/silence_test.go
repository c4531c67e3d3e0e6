package wire

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"

	"github.com/culvert-grpc/culvert/internal/ping"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A silenceScript drives a silence through time as its watch does: it looks
// when the silence asks for it, and notes when it pinged and gave up.
type silenceScript struct {
	silence
	at        time.Duration
	pinged    []time.Duration
	gaveUp    time.Duration // 0: not
	answering bool
}

var silenceBegin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// keepAlive sets the interval of backend.keepalive. The backend answers from now on.
func (s *silenceScript) keepAlive(every time.Duration) {
	s.every, s.last, s.answering = every, s.now(), true
}

func (s *silenceScript) now() time.Time { return silenceBegin.Add(s.at) }

// until looks whenever that is due before the time.
func (s *silenceScript) until(end time.Duration) {
	for s.gaveUp == 0 {
		next := s.next()
		if next.IsZero() || next.Sub(silenceBegin) > end {
			break
		}
		s.at = max(s.at, next.Sub(silenceBegin))
		s.lookNow()
	}
	s.at = end
}

func (s *silenceScript) lookNow() {
	switch s.look(s.now(), 0, false) {
	case silenceAsk:
		s.pinged = append(s.pinged, s.at)
		s.silence.pinged(s.now())
		s.position = 0
		if s.answering {
			s.heard(s.now(), false)
		}
	case silenceGiveUp:
		s.gaveUp = s.at
	case silenceNothing:
	}
}

func TestSilence(t *testing.T) {
	const sec, minute = time.Second, time.Minute
	for name, c := range map[string]struct {
		script func(s *silenceScript)
		pinged []time.Duration
		gaveUp time.Duration
	}{
		"a backend that answers nothing": {func(s *silenceScript) {
			s.sent(s.now())
			s.until(minute)
		}, []time.Duration{10 * sec}, 20 * sec},
		"sending on doesn't put it off": {func(s *silenceScript) {
			for range 60 {
				s.sent(s.now())
				s.until(s.at + sec)
			}
		}, []time.Duration{10 * sec}, 20 * sec},
		"a quiet stream": {func(s *silenceScript) {
			s.sent(s.now())
			s.heard(s.now(), true)
			s.until(10 * 60 * minute)
		}, nil, 0},
		"a quiet stream, with keepalive": {func(s *silenceScript) {
			s.keepAlive(40 * sec)
			s.sent(s.now())
			s.heard(s.now(), true)
			s.until(100 * sec)
			s.heard(s.now(), true)
			s.answering = false
			s.until(10 * 60 * minute)
		}, []time.Duration{40 * sec, 80 * sec, 140 * sec}, 150 * sec},
		"a quiet connection with keepalive, which has a stream only at the end": {func(s *silenceScript) {
			s.keepAlive(40 * sec)
			s.open = 0
			s.until(60 * minute)
			s.open, s.timeout = 1, rules.PingTimeout
			s.until(60*minute + 79*sec)
		}, []time.Duration{60 * minute, 60*minute + 40*sec}, 0},
		"a suspicion before keepalive's ping": {func(s *silenceScript) {
			s.keepAlive(40 * sec)
			s.answering = false
			s.sent(s.now())
			s.until(60 * minute)
		}, []time.Duration{10 * sec}, 20 * sec},
		"keepalive's ping before a suspicion that may not ask yet": {func(s *silenceScript) {
			s.keepAlive(40 * sec)
			for range earlyPings {
				s.silence.pinged(s.now())
			}
			s.sent(s.now())
			s.until(79 * sec)
		}, []time.Duration{40 * sec}, 0},
		"a backend that computes for an hour": {func(s *silenceScript) {
			s.answering = true
			s.sent(s.now())
			s.until(60 * minute)
		}, []time.Duration{10 * sec}, 0},
		"no stream is open": {func(s *silenceScript) {
			s.sent(s.now())
			s.open = 0
			s.until(minute)
			s.open, s.timeout = 1, rules.PingTimeout
			s.until(2 * minute)
		}, []time.Duration{minute}, minute + 10*sec},
		"messages without an answer": {func(s *silenceScript) {
			s.answering = true
			for range 40 {
				s.sent(s.now())
				s.until(s.at + 15*sec)
			}
			s.answering = false
			s.sent(s.now())
			s.until(60 * minute)
		}, []time.Duration{10 * sec, 25 * sec, 335 * sec, 645 * sec}, 655 * sec},
		"window updates forgive nothing": {func(s *silenceScript) {
			s.answering = true
			for range 4 {
				s.sent(s.now())
				s.until(s.at + 15*sec)
				s.heard(s.now(), false)
			}
		}, []time.Duration{10 * sec, 25 * sec}, 0},
		"a message forgives": {func(s *silenceScript) {
			s.answering = true
			for range 4 {
				s.sent(s.now())
				s.until(s.at + 15*sec)
				s.heard(s.now(), true)
			}
		}, []time.Duration{10 * sec, 25 * sec, 40 * sec, 55 * sec}, 0},
		"other pings count": {func(s *silenceScript) {
			s.silence.pinged(s.now())
			s.silence.pinged(s.now())
			s.sent(s.now())
			s.until(10 * minute)
		}, []time.Duration{310 * sec}, 320 * sec},
		"culvert was stopped while the answer waited": {func(s *silenceScript) {
			s.sent(s.now())
			s.until(11 * sec)
			s.at = 45 * sec // the process goes on, and its timer comes first
			s.lookNow()
			s.at += sec / 1000
			s.heard(s.now(), false)
			s.until(60 * minute)
		}, []time.Duration{10 * sec}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := &silenceScript{}
			s.open, s.timeout = 1, rules.PingTimeout
			c.script(s)
			if !slices.Equal(s.pinged, c.pinged) || s.gaveUp != c.gaveUp {
				t.Errorf("pinged at %v and gave up at %v, want %v and %v", s.pinged, s.gaveUp, c.pinged, c.gaveUp)
			}
		})
	}
}

// FuzzPingsBetweenFrames holds that pings that are put between frames damage
// nothing, however the frames are cut into writes: without the pings, what was
// written is what went out, and no ping is within a header block.
func FuzzPingsBetweenFrames(f *testing.F) {
	frame := func(kind http2.FrameType, flags http2.Flags, payload string) []byte {
		b := []byte{0, 0, byte(len(payload)), byte(kind), byte(flags)}
		return append(binary.BigEndian.AppendUint32(b, 1), payload...)
	}
	f.Add(frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, "headers"), frame(http2.FrameData, 0, "a message"), []byte{5, 9, 1})
	f.Add(frame(http2.FrameHeaders, 0, "begun"), frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, "ended"), []byte{9, 5, 14, 1})
	f.Add(frame(http2.FrameWindowUpdate, 0, "\x00\x00\x00\x09"), frame(http2.FrameRSTStream, 0, "\x00\x00\x00\x08"), []byte{3})
	f.Fuzz(func(t *testing.T, one, two, cuts []byte) {
		if !wholeFrames(one) || !wholeFrames(two) {
			return
		}
		conn := &recordingConn{}
		a := memory.New(1<<30, 0)
		c := NewConn(conn, Options{Account: a, Window: ConnWindow(a)})
		in := slices.Concat([]byte(http2.ClientPreface), one, two, one)
		for rest := in; len(rest) > 0; {
			n := len(rest)
			if len(cuts) > 0 {
				n = min(n, int(cuts[0])+1)
				cuts = cuts[1:]
			}
			c.watch.mu.Lock()
			c.watch.s.wait.Begin(time.Now(), rules.PingTimeout, 0)
			c.watch.s.position = ping.Unsent // a ping is due
			c.watch.mu.Unlock()
			c.offer(ownFrame{bytes: silencePing})
			if _, err := c.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		_ = c.Close()
		wantPingsApart(t, conn.written(), in)
	})
}

// wholeFrames reports whether b is whole frames that culvert lets pass.
func wholeFrames(b []byte) bool {
	var s h2Frames
	small := true
	out := s.scan(bytes.Clone(b), func(f h2Frame) bool {
		small = small && f.increment <= StreamWindow && f.kind != http2.FramePing
		return true
	})
	return small && s.skip == 0 && len(s.carry) == 0 && !s.block && len(out) == len(b)
}

// wantPingsApart takes the pings out frame by frame.
func wantPingsApart(t *testing.T, out, want []byte) {
	t.Helper()
	if len(out) < len(http2.ClientPreface) {
		t.Fatalf("wrote %q", out)
	}
	got := out[:len(http2.ClientPreface):len(http2.ClientPreface)]
	block := false
	for rest := out[len(got):]; len(rest) > 0; {
		f, _ := parseFrame(rest)
		n := frameHeaderBytes + int(f.length)
		if n > len(rest) || len(rest) < frameHeaderBytes {
			t.Fatalf("wrote a broken frame in %q", out)
		}
		if f.kind == http2.FramePing {
			if block {
				t.Errorf("wrote a ping within a header block: %q", out)
			}
		} else {
			block = f.goesOn()
			got = append(got, rest[:n]...)
		}
		rest = rest[n:]
	}
	if !bytes.Equal(got, want) {
		t.Errorf("without the pings %q, want %q", got, want)
	}
}

// A recordingConn takes all that is written.
type recordingConn struct {
	net.Conn
	mu  sync.Mutex
	out bytes.Buffer
}

func (c *recordingConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(p)
}

func (c *recordingConn) Close() error { return nil }

func (c *recordingConn) written() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.out.Bytes())
}

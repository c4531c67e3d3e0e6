package upstream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A silenceScript drives a silence through time as its watch does: it looks
// when the silence asks for it, and notes when it pinged and gave up.
type silenceScript struct {
	silence
	at        time.Duration
	acked     uint64
	unread    bool
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
	switch s.look(s.now(), s.acked, s.unread) {
	case silenceAsk:
		s.pinged = append(s.pinged, s.at)
		s.silence.pinged(s.now())
		s.position = s.acked
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
			s.open = 1
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
			s.open = 1
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
		"culvert was stopped and the backend is silent": {func(s *silenceScript) {
			s.sent(s.now())
			s.until(11 * sec)
			s.at = 45 * sec
			s.until(60 * minute)
		}, []time.Duration{10 * sec}, 55 * sec},
		"bytes wait to be read": {func(s *silenceScript) {
			s.sent(s.now())
			s.until(11 * sec)
			s.unread = true
			s.until(5 * minute)
			s.unread = false
			s.until(60 * minute)
		}, []time.Duration{10 * sec}, 310 * sec},
		"the ping is still behind other bytes": {func(s *silenceScript) {
			s.sent(s.now())
			s.until(10 * sec)
			s.position = 1000
			for s.acked < 1000 { // 20 of them a second
				s.acked += 20
				s.until(s.at + sec)
			}
			s.until(60 * minute)
		}, []time.Duration{10 * sec}, 70 * sec},
		"bytes behind the ping prove nothing": {func(s *silenceScript) {
			s.sent(s.now())
			for range 60 {
				s.acked++
				s.until(s.at + sec)
			}
		}, []time.Duration{10 * sec}, 20 * sec},
		"nothing gets on, the ping neither": {func(s *silenceScript) {
			s.sent(s.now())
			s.until(10 * sec)
			s.position = 1000
			s.until(60 * minute)
		}, []time.Duration{10 * sec}, 20 * sec},
	} {
		t.Run(name, func(t *testing.T) {
			s := &silenceScript{}
			s.open = 1
			c.script(s)
			if !slices.Equal(s.pinged, c.pinged) || s.gaveUp != c.gaveUp {
				t.Errorf("pinged at %v and gave up at %v, want %v and %v", s.pinged, s.gaveUp, c.pinged, c.gaveUp)
			}
		})
	}
}

// TestSilentBackendEndsItsCalls: a backend that reads and answers nothing, and
// later calls go elsewhere.
func TestSilentBackendEndsItsCalls(t *testing.T) {
	for _, keepalive := range []time.Duration{0, 10 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			silent, living := parts.ListenPipe(t), parts.ListenPipe(t)
			var pings atomic.Int64
			var serving sync.WaitGroup
			serving.Go(func() { countPings(silent, &pings) })
			t.Cleanup(func() { // after the upstream's connections are closed
				_ = silent.Close() // nobody dials any more
				serving.Wait()
			})
			serveBackend(t, living, echo)
			b := inBubble(living)
			b.Keepalive = keepalive
			var dialled atomic.Int64
			b.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
				if dialled.Add(1) == 1 {
					return silent.DialContext(ctx)
				}
				return living.DialContext(ctx)
			}
			u := upstreamTo(t, b)
			start := time.Now()
			e := callUpstream(t.Context(), t, u, nil)
			if got, want := time.Since(start), silencePatience+PingTimeout; got != want || e.reason != report.ReasonUpstreamSilent || e.status.Code() != codes.Unavailable {
				t.Errorf("with keep-alive %v the call ended after %v with %v (%s), want %s after %v", keepalive, got, e.status, e.cause, report.ReasonUpstreamSilent, want)
			}
			if got := u.state("").LostPings; got != 1 {
				t.Errorf("with keep-alive %v %d connections count as lost, want 1", keepalive, got)
			}
			if e := callUpstream(t.Context(), t, u, nil); e.status.Code() != codes.OK {
				t.Errorf("the next call: %v (%s)", e.status, e.cause)
			}
		})
	}
}

// TestSilenceBesideKeepalive: a backend that hangs once it has answered ends its calls as
// without backend.keepalive, long before the PING for that is due.
func TestSilenceBesideKeepalive(t *testing.T) {
	for _, keepalive := range []time.Duration{0, 5 * time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ln := parts.ListenPipe(t)
			serveBackend(t, ln, echo)
			var hangs atomic.Bool
			b := inBubble(ln)
			b.Keepalive = keepalive
			b.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
				conn, err := ln.DialContext(ctx)
				return &hangingConn{conn, &hangs}, err
			}
			call, err := openCall(t.Context(), upstreamTo(t, b), Request{Method: testMethod})
			if err != nil {
				t.Fatal(err)
			}
			send := func() {
				if err := call.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); err != nil {
					t.Error(err)
				}
			}
			send()
			m, err := call.Recv()
			if err != nil {
				t.Fatal(err)
			}
			m.Free()
			elapse(20 * time.Second) // what was sent so far is forgotten
			hangs.Store(true)
			start := time.Now()
			send()
			_, err = call.Recv()
			if got, want := time.Since(start), silencePatience+PingTimeout; got != want || judge(err).reason != report.ReasonUpstreamSilent {
				t.Errorf("with keep-alive %v the call ended after %v with %v, want %s after %v", keepalive, got, err, report.ReasonUpstreamSilent, want)
			}
		})
	}
}

// A hangingConn loses what is written while the backend hangs.
type hangingConn struct {
	net.Conn
	hangs *atomic.Bool
}

func (c *hangingConn) Write(p []byte) (int, error) {
	if c.hangs.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// TestStockServerToleratesPings: grpc-go's server, as it is without options,
// never answers GOAWAY, whatever its calls do or don't for hours.
func TestStockServerToleratesPings(t *testing.T) {
	const hours = 4 * time.Hour
	for name, c := range map[string]struct {
		every  time.Duration // a message from the client
		answer int           // each how many-th is answered; 0: none
	}{
		"a quiet stream":                  {hours, 0},
		"messages that nobody answers":    {15 * time.Second, 0},
		"messages of which few":           {31 * time.Second, 9},
		"messages that are answered late": {61 * time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testStockServer(t, hours, c.every, c.answer) })
		})
	}
}

func testStockServer(t *testing.T, hours, every time.Duration, answer int) {
	t.Helper()
	ln := parts.ListenPipe(t)
	serveBackend(t, ln, func(ss grpc.ServerStream) error {
		for n := 1; ; n++ {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return nil // the half-close
			}
			if answer > 0 && n%answer == 0 {
				if err := ss.SendMsg(m); err != nil {
					return err
				}
			}
		}
	}, grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(1<<20)) // without, its own pings would answer each message
	var dialled, pings atomic.Int64
	b := inBubble(ln)
	b.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
		dialled.Add(1)
		conn, err := ln.DialContext(ctx)
		return &pingCounter{Conn: conn, pings: &pings}, err
	}
	u := upstreamTo(t, b)
	call, err := openCall(t.Context(), u, Request{Method: testMethod})
	if err != nil {
		t.Fatal(err)
	}
	var receiving sync.WaitGroup
	receiving.Go(func() {
		for {
			m, err := call.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Errorf("the call ended after: %v", err)
				return
			}
			m.Free()
		}
	})
	elapse(time.Second) // past the handshake's last frames, which are heard, too
	sent := 0
	for start := time.Now(); time.Since(start) < hours; elapse(every) {
		if err := call.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); err != nil {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		sent++
	}
	call.CloseSend()
	receiving.Wait()
	if dialled.Load() != 1 {
		t.Errorf("%d connections, want one that lasts", dialled.Load())
	}
	if pings.Load() == 0 {
		t.Error("no ping was sent: nothing was tested")
	}
	t.Logf("%d messages, %d pings in %v", sent, pings.Load(), hours)
}

// pingCounter counts culvert's pings on their way out.
type pingCounter struct {
	net.Conn
	pings *atomic.Int64
}

func (c *pingCounter) Write(p []byte) (int, error) {
	if bytes.Equal(p, silencePing) {
		c.pings.Add(1)
	}
	return c.Conn.Write(p)
}

// TestSlowBackendIsNotSilent: its transport answers while it computes, also
// with several calls, and the call ends as if nobody had asked.
func TestSlowBackendIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := parts.ListenPipe(t)
		serveBackend(t, ln, func(ss grpc.ServerStream) error {
			<-time.After(2 * time.Hour)
			return echo(ss)
		})
		u := upstreamTo(t, inBubble(ln))
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if e := callUpstream(t.Context(), t, u, nil); e.status.Code() != codes.OK {
					t.Errorf("a call of two hours: %v (%s)", e.status, e.cause)
				}
			})
			elapse(time.Minute)
		}
		calls.Wait()
	})
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
			c.watch.s.asked, c.watch.s.position = true, math.MaxUint64 // a ping is due
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

// TestKeepalive: a backend that answered all that was sent ends its calls once it doesn't
// answer the PING of backend.keepalive.
func TestKeepalive(t *testing.T) {
	for keepalive, want := range map[time.Duration]time.Duration{time.Second: MinKeepalive, time.Minute: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			ln := parts.ListenPipe(t)
			var serving sync.WaitGroup
			serving.Go(func() { answerHeaderAlone(ln) })
			t.Cleanup(func() { // after the upstream's connections are closed
				_ = ln.Close() // nobody dials any more
				serving.Wait()
			})
			b := inBubble(ln)
			b.Keepalive = keepalive
			u, start := upstreamTo(t, b), time.Now()
			e := callUpstream(t.Context(), t, u, nil)
			if e.reason != report.ReasonUpstreamSilent || e.cause != errNotAlive.Error() {
				t.Errorf("got %v, %s (%s); want %s by keepalive", e.status, e.reason, e.cause, report.ReasonUpstreamSilent)
			}
			if got := time.Since(start); got != want+PingTimeout {
				t.Errorf("with keep-alive %v the call ended after %v, want %v", keepalive, got, want+PingTimeout)
			}
			if got := u.state("").LostPings; got != 1 {
				t.Errorf("%d connections count as lost, want 1", got)
			}
		})
	}
}

// TestTooManyPings: after a GOAWAY that complains of PINGs, later connections have half as
// many. gRFC A8.
func TestTooManyPings(t *testing.T) {
	u := upstreamTo(t, report.Backend{Keepalive: time.Minute, Target: startFrames(t, func(c *frameConn, id uint32) {
		c.ok(id)
		c.end(id, "grpc-status", "0")
		if id > 1 {
			_ = c.framer.WriteGoAway(id, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))
		}
	}).address})
	every := func() time.Duration { return time.Duration(u.pool.keepalive.Load()) }
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 2 * time.Minute, 4 * time.Minute} {
		if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != codes.OK {
			t.Fatal(e.status)
		}
		poll(t, func() string {
			if got := every(); got != want {
				return fmt.Sprintf("later connections are pinged every %v, want %v", got, want)
			}
			return ""
		})
	}
}

// answerHeaderAlone serves one connection. It answers a request that has ended
// with a header, and no ping.
func answerHeaderAlone(ln net.Listener) {
	conn, err := ln.Accept()
	if err != nil {
		return
	}
	c := &frameConn{Conn: conn}
	c.framer = http2.NewFramer(&c.out, conn)
	c.hpack = hpack.NewEncoder(&c.block)
	_, _ = io.ReadFull(conn, make([]byte, len(http2.ClientPreface))) // ReadFrame fails then, too
	_ = c.framer.WriteSettings()                                     // to memory
	for c.flush() == nil {
		f, err := c.framer.ReadFrame()
		if err != nil {
			break
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.framer.WriteSettingsAck()
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				c.ok(f.StreamID)
			}
		}
	}
	_ = conn.Close() // it is broken
}

package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/internal/socket"
)

// inBubble runs a test of one connection in a bubble. The client's end of it
// reads all the time and passes frames on.
func inBubble(t *testing.T, handler http.HandlerFunc, f func(t *testing.T, hs *http.Server, p *bubblePeer)) {
	t.Helper()
	inHookedBubble(t, Hooks{}, handler, f)
}

func inHookedBubble(t *testing.T, hooks Hooks, handler http.HandlerFunc, f func(t *testing.T, hs *http.Server, p *bubblePeer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		pipes := newPipes()
		hs := serveWith(t, pipes, hooks, handler)
		p := &bubblePeer{peer: newPeer(t, pipes.dial()), begun: time.Now()}
		p.reading.Go(p.read)
		f(t, hs, p)
		_ = p.conn.Close() // the test may have
		p.reading.Wait()
	})
}

// A bubblePeer notes what came and when, and answers nothing by itself.
type bubblePeer struct {
	*peer
	begun   time.Time
	reading sync.WaitGroup

	mu     sync.Mutex
	came   []string
	ended  int           // streams, by DATA
	reset  int           // streams
	closed time.Duration // when; 0: not yet
}

func (p *bubblePeer) read() {
	for {
		f, err := p.framer.ReadFrame()
		p.mu.Lock()
		if err != nil {
			p.closed = time.Since(p.begun)
			p.mu.Unlock()
			return
		}
		name := f.Header().Type.String()
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			name += " " + f.ErrCode.String()
			if f.LastStreamID == maxWindow {
				name += " for all"
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				p.ended++
			}
		case *http2.RSTStreamFrame:
			p.reset++
		case *http2.PingFrame:
			name += " " + string(bytes.TrimRight(f.Data[:], "\x00"))
		}
		p.came = append(p.came, name)
		p.mu.Unlock()
	}
}

func (p *bubblePeer) hello() {
	p.out.WriteString(http2.ClientPreface)
	p.must(p.framer.WriteSettings())
	p.flush()
}

// elapse lets time pass, and returns what came in it but SETTINGS and windows.
func (p *bubblePeer) elapse(d time.Duration) []string {
	<-time.After(d)
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	came := slices.DeleteFunc(p.came, func(s string) bool { return s == "SETTINGS" || s == "WINDOW_UPDATE" })
	p.came = nil
	return came
}

func (p *bubblePeer) wantClosed(at time.Duration) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != at {
		p.t.Errorf("the connection was closed after %v, want %v", p.closed, at)
	}
}

func wantCame(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSilentClientIsPinged, and closed when it doesn't answer.
func TestSilentClientIsPinged(t *testing.T) {
	inBubble(t, stuck, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, true)
		p.flush()
		wantCame(t, p.elapse(20*time.Second-1))
		wantCame(t, p.elapse(1), "PING alive")
		p.must(p.framer.WritePing(true, keepAlivePing))
		p.flush()
		wantCame(t, p.elapse(20*time.Second-1))
		wantCame(t, p.elapse(1), "PING alive")
		p.elapse(10*time.Second - 1)
		p.wantClosed(0)
		wantCame(t, p.elapse(1), "GOAWAY NO_ERROR for all", "PING goodbye", "GOAWAY NO_ERROR", "HEADERS")
		p.elapse(goodbyeTime)
		p.wantClosed(50*time.Second + goodbyeTime)
	})
}

// TestClientThatSpeaksIsNotPinged.
func TestClientThatSpeaksIsNotPinged(t *testing.T) {
	inBubble(t, stuck, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.flush()
		for range 20 {
			wantCame(t, p.elapse(19*time.Second))
			p.data(1, false, "x")
			p.flush()
		}
	})
}

// TestIdleConnectionIsClosed with a goodbye, when it has had no stream for five
// minutes and its client has answered a ping.
func TestIdleConnectionIsClosed(t *testing.T) {
	inBubble(t, func(http.ResponseWriter, *http.Request) {}, func(t *testing.T, hs *http.Server, p *bubblePeer) {
		p.hello()
		p.elapse(time.Second)
		p.headers(1, true)
		p.flush()
		wantCame(t, p.elapse(time.Second), "HEADERS")
		for range 16 { // it stays awake
			p.must(p.framer.WritePing(false, [8]byte{1}))
			p.flush()
			wantCame(t, p.elapse(18*time.Second), "PING \x01")
		}
		p.must(p.framer.WritePing(false, [8]byte{1}))
		p.flush()
		wantCame(t, p.elapse(0), "PING \x01")
		wantCame(t, p.elapse(hs.IdleTimeout-16*18*time.Second-time.Second), "PING alive")
		p.must(p.framer.WritePing(true, keepAlivePing)) // it has read the answer
		p.flush()
		wantCame(t, p.elapse(time.Second), "GOAWAY NO_ERROR for all", "PING goodbye")
		wantCame(t, p.elapse(pongTime), "GOAWAY NO_ERROR")
		p.elapse(goodbyeTime)
		p.wantClosed(time.Second + hs.IdleTimeout + time.Second + pongTime + goodbyeTime)
	})
}

// TestUnreadAnswerOutlivesTheIdleTime: a client may stand still with its last
// answer in its kernel. It is told of no end before it has read on, or before it
// has had the time of a slow client.
func TestUnreadAnswerOutlivesTheIdleTime(t *testing.T) {
	const idle, patience = 10 * time.Second, 2 * time.Minute
	answer := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }
	for name, c := range map[string]struct {
		patience time.Duration
		speaks   bool          // it sends frames, but answers no ping
		readsOn  time.Duration // when it answers; 0: never
		told     time.Duration // of the end
		want     End
	}{
		"reads on":               {patience: patience, readsOn: time.Minute, told: time.Minute + time.Second, want: EndIdle},
		"reads on, no bound":     {readsOn: time.Minute, told: time.Minute + time.Second, want: EndIdle},
		"stands still":           {patience: patience, told: idle + patience, want: EndSlow},
		"stands still, no bound": {told: idle + unreadTime + time.Second, want: EndIdle},
		"speaks":                 {patience: patience, speaks: true, told: idle + patience + time.Second, want: EndIdle},
		"speaks, no bound":       {speaks: true, told: idle + unreadTime + time.Second, want: EndIdle},
	} {
		t.Run(name, func(t *testing.T) {
			var ends []End
			hooks := Hooks{
				Rules: with(func(r *Rules) { r.Idle, r.Age, r.SlowConsumer = idle, time.Hour, c.patience }),
				Ended: func(_ net.Conn, why End) { ends = append(ends, why) },
			}
			inHookedBubble(t, hooks, answer, func(t *testing.T, _ *http.Server, p *bubblePeer) {
				p.hello()
				p.headers(1, true)
				p.flush()
				wantCame(t, p.elapse(0), "HEADERS", "DATA")
				told := time.Duration(0)
				for told == 0 && time.Since(p.begun) < c.told+5*time.Second {
					switch now := time.Since(p.begun); {
					case now == c.readsOn && c.readsOn > 0:
						p.must(p.framer.WritePing(true, keepAlivePing))
						p.flush()
					case c.speaks:
						p.must(p.framer.WriteWindowUpdate(0, 1))
						p.flush()
					}
					if slices.Contains(p.elapse(500*time.Millisecond), "GOAWAY NO_ERROR for all") {
						told = time.Since(p.begun)
					}
				}
				if told < c.told || told > c.told+time.Second {
					t.Errorf("told of the end after %v, want %v", told, c.told)
				}
				p.elapse(2 * time.Second)
				if p.closed == 0 {
					t.Error("the connection stays open")
				}
			})
			if want := []End{c.want}; !slices.Equal(ends, want) {
				t.Errorf("the connection ended as %q, want %q", ends, want)
			}
		})
	}
}

// TestLifetimeOfAConnection: after its idle time, or its age, it takes no new
// streams; those that run may end.
func TestLifetimeOfAConnection(t *testing.T) {
	var ends []End
	hooks := Hooks{
		Rules: with(func(r *Rules) { r.Idle, r.Age = 30*time.Second, time.Minute }),
		Ended: func(_ net.Conn, why End) { ends = append(ends, why) },
	}
	inHookedBubble(t, hooks, stuck, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		wantCame(t, p.elapse(20*time.Second), "PING alive")
		p.must(p.framer.WritePing(true, keepAlivePing))
		p.flush()
		wantCame(t, p.elapse(10*time.Second), "GOAWAY NO_ERROR for all", "PING goodbye")
		wantCame(t, p.elapse(pongTime), "GOAWAY NO_ERROR")
		p.elapse(goodbyeTime)
		p.wantClosed(30*time.Second + pongTime + goodbyeTime)
	})
	inHookedBubble(t, hooks, stuck, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, true)
		p.flush()
		for range 4 {
			wantCame(t, p.elapse(14*time.Second))
			p.must(p.framer.WritePing(true, [8]byte{}))
			p.flush()
		}
		wantCame(t, p.elapse(4*time.Second), "GOAWAY NO_ERROR for all", "PING goodbye")
		p.must(p.framer.WritePing(true, goodbyePing))
		p.headers(3, true) // too late
		p.flush()
		wantCame(t, p.elapse(15*time.Second), "GOAWAY NO_ERROR")
		p.wantClosed(0)
		p.must(p.framer.WriteRSTStream(1, http2.ErrCodeCancel))
		p.flush()
		p.elapse(goodbyeTime)
		p.wantClosed(75*time.Second + goodbyeTime)
	})
	if want := []End{EndIdle, EndAge}; !slices.Equal(ends, want) {
		t.Errorf("the connections ended as %q, want %q", ends, want)
	}
}

// TestEndsAreTold: why a connection ended, once each.
func TestEndsAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		want End
		do   func(hs *http.Server, p *bubblePeer)
	}{
		"the client closes": {EndOrderly, func(_ *http.Server, p *bubblePeer) { p.hello() }},
		"the client says goodbye": {EndOrderly, func(_ *http.Server, p *bubblePeer) {
			p.hello()
			p.must(p.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
			p.flush()
			p.elapse(time.Minute)
		}},
		"shutdown": {EndShutdown, func(hs *http.Server, p *bubblePeer) {
			p.hello()
			p.elapse(time.Second)
			_ = hs.Shutdown(p.t.Context()) // in time
		}},
		"silence": {EndSilent, func(_ *http.Server, p *bubblePeer) {
			p.hello()
			p.elapse(time.Minute)
		}},
		"no settings": {EndSlow, func(_ *http.Server, p *bubblePeer) {
			p.out.WriteString(http2.ClientPreface)
			p.flush()
			p.elapse(time.Minute)
		}},
		"a header that doesn't end": {EndSlow, func(_ *http.Server, p *bubblePeer) {
			p.hello()
			p.frame(http2.FrameHeaders, 0, 1, "")
			p.flush()
			p.elapse(time.Minute)
		}},
		"a broken rule": {EndProtocol, func(_ *http.Server, p *bubblePeer) {
			p.hello()
			p.frame(http2.FrameData, 0, 0, "")
			p.flush()
			p.elapse(time.Minute)
		}},
		"a flood": {EndFlood, func(_ *http.Server, p *bubblePeer) {
			p.hello()
			for range maxUseless {
				p.frame(99, 0, 0, "")
			}
			p.flush()
			p.elapse(time.Minute)
		}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			var ends []End
			hooks := Hooks{Ended: func(_ net.Conn, why End) { ends = append(ends, why) }}
			inHookedBubble(t, hooks, stuck, func(_ *testing.T, hs *http.Server, p *bubblePeer) { c.do(hs, p) })
			if want := []End{c.want}; !slices.Equal(ends, want) {
				t.Errorf("it ended as %q, want %q", ends, want)
			}
		})
	}
}

// TestHeaderBlockThatTakesTooLong ends the connection, within a frame and
// between frames.
func TestHeaderBlockThatTakesTooLong(t *testing.T) {
	for name, frame := range map[string]func(p *bubblePeer) []byte{
		"one frame": func(p *bubblePeer) []byte {
			p.headers(1, true)
			return bytes.Clone(p.out.Bytes())
		},
		"CONTINUATION": func(p *bubblePeer) []byte {
			for i, b := range p.fields(post...) {
				kind := http2.FrameContinuation
				if i == 0 {
					kind = http2.FrameHeaders
				}
				p.frame(kind, 0, 1, string([]byte{b}))
			}
			return bytes.Clone(p.out.Bytes())
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, stuck, func(t *testing.T, hs *http.Server, p *bubblePeer) {
				p.hello()
				b := frame(p)
				p.out.Reset()
				for i := 0; time.Since(p.begun) < hs.ReadHeaderTimeout-time.Second; i++ {
					p.out.Write(b[i : i+1])
					p.flush()
					wantCame(t, p.elapse(time.Second/2))
				}
				wantCame(t, p.elapse(6*time.Second), "GOAWAY ENHANCE_YOUR_CALM")
				if p.closed == 0 || p.closed > hs.ReadHeaderTimeout+10*frameHeaderBytes*time.Second/2 {
					t.Errorf("it was closed after %v", p.closed)
				}
			})
		})
	}
}

// TestClientWithoutSettings is not waited for.
func TestClientWithoutSettings(t *testing.T) {
	inBubble(t, stuck, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.out.WriteString(http2.ClientPreface)
		p.flush()
		wantCame(t, p.elapse(settingsTime), "GOAWAY SETTINGS_TIMEOUT")
		p.elapse(goodbyeTime)
		p.wantClosed(settingsTime + goodbyeTime)
	})
}

// TestDeadlines of a handler hold to the moment: a read returns, a write does
// and its stream is reset.
func TestDeadlines(t *testing.T) {
	inBubble(t, func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(begun.Add(time.Second)) // never fails here
		_ = rc.SetWriteDeadline(begun.Add(3 * time.Second))
		_, err := r.Body.Read(make([]byte, 1))
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took != time.Second {
			t.Errorf("the read ended after %v with %v, want %v and %v", took, err, time.Second, os.ErrDeadlineExceeded)
		}
		_, err = w.Write(make([]byte, 1<<20))
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took != 3*time.Second {
			t.Errorf("the write ended after %v with %v, want %v and %v", took, err, 3*time.Second, os.ErrDeadlineExceeded)
		}
	}, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.flush()
		p.elapse(3*time.Second - 1)
		wantCame(t, p.elapse(1), "RST_STREAM")
	})
}

// TestLateAnswers: a write deadline that has passed resets no stream whose answer needn't
// wait for the client. On a busy machine it may be over before the handler gets to write.
func TestLateAnswers(t *testing.T) {
	for name, before := range map[string]func(w http.ResponseWriter){
		"nothing before": func(http.ResponseWriter) {},
		"a header before": func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush() // never fails here
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w http.ResponseWriter, _ *http.Request) {
				before(w)
				rc := http.NewResponseController(w)
				_ = rc.SetWriteDeadline(time.Now().Add(time.Second)) // never fails here
				<-time.After(5 * time.Second)
				_ = rc.SetWriteDeadline(time.Unix(1, 0))
				if _, err := io.WriteString(w, "late"); err != nil {
					t.Error(err)
				}
				w.Header().Set(http.TrailerPrefix+"Status", "0")
			}, func(t *testing.T, _ *http.Server, p *bubblePeer) {
				p.hello()
				p.headers(1, true)
				p.flush()
				p.elapse(time.Second)
				if got := p.elapse(10 * time.Second); slices.Contains(got, "RST_STREAM") || len(got) == 0 || got[len(got)-1] != "HEADERS" {
					t.Errorf("got %v, want the whole answer with its trailers", got)
				}
			})
		})
	}
}

// TestLateWritesOfWhichNothingWasSent only fail behind CutWrites, so that the handler can end the
// answer otherwise. Behind SetWriteDeadline they reset the stream.
func TestLateWritesOfWhichNothingWasSent(t *testing.T) {
	const window = 10
	write := func(w http.ResponseWriter, s string) error {
		_, err := io.WriteString(w, s)
		return errors.Join(err, http.NewResponseController(w).Flush())
	}
	trailers := func(w http.ResponseWriter) { w.Header().Set(http.TrailerPrefix+"Status", "8") }
	large := strings.Repeat("x", 20<<10)
	for name, c := range map[string]struct {
		before, late, length string // before is sent whole
		plain                bool   // with SetWriteDeadline
		after                func(w http.ResponseWriter)
		want                 []string
	}{
		"one write":             {late: large, after: trailers, want: []string{"HEADERS"}},
		"one small write":       {late: "x", after: trailers, want: []string{"HEADERS"}},
		"behind others":         {before: strings.Repeat("x", window), late: large, after: trailers, want: []string{"HEADERS"}},
		"a part was sent":       {before: strings.Repeat("x", window-1), late: large, after: trailers, want: []string{"RST_STREAM"}},
		"with a length":         {late: "12345", length: "5", after: trailers, want: []string{"RST_STREAM"}},
		"a plain deadline":      {late: large, plain: true, after: trailers, want: []string{"RST_STREAM"}},
		"the end is late, too":  {late: large, after: func(w http.ResponseWriter) { _, _ = io.WriteString(w, "end") }, want: []string{"RST_STREAM"}},
		"the next is late, too": {late: large, after: func(w http.ResponseWriter) { _ = write(w, "next"); trailers(w) }, want: []string{"HEADERS"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.length != "" {
					w.Header().Set("Content-Length", c.length)
				}
				w.WriteHeader(http.StatusOK)
				if err := write(w, c.before); err != nil {
					t.Error(err)
				}
				if at := time.Now().Add(time.Second); c.plain {
					_ = http.NewResponseController(w).SetWriteDeadline(at) // never fails here
				} else {
					CutWrites(w, at)
				}
				err := write(w, c.late)
				if resets := c.plain || len(c.before)%window > 0; !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, socket.ErrNothingSent) == resets {
					t.Errorf("the late write returned %v; it resets the stream: %v", err, resets)
				}
				c.after(w)
			}, func(t *testing.T, _ *http.Server, p *bubblePeer) {
				initial := uint32(0)
				if c.before != "" {
					initial = window
				}
				p.out.WriteString(http2.ClientPreface)
				p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: initial}))
				p.headers(1, true)
				p.flush()
				if got := p.elapse(time.Second - 1); len(got) == 0 || got[0] != "HEADERS" {
					t.Errorf("it begins with %q", got)
				}
				came := p.elapse(5 * time.Second)
				p.must(p.framer.WriteWindowUpdate(1, 1<<20))
				p.headers(3, true) // the connection goes on
				p.flush()
				next := p.elapse(time.Minute)
				if i := slices.Index(next, "HEADERS"); i >= 0 {
					came, next = append(came, next[:i]...), next[i:]
				}
				wantCame(t, came, c.want...)
				if len(next) == 0 {
					t.Error("the next stream gets nothing")
				}
			})
		})
	}
}

// TestLateWriteThatIsForgiven: a deadline that is set while a write fails doesn't make it pass for
// sent.
func TestLateWriteThatIsForgiven(t *testing.T) {
	for range 20 {
		inBubble(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusOK)
			rc := http.NewResponseController(w)
			_ = rc.Flush() // never fails here
			time.AfterFunc(time.Second, func() {
				CutWrites(w, time.Now())
				_ = rc.SetWriteDeadline(time.Now().Add(time.Minute)) // never fails here
			})
			_, err := io.WriteString(w, "lost")
			if err = errors.Join(err, rc.Flush()); !errors.Is(err, socket.ErrNothingSent) {
				t.Errorf("the write that was cut returned %v", err)
			}
		}, func(_ *testing.T, _ *http.Server, p *bubblePeer) {
			p.out.WriteString(http2.ClientPreface)
			p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
			p.headers(1, true)
			p.flush()
			p.elapse(5 * time.Second)
		})
	}
}

// TestSettle: Settle waits for the client's window, until the write deadline at the latest. The
// end of the answer then needs no window.
func TestSettle(t *testing.T) {
	for name, c := range map[string]struct {
		window uint32
		opens  time.Duration // its window, after that time; 0: never
		body   string
		want   []string
		took   time.Duration
	}{
		"it has a window":     {window: 10, body: "0123456789", want: []string{"HEADERS", "DATA", "HEADERS"}},
		"it opens one":        {opens: time.Second, body: "0123456789", want: []string{"HEADERS", "DATA", "HEADERS"}, took: time.Second},
		"it opens none":       {body: "0123456789", want: []string{"HEADERS", "HEADERS"}, took: 3 * time.Second},
		"it opens a part":     {window: 5, body: "0123456789", want: []string{"HEADERS", "DATA", "RST_STREAM"}, took: 3 * time.Second},
		"it needs no window":  {want: []string{"HEADERS", "HEADERS"}},
		"a body and the rest": {window: 1 << 20, body: strings.Repeat("x", 10<<10), want: []string{"HEADERS", "DATA", "HEADERS"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(w http.ResponseWriter, _ *http.Request) {
				begun := time.Now()
				CutWrites(w, begun.Add(3*time.Second))
				w.Header().Set("Content-Type", "text/plain")
				_, _ = io.WriteString(w, c.body) // kept, or Settle has the result
				served, err := Settle(w, false)
				if took := time.Since(begun); !served || took != c.took || errors.Is(err, os.ErrDeadlineExceeded) != (c.took == 3*time.Second) {
					t.Errorf("served: %v after %v with %v, want %v", served, took, err, c.took)
				}
				_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second)) // never fails here
				w.Header().Set(http.TrailerPrefix+"Status", "0")
				if _, err := Settle(w, true); err != nil && c.want[len(c.want)-1] != "RST_STREAM" {
					t.Errorf("there is no room for the end: %v", err)
				}
			}, func(t *testing.T, _ *http.Server, p *bubblePeer) {
				p.out.WriteString(http2.ClientPreface)
				p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: c.window}))
				p.headers(1, true)
				p.flush()
				if c.opens > 0 {
					time.AfterFunc(c.opens, func() {
						p.must(p.framer.WriteWindowUpdate(1, 1<<20))
						p.flush()
					})
				}
				wantCame(t, p.elapse(10*time.Second), c.want...)
			})
		})
	}
}

// TestLeft: the owner is told of the streams that wait behind their handlers, and may refuse them.
// A client that reads gets all of them, however slowly.
func TestLeft(t *testing.T) {
	const streams, most = 12, 4
	for name, c := range map[string]struct {
		window, later  uint32
		answers, reset int
	}{
		"no window":       {0, 100, most, streams - most},
		"a window":        {100, 100, streams, 0},
		"a window of one": {1, 100, most, streams - most},
	} {
		t.Run(name, func(t *testing.T) {
			var left, highest, all atomic.Int64
			hooks := Hooks{Left: func(_ net.Conn, n int) bool {
				if n > 0 && left.Load() == most {
					return false
				}
				all.Add(1)
				highest.Store(max(highest.Load(), left.Add(int64(n))))
				return true
			}}
			inHookedBubble(t, hooks, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "no such page") }, func(t *testing.T, _ *http.Server, p *bubblePeer) {
				p.out.WriteString(http2.ClientPreface)
				p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: c.window}))
				for i := range uint32(streams) {
					p.headers(2*i+1, true)
				}
				p.flush()
				p.elapse(time.Second)
				for i := range uint32(streams) {
					p.must(p.framer.WriteWindowUpdate(2*i+1, c.later))
				}
				p.flush()
				p.elapse(time.Second)
				p.mu.Lock()
				defer p.mu.Unlock()
				if p.ended != c.answers || p.reset != c.reset {
					t.Errorf("%d answers came and %d resets, want %d and %d", p.ended, p.reset, c.answers, c.reset)
				}
				if left.Load() != 0 || highest.Load() > most || c.reset > 0 != (all.Load() > 0) {
					t.Errorf("the owner was told of %d streams, then %d, and %d are left", all.Load(), highest.Load(), left.Load())
				}
			})
		})
	}
}

// TestLeftIsIdle: a connection whose handlers have all returned does nothing, whatever its
// client leaves unread. It holds no request.
func TestLeftIsIdle(t *testing.T) {
	states := make(chan http.ConnState, 100)
	var requests []weak.Pointer[http.Request]
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		requests = append(requests, weak.Make(r))
		_, _ = io.WriteString(w, "no such page")
	}, func(hs *http.Server) {
		hs.ConnState = func(_ net.Conn, s http.ConnState) { states <- s }
	})
	wantStates := func(all ...http.ConnState) {
		t.Helper()
		for _, want := range all {
			if got := await(t, want.String(), states); got != want {
				t.Errorf("the state is %v, want %v", got, want)
			}
		}
	}
	p := dialPeer(t, address, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	wantStates(http.StateNew, http.StateActive, http.StateIdle) // net/http has read the preface
	for _, stream := range []uint32{1, 3} {
		p.headers(stream, true)
		p.flush()
		wantStates(http.StateActive, http.StateIdle)
		if runtime.GC(); requests[len(requests)-1].Value() != nil {
			t.Errorf("the request of stream %d is held", stream)
		}
	}
	p.must(p.framer.WriteWindowUpdate(1, 100))
	p.flush()
	for ended := false; !ended; {
		if f, ok := p.next().(*http2.DataFrame); ok {
			ended = f.StreamEnded()
		}
	}
	_ = p.conn.Close()
	wantStates(http.StateClosed)
}

// TestLeftIsNoneThatOnlyWaitsInTurn: while a client reads a download, small answers beside it
// have no room for moments. They aren't left, and all of them come.
func TestLeftIsNoneThatOnlyWaitsInTurn(t *testing.T) {
	const answers = 20
	hooks := Hooks{Left: func(net.Conn, int) bool { return false }}
	inHookedBubble(t, hooks, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Download") == "" {
			_, _ = io.WriteString(w, "no such page")
			return
		}
		_, _ = w.Write(make([]byte, 20<<20)) // the client misses it
	}, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.out.WriteString(http2.ClientPreface)
		p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow}))
		p.must(p.framer.WriteWindowUpdate(0, maxWindow-defaultWindow))
		p.headers(1, true, "download", "1")
		p.flush()
		for i := range uint32(answers) {
			p.headers(2*i+3, true)
			p.flush()
		}
		p.elapse(time.Minute)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.ended != answers+1 || p.reset != 0 {
			t.Errorf("%d answers came and %d resets, want %d and none", p.ended, p.reset, answers+1)
		}
	})
}

// TestLeftAndReset: a connection with a running handler isn't idle, although its client resets a
// stream that is left.
func TestLeftAndReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes, goOn := newPipes(), make(chan bool)
		var mu sync.Mutex
		var states []http.ConnState
		hooks := Hooks{Left: func(_ net.Conn, n int) bool {
			if n > 0 {
				<-goOn
			}
			return true
		}}
		serveWith(t, pipes, hooks, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Runs") != "" {
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, "no such page")
		}, func(hs *http.Server) {
			hs.ConnState = func(_ net.Conn, s http.ConnState) {
				mu.Lock()
				defer mu.Unlock()
				states = append(states, s)
			}
		})
		p := &bubblePeer{peer: newPeer(t, pipes.dial()), begun: time.Now()}
		p.reading.Go(p.read)
		p.out.WriteString(http2.ClientPreface)
		p.must(p.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
		p.headers(3, true, "runs", "1")
		p.headers(5, true)
		p.flush()
		p.elapse(time.Second)
		p.must(p.framer.WriteRSTStream(5, http2.ErrCodeCancel))
		p.flush()
		p.elapse(time.Second)
		close(goOn)
		p.elapse(time.Second)
		mu.Lock()
		last := states[len(states)-1]
		mu.Unlock()
		if last != http.StateActive {
			t.Errorf("the state is %v while a handler runs", last)
		}
		_ = p.conn.Close() // the server may have
		p.reading.Wait()
	})
}

// TestDeadlinesThatWereTakenBack do nothing.
func TestDeadlinesThatWereTakenBack(t *testing.T) {
	inBubble(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		for _, at := range []time.Time{time.Now().Add(time.Second), {}} {
			_ = rc.SetReadDeadline(at) // never fails here
			_ = rc.SetWriteDeadline(at)
		}
		<-time.After(2 * time.Second)
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
	}, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.data(1, true, "abc")
		p.flush()
		wantCame(t, p.elapse(3*time.Second), "HEADERS", "DATA")
	})
}

// TestShutdown announces the end, takes what the client began before it knew,
// says which was the last, and closes when that has ended.
func TestShutdown(t *testing.T) {
	var release chan struct{} // of the bubble
	inBubble(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/a.B/C" {
			<-release
		}
	}, func(t *testing.T, hs *http.Server, p *bubblePeer) {
		release = make(chan struct{})
		p.hello()
		p.headers(1, true)
		p.flush()
		p.elapse(time.Second)
		done := make(chan error, 1)
		go func() { done <- hs.Shutdown(context.Background()) }()
		wantCame(t, p.elapse(pongTime/2), "GOAWAY NO_ERROR for all", "PING goodbye")
		p.raw(3, true, ":method", "GET", ":scheme", "http", ":path", "/b")
		p.flush()
		wantCame(t, p.elapse(time.Millisecond), "HEADERS")
		p.must(p.framer.WritePing(true, goodbyePing))
		p.flush()
		wantCame(t, p.elapse(0), "GOAWAY NO_ERROR")
		p.raw(5, true, ":method", "GET", ":scheme", "http", ":path", "/b") // too late: not looked at
		p.data(5, false, "x")
		p.flush()
		wantCame(t, p.elapse(19*time.Second))
		close(release)
		wantCame(t, p.elapse(0), "HEADERS")
		p.elapse(goodbyeTime)
		if p.closed == 0 {
			t.Error("the connection stays open")
		}
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// TestGoAwayOfAClient closes the connection behind its last stream.
func TestGoAwayOfAClient(t *testing.T) {
	var release chan struct{} // of the bubble
	inBubble(t, func(http.ResponseWriter, *http.Request) { <-release }, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		release = make(chan struct{})
		p.hello()
		p.headers(1, true)
		p.must(p.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
		p.flush()
		wantCame(t, p.elapse(pongTime), "GOAWAY NO_ERROR for all", "PING goodbye", "GOAWAY NO_ERROR")
		close(release)
		wantCame(t, p.elapse(0), "HEADERS")
		p.elapse(goodbyeTime)
		p.wantClosed(pongTime + goodbyeTime)
	})
}

// TestTLS serves by ALPN, with the state of it in requests, and refuses what
// HTTP/2 forbids.
func TestTLS(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	defer cert.Close()
	ln := tls.NewListener(listen(t), &tls.Config{Certificates: cert.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}})
	serveOn(t, ln, func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.TLS.NegotiatedProtocol != "h2" {
			t.Errorf("the request's TLS is %v", r.TLS)
		}
		_, _ = io.Copy(w, r.Body) // looked at by the client
	})
	tr := cert.Client().Transport.(*http.Transport).Clone()
	tr.ForceAttemptHTTP2 = true
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodPost, "https://"+ln.Addr().String(), bytes.NewReader(pattern(100_000)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, pattern(100_000)) || res.ProtoMajor != 2 {
		t.Errorf("%s answers %d bytes, %v", res.Proto, len(got), err)
	}

	conf := tr.TLSClientConfig.Clone()
	conf.NextProtos, conf.MaxVersion = []string{"h2"}, tls.VersionTLS12
	conf.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA}
	conf.ServerName = "example.com"
	conn, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, conn)
	_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	p.wantGoAway(http2.ErrCodeInadequateSecurity)
}

// TestConnState hears of a connection as net/http tells it.
func TestConnState(t *testing.T) {
	states := make(chan http.ConnState, 100)
	address := serve(t, func(http.ResponseWriter, *http.Request) {}, func(hs *http.Server) {
		hs.ConnState = func(_ net.Conn, s http.ConnState) { states <- s }
	})
	p := dialPeer(t, address)
	p.wantAlive(1)
	for _, want := range []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateIdle} {
		if got := await(t, want.String(), states); got != want {
			t.Errorf("the state is %v, want %v", got, want)
		}
	}
	_ = p.conn.Close()
	if got := await(t, "the end", states); got != http.StateClosed {
		t.Errorf("the state is %v, want closed", got)
	}
}

// TestAlarmThatFiredBeforeItWasSetAnew: its function runs once, at the new time.
func TestAlarmThatFiredBeforeItWasSetAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, runs := &conn{}, 0
		a := &alarm{}
		c.mu.Lock()
		c.setAlarm(a, time.Now().Add(time.Second), func() { t.Error("the function of the first time ran") })
		c.setAlarm(a, time.Now().Add(time.Minute), func() { runs++ })
		c.mu.Unlock()
		c.goroutines.Add(1)
		c.sound(a) // as a timer does that fired while mu was held
		want := func(n int) {
			t.Helper()
			c.mu.Lock()
			defer c.mu.Unlock()
			if runs != n {
				t.Errorf("the function ran %d times, want %d", runs, n)
			}
		}
		want(0)
		time.Sleep(2 * time.Minute)
		c.goroutines.Wait()
		want(1)
	})
}

package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// answerAsAsked answers with the code, the coding and messages of the size that the metadata
// asks for.
func answerAsAsked(ss grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(ss.Context())
	asked := func(name string) int {
		n, _ := strconv.Atoi(md.Get(name)[0])
		return n
	}
	if asked("packed") == 1 {
		if err := grpc.SetSendCompressor(ss.Context(), "gzip"); err != nil {
			return err
		}
	}
	for range 3 {
		if err := ss.SendMsg(make([]byte, asked("size"))); err != nil {
			return err
		}
	}
	return status.Error(codes.Code(asked("code")), "as asked")
}

// TestCallsOfOneID: two calls of one id that begin at once on one connection get the status,
// the coding and the sizes of their own answers. Some are cancelled at any moment.
func TestCallsOfOneID(t *testing.T) {
	const pairs = 200
	a := memory.New(64<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, answerAsAsked), MaxConnections: 1, ConnectTimeout: patience}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx := within(t, patience)
	call := func(id string, n int) {
		size, packed, code, held := 1000+n, n%2, codes.Code(n%17), a.NewEntry()
		defer held.Settle()
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(errFinished)
		s, err := up.Open(ctx, cancel, Request{Method: testMethod, ID: id, Held: held, Metadata: metadata.Pairs(idHeader, id, "size", strconv.Itoa(size), "packed", strconv.Itoa(packed), "code", strconv.Itoa(int(code)))})
		if err != nil {
			t.Error(err)
			return
		}
		if n%7 == 0 {
			return // it is cancelled
		}
		s.CloseSend()
		if _, has := s.Header(); !has || s.Compressed() != (packed == 1) {
			t.Errorf("call %d: header %v, compressed %v", n, has, s.Compressed())
		}
		for range 3 {
			m, err := s.Recv()
			if err != nil || m.Len() != size || packed == 0 && s.Wire() != size || packed == 1 && s.Wire() > size/5 {
				t.Errorf("call %d: a message of %d bytes came as %d, %v; want %d", n, m.Len(), s.Wire(), err, size)
			}
			s.Sent(1, s.Wire())
			m.Free()
		}
		if left := held.Messages(); left != 0 {
			t.Errorf("call %d: %d bytes still count", n, left)
		}
		_, err = s.Recv()
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if got := judge(err); got.origin != report.OriginUpstream || got.status.Code() != code {
			t.Errorf("call %d: ended with %v of %s (%s), want %v", n, got.status, got.origin, got.cause, code)
		}
	}
	var calls sync.WaitGroup
	for pair := range pairs {
		id := fmt.Sprint("pair ", pair%20)
		calls.Go(func() { call(id, 2*pair) })
		calls.Go(func() { call(id, 2*pair+1) })
	}
	calls.Wait()
	if used := a.Used(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// TestHeaderLeavesWhole: a backend that answers before a request's header is whole gets no
// part of it before that. So its answer is known to be the call's.
func TestHeaderLeavesWhole(t *testing.T) {
	trailersOnly := func(c *frameConn, id uint32) {
		c.end(id, ":status", "200", "content-type", "application/grpc", "grpc-status", "5")
	}
	for name, answer := range map[string]func(c *frameConn, id uint32){
		"trailers": trailersOnly,
		"a header": func(c *frameConn, id uint32) {
			c.ok(id)
			_ = c.flush()
			c.end(id, "grpc-status", "5")
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := upstreamTo(t, report.Backend{Target: startFrames(t, answer).address})
			for _, size := range []int{30 << 10, 40 << 10, 64 << 10, 1 << 20, 1 << 20, 1 << 20} {
				e := callUpstream(within(t, patience), t, u, metadata.Pairs("x-large", strings.Repeat("~", size)))
				if e.origin != report.OriginUpstream || e.status.Code() != codes.NotFound {
					t.Errorf("a call with %d bytes of metadata ended with %v of %s", size, e.status, e.origin)
				}
			}
		})
	}
}

const mark = "the backend's own words"

// ownEnd writes trailers of the backend's own.
func ownEnd(c *frameConn, id uint32, more ...string) {
	c.end(id, slices.Concat(more, []string{"grpc-status", "5", "grpc-message", mark})...)
}

// refusedBlocks are answers that grpc-go refuses.
func refusedBlocks() map[string]func(c *frameConn, id uint32) {
	end := ownEnd
	large := slices.Repeat([]string{"x-a", strings.Repeat("a", 1000)}, 4*testHeaderBytes/1000+1)
	return map[string]func(c *frameConn, id uint32){
		"a page as Trailers-Only":     func(c *frameConn, id uint32) { c.end(id, ":status", "200", "content-type", "text/html") },
		"no content-type":             func(c *frameConn, id uint32) { c.end(id, ":status", "404") },
		"no status of HTTP":           func(c *frameConn, id uint32) { c.end(id, "x-a", "1") },
		"a status of HTTP of letters": func(c *frameConn, id uint32) { c.end(id, ":status", "ok") },
		"an informational end":        func(c *frameConn, id uint32) { end(c, id, ":status", "103") },
		"a page, then trailers": func(c *frameConn, id uint32) {
			c.headers(id, false, ":status", "200", "content-type", "text/html")
			end(c, id)
		},
		"a status of no number": func(c *frameConn, id uint32) { c.ok(id); c.end(id, "grpc-status", "x", "grpc-message", mark) },
		"no number in Trailers-Only": func(c *frameConn, id uint32) {
			c.end(id, ":status", "200", "content-type", "application/grpc", "grpc-status", "x")
		},
		"no number in a header": func(c *frameConn, id uint32) { c.ok(id, "grpc-status", "x"); end(c, id) },
		"no number beside early hints": func(c *frameConn, id uint32) {
			c.headers(id, false, ":status", "103", "grpc-status", "x")
			c.ok(id)
			end(c, id)
		},
		"too large a trailer":      func(c *frameConn, id uint32) { c.ok(id); end(c, id, large...) },
		"too large a header":       func(c *frameConn, id uint32) { c.ok(id, large...); end(c, id) },
		"a header in the middle":   func(c *frameConn, id uint32) { c.ok(id); c.ok(id); end(c, id) },
		"a name in upper case":     func(c *frameConn, id uint32) { c.ok(id); end(c, id, "X-A", "1") },
		"a name of blanks":         func(c *frameConn, id uint32) { c.ok(id, "x a", "1"); end(c, id) },
		"a value with a line":      func(c *frameConn, id uint32) { c.ok(id); end(c, id, "x-a", "1\n2") },
		"an unknown pseudo-header": func(c *frameConn, id uint32) { c.ok(id); end(c, id, ":x", "1") },
		"a late pseudo-header":     func(c *frameConn, id uint32) { c.ok(id); end(c, id, "x-a", "1", ":status", "200") },
		"a pseudo-header twice": func(c *frameConn, id uint32) {
			c.headers(id, false, ":status", "200", ":status", "200", "content-type", "application/grpc")
			end(c, id)
		},
		"a request's pseudo-header": func(c *frameConn, id uint32) { c.ok(id); end(c, id, ":status", "200", ":path", "/") },
		"data with the end":         func(c *frameConn, id uint32) { c.ok(id); c.data(id, true, nil); end(c, id) },
		"data with the end, no header": func(c *frameConn, id uint32) {
			c.data(id, true, nil)
			end(c, id, ":status", "200", "content-type", "application/grpc")
		},
		"a window update of nothing": func(c *frameConn, id uint32) {
			c.ok(id)
			_ = c.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))
			end(c, id)
		},
		"a reset": func(c *frameConn, id uint32) {
			c.ok(id)
			_ = c.framer.WriteRSTStream(id, http2.ErrCodeInternal)
			end(c, id)
		},
	}
}

// TestBlocksThatGrpcRefuses end a call with culvert's own status, although they, or later
// ones, have one of the backend. The next call on the connection has its own.
func TestBlocksThatGrpcRefuses(t *testing.T) {
	for name, script := range refusedBlocks() {
		t.Run(name, func(t *testing.T) {
			u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
				if id%4 == 1 {
					script(c, id)
					return
				}
				c.ok(id)
				ownEnd(c, id)
			}).address})
			for range 3 { // from the second on, HPACK may have learnt
				if e := callUpstream(within(t, patience), t, u, nil); e.origin != report.OriginCulvert {
					t.Errorf("ended with %v of %s, want culvert's own", e.status, e.origin)
				}
				if e := callUpstream(within(t, patience), t, u, nil); e.origin != report.OriginUpstream || e.status.Message() != mark {
					t.Errorf("the next call ended with %v of %s, want the backend's", e.status, e.origin)
				}
			}
			if n := u.pool.Readied(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// TestBlocksThatGrpcTakesOver have no effect on later ones: the call, or with padding that is
// too long the next one, has the backend's status.
func TestBlocksThatGrpcTakesOver(t *testing.T) {
	end := func(c *frameConn, id uint32) { c.end(id, "grpc-status", "5", "grpc-message", mark) }
	for name, script := range map[string]func(c *frameConn, id uint32){
		"a promise": func(c *frameConn, id uint32) {
			_ = c.framer.WriteRawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, id, []byte{0, 0, 0, 2, 0x88})
			c.ok(id)
			end(c, id)
		},
		"a promise behind a changed header": func(c *frameConn, id uint32) {
			c.ok(id, "x-a-bin", "AA,AQ")
			_ = c.framer.WriteRawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, id, []byte{0, 0, 0, 2, 0x88})
			end(c, id)
		},
		"padding that is too long": func(c *frameConn, id uint32) {
			if id == 1 {
				_ = c.framer.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersPadded, id, []byte{200, 0x88})
			} else {
				c.ok(id)
			}
			end(c, id)
		},
		"a request's pseudo-header alone": func(c *frameConn, id uint32) {
			c.headers(id, false, ":path", "/", "content-type", "application/grpc")
			end(c, id)
		},
		"a list of trailers beside a large header": func(c *frameConn, id uint32) {
			n := 4 * testHeaderBytes * 6 / 10
			c.ok(id, "trailer", strings.Repeat("a", n), "x-a", strings.Repeat("b", n))
			end(c, id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := upstreamTo(t, report.Backend{Target: startFrames(t, script).address})
			for n := range 3 {
				e := callUpstream(within(t, patience), t, u, nil)
				own := n == 0 && strings.HasPrefix(name, "padding")
				if own != (e.origin == report.OriginCulvert) || !own && e.status.Message() != mark {
					t.Errorf("call %d ended with %v of %s", n, e.status, e.origin)
				}
			}
			if n := u.pool.Readied(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// TestMoreDataThanTheWindow ends the call with culvert's own status, although trailers follow.
func TestMoreDataThanTheWindow(t *testing.T) {
	b := startFrames(t, func(c *frameConn, id uint32) {
		c.ok(id)
		for range wire.GRPCWindow/(16<<10) + 1 {
			c.data(id, false, slices.Concat(prefixOf(16<<10-prefixBytes), make([]byte, 16<<10-prefixBytes)))
		}
		c.end(id, "grpc-status", "5")
	})
	b.resets = make(chan uint32, 10)
	u := upstreamTo(t, report.Backend{Target: b.address})
	call, err := openCall(within(t, patience), u, Request{Method: testMethod})
	if err != nil {
		t.Fatal(err)
	}
	select { // Recv gives window back: grpc-go, which reads later than culvert, must have counted all
	case <-b.resets:
	case <-time.After(patience):
		t.Fatal("grpc-go has taken more than its window")
	}
	poll(t, func() string {
		if !call.call.OnWire().Trailed() {
			return "the trailers haven't come"
		}
		return ""
	})
	for err == nil {
		var m mem.BufferSlice
		m, err = call.Recv()
		m.Free()
	}
	if got := judge(err); got.origin != report.OriginCulvert {
		t.Errorf("ended with %v of %s, want culvert's own", got.status, got.origin)
	}
}

// TestLeftOutCallHasNoTrailers: a GOAWAY leaves a call out, and trailers follow for it.
func TestLeftOutCallHasNoTrailers(t *testing.T) {
	u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
		if id == 1 {
			return // it stays, and so does the connection
		}
		c.ok(id)
		_ = c.framer.WriteGoAway(1, http2.ErrCodeNo, nil)
		c.end(id, "grpc-status", "5")
	}).address})
	ctx := within(t, patience)
	if _, err := openCall(ctx, u, Request{Method: testMethod}); err != nil {
		t.Fatal(err)
	}
	if e := callUpstream(ctx, t, u, nil); e.origin != report.OriginCulvert {
		t.Errorf("ended with %v of %s, want culvert's own", e.status, e.origin)
	}
}

// TestGoAwayThatGRPCPassesOver: one of an even stream changes nothing, and one that is higher
// than the one before leaves out the same streams.
func TestGoAwayThatGRPCPassesOver(t *testing.T) {
	t.Run("even", func(t *testing.T) {
		u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
			if id == 1 {
				_ = c.framer.WriteGoAway(2, http2.ErrCodeNo, nil)
			}
			c.ok(id)
			c.end(id, "grpc-status", "5")
		}).address})
		for range 3 {
			if e := callUpstream(within(t, patience), t, u, nil); e.origin != report.OriginUpstream {
				t.Errorf("ended with %v of %s (%s), want the backend's", e.status, e.origin, e.cause)
			}
		}
	})
	t.Run("higher", func(t *testing.T) {
		u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
			if id == 1 {
				return // it stays, and so does the connection
			}
			c.ok(id)
			_ = c.framer.WriteGoAway(1, http2.ErrCodeNo, nil)
			_ = c.framer.WriteGoAway(3, http2.ErrCodeNo, nil)
			c.end(id, "grpc-status", "5")
		}).address})
		ctx := within(t, patience)
		if _, err := openCall(ctx, u, Request{Method: testMethod}); err != nil {
			t.Fatal(err)
		}
		if e := callUpstream(ctx, t, u, nil); e.origin != report.OriginCulvert {
			t.Errorf("ended with %v of %s, want culvert's own", e.status, e.origin)
		}
	})
}

// TestMalformedGoAway leaves no call out, although it ends the connection: the backend may have
// seen the call, which isn't sent again.
func TestMalformedGoAway(t *testing.T) {
	for name, c := range map[string]struct {
		stream  uint32
		payload int
	}{
		"too short":              {0, 7},
		"empty":                  {0, 0},
		"on a stream":            {1, 8},
		"too large":              {0, maxDataBytes + 1},
		"short, and on a stream": {1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				script := func(fc *frameConn, _ uint32) {
					calls.Add(1)
					_ = fc.framer.WriteRawFrame(http2.FrameGoAway, 0, c.stream, make([]byte, c.payload))
				}
				u := upstreamTo(t, framesInBubble(t, script, script))
				synctest.Wait()
				e := callRetried(t.Context(), t, u, &report.Retry{Attempts: 3, Codes: []codes.Code{codes.NotFound}}, []byte("hello"))
				if sent := errorInfo(t, e.status).GetMetadata()["sent"]; e.reason != report.ReasonUpstreamReset || sent != report.SentMaybe || calls.Load() != 1 {
					t.Errorf("ended with %v, sent=%s, after %d calls; want one that may have been sent", e.status, sent, calls.Load())
				}
			})
		})
	}
}

// TestRefusalAfterTheAnswerBegan doesn't say that the backend hasn't seen the call.
func TestRefusalAfterTheAnswerBegan(t *testing.T) {
	for name, then := range map[string]func(c *frameConn, id uint32){
		"a reset":  reset(http2.ErrCodeRefusedStream),
		"a goaway": func(c *frameConn, id uint32) { _ = c.framer.WriteGoAway(0, http2.ErrCodeNo, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
				c.ok(id)
				c.data(id, false, append(prefixOf(3), 1, 2, 3))
				then(c, id)
			}).address})
			s, err := openCall(within(t, patience), u, Request{Method: testMethod})
			if err != nil {
				t.Fatal(err)
			}
			if _, has := s.Header(); !has {
				t.Error("no header")
			}
			for err == nil {
				var m mem.BufferSlice
				m, err = s.Recv()
				m.Free()
			}
			if f, ok := errors.AsType[*report.Fault](err); !ok || f.Sent != report.SentMaybe {
				t.Errorf("ended with %v, want a fault that says that the call may have been sent", err)
			}
		})
	}
}

// TestOwnStatusBeforeTheConnectionBreaks: the backend's own UNAVAILABLE stays its own, if a
// frame behind it, which came in one piece with it, ends the connection.
func TestOwnStatusBeforeTheConnectionBreaks(t *testing.T) {
	for range 10 { // each breaks a connection
		u := upstreamTo(t, report.Backend{Target: startFrames(t, func(c *frameConn, id uint32) {
			c.ok(id)
			c.end(id, "grpc-status", "14", "grpc-message", "maint%65nance")
			_ = c.framer.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))
		}).address})
		if e := callUpstream(within(t, patience), t, u, nil); e.origin != report.OriginUpstream || e.status.Message() != "maintenance" {
			t.Errorf("ended with %v of %s (%s), want the backend's", e.status, e.origin, e.cause)
		}
	}
}

// TestStatusOfAClosedConnection: grpc-go may end the calls of a connection that it closes
// although their trailers have come. The status that it makes then isn't the backend's.
func TestStatusOfAClosedConnection(t *testing.T) {
	for _, c := range []struct {
		own    *status.Status
		st     *status.Status
		closed bool
		says   string // "": the status is the backend's
	}{
		{status.New(codes.NotFound, "gone"), status.New(codes.NotFound, "gone"), true, ""},
		{status.New(codes.Canceled, "gone"), status.New(codes.Canceled, "gone"), true, ""},
		{status.New(codes.Unavailable, "lost"), status.New(codes.Unavailable, "lost"), false, ""},
		{status.New(codes.Unavailable, "gone"), status.New(codes.Unavailable, "lost"), false, "the connection to the backend was lost"},
		{status.New(codes.OK, ""), status.New(codes.Unavailable, "lost"), false, "the connection to the backend was lost"},
		{status.New(codes.OK, ""), status.New(codes.Canceled, "closing"), true, "culvert has closed its connections to the backend"},
		{status.New(codes.OK, ""), status.New(codes.Canceled, "closing"), false, wire.SaysBroken},
	} {
		b := startFrames(t, func(fc *frameConn, id uint32) {
			fc.end(id, ":status", "200", "content-type", "application/grpc", "grpc-status", strconv.Itoa(int(c.own.Code())), "grpc-message", c.own.Message())
		})
		u, err := New(report.Backend{Target: b.address}, testMessages, testHeaderBytes, memory.New(1<<20, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		s, err := openCall(within(t, patience), u, Request{Method: testMethod})
		if err != nil {
			t.Fatal(err)
		}
		poll(t, func() string {
			if !s.call.OnWire().Trailed() {
				return "no trailers came"
			}
			return ""
		})
		if c.closed {
			_ = u.Close() // only that it is closed already
		}
		err = s.classify(c.st.Err())
		f, isFault := errors.AsType[*report.Fault](err)
		if c.says == "" && judge(err).origin != report.OriginUpstream || c.says != "" && (!isFault || f.Text != c.says) {
			t.Errorf("%v with trailers of %v, closed: %v: %v, want %q", c.st, c.own, c.closed, err, c.says)
		}
	}
}

// TestCompressedMessagesCountBothWays: whatever their sizes, and whether they are marked as
// compressed, nothing counts once all are sent.
func TestCompressedMessagesCountBothWays(t *testing.T) {
	a := memory.New(256<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		if err := grpc.SetSendCompressor(ss.Context(), "gzip"); err != nil {
			return err
		}
		for {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return nil //nolint:nilerr // the client's end
			}
			if err := ss.SendMsg(m); err != nil {
				return err
			}
		}
	})}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	noise := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(noise) //nolint:errcheck // it has none
	ctx := within(t, patience)
	held := a.NewEntry()
	call, err := openCall(ctx, up, Request{Method: testMethod, ID: "one", Metadata: metadata.Pairs(idHeader, "one"), Coding: "gzip", Held: held})
	if err != nil {
		t.Fatal(err)
	}
	var messages [][]byte
	for n := range 300 {
		size := []int{0, 1, 5, 100, 3000, 16 << 10, 70_000, 300_000}[n%8]
		messages = append(messages, noise[n:n+size], make([]byte, size))
	}
	var sending sync.WaitGroup
	sending.Go(func() {
		for _, m := range messages {
			if err := call.Send(mem.BufferSlice{mem.SliceBuffer(m)}); err != nil {
				t.Error(err)
			}
		}
		call.CloseSend()
	})
	for n, want := range messages {
		m, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Materialize(), want) {
			t.Fatalf("message %d has %d bytes, want %d", n, m.Len(), len(want))
		}
		m.Free()
		call.Sent(1, call.Wire())
	}
	sending.Wait()
	wantAllSent(t, call, held)
	if call.Full() || call.Waiting() != 0 {
		t.Errorf("full: %v, %d bytes wait", call.Full(), call.Waiting())
	}
}

package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refuse answers without a look at the body.
func refuse(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("grpc-status", "8")
}

// TestAnswerBeforeItsRequestLeavesAlone: the reset follows when nothing has
// come for a while, so that no client reads it with the answer.
func TestAnswerBeforeItsRequestLeavesAlone(t *testing.T) {
	inBubble(t, refuse, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.flush()
		wantCame(t, p.elapse(0), "HEADERS")
		wantCame(t, p.elapse(restSilence-1))
		wantCame(t, p.elapse(1), "RST_STREAM")

		p.headers(3, false)
		p.flush()
		wantCame(t, p.elapse(0), "HEADERS")
		for elapsed := time.Duration(0); elapsed < restTime; elapsed += restSilence / 2 { // it goes on
			p.data(3, false, "a message")
			p.flush()
			wantCame(t, p.elapse(restSilence/2-1))
			if elapsed+restSilence/2 < restTime {
				wantCame(t, p.elapse(1))
			}
		}
		wantCame(t, p.elapse(1), "RST_STREAM")
	})
}

// TestClientThatEndsItsRequestIsNotReset, whatever its length was to be: who
// has the answer may stop.
func TestClientThatEndsItsRequestIsNotReset(t *testing.T) {
	for name, end := range map[string]func(p *bubblePeer){
		"the end":                      func(p *bubblePeer) { p.data(1, true, "0123456789") },
		"an end before its length":     func(p *bubblePeer) { p.data(1, true, "") },
		"trailers":                     func(p *bubblePeer) { p.data(1, false, "0123456789"); p.raw(1, true, "a", "b") },
		"a reset, as grpc-go sends it": func(p *bubblePeer) { p.must(p.framer.WriteRSTStream(1, http2.ErrCodeNo)) },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, refuse, func(t *testing.T, hs *http.Server, p *bubblePeer) {
				p.t = t
				p.hello()
				p.headers(1, false, "content-length", "10")
				p.flush()
				wantCame(t, p.elapse(time.Second), "HEADERS")
				end(p)
				p.flush()
				wantCame(t, p.elapse(restTime-time.Second), "PING alive") // and nothing else
				p.must(p.framer.WritePing(true, keepAlivePing))
				p.headers(3, true)
				p.flush()
				wantCame(t, p.elapse(0), "HEADERS")
			})
		})
	}
}

// TestRestOfARequestIsTaken: the windows open for it, and the frame comes that
// has curl see that its stream is over.
func TestRestOfARequestIsTaken(t *testing.T) {
	const size = 1<<20 - 1000 // less than the connection's window opens by
	p := dialPeer(t, serve(t, refuse))
	p.headers(1, false)
	p.flush()
	r := p.await(1)
	if field(r.header, "grpc-status") != "8" || !r.ended {
		t.Fatalf("the answer is %v", r)
	}
	sendBody(t, p, 1, size, r)
	p.must(p.framer.WritePing(false, [8]byte{1}))
	p.flush()
	nudged := false
	for {
		f := p.next()
		if _, ok := f.(*http2.PingFrame); ok {
			break
		}
		w, ok := f.(*http2.WindowUpdateFrame)
		if !ok {
			t.Fatalf("%v behind the end", f)
		}
		nudged = nudged || w.StreamID == 0
	}
	if !nudged {
		t.Error("nothing came behind the end")
	}
	p.wantAlive(3)
}

// sendBody sends so many bytes as the stream's window lets through, and the
// end. It notes what comes meanwhile.
func sendBody(t *testing.T, p *peer, id uint32, size int, r *reply) {
	t.Helper()
	for window := 64 << 10; size > 0; {
		if window == 0 {
			f := p.next()
			if w, ok := f.(*http2.WindowUpdateFrame); ok && w.StreamID == id {
				window += int(w.Increment)
			}
			if p.note(f, id, r); r.wasReset {
				t.Fatalf("before the end of its body stream %d ended as %v", id, r)
			}
			continue
		}
		n := min(size, window, maxFrameBytes)
		size, window = size-n, window-n
		p.data(id, size == 0, string(make([]byte, n)))
		p.flush()
	}
}

// TestWindowsOfWhatWasReadOpenAgain: a handler that reads a part of a body and
// gives up leaves no window closed, of neither the stream nor the connection.
func TestWindowsOfWhatWasReadOpenAgain(t *testing.T) {
	p := dialPeer(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 10<<10)) // the client sends more
		_ = r.Body.Close()
		refuse(w, r)
	}))
	for id := uint32(1); id < 18; id += 2 { // more in all than the connection's window
		p.headers(id, false)
		r := &reply{}
		sendBody(t, p, id, 1<<20, r)
		for !r.ended {
			p.note(p.next(), id, r)
		}
		if field(r.header, "grpc-status") != "8" || r.wasReset {
			t.Fatalf("stream %d ended as %v", id, r)
		}
	}
}

// TestRestThatIsTooMuchIsReset.
func TestRestThatIsTooMuchIsReset(t *testing.T) {
	inBubble(t, refuse, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.flush()
		wantCame(t, p.elapse(0), "HEADERS")
		frame := strings.Repeat("x", maxFrameBytes)
		for range restBytes / len(frame) {
			p.data(1, false, frame)
			p.flush()
			wantCame(t, p.elapse(answerDelay))
		}
		p.data(1, false, "x")
		p.flush()
		wantCame(t, p.elapse(answerDelay), "RST_STREAM")
		p.data(1, false, frame) // was under way
		p.flush()
		wantCame(t, p.elapse(time.Second))
	})
}

// TestRestsTakeHalfOfThePlaces: the oldest make way.
func TestRestsTakeHalfOfThePlaces(t *testing.T) {
	inBubble(t, refuse, func(t *testing.T, hs *http.Server, p *bubblePeer) {
		p.hello()
		places := hs.HTTP2.MaxConcurrentStreams / 2
		for i := range places {
			p.headers(uint32(2*i+1), false)
		}
		p.flush()
		wantCame(t, p.elapse(time.Second), slices.Repeat([]string{"HEADERS"}, places)...)
		p.headers(uint32(2*places+1), false)
		p.flush()
		got := p.elapse(0)
		slices.Sort(got)
		wantCame(t, got, "HEADERS", "RST_STREAM")
		wantCame(t, p.elapse(restSilence-time.Second), slices.Repeat([]string{"RST_STREAM"}, places-1)...)
		wantCame(t, p.elapse(time.Second), "RST_STREAM")
	})
}

// TestGoodbyeWaitsLittleForRests, since the connection is waited for: resets
// come before it closes.
func TestGoodbyeWaitsLittleForRests(t *testing.T) {
	inBubble(t, refuse, func(t *testing.T, hs *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.flush()
		wantCame(t, p.elapse(time.Second), "HEADERS")
		done := make(chan error, 1)
		go func() { done <- hs.Shutdown(context.Background()) }()
		wantCame(t, p.elapse(lastRestSilence-1), "GOAWAY NO_ERROR for all", "PING goodbye")
		wantCame(t, p.elapse(1), "RST_STREAM")
		p.headers(3, false) // before it knew
		p.headers(5, false)
		p.flush()
		wantCame(t, p.elapse(0), "HEADERS", "HEADERS")
		p.must(p.framer.WritePing(true, goodbyePing))
		p.flush()
		wantCame(t, p.elapse(0), "GOAWAY NO_ERROR")
		p.data(3, false, "a message")
		p.flush()
		for elapsed := lastRestTime / 10; elapsed < lastRestTime; elapsed += lastRestTime / 10 {
			p.data(5, false, "a message")
			p.flush()
			got := p.elapse(lastRestTime / 10)
			if elapsed == lastRestSilence {
				wantCame(t, got, "RST_STREAM")
			} else {
				wantCame(t, got)
			}
		}
		wantCame(t, p.elapse(lastRestTime/10), "RST_STREAM")
		p.elapse(goodbyeTime)
		if p.closed == 0 {
			t.Error("the connection stays open")
		}
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}

// TestGoodbyeOfTheClientLeavesRestsTheirTime: where nobody waits for the connection,
// a goodbye takes no time from who gets an answer.
func TestGoodbyeOfTheClientLeavesRestsTheirTime(t *testing.T) {
	inBubble(t, refuse, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.flush()
		wantCame(t, p.elapse(0), "HEADERS")
		p.must(p.framer.WriteGoAway(0, http2.ErrCodeNo, nil))
		p.must(p.framer.WritePing(true, goodbyePing))
		p.flush()
		wantCame(t, p.elapse(restSilence-1), "GOAWAY NO_ERROR for all", "PING goodbye", "GOAWAY NO_ERROR")
		wantCame(t, p.elapse(1), "RST_STREAM")
	})
}

// TestStreamThatLingersIsNoRequest: its context has ended, and the connection
// is told to be idle.
func TestStreamThatLingersIsNoRequest(t *testing.T) {
	states := make(chan http.ConnState, 100)
	var ctx context.Context
	address := serve(t, func(w http.ResponseWriter, r *http.Request) { ctx = r.Context(); refuse(w, r) }, func(hs *http.Server) {
		hs.ConnState = func(_ net.Conn, s http.ConnState) { states <- s }
	})
	p := dialPeer(t, address)
	p.headers(1, false)
	p.flush()
	p.await(1)
	for _, want := range []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateActive, http.StateIdle} {
		if got := await(t, want.String(), states); got != want {
			t.Errorf("the state is %v, want %v", got, want)
		}
	}
	if ctx.Err() == nil {
		t.Error("the request's context goes on")
	}
	p.data(1, true, "x")
	p.flush()
	p.wantAlive(3)
}

// TestReadBehindTheHandlersEnd returns, also one that waits.
func TestReadBehindTheHandlersEnd(t *testing.T) {
	inBubble(t, func(_ http.ResponseWriter, r *http.Request) {
		go func() {
			begun := time.Now()
			if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, errHandlerEnded) || time.Since(begun) != time.Second {
				t.Errorf("the read ended after %v with %v, want it to end with the handler", time.Since(begun), err)
			}
		}()
		<-time.After(time.Second)
	}, func(t *testing.T, _ *http.Server, p *bubblePeer) {
		p.hello()
		p.headers(1, false)
		p.flush()
		wantCame(t, p.elapse(time.Second), "HEADERS")
		wantCame(t, p.elapse(time.Second))
	})
}

// An endless body has nothing to give until it is closed.
type endless struct{ closed chan struct{} }

func (b endless) Read([]byte) (int, error) { <-b.closed; return 0, io.ErrClosedPipe }
func (b endless) Close() error             { close(b.closed); return nil }

// TestHTTPClientStopsToSend: net/http's client, with an answer that is no
// error, reads more of a request's body until the stream is reset, and that is
// not an error of the answer's.
func TestHTTPClientStopsToSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := newPipes()
		serveWith(t, pipes, Hooks{}, refuse)
		client := h2c(t)
		client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) { return pipes.dial(), nil }
		body := endless{make(chan struct{})}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://server/a.B/C", body)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.Header.Get("grpc-status") != "8" {
			t.Errorf("the answer is %v, %v", res.Header, err)
		}
		_ = res.Body.Close() // was read
		<-body.closed
		if got := time.Since(begun); got != restSilence {
			t.Errorf("the body was closed after %v, want %v", got, restSilence)
		}
	})
}

// TestHTTPClientWithMuchToSend gets its answer, too, whichever it is.
func TestHTTPClientWithMuchToSend(t *testing.T) {
	client := h2c(t)
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/403" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "the answer") // looked at by the client
	})
	for i := range 200 {
		path := []string{"/200", "/403"}[i%2]
		req, err := http.NewRequestWithContext(within(t, patience), http.MethodPost, "http://"+address+path, bytes.NewReader(make([]byte, 1<<uint(i%24))))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // was read
		if err != nil || string(got) != "the answer" || path != fmt.Sprintf("/%d", res.StatusCode) {
			t.Errorf("request %d is answered %d %q, %v", i, res.StatusCode, got, err)
		}
	}
}

// TestGRPCThatIsRefused, many times over on a connection, while it sends: what
// still comes is no abuse.
func TestGRPCThatIsRefused(t *testing.T) {
	ends := newEndings()
	cc := dialGRPC(t, serveHooked(t, Hooks{Ended: ends.note}, refuse))
	ctx := within(t, patience)
	for i := range 1500 {
		stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/C")
		if err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		for range 10 {
			if err := stream.SendMsg(pattern(1000)); err != nil && !errors.Is(err, io.EOF) {
				t.Fatalf("call %d: %v", i, err)
			}
		}
		if err := stream.RecvMsg(new([]byte)); status.Code(err) != codes.ResourceExhausted {
			t.Fatalf("call %d ended with %v", i, err)
		}
	}
	select {
	case <-ends.more:
		t.Errorf("a connection ended: %v", ends.ends)
	default:
	}
}

// TestAdvance: what is told ahead is made up for.
func TestAdvance(t *testing.T) {
	w := newInflow(defaultWindow)
	if !w.take(1000) {
		t.Fatal("no window")
	}
	if got := w.give(1000); got != 0 {
		t.Errorf("%d are told at once, want to wait for more", got)
	}
	if got := w.advance(); got != 1000 || w.left != w.size {
		t.Errorf("%d are told, and %d left of %d", got, w.left, w.size)
	}
	if got := w.advance(); got != 1 || w.left != w.size+1 {
		t.Errorf("%d are told, and %d left of %d, want 1 more", got, w.left, w.size)
	}
	w.take(w.size)
	if got := w.give(w.size); got != w.size-1 || w.left != w.size {
		t.Errorf("%d are told, and %d left of %d, want the window as it was", got, w.left, w.size)
	}
	w = newInflow(maxWindow)
	if got := w.advance(); got != 0 {
		t.Errorf("%d are told of the largest window", got)
	}
}

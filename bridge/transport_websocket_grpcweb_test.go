package bridge

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// endingPair is a call on a WebSocket whose connection holds so many bytes.
func endingPair(t *testing.T, ctx context.Context, holds int) (*grpcSocket, *wstest.Client) {
	t.Helper()
	s := newServer(t, Config{Backend: nowhere})
	ws, c := socketPair(t, s, holds)
	call := &call{info: &report.CallInfo{}, caller: caller{s: s, on: s.edge.Of(new(http.Request))}}
	call.progress.Clock = &s.registry.clock
	down := grpcSocketOf(s, call, ws)
	down.guard.Watch(ctx, graceOf, func() { _ = ws.SetWriteDeadline(socket.LongAgo) }) // a closed connection needs none
	return down, c
}

// TestSlowReaderGetsTheEnd: what waited for the end needn't go out within the
// time that a close frame has.
func TestSlowReaderGetsTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down, c := endingPair(t, t.Context(), 8<<10)
		const messages = 60
		for range messages {
			if err := down.Send(mem.BufferSlice{mem.SliceBuffer(make([]byte, 400))}, true); err != nil {
				t.Fatal(err)
			}
		}
		finished := make(chan error, 1)
		go func() { finished <- down.Finish(status.New(codes.OK, ""), nil) }()
		elapse(time.Hour)
		for n := range messages + 1 { // and the header
			if _, _, _, err := c.Next(); err != nil {
				t.Fatalf("after %d frames: %v", n, err)
			}
		}
		if _, _, payload, err := c.Next(); err != nil || !bytes.Contains(payload, []byte("grpc-status: 0\r\n")) {
			t.Errorf("the last frame is %q, %v; want the status", payload, err)
		}
		c.WantClose(t, websocket.StatusNormalClosure)
		c.Send(t, wstest.Close, []byte{3, 232})
		if err := <-finished; err != nil {
			t.Errorf("Finish returned %v, want nil", err)
		}
	})
}

// TestStatusBehindTheCloseIsNotTold to a client that closed before, and nobody
// takes it for told.
func TestStatusBehindTheCloseIsNotTold(t *testing.T) {
	for name, end := range map[string][]byte{"close": wstest.Masked(wstest.Close, []byte{3, 232}), "unknown opcode": {0x83, 0x80, 0, 0, 0, 0}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			down, c := endingPair(t, ctx, 1<<20)
			if _, err := c.Write(end); err != nil {
				t.Fatal(err)
			}
			if _, err := down.ws.NextMessage(); err == nil {
				t.Fatalf("%s: a message was read", name)
			}
			cancel() // as the one who reads does
			synctest.Wait()
			if err := down.Finish(status.New(codes.OK, ""), nil); err == nil {
				t.Errorf("%s: the status passes for told", name)
			}
			if op, _, _, err := c.Next(); op != wstest.Close || err != nil {
				t.Errorf("%s: was answered with the frame %x, %v; want a close", name, op, err)
			}
			if op, _, payload, err := c.Next(); err == nil {
				t.Errorf("%s: after the close frame came %x %q", name, op, payload)
			}
		})
	}
}

// TestEndOfTheCallCutsTheWaitForMetadata, also one that came before.
func TestEndOfTheCallCutsTheWaitForMetadata(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: "127.0.0.1:1"}})
	for _, before := range []bool{true, false} {
		took := make(chan time.Duration, 1)
		hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws, err := s.accept(w, r, "grpc-websockets", s.account.NewEntry())
			if err != nil {
				return
			}
			defer ws.Drop()
			ctx, cancel := context.WithCancel(context.Background()) //nolint:contextcheck // the call's, not the request's
			down := grpcSocketOf(s, new(call), ws)
			down.guard.Watch(ctx, graceOf, func() {})
			defer func() { _ = down.guard.LastWrite(func(bool) error { return nil }) }() // it stops watching
			began := time.Now()
			if before {
				cancel()
				for down.guard.Write(func() error { return nil }) == nil { // it hasn't heard of it yet
				}
			} else {
				defer time.AfterFunc(50*time.Millisecond, cancel).Stop()
			}
			_ = down.first(ctx)
			took <- time.Since(began)
			cancel()
		}))
		ws, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(hs.URL, "http")+"/a.B/C", &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}})
		if err != nil {
			t.Fatal(err)
		}
		if d := await(t, "the wait's end", took); d >= edge.HandshakeTimeout {
			t.Errorf("before: %v: the wait took %v", before, d)
		}
		_ = ws.CloseNow()
		hs.Close()
	}
}

// TestFloodEndsACallOnAWebSocket with a reason for the log, and is told of the
// connection.
func TestFloodEndsACallOnAWebSocket(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}, Observer: obs})
	ws, _, err := websocket.Dial(within(t, patience), "ws://"+serve(t, s)+testMethod, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.CloseNow()
	c := await(t, "the end of a connection that closed", obs.conns)
	if c.Ended != report.EndedOrderly {
		t.Errorf("a client that went away ended for %q", c.Ended)
	}
	await(t, "its call's end", obs.ended)

	var d net.Dialer
	conn, err := d.DialContext(within(t, patience), "tcp", serve(t, s))
	if err != nil {
		t.Fatal(err)
	}
	client := wstest.Open(t, conn, testMethod, "grpc-websockets")
	out := wstest.Masked(wstest.Binary, []byte("x-a: b\r\n"))
	for range 20_000 { // half of that is one too many
		out = append(out, wstest.Masked(wstest.Ping, nil)...)
	}
	go func() { _, _ = io.Copy(io.Discard, client.R) }() // ends with the connection
	_, _ = client.Write(out)                             // it may be cut
	if call := await(t, "the call's end", obs.ended); call.Reason != report.ReasonLimitExceeded || call.Origin != report.OriginCulvert {
		t.Errorf("the call ended with %v of %s, want %v", call.Reason, call.Origin, report.ReasonLimitExceeded)
	}
	if c := await(t, "the connection's end", obs.conns); c.Ended != report.EndedFlood {
		t.Errorf("the connection ended for %q, want %q", c.Ended, report.EndedFlood)
	}
}

// A beginner is an Observer that tells how long after its beginning a call's context
// has its deadline.
type beginner struct {
	report.Observer
	has chan time.Duration // negative: none
}

// CallBegan implements report.Observer.
func (o beginner) CallBegan(ctx context.Context, c *report.CallInfo, _ metadata.MD) report.CallObserver {
	if deadline, ok := ctx.Deadline(); ok {
		o.has <- deadline.Sub(c.Begin)
	} else {
		o.has <- -time.Hour
	}
	return nil
}

// TestShorterTimeoutCounts where a WebSocket's upgrade request has one and its first
// message another. The Observer gets it as the backend does.
func TestShorterTimeoutCounts(t *testing.T) {
	left := make(chan time.Duration, 1)
	began := beginner{report.Discard(), make(chan time.Duration, 1)}
	address := serve(t, newServer(t, Config{Observer: began, Backend: Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		deadline, ok := ss.Context().Deadline()
		if !ok {
			deadline = time.Now().Add(-time.Hour)
		}
		left <- time.Until(deadline)
		return nil
	})}}))
	for _, c := range []struct {
		upgrade, first string
		want           time.Duration
	}{
		{"1H", "1M", time.Minute},
		{"1M", "1H", time.Minute},
		{"1M", "", time.Minute},
		{"", "1M", time.Minute},
		{"", "", -time.Hour}, // none
	} {
		start, ctx := time.Now(), within(t, patience)
		header, block := http.Header{}, ""
		if c.upgrade != "" {
			header.Set("Grpc-Timeout", c.upgrade)
		}
		if c.first != "" {
			block = "grpc-timeout: " + c.first + "\r\n"
		}
		ws := way{}.socket(ctx, t, address, "grpc-websockets", header)
		for _, m := range []string{block, "\x01"} {
			if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		if got := await(t, "the call at the backend", left); got > c.want || got < c.want-time.Since(start)-time.Second {
			t.Errorf("upgrade %q, first message %q: %v are left, want %v", c.upgrade, c.first, got, c.want)
		}
		if got := await(t, "the call's beginning", began.has); got != c.want {
			t.Errorf("upgrade %q, first message %q: the Observer's context ends %v after the beginning, want %v", c.upgrade, c.first, got, c.want)
		}
		for err := error(nil); err == nil; { // at the end the close is answered
			_, _, err = ws.Read(ctx)
		}
	}
}

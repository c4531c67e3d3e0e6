package bridgetest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

var drainScenarios = []scenario{
	{"drain lets a call finish", 0, drainLetsFinish},
	{"drain ends what doesn't finish", 0, drainEnds},
	{"drain ends a call whose request is unfinished", fullDuplex, drainEndsUnfinished},
	{"drain refuses new calls", 0, drainRefuses},
	{"new calls are refused before the drain", 0, refusesBeforeDrain},
	{"drain says goodbye to an idle connection", oneConnection, drainSaysGoodbye},
	{"a connection without a call ends with a goodbye", oneConnection, saysGoodbye(func(c *bridge.Config) { c.Limits.ConnectionIdleTimeout = goodbyeAfter })},
	{"a connection that is old ends with a goodbye", oneConnection, saysGoodbye(func(c *bridge.Config) { c.Limits.ConnectionMaxAge = goodbyeAfter })},
	{"drain with a client that takes nothing", streamedReplies, drainUnread},
	{"close at once", 0, closeAtOnce},
}

// drain begins Shutdown, returns when culvert no longer listens and refuses calls, and
// returns a function that expects Shutdown to succeed.
func (t *trial) drain(within time.Duration) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	var draining sync.WaitGroup
	var err error
	draining.Go(func() { err = t.server.Shutdown(ctx) })
	t.atEnd(func() { cancel(); draining.Wait() })
	t.awaitRefused(t.address)
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !t.server.RefusesCalls() {
		select {
		case <-poll.C:
		case <-t.ctx.Done():
			t.Fatal("culvert still serves new calls")
		}
	}
	return func() {
		t.Helper()
		draining.Wait()
		if err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}
}

// lastReply sends the last reply when told to, and one before it if the transport can
// carry two.
func (t *trial) lastReply(next <-chan struct{}) handler {
	two := t.transport.lacks(streamedReplies) == ""
	return asked(func(c *backendCall, _ [][]byte) error {
		if two {
			if err := c.send(hello); err != nil {
				return err
			}
		}
		if err := c.await(next); err != nil {
			return err
		}
		return c.send(hello)
	})
}

// begin makes a call whose request is complete, and returns when it runs: the backend
// has it, and its first reply is here if the transport doesn't keep that until the end.
func (t *trial) begin(cl client, c call) (*callT, *backendCall) {
	t.Helper()
	s := t.ask(cl, c)
	at := t.nextCall()
	if t.transport.lacks(streamedReplies) == "" {
		s.recv()
	}
	return s, at
}

func drainLetsFinish(t *trial) {
	next := make(chan struct{})
	t.serve(t.lastReply(next))
	s, _ := t.begin(t.client, call{})
	wait := t.drain(patience)
	close(next)
	t.wantOK(s.end(), hello)
	t.wantGoingAway(s)
	t.endsWithin(patience/2, "a drain whose calls have ended", wait)
}

// wantGoingAway checks the close code of a WebSocket that ends with the server.
func (t *trial) wantGoingAway(s *callT) {
	t.Helper()
	if w, ok := s.stream.(*websocketStream); ok && w.code != websocket.StatusGoingAway {
		t.Errorf("closed with %v, want %v", w.code, websocket.StatusGoingAway)
	}
}

// shortDrain is a drain's time in scenarios whose client must receive the end, with withTime. At
// its end a client has one second, which isn't enough on a machine with many times as much to do
// as it can.
const shortDrain = 12 * time.Second

// withTime has a drain end its calls earlier, so that a slow client gets their ends.
func withTime(c *bridge.Config) { c.DrainSpread = shortDrain - 2*time.Second }

// wantDraining checks the end of a call that the drain ended or refused. It says when to
// try again, and leaves a random back-off to the client.
func (t *trial) wantDraining(r result, sent string) {
	t.Helper()
	t.wantCulvert(r, codes.Unavailable, report.ReasonDraining)
	t.wantSent(r, sent)
	if got := r.retry(); got != time.Second {
		t.Errorf("RetryInfo is %v, want %v", got, time.Second)
	}
	if values := append(r.header["grpc-retry-pushback-ms"], r.trailer["grpc-retry-pushback-ms"]...); len(values) > 0 {
		t.Errorf("grpc-retry-pushback-ms is %q, want none", values)
	}
}

func drainEnds(t *trial) {
	t.serve(trickle(nil), withTime)
	s, c := t.begin(t.client, call{})
	wait := t.drain(shortDrain)
	r := s.end()
	t.wantDraining(r, "maybe")
	t.wantGoingAway(s)
	wait()
	t.wantCancelled(c, goneIsSeen, false)
}

func drainEndsUnfinished(t *trial) {
	t.serve(untilCancelled, withTime)
	s := t.open(call{})
	s.send(hello)
	c := t.nextCall()
	wait := t.drain(shortDrain)
	t.wantDraining(s.end(), "maybe")
	wait()
	t.wantCancelled(c, goneIsSeen, false)
}

// drainRefuses: while the first call continues, no second one begins. The client
// learns of the refusal by a status, by GOAWAY or by a refused connection.
func drainRefuses(t *trial) {
	next := make(chan struct{})
	t.serve(t.lastReply(next))
	first, _ := t.begin(t.client, call{})
	wait := t.drain(patience)
	if r := t.attempt(t.client, call{method: defaultMethod}); r.status != nil && r.status.Code() != codes.Unavailable {
		t.Errorf("a new call ended with %v, want UNAVAILABLE", r.status)
	}
	if n := len(t.backend.seen()); n != 0 {
		t.Errorf("%d new calls reached the backend", n)
	}
	close(next)
	t.wantOK(first.end(), hello)
	wait()
}

// refusesBeforeDrain: the first call continues, no other begins, and clients can still
// connect to learn why.
func refusesBeforeDrain(t *trial) {
	next := make(chan struct{})
	t.serve(t.lastReply(next))
	first, _ := t.begin(t.client, call{})
	t.server.RefuseCalls()
	t.server.RefuseCalls()  // again changes nothing
	if t.concerns("h2ts") { // a new tunnel is refused
		_, err := dialWebSocket(t.ctx, t.d, "/", "h2ts")
		if refused, ok := errors.AsType[*httpError](err); !ok || refused.code != http.StatusServiceUnavailable {
			t.Errorf("a new tunnel: %v, want 503", err)
		}
	} else {
		t.wantDraining(t.tryAsk(t.dial(&dialer{address: t.address}), call{}, hello).end(), "no")
	}
	if n := len(t.backend.seen()); n != 0 {
		t.Errorf("%d new calls reached the backend", n)
	}
	close(next)
	t.wantOK(first.end(), hello)
	t.wantGoingAway(first)
}

// drainSaysGoodbye checks the last bytes of an idle connection: GOAWAY, and for a
// tunnel then the WebSocket's 1001.
func drainSaysGoodbye(t *trial) {
	t.serve(echo)
	if t.transport.tls {
		t.Log("looked at in plaintext")
		return
	}
	f, tunnel := t.idleConn()
	wait := t.drain(patience)
	t.wantGoodbye(f, tunnel)
	t.endsWithin(patience/2, "a drain without calls", wait)
}

// goodbyeAfter is the life of a connection that ends with a goodbye: a busy machine sets it
// up meanwhile.
const goodbyeAfter = 2 * time.Second

// saysGoodbye checks the end of a connection that has a time limit.
func saysGoodbye(limit func(*bridge.Config)) func(*trial) {
	return func(t *trial) {
		t.serve(echo, limit)
		if t.transport.tls {
			t.Log("looked at in plaintext")
			return
		}
		t.wantGoodbye(t.idleConn())
	}
}

// idleConn opens an HTTP/2 connection that is up; tunnel is not nil if the
// connection is inside one.
func (t *trial) idleConn() (f *fakeConn, tunnel *tunnelEnd) {
	if t.concerns("h2ts") {
		ws, err := dialWebSocket(t.ctx, t.d, "/", "h2ts")
		if err != nil {
			t.Fatal(err)
		}
		tunnel = &tunnelEnd{Conn: websocket.NetConn(context.WithoutCancel(t.ctx), ws, websocket.MessageBinary), ws: ws}
		f = newClientConn(tunnel)
	} else {
		f = t.rawHTTP2()
	}
	f.mustFlush(t)
	// A pong shows that the connection is up.
	_ = f.framer.WritePing(false, [8]byte{1}) // to memory
	f.mustFlush(t)
	f.awaitFrame(t, http2.FramePing)
	return f, tunnel
}

func (t *trial) wantGoodbye(f *fakeConn, tunnel *tunnelEnd) {
	f.awaitFrame(t, http2.FrameGoAway)
	if tunnel != nil {
		_, _ = io.Copy(io.Discard, tunnel) // what is left, and then its end
		if code := websocket.CloseStatus(tunnel.end); code != websocket.StatusGoingAway {
			t.Errorf("tunnel closed with %v, want %v", tunnel.end, websocket.StatusGoingAway)
		}
	}
	_ = f.Close() // closed by culvert
}

// A tunnelEnd is the client's end of a tunnel. It keeps the error that ended the
// tunnel, which a NetConn turns into io.EOF.
type tunnelEnd struct {
	net.Conn
	ws  *websocket.Conn
	r   io.Reader // of the message that is being read
	end error
}

func (c *tunnelEnd) Read(p []byte) (int, error) {
	for {
		if c.r == nil {
			if _, c.r, c.end = c.ws.Reader(context.Background()); c.end != nil {
				return 0, io.EOF
			}
		}
		n, err := c.r.Read(p)
		if errors.Is(err, io.EOF) {
			c.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// awaitFrame reads to a frame of the kind.
func (c *fakeConn) awaitFrame(t *trial, kind http2.FrameType) {
	t.Helper()
	stop := context.AfterFunc(t.ctx, func() { _ = c.Close() }) // frees the read
	defer stop()
	for {
		fr, err := c.framer.ReadFrame()
		if err != nil {
			t.Fatalf("%v instead of %v", err, kind)
		}
		if fr.Header().Type == kind {
			return
		}
	}
}

// drainUnread: nothing can be sent to a client that reads nothing. It is cut, and
// doesn't get OK.
func drainUnread(t *trial) {
	t.serve(flood)
	s, c := t.begin(t.slow(), call{})
	t.awaitStall(c.sent.Load)
	wait := t.drain(200 * time.Millisecond)
	// Far more than 200 ms, for a busy machine, and less than a ping needs to end it.
	t.endsWithin(20*time.Second, "a drain with a client that takes nothing", wait)
	t.wantCancelled(c, goneIsSeen, false)
	s.neverOK("a call that was cut")
}

func closeAtOnce(t *trial) {
	t.serve(trickle(nil), withTime)
	s, c := t.begin(t.client, call{})
	t.endsWithin(20*time.Second, "close", func() {
		if err := t.server.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	t.wantCancelled(c, goneIsSeen, false)
	s.neverOK("a call that was cut")
}

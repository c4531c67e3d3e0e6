package bridgetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

var callScenarios = []scenario{
	{"unary call", 0, unaryCall},
	{"typed service", manyTypes, typedService},
	{"server streaming", streamedReplies, serverStreaming},
	{"client streaming", manyRequests, clientStreaming},
	{"bidi turn by turn", fullDuplex, bidiTurnByTurn},
	{"empty messages", streamedReplies, emptyMessages},
	{"a request of no message", manyRequests, noRequestMessage},
	{"an answer of no message", streamedReplies, noReplyMessage},
	{"large messages", 0, largeMessages},
	{"messages of exactly the limit", processor | exactSizes, messagesOfTheLimit},
	{"ten thousand replies in order", streamedReplies, manyReplies},
	{"ten thousand messages both ways in order", fullDuplex, manyMessagesBothWays},
	{"half-close, then replies", streamedReplies, halfCloseThenReplies},
	{"half-close reaches the backend before any reply", fullDuplex, halfCloseFirst},
	{"replies before requests", fullDuplex, repliesBeforeRequests},
	{"header before any message", fullDuplex | answerHeader, headerBeforeAnyMessage},
	{"header before the first reply", streamedReplies | answerHeader, headerBeforeFirstReply},
	{"each reply leaves at once", streamedReplies, eachReplyLeavesAtOnce},
	{"each request leaves at once", fullDuplex, eachRequestLeavesAtOnce},
	{"early end with the request unread", fullDuplex | leavesOpen, earlyEnd},
	{"early OK with the request unread", fullDuplex | leavesOpen, earlyOK},
	{"early end while the request is being sent", fullDuplex | leavesOpen, earlyEndWhileSending},
	{"calls after one another", 0, callsAfterOneAnother},
	{"calls beside one another", 0, callsBesideOneAnother},
	{"one byte at a time", plaintext, oneByteAtATime},
	{"culvert tells of the call", 0, culvertTells},
}

// hello is the message of most scenarios; its bytes hit no special value.
var hello = []byte("\x0a\x05world")

func unaryCall(t *trial) {
	t.serve(echo)
	t.wantOK(t.unary(call{}, hello), hello)
	if got := t.nextCall(); got.method != defaultMethod || got.received.Load() != 1 || !got.halfClosed.Load() {
		t.Errorf("backend saw %s with %d messages, half-closed: %v", got.method, got.received.Load(), got.halfClosed.Load())
	}
}

// typedService calls a service that knows nothing of this suite.
func typedService(t *trial) {
	t.serve(echo)
	r := t.unary(call{method: "/grpc.health.v1.Health/Check"}, nil)
	t.wantUpstream(r, codes.OK, "")
	var got healthpb.HealthCheckResponse
	if len(r.messages) != 1 || proto.Unmarshal(r.messages[0], &got) != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %s %v", abridged(r.messages), &got)
	}
	unknown, _ := proto.Marshal(&healthpb.HealthCheckRequest{Service: "nobody"}) // a plain string can't fail
	t.wantUpstream(t.unary(call{method: "/grpc.health.v1.Health/Check"}, unknown), codes.NotFound, "unknown service")
}

// numbered returns n messages that contain their number.
func numbered(n int) (messages [][]byte) {
	for i := range n {
		messages = append(messages, fmt.Appendf(nil, "message %d", i))
	}
	return messages
}

// asked reads a request to its end, and answers it.
func asked(answer func(c *backendCall, got [][]byte) error) handler {
	return func(c *backendCall) error {
		got, err := c.recvAll()
		if err != nil {
			return err
		}
		return answer(c, got)
	}
}

// replyWith answers a request, read to its end, with messages.
func replyWith(messages ...[]byte) handler {
	return asked(func(c *backendCall, _ [][]byte) error { return c.sendAll(messages...) })
}

func serverStreaming(t *trial) {
	want := numbered(20)
	t.serve(replyWith(want...))
	t.wantOK(t.unary(call{}, hello), want...)
}

func clientStreaming(t *trial) {
	t.serve(asked(func(c *backendCall, got [][]byte) error { return c.send(bytes.Join(got, []byte("|"))) }))
	s := t.open(call{})
	for _, m := range numbered(20) {
		s.send(m)
	}
	s.closeSend()
	t.wantOK(s.end(), bytes.Join(numbered(20), []byte("|")))
}

func bidiTurnByTurn(t *trial) {
	t.serve(echo)
	s := t.open(call{})
	for _, m := range numbered(20) {
		s.send(m)
		s.wantNext(m)
	}
	s.closeSend()
	t.wantOK(s.end())
}

func emptyMessages(t *trial) {
	t.serve(asked(func(c *backendCall, got [][]byte) error {
		if len(got) != 1 || len(got[0]) != 0 {
			return fmt.Errorf("got %s", abridged(got))
		}
		return c.sendAll(nil, nil, nil)
	}))
	t.wantOK(t.unary(call{}, nil), nil, nil, nil)
}

func noRequestMessage(t *trial) {
	t.serve(asked(func(c *backendCall, got [][]byte) error {
		if len(got) != 0 {
			return fmt.Errorf("got %s", abridged(got))
		}
		return c.send(hello)
	}))
	s := t.open(call{})
	s.closeSend()
	t.wantOK(s.end(), hello)
}

func noReplyMessage(t *trial) {
	t.serve(replyWith())
	t.wantOK(t.unary(call{}, hello))
}

// patterned returns n bytes that repeat with a period prime to any buffer.
func patterned(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func largeMessages(t *trial) {
	t.serve(echo)
	for _, n := range []int{16<<10 - 5, 16 << 10, 64<<10 + 1, 1 << 20} {
		want := patterned(n)
		t.wantOK(t.unary(call{}, want), want)
	}
}

func messagesOfTheLimit(t *trial) {
	const limit = 1<<20 + 100 // more than any window; the default of 16 MiB would take each transport seconds, with the race detector
	t.serve(echo, func(c *bridge.Config) { c.Limits.MessageBytes = limit })
	want := patterned(limit)
	t.wantOK(t.unary(call{}, want), want)
}

func manyReplies(t *trial) {
	want := numbered(10000)
	t.serve(replyWith(want...))
	t.wantOK(t.unary(call{}, hello), want...)
}

func manyMessagesBothWays(t *trial) {
	t.serve(echo)
	want := numbered(10000)
	s := t.open(call{})
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for _, m := range want {
			if err := s.stream.send(m); err != nil {
				t.Errorf("send: %v", err)
				return
			}
		}
		if err := s.stream.closeSend(); err != nil {
			t.Errorf("half-close: %v", err)
		}
	})
	t.wantOK(s.end(), want...)
}

func halfCloseThenReplies(t *trial) {
	want := numbered(5)
	more := make(chan struct{})
	t.serve(asked(func(c *backendCall, _ [][]byte) error {
		for _, m := range want {
			if err := c.await(more); err != nil {
				return err
			}
			if err := c.send(m); err != nil {
				return err
			}
		}
		return nil
	}))
	s := t.ask(t.client, call{})
	for _, m := range want {
		more <- struct{}{}
		s.wantNext(m)
	}
	t.wantOK(s.end())
}

func halfCloseFirst(t *trial) {
	halfClosed, replies := make(chan struct{}), make(chan struct{})
	t.serve(asked(func(c *backendCall, _ [][]byte) error {
		close(halfClosed)
		if err := c.await(replies); err != nil {
			return err
		}
		return c.send(hello)
	}))
	s := t.open(call{})
	s.send(hello)
	s.send(hello)
	s.closeSend()
	t.awaitEvent("the backend sees the half-close", halfClosed)
	close(replies)
	t.wantOK(s.end(), hello)
}

func repliesBeforeRequests(t *trial) {
	want := numbered(3)
	t.serve(func(c *backendCall) error {
		if err := c.sendAll(want...); err != nil {
			return err
		}
		return echo(c)
	})
	s := t.open(call{})
	for _, m := range want {
		s.wantNext(m)
	}
	s.send(hello)
	s.closeSend()
	t.wantOK(s.end(), hello)
}

// sendHeaderThen sends the header, and continues after goOn.
func sendHeaderThen(goOn <-chan struct{}, then handler) handler {
	return func(c *backendCall) error {
		if err := c.ss.SendHeader(metadata.Pairs("x-early", "yes")); err != nil {
			return err
		}
		if err := c.await(goOn); err != nil {
			return err
		}
		return then(c)
	}
}

func headerBeforeAnyMessage(t *trial) {
	goOn := make(chan struct{})
	t.serve(sendHeaderThen(goOn, echo))
	s := t.open(call{})
	t.wantValues("header", s.header(), "x-early", "yes")
	close(goOn)
	s.send(hello)
	s.closeSend()
	t.wantOK(s.end(), hello)
}

func headerBeforeFirstReply(t *trial) {
	goOn := make(chan struct{})
	t.serve(sendHeaderThen(goOn, echo))
	s := t.ask(t.client, call{})
	t.wantValues("header", s.header(), "x-early", "yes")
	close(goOn)
	t.wantOK(s.end(), hello)
}

func eachReplyLeavesAtOnce(t *trial) {
	taken := make(chan struct{})
	t.serve(func(c *backendCall) error {
		for _, m := range numbered(10) {
			if err := c.send(m); err != nil {
				return err
			}
			if err := c.await(taken); err != nil {
				return err
			}
		}
		return nil
	})
	s := t.ask(t.client, call{})
	for _, m := range numbered(10) {
		s.wantNext(m)
		taken <- struct{}{}
	}
	t.wantOK(s.end())
}

func eachRequestLeavesAtOnce(t *trial) {
	got := make(chan []byte)
	t.serve(func(c *backendCall) error {
		for {
			b, err := c.recv()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			select {
			case got <- b:
			case <-c.ctx().Done():
			}
		}
	})
	s := t.open(call{})
	for _, m := range numbered(10) {
		s.send(m)
		select {
		case b := <-got:
			if !bytes.Equal(b, m) {
				t.Fatalf("backend got %q, want %q", b, m)
			}
		case <-t.ctx.Done():
			t.Fatalf("%q didn't reach the backend", m)
		}
	}
	s.closeSend()
	t.wantOK(s.end())
}

func earlyEnd(t *trial) {
	t.serve(func(*backendCall) error { return errTeapot })
	s := t.open(call{})
	t.wantUpstream(s.end(), codes.FailedPrecondition, "a teapot")
}

// afterRequest reads one message before then.
func afterRequest(then handler) handler {
	return func(c *backendCall) error {
		if _, err := c.recv(); err != nil {
			return err
		}
		return then(c)
	}
}

func earlyOK(t *trial) {
	t.serve(afterRequest(func(c *backendCall) error { return c.send(hello) }))
	s := t.open(call{})
	s.send(hello)
	t.wantOK(s.end(), hello)
	// The client may be late to send its half-close.
	_ = s.stream.closeSend()
}

func earlyEndWhileSending(t *trial) {
	t.serve(afterRequest(func(*backendCall) error { return errTeapot }))
	s := t.open(call{})
	var sending sync.WaitGroup
	defer sending.Wait()
	stop := make(chan struct{})
	defer close(stop)
	sending.Go(func() {
		chunk := patterned(8 << 10)
		for s.stream.send(chunk) == nil {
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	t.wantUpstream(s.end(), codes.FailedPrecondition, "a teapot")
}

func callsAfterOneAnother(t *trial) {
	t.serve(echo)
	for _, m := range numbered(30) {
		t.wantOK(t.unary(call{}, m), m)
	}
}

// callsBesideOneAnother lets every call run before the first may end.
func callsBesideOneAnother(t *trial) {
	const n = 30
	var allRun sync.WaitGroup
	allRun.Add(n)
	together := make(chan struct{})
	t.serve(func(c *backendCall) error {
		allRun.Done()
		if err := c.await(together); err != nil {
			return err
		}
		return echo(c)
	})
	var waiting sync.WaitGroup
	defer waiting.Wait()
	waiting.Go(func() { allRun.Wait(); close(together) })
	var calls []*callT
	for _, m := range numbered(n) {
		s := t.open(call{})
		s.send(m)
		s.closeSend()
		calls = append(calls, s)
	}
	for i, m := range numbered(n) {
		t.wantOK(calls[i].end(), m)
	}
}

// oneByteAtATime lets no reader on the way get two bytes at once.
func oneByteAtATime(t *trial) {
	t.serve(func(c *backendCall) error {
		c.ss.SetTrailer(metadata.Pairs("x-last", strings.Repeat("z", 20)))
		return echo(c)
	})
	r := startRelay(t, t.address, true)
	t.atEnd(r.close)
	cl := t.dial(&dialer{address: r.address})
	for _, m := range [][]byte{nil, hello, patterned(600)} {
		s := t.openWith(cl, call{metadata: metadata.Pairs("x-a", "1", "x-b-bin", "\x00\xff")})
		s.send(m)
		s.closeSend()
		got := s.end()
		t.wantOK(got, m)
		t.wantAnswer("trailer", got.trailer, "x-last", strings.Repeat("z", 20))
	}
}

func culvertTells(t *trial) {
	replies := [][]byte{hello, nil}
	if t.transport.lacks(streamedReplies) != "" {
		replies = replies[:1]
	}
	t.serve(replyWith(replies...))
	t.wantOK(t.unary(call{}, hello), replies...)
	t.allEnded(t.observer)
	calls, _, _ := t.observer.ended()
	if len(calls) != 1 {
		t.Fatalf("culvert told of %d calls, want 1", len(calls))
	}
	c := calls[0]
	in, out := t.transport.framing.sizes(hello)
	if c.Transport != t.transport.label || c.Method != defaultMethod || c.ID == "" || c.Origin != report.OriginUpstream || c.Code != codes.OK {
		t.Errorf("culvert told of %+v", c)
	}
	if c.MessagesIn != 1 || c.MessagesOut != int64(len(replies)) || c.BytesIn != in || c.BytesOut != out {
		t.Errorf("culvert counted %d messages with %d bytes in, %d with %d out", c.MessagesIn, c.BytesIn, c.MessagesOut, c.BytesOut)
	}
	if !strings.HasPrefix(c.Peer, "127.0.0.1") {
		t.Errorf("peer %q, want 127.0.0.1", c.Peer)
	}
}

package bridge

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// An asked is an Authenticator that returns what it is told to, or at the context's end.
type asked chan error

func (a asked) Authenticate(ctx context.Context, _ *AuthRequest) (*Identity, error) {
	select {
	case err := <-a:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// socketCall runs a call on a WebSocket whose metadata has come. The channel is closed
// when the call has ended.
func socketCall(t *testing.T, s *Server) (c *wstest.Client, ended <-chan struct{}) {
	t.Helper()
	ws, c := socketPair(t, s, 1<<20)
	call := newCallOf(s)
	call.on = s.edge.Of(new(http.Request))
	down := grpcSocketOf(s, call, ws)
	handled := make(chan struct{})
	go func() { // ends with the call, which the test waits for
		defer close(handled)
		call.handle(t.Context(), down, ws.NetConn(), nil)
	}()
	c.Send(t, wstest.Binary, nil)
	return c, handled
}

// dataOf returns a WebSocket message with a gRPC message of n bytes.
func dataOf(n int) []byte { return append([]byte{0}, framed(0, make([]byte, n))...) }

// exactly has so little memory for messages that none is counted ahead.
var exactly = Limits{BufferedBytes: 16 << 20}

// TestOneMessageIsReadEarly: a client that isn't authenticated makes culvert hold one
// message, whatever it sends.
func TestOneMessageIsReadEarly(t *testing.T) {
	const size = 100 << 10
	for name, sent := range map[string][][]byte{
		"one message":    {dataOf(size)},
		"three messages": {dataOf(size), dataOf(size), dataOf(size)},
		"a half-close":   {dataOf(size), {1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			answer := make(asked)
			s := newServer(t, Config{Limits: exactly, Backend: nowhere, Authenticator: answer})
			c, ended := socketCall(t, s)
			for _, m := range sent {
				c.Send(t, wstest.Binary, m)
			}
			synctest.Wait()
			if got := s.account.Used(); got != size {
				t.Errorf("%s: %d bytes are held, want %d", name, got, size)
			}
			answer <- status.Error(codes.PermissionDenied, "not you")
			c.WantClose(t, websocket.StatusNormalClosure)
			c.Send(t, wstest.Close, []byte{3, 232})
			<-ended
		})
	}
}

// TestEarlyReadingCostsNoGoroutine: once a call is authenticated, it has as many as any
// other.
func TestEarlyReadingCostsNoGoroutine(t *testing.T) {
	for name, sent := range map[string][][]byte{
		"nothing sent":              nil,
		"a message":                 {dataOf(10)},
		"a message, the half-close": {dataOf(10), {1}},
		"two messages":              {dataOf(10), dataOf(10)},
	} {
		count := func(authenticated, before bool) (n int) {
			synctest.Test(t, func(t *testing.T) {
				var a Authenticator
				answer := make(asked)
				if authenticated {
					a = answer
				}
				gs := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return hold(ss) }))
				backend, stop := InProcess(gs)
				defer stop()
				defer gs.Stop()
				obs := newObserver()
				s := newServer(t, Config{Backend: backend, Observer: obs, Authenticator: a})
				var c *wstest.Client
				var ended <-chan struct{}
				label := fmt.Sprintf("%s, %v, %v", name, authenticated, before)
				pprof.Do(t.Context(), pprof.Labels("call", label), func(context.Context) { c, ended = socketCall(t, s) })
				send := func() {
					for _, m := range sent {
						c.Send(t, wstest.Binary, m)
					}
					synctest.Wait()
				}
				if before {
					send()
				}
				if authenticated {
					answer <- nil
				}
				if !before {
					send()
				}
				synctest.Wait()
				n = labelled(t, label)
				c.Send(t, wstest.Close, []byte{3, 232})
				<-ended
				if info := <-obs.ended; info.Reason != report.ReasonClientGone {
					t.Errorf("%s: the call ended with %v (%s: %s)", label, info.Status, info.Reason, info.Cause)
				}
			})
			return n
		}
		want := count(false, false)
		for _, before := range []bool{true, false} {
			if got := count(true, before); got != want || got == 0 {
				t.Errorf("%s, before the answer: %v: %d goroutines, without an Authenticator %d", name, before, got, want)
			}
		}
	}
}

// labelled counts bridge's own goroutines whose label "call" has the value.
func labelled(t *testing.T, value string) (n int) {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	for group := range strings.SplitSeq(b.String(), "\n\n") {
		if !strings.Contains(group, fmt.Sprintf("%q", value)) || !strings.Contains(group, "/bridge.(*") {
			continue
		}
		count, _, _ := strings.Cut(group, " @ ")
		if at := strings.LastIndex(count, "\n"); at >= 0 {
			count = count[at+1:] // behind the profile's first line
		}
		var alike int
		if _, err := fmt.Sscan(count, &alike); err != nil {
			t.Fatal(err)
		}
		n += alike
	}
	return n
}

// TestUnauthenticatedCallIsRelieved: others wait for the memory of a call that waits
// for the Authenticator.
func TestUnauthenticatedCallIsRelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		obs := newObserver()
		s := newServer(t, Config{Limits: exactly, Backend: nowhere, Observer: obs, Authenticator: make(asked)})
		c, ended := socketCall(t, s)
		c.Send(t, wstest.Binary, dataOf(60<<10))
		synctest.Wait()
		other := memory.NewClaim(s.account.NewEntry())
		start := time.Now()
		if err := other.Reserve(t.Context(), memory.Small, int(s.account.Messages())); err != nil {
			t.Errorf("the other got no memory: %v", err)
		}
		other.Done()
		if took := time.Since(start); took >= memory.Patience {
			t.Errorf("the other waited %v, want less than %v", took, memory.Patience)
		}
		c.WantClose(t, websocket.StatusNormalClosure)
		c.Send(t, wstest.Close, []byte{3, 232})
		<-ended
		if info := <-obs.ended; info.Reason != report.ReasonLimitExceeded || !strings.Contains(info.Status.Message(), report.KeyBufferedBytes) {
			t.Errorf("the call ended with %v (%s), want %s that names %s", info.Status, info.Reason, report.ReasonLimitExceeded, report.KeyBufferedBytes)
		}
	})
}

// TestRefusedCallWaitsForNoMemory: the client's message waits for memory when the
// Authenticator refuses the call.
func TestRefusedCallWaitsForNoMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(asked)
		s := newServer(t, Config{Limits: exactly, Backend: nowhere, Authenticator: answer})
		others := memory.NewClaim(s.account.NewEntry())
		if err := others.Reserve(t.Context(), memory.Small, int(s.account.Messages())); err != nil {
			t.Fatal(err)
		}
		defer others.Done()
		c, ended := socketCall(t, s)
		c.Send(t, wstest.Binary, dataOf(60<<10))
		synctest.Wait()
		if !s.account.Pressed() {
			t.Error("the message doesn't wait for memory")
		}
		start := time.Now()
		answer <- status.Error(codes.PermissionDenied, "not you")
		c.WantClose(t, websocket.StatusNormalClosure)
		c.Send(t, wstest.Close, []byte{3, 232})
		<-ended
		if took := time.Since(start); took > 0 {
			t.Errorf("the call ended %v after its refusal, want at once", took)
		}
	})
}

// TestBrokenRuleEndsTheAuthenticator: what the client sends ends the call at once.
func TestBrokenRuleEndsTheAuthenticator(t *testing.T) {
	small := Limits{MessageBytes: 1 << 10}
	for name, c := range map[string]struct {
		limits Limits
		sent   [][]byte
		want   report.Reason
	}{
		"a text":                     {Limits{}, [][]byte{wstest.Masked(wstest.Text, []byte("\x00"))}, report.ReasonBadRequest},
		"a text behind a message":    {Limits{}, [][]byte{wstest.Masked(wstest.Binary, dataOf(9)), wstest.Masked(wstest.Text, []byte("\x00"))}, report.ReasonBadRequest},
		"a message too large":        {small, [][]byte{wstest.Masked(wstest.Binary, dataOf(2<<10))}, report.ReasonRequestTooLarge},
		"data behind the half-close": {Limits{}, [][]byte{wstest.Masked(wstest.Binary, []byte{1}), wstest.Masked(wstest.Binary, dataOf(9))}, report.ReasonBadRequest},
		"a frame that isn't masked":  {Limits{}, [][]byte{wstest.Masked(wstest.Binary, dataOf(9)), {0x82, 1, 0}}, report.ReasonBadRequest},
	} {
		synctest.Test(t, func(t *testing.T) {
			obs := newObserver()
			s := newServer(t, Config{Backend: nowhere, Observer: obs, Limits: c.limits, Authenticator: make(asked)})
			client, ended := socketCall(t, s)
			for _, frame := range c.sent {
				if _, err := client.Write(frame); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			_ = client.Close() // too late to be why it ended
			<-ended
			if info := <-obs.ended; info.Reason != c.want {
				t.Errorf("%s: the call ended with %v (%s), want %s", name, info.Status, info.Reason, c.want)
			}
		})
	}
}

// TestAwaitingTheEndLosesNothing, wherever in the client's bytes it is stopped.
func TestAwaitingTheEndLosesNothing(t *testing.T) {
	data := wstest.Masked(wstest.Binary, append([]byte{0}, framed(0, []byte("hello"))...))
	halfClose := wstest.Masked(wstest.Binary, []byte{1})
	for _, messages := range []int{0, 1} {
		sent := append(bytes.Repeat(data, messages), halfClose...)
		for n := range len(sent) + 1 {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Config{Backend: nowhere})
				ws, c := socketPair(t, s, 1<<10)
				d := grpcSocketOf(s, new(call), ws)
				if _, err := c.Write(sent[:n]); err != nil {
					t.Fatal(err)
				}
				stopped := make(chan struct{})
				var err error
				go func() { // ends with StopAwaiting
					defer close(stopped)
					err = d.AwaitEnd()
				}()
				synctest.Wait()
				d.StopAwaiting(stopped)
				if _, werr := c.Write(sent[n:]); werr != nil || err != nil {
					t.Fatalf("stopped after %d bytes: %v, %v", n, err, werr)
				}
				got, err := readMessages(&d.stream)
				if len(got) != messages || err != nil {
					t.Errorf("stopped after %d bytes: %q and %v, want %d messages and the half-close", n, got, err, messages)
				}
				if _, err := c.Write(wstest.Masked(wstest.Close, nil)); err != nil {
					t.Fatal(err)
				}
				if err := d.AwaitEnd(); reasonOf(err) != report.ReasonClientGone {
					t.Errorf("behind the half-close: %v, want %s", err, report.ReasonClientGone)
				}
			})
		}
	}
}

package pool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// Helpers that several packages share, by short names.
const patience = parts.Patience

var (
	listen       = parts.Listen
	startBackend = parts.StartBackend
	serveBackend = parts.ServeBackend
	echo         = parts.Echo
	hold         = parts.Hold
	within       = parts.Within
	poll         = parts.Poll
	errorInfo    = parts.ErrorInfo
)

// A bytesCodec hands messages through as plain bytes.
type bytesCodec = parts.BytesCodec

func await[T any](t testing.TB, what string, event <-chan T) T {
	t.Helper()
	return parts.Await(t, what, event)
}

const testMethod = "/test.Service/Method"

var errDeadline = report.New(report.ReasonDeadlineExceeded, "the deadline passed")

func quietPanics() *report.Panics { return report.NewPanics(slog.New(slog.DiscardHandler)) }

// newPool returns a pool whose streams pass bytes.
func newPool(b report.Backend, a *memory.Account, panics *report.Panics) (*Pool, error) {
	if b.Logger == nil {
		b.Logger = slog.New(slog.DiscardHandler)
	}
	return New(b, Options{HeaderBytes: 8 << 10, Account: a, Panics: panics, Streams: []grpc.CallOption{grpc.ForceCodecV2(bytesCodec{})}})
}

// poolTo returns a pool that ends with the test.
func poolTo(t testing.TB, b report.Backend) *Pool {
	t.Helper()
	budget := memory.New(1<<30, 0)
	p, err := newPool(b, budget, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		poll(t, func() string { // grpc-go may still be closing a connection that the backend has ended
			if used := budget.Used(); used != 0 {
				return fmt.Sprintf("%d bytes are counted", used)
			}
			return ""
		})
	})
	return p
}

// openCall opens a call whose waiting cancels what is derived from ctx.
func openCall(ctx context.Context, p *Pool) (grpc.ClientStream, error) {
	ctx, giveUp := context.WithCancelCause(ctx)
	id := rand.Text()
	return p.NewCall(id, 0, nil).Open(metadata.NewOutgoingContext(ctx, metadata.Pairs("x-request-id", id)), giveUp, false, testMethod, grpc.ForceCodecV2(bytesCodec{}))
}

// An ending is how a call has ended: with a status of the stream, or with a fault of the pool.
type ending struct {
	status *status.Status
	reason report.Reason
	cause  string
}

// makeCall makes one call: a message and the half-close, then everything that comes.
func makeCall(ctx context.Context, t testing.TB, p *Pool) ending {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := openCall(ctx, p)
	if err != nil {
		return judge(err)
	}
	if err := s.SendMsg([]byte("hello")); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("send: %v", err)
	}
	_ = s.CloseSend() // always nil; the status comes from RecvMsg
	for {
		if err := s.RecvMsg(new([]byte)); errors.Is(err, io.EOF) {
			return ending{status: status.New(codes.OK, "")}
		} else if err != nil {
			return ending{status: status.Convert(err)}
		}
	}
}

// judge tells apart the errors of Open: a fault, or the cause of the call's context.
func judge(err error) ending {
	f, ok := errors.AsType[*report.Fault](err)
	if !ok && errors.Is(err, context.DeadlineExceeded) {
		f, ok = errDeadline, true
	}
	if !ok {
		f = report.New(report.ReasonInternal, "BUG: not a fault").Because(err)
	}
	e := ending{status: f.In(rules.InFile).Status("id", false), reason: f.Reason}
	if f.Cause != nil {
		e.cause = report.Words(rules.InFile).Say(f.Cause.Error())
	}
	return e
}

func wantUnreachable(t testing.TB, e ending) {
	t.Helper()
	if e.status.Code() != codes.Unavailable || e.reason != report.ReasonUpstreamUnreachable || e.cause == "" {
		t.Errorf("got %v for %s (%q), want UNAVAILABLE for %s and a cause", e.status, e.reason, e.cause, report.ReasonUpstreamUnreachable)
	}
	if got := errorInfo(t, e.status).GetMetadata()["sent"]; got != "no" {
		t.Errorf("sent=%s, want no", got)
	}
	if strings.Contains(e.status.Message(), "dial") || strings.Contains(e.status.Message(), "127.0.0.1") {
		t.Errorf("the client is told the inside: %q", e.status.Message())
	}
}

// inBubble is the Backend behind a listener in memory.
func inBubble(ln *parts.PipeListener) report.Backend {
	return report.Backend{Target: "passthrough:///bubble", Dial: func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }}
}

// holding opens n calls one after the other. end ends one of them.
func holding(t *testing.T, p *Pool, n int) (ends []func()) {
	t.Helper()
	for i := range n {
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := openCall(ctx, p); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		ends = append(ends, cancel)
		synctest.Wait() // the backend has it
	}
	return ends
}

func endAll(ends []func()) {
	for _, end := range ends {
		end()
	}
	synctest.Wait()
}

// A countedBackend is a parts.CountedBackend with a health service.
type countedBackend struct {
	report.Backend
	*parts.CountedBackend
	health *scriptedHealth
}

func newCountedBackend(t *testing.T, streams uint32, opts ...grpc.ServerOption) *countedBackend {
	t.Helper()
	health := newScriptedHealth()
	c := parts.NewCountedBackend(t, streams, health.watch, opts...)
	return &countedBackend{report.Backend{Target: "passthrough:///bubble", Dial: c.DialTo}, c, health}
}

// several is a backend with several addresses in memory, "0", "1" and so on.
type several struct {
	report.Backend

	each  []*countedBackend
	names *parts.Names
}

// newSeveral returns a backend with n addresses. Its name has all of them.
func newSeveral(t *testing.T, n int, streams uint32, opts ...grpc.ServerOption) *several {
	t.Helper()
	s := &several{}
	var addresses []string
	for i := range n {
		s.each = append(s.each, newCountedBackend(t, streams, opts...))
		addresses = append(addresses, fmt.Sprint(i))
	}
	s.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		var i int
		if _, err := fmt.Sscan(address, &i); err != nil {
			return nil, err
		}
		return s.each[i].DialTo(ctx, address)
	}
	s.names = parts.NewNames(t, addresses...)
	s.Target = s.names.Target
	return s
}

// resolveTo has the name resolve to these addresses.
func (s *several) resolveTo(addresses ...int) {
	var texts []string
	for _, a := range addresses {
		texts = append(texts, fmt.Sprint(a))
	}
	s.names.ResolveTo(texts...)
	synctest.Wait()
}

// calls returns the calls that run at each address.
func (s *several) calls() (calls []int) {
	for _, b := range s.each {
		sum := 0
		for _, n := range b.CallsBy() {
			sum += n
		}
		calls = append(calls, sum)
	}
	return calls
}

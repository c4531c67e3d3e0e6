package ratelimit

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/internal/parts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient are options whose time-out no test waits for.
func patient() Options {
	return Options{
		Target: "127.0.0.1:1", Domain: "shop", Timeout: MaxTimeout,
		Descriptors: []Descriptor{
			{{Key: "identity", Source: FromIdentity}, {Key: "method", Source: FromMethod}},
			{{Key: "peer", Source: FromPeer}},
		},
		ReservedDown: func(name string) bool { return strings.HasPrefix(name, "grpc-") || name == "te" },
	}
}

func aCall() Facts {
	return Facts{
		Kind: "jwt", Issuer: "https://idp.example", Subject: "alice",
		Method: "/shop.v1.Orders/Get", Route: "orders", Peer: netip.MustParseAddr("192.0.2.1"),
		Metadata: metadata.MD{"x-tenant": {"blue"}, "x-several": {"a", "b"}},
	}
}

// An answer is what a service does with a question.
type answer func(context.Context, *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error)

// says answers with a code at once.
func says(code ratelimitv3.RateLimitResponse_Code) answer {
	return func(context.Context, *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
		return &ratelimitv3.RateLimitResponse{OverallCode: code}, nil
	}
}

// A fakeService answers without a connection, and counts the questions.
type fakeService struct {
	answer answer
	asked  atomic.Int64
}

func (s *fakeService) ShouldRateLimit(ctx context.Context, q *ratelimitv3.RateLimitRequest, _ ...grpc.CallOption) (*ratelimitv3.RateLimitResponse, error) {
	s.asked.Add(1)
	return s.answer(ctx, q)
}

func (*fakeService) Close() error { return nil }

func fakeLimiter(t testing.TB, o Options, s *fakeService) *Limiter {
	t.Helper()
	o, err := o.checked()
	if err != nil {
		t.Fatal(err)
	}
	return closed(t)(newLimiter(o, s, s), nil)
}

// closed closes a new Limiter at the test's end.
func closed(t testing.TB) func(*Limiter, error) *Limiter {
	return func(l *Limiter, err error) *Limiter {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
		return l
	}
}

// A server is a real service.
type server struct {
	ratelimitv3.UnimplementedRateLimitServiceServer
	answer answer
}

func (s server) ShouldRateLimit(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	return s.answer(ctx, q)
}

// serve runs a service behind a listener until stop, or the test's end.
func serve(t testing.TB, ln net.Listener, a answer, o ...grpc.ServerOption) (stop func()) {
	t.Helper()
	g := grpc.NewServer(o...)
	ratelimitv3.RegisterRateLimitServiceServer(g, server{answer: a})
	return parts.ServeGRPC(t, ln, g)
}

// realLimiter returns a Limiter of a new real service.
func realLimiter(t testing.TB, o Options, a answer) *Limiter {
	t.Helper()
	ln := parts.Listen(t, "127.0.0.1:0")
	serve(t, ln, a)
	o.Target = ln.Addr().String()
	return connected(t, o)
}

// connected returns what New does. The longest time-out becomes one that a busy machine
// doesn't reach either.
func connected(t testing.TB, o Options) *Limiter {
	t.Helper()
	o, err := o.checked()
	if err != nil {
		t.Fatal(err)
	}
	if o.Timeout == MaxTimeout {
		o.Timeout = time.Minute
	}
	conn, err := connect(o.Target, o.TLS)
	if err != nil {
		t.Fatal(err)
	}
	return closed(t)(newLimiter(o, ratelimitv3.NewRateLimitServiceClient(conn), conn), nil)
}

// asRefusal returns err as a Refusal, or fails the test.
func asRefusal(t testing.TB, err error) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if r.Cause == nil || r.Message == "" || r.Kind != OverLimit && r.Kind != Unavailable {
		t.Errorf("the refusal %+v lacks a part", r)
	}
	return r
}

package check

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/internal/parts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reservedNames is in the manner of the bridge's table.
func reservedNames(name string) bool {
	name = strings.NewReplacer("_", "-", ".", "-").Replace(name)
	for _, prefix := range []string{":", "grpc-", "x-forwarded-", "culvert-", "x-culvert-", "proxy-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	switch name {
	case "host", "te", "content-type", "content-length", "connection", "transfer-encoding", "upgrade", "keep-alive", "trailer", "x-request-id":
		return true
	}
	return false
}

// patient are options whose time-out no test waits for.
func patient() Options {
	return Options{Timeout: MaxTimeout, Reserved: reservedNames, ReservedDown: reservedNames}
}

// aCall is a request with everything.
func aCall() Request {
	return Request{
		Method: "/shop.v1.Orders/Get", Authority: "shop.example:8443", Scheme: "https",
		Metadata: metadata.MD{
			"authorization": {"Bearer abcdefghijkl.mnopqrstuvwx.yz0123456789"},
			"x-a":           {"1", "2"}, "x-b-bin": {"\x00\x01", "\xff"},
		},
		Peer: netip.MustParseAddrPort("192.0.2.1:4711"), Local: netip.MustParseAddrPort("[2001:db8::1]:443"), SNI: "shop.example",
		Principals: []string{"spiffe://shop/cart", "CN=cart"}, CertificateHash: [32]byte{1},
		ID: "c1", Start: time.Unix(1_700_000_000, 5).UTC(), Route: "orders",
	}
}

// A checkServer is a real service of the gRPC form.
type checkServer struct {
	authv3.UnimplementedAuthorizationServer
	check func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error)
}

func (s checkServer) Check(ctx context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	return s.check(ctx, r)
}

// serveCheck runs a service behind a listener until stop, or the test's end.
func serveCheck(t testing.TB, ln net.Listener, check func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error), o ...grpc.ServerOption) (stop func()) {
	t.Helper()
	server := grpc.NewServer(o...)
	authv3.RegisterAuthorizationServer(server, checkServer{check: check})
	return parts.ServeGRPC(t, ln, server)
}

// grpcChecker returns a Checker of a new real service.
func grpcChecker(t testing.TB, g GRPC, o Options, check func(context.Context, *authv3.CheckRequest) (*authv3.CheckResponse, error), so ...grpc.ServerOption) *Checker {
	t.Helper()
	ln := parts.Listen(t, "127.0.0.1:0")
	serveCheck(t, ln, check, so...)
	g.Target = ln.Addr().String()
	return closed(t)(NewGRPC(g, o))
}

// closed closes a new Checker at the test's end.
func closed(t testing.TB) func(*Checker, error) *Checker {
	return func(c *Checker, err error) *Checker {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return c
	}
}

// same reports whether two answers are the same.
func same(a, b Answer) bool {
	return slices.Equal(a.Request, b.Request) && slices.Equal(a.Response, b.Response) &&
		a.Backend == b.Backend && a.Subject == b.Subject && a.Cached == b.Cached && a.Open == b.Open //nolint:errorlint // one and the same error
}

// sameRefusal reports whether two refusals are the same, but for their causes.
func sameRefusal(a, b *Refusal) bool {
	return a.Kind == b.Kind && a.Code == b.Code && a.Message == b.Message && reflect.DeepEqual(a.Header, b.Header)
}

// asRefusal returns err as a Refusal, or fails the test.
func asRefusal(t testing.TB, err error) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if r.Cause == nil || r.Code < 1 || r.Code > 16 || r.Message == "" {
		t.Errorf("the refusal %+v lacks a part", r)
	}
	return r
}

// A fakeService answers by a function, and counts the questions.
type fakeService struct {
	answer func(ctx context.Context, r Request) verdict
	asked  atomic.Int64
}

func (s *fakeService) question(r *Request) question {
	copied := *r
	return func(ctx context.Context) verdict {
		s.asked.Add(1)
		return s.answer(ctx, copied)
	}
}

func (s *fakeService) close() error { return nil }

func fakeChecker(t testing.TB, o Options, s *fakeService) *Checker {
	t.Helper()
	o, err := o.checked()
	return closed(t)(newChecker(o, s), err)
}

package bridge

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An adder is an Observer that adds metadata to each call.
type adder struct {
	*anObserver
	adds metadata.MD
}

// CallBegan implements report.Observer.
func (o adder) CallBegan(ctx context.Context, c *report.CallInfo, md metadata.MD) report.CallObserver {
	maps.Copy(md, o.adds)
	return o.anObserver.CallBegan(ctx, c, md)
}

// TestAuthenticatorIsNotBlamedForTheObserver: the Observer's metadata reaches the
// backend, with an Authenticator too. The Authenticator is judged by what it sets
// itself.
func TestAuthenticatorIsNotBlamedForTheObserver(t *testing.T) {
	const limit = 4 << 10
	large := strings.Repeat("x", limit)
	set := func(name, value string) func(md metadata.MD) { return func(md metadata.MD) { md.Set(name, value) } }
	for name, c := range map[string]struct {
		adds         metadata.MD
		authenticate func(md metadata.MD)
		reason       report.Reason // empty: the call passes
	}{
		"a name of gRPC":                    {metadata.Pairs("grpc-trace-bin", "\x00\x01"), set("x-user", "alice"), ""},
		"a name of gRPC, changed":           {metadata.Pairs("grpc-trace-bin", "\x00\x01"), set("grpc-trace-bin", "\x02"), report.ReasonInternal},
		"a name of gRPC, changed in place":  {metadata.Pairs("grpc-trace-bin", "\x00\x01"), func(md metadata.MD) { md["grpc-trace-bin"][0] = "\x02" }, report.ReasonInternal},
		"a name of gRPC, beside another":    {metadata.Pairs("grpc-trace-bin", "\x00\x01"), set("grpc-tags-bin", "\x02"), report.ReasonInternal},
		"more than the limit":               {metadata.Pairs("x-large", large), set("x-user", "alice"), ""},
		"more than the limit, and too much": {metadata.Pairs("x-large", large), set("x-user", large), report.ReasonMetadataTooLarge},
		"much, and too much":                {metadata.Pairs("x-large", large[:limit/2]), set("x-user", large), report.ReasonMetadataTooLarge},
		"much, and as much":                 {metadata.Pairs("x-large", large[:limit*3/4]), set("x-user", large[:limit*3/4]), ""},
	} {
		called := make(chan metadata.MD, 1)
		backend := startBackend(t, func(ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			called <- md
			return echo(ss)
		})
		s := newServer(t, Config{
			Backend: Backend{Target: backend}, Observer: adder{newObserver(), c.adds}, Limits: Limits{HeaderBytes: limit},
			Authenticator: authenticator(func(_ context.Context, _ string, _ Peer, md metadata.MD) (*Identity, error) {
				c.authenticate(md)
				return &Identity{Name: "alice"}, nil
			}),
		})
		err := unary(within(t, patience), dial(t, serve(t, s)), testMethod)
		if reasonFor(err) != c.reason {
			t.Errorf("%s: the call ended with %v, want %q", name, err, c.reason)
		}
		select {
		case md := <-called:
			if c.reason != "" {
				t.Errorf("%s: the call reached the backend", name)
			}
			for key, want := range c.adds {
				if !slices.Equal(md[key], want) {
					t.Errorf("%s: the backend got %s: %.40q, want %.40q", name, key, md[key], want)
				}
			}
		default:
			if c.reason == "" {
				t.Errorf("%s: the call didn't reach the backend", name)
			}
		}
	}
}

package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestSplitFollowsTheKey: a call without the key goes by weight, others stay.
func TestSplitFollowsTheKey(t *testing.T) {
	cfg := Config{
		Backends: []NamedBackend{startShowing(t, "a"), startShowing(t, "b")},
		Routes:   []Route{{Name: "all", Split: []report.Target{{Backend: "a", Weight: 1}, {Backend: "b", Weight: 1}}, Sticky: "X-User"}},
	}
	s := newServer(t, cfg)
	cc := dial(t, serve(t, s))
	ctx := within(t, patience)
	seen, plain := map[string]string{}, map[string]int{}
	for i := range 100 {
		user := fmt.Sprint("user-", i%20)
		backend, _, _ := strings.Cut(asks(ctx, cc, testMethod, "x-user", user), " ")
		if before, ok := seen[user]; ok && before != backend {
			t.Errorf("%s moved from %s to %s", user, before, backend)
		}
		seen[user] = backend
		backend, _, _ = strings.Cut(asks(ctx, cc, testMethod), " ")
		plain[backend]++
	}
	both := map[string]int{}
	for _, backend := range seen {
		both[backend]++
	}
	if len(both) != 2 || plain["a"] < 20 || plain["b"] < 20 || plain["a"]+plain["b"] != 100 {
		t.Errorf("users went to %v, calls without a user to %v", both, plain)
	}
	cfg.Routes = []Route{{Name: "all", Split: []report.Target{{Backend: "a", Weight: 0}, {Backend: "b", Weight: 1}}, Sticky: "x-user"}}
	apply(t, s, cfg)
	for i := range 20 {
		wantAnswer(t, "after the weight fell to 0", asks(ctx, cc, testMethod, "x-user", fmt.Sprint("user-", i)), "b ")
	}
}

// A sickly backend answers calls with its name, and Watches of its health with what it
// is told.
type sickly struct {
	Backend

	stop     func()
	statuses chan byte     // of grpc.health.v1, from the second on
	dials    atomic.Int64  // so far
	fail     chan struct{} // dials after the first fail once it is closed
}

func startSickly(t *testing.T, name string) *sickly {
	b := &sickly{statuses: make(chan byte), fail: make(chan struct{})}
	ln := listen(t, "127.0.0.1:0")
	b.stop = parts.ServeBackend(t, ln, func(ss grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(ss); method != "/grpc.health.v1.Health/Watch" {
			return ss.SendMsg([]byte(name + " "))
		}
		for now := byte(1); ; {
			if err := ss.SendMsg([]byte{8, now}); err != nil {
				return err
			}
			select {
			case now = <-b.statuses:
			case <-ss.Context().Done():
				return nil
			}
		}
	})
	b.Backend = Backend{Target: ln.Addr().String(), HealthCheck: HealthCheck{Enabled: true}, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		if b.dials.Add(1) > 1 {
			select {
			case <-b.fail:
				return nil, errors.New("it is gone")
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}
	return b
}

// TestSplitLeavesASickBackend: while one backend of a split fails its health check, or
// can't be reached, the other one gets all calls, those that stay with a backend by
// their metadata included. They come back to it. No call fails.
func TestSplitLeavesASickBackend(t *testing.T) {
	b := startSickly(t, "b")
	s := newServer(t, Config{
		Backends: []NamedBackend{startShowing(t, "a"), {Name: "b", Backend: b.Backend}},
		Routes: []Route{{
			Name: "all", Split: []report.Target{{Backend: "a", Weight: 1}, {Backend: "b", Weight: 1}}, Sticky: "x-user",
			RemoveMetadata: []string{"x-user"}, // only for the backend
		}},
	})
	cc := dial(t, serve(t, s))
	awaitB := func(accepts bool) {
		t.Helper()
		poll(t, func() string {
			for _, u := range s.Upstreams() {
				if u.Name == "b" && u.Addresses[0].Accepts == accepts {
					return ""
				}
			}
			return fmt.Sprintf("b doesn't become accepts=%v", accepts)
		})
	}
	awaitB(true)
	user := ""
	for i := 0; user == ""; i++ {
		if name := fmt.Sprint("user-", i); strings.HasPrefix(asks(within(t, patience), cc, testMethod, "x-user", name), "b ") {
			user = name
		}
	}
	allToA := func(when string) {
		t.Helper()
		for range 20 {
			wantAnswer(t, when+", a call of b's user", asks(within(t, patience), cc, testMethod, "x-user", user), "a ")
			wantAnswer(t, when+", a call without a user", asks(within(t, patience), cc, testMethod), "a ")
		}
	}
	b.statuses <- 2
	awaitB(false)
	allToA("while b is NOT_SERVING")
	b.statuses <- 1
	awaitB(true)
	wantAnswer(t, "after b has recovered", asks(within(t, patience), cc, testMethod, "x-user", user), "b ")

	b.stop()
	awaitB(false)
	answer := make(chan string, 1)
	go func() { answer <- asks(within(t, patience), cc, testMethod, "x-user", user) }()
	close(b.fail)
	wantAnswer(t, "a call while b's connection fails", await(t, "the call", answer), "a ")
	allToA("after b is gone")
}

// TestSplitLeavesABackendThatIsAway: a call that the split gives to a backend without a
// connection goes to the other one as soon as the attempt to connect has failed, or after
// a second. Its retries are for the backend that serves it.
func TestSplitLeavesABackendThatIsAway(t *testing.T) {
	const dialed = 300 * time.Millisecond
	refuse := func(ctx context.Context) (net.Conn, error) {
		ctx, stop := context.WithTimeout(ctx, dialed)
		defer stop()
		<-ctx.Done()
		return nil, errors.New("connection refused")
	}
	for what, c := range map[string]struct {
		lost bool // there was a connection
		dial func(context.Context) (net.Conn, error)
		want time.Duration // of the first call
	}{
		"nothing listens":   {false, refuse, dialed},
		"it doesn't listen": {true, refuse, dialed},
		"nothing answers":   {false, func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, time.Second},
		"it isn't gRPC": {false, func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }() // until the other has closed it
			go func() {
				time.Sleep(dialed)
				_, _ = far.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) // culvert may be gone
				_ = far.Close()
			}()
			return near, nil
		}, dialed},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backend := func(name string) (Backend, func()) {
					ln := parts.ListenPipe(t)
					stop := parts.ServeBackend(t, ln, func(grpc.ServerStream) error { return status.Error(codes.Aborted, name) })
					return Backend{Target: "passthrough:///" + name, Dial: func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }}, stop
				}
				live, stopLive := backend("live")
				defer stopLive()
				away, stopAway := backend("away")
				defer stopAway()
				connect, dials := away.Dial, 0
				away.Dial = func(ctx context.Context, address string) (net.Conn, error) {
					if dials++; dials == 1 && c.lost {
						return connect(ctx, address)
					}
					return c.dial(ctx)
				}
				split, err := routing.NewSplit([]report.Target{{Backend: "live", Weight: 1}, {Backend: "away", Weight: 1}})
				if err != nil {
					t.Fatal(err)
				}
				r := &route{treatment: &treatment{split: split, sticky: "x-user", retry: &Retry{Attempts: 5, Codes: []codes.Code{codes.Unavailable}, Backoff: time.Second}}}
				user := ""
				for i := 0; split.PickFor([]string{user}, func(string) bool { return true }) != "away"; i++ {
					user = fmt.Sprint("user-", i)
				}
				s := newServer(t, Config{Backends: []NamedBackend{{Name: "live", Backend: live}, {Name: "away", Backend: away}, {Name: DefaultBackend, Backend: nowhere}}})
				served := func(by string, within time.Duration) {
					t.Helper()
					d, call, start := newChannelDown(t), newCallOf(s), time.Now()
					call.route, call.Metadata = r, metadata.MD{"x-user": {user}}
					close(d.requests)
					call.handle(t.Context(), d, nil, nil)
					d.over.Store(true)
					if end := <-d.end; end.status.Message() != by || call.info.Backend != by {
						t.Errorf("ended with %v of %s, want %s", end.status, call.info.Backend, by)
					}
					if took := time.Since(start); took != within {
						t.Errorf("the call took %v, want %v", took, within)
					}
				}
				if c.lost {
					served("away", 0)
					stopAway()
					synctest.Wait()
				}
				served("live", c.want)
				served("live", 0)
			})
		})
	}
}

// TestSplitLeavesAFullBackend: a call without a place goes to another backend that serves,
// and fails at once if there is none.
func TestSplitLeavesAFullBackend(t *testing.T) {
	gone := NamedBackend{Backend: Backend{Target: "127.0.0.1:9", Dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("it is gone") }}}
	for what, c := range map[string]struct {
		other NamedBackend
		want  string
	}{
		"another one serves": {startShowing(t, "other"), "other "},
		"the other is gone":  {gone, "Unavailable all connections to the backend are full"},
	} {
		t.Run(what, func(t *testing.T) {
			held := make(chan struct{})
			full := Backend{MaxConnections: 1, QueueTimeout: 50 * time.Millisecond, Target: startBackend(t, func(ss grpc.ServerStream) error {
				if md, _ := metadata.FromIncomingContext(ss.Context()); len(md["hold"]) > 0 {
					close(held)
					return hold(ss)
				}
				return ss.SendMsg([]byte("full "))
			}, grpc.MaxConcurrentStreams(1))}
			c.other.Name = "other"
			s := newServer(t, Config{
				Backends: []NamedBackend{{Name: "full", Backend: full}, c.other},
				Routes:   []Route{{Name: "all", Split: []report.Target{{Backend: "full", Weight: 1}, {Backend: "other", Weight: 1}}, Sticky: "x-user"}},
			})
			cc := dial(t, serve(t, s))
			split, err := routing.NewSplit([]report.Target{{Backend: "full", Weight: 1}, {Backend: "other", Weight: 1}})
			if err != nil {
				t.Fatal(err)
			}
			user := ""
			for i := 0; split.PickFor([]string{user}, func(string) bool { return true }) != "full"; i++ {
				user = fmt.Sprint("user-", i)
			}
			wantAnswer(t, "a call with room", asks(within(t, patience), cc, testMethod, "x-user", user), "full ")
			ctx := metadata.AppendToOutgoingContext(within(t, patience), "x-user", user, "hold", "1")
			if _, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, testMethod); err != nil {
				t.Fatal(err)
			}
			await(t, "the call that holds the place", held)
			wantAnswer(t, "a call without a place", asks(within(t, patience), cc, testMethod, "x-user", user), c.want)
		})
	}
}

// TestSplitWithoutAnyBackend fails as one backend alone does, and soon.
func TestSplitWithoutAnyBackend(t *testing.T) {
	gone := func(name string) NamedBackend {
		return NamedBackend{Name: name, Backend: Backend{Target: "127.0.0.1:9", Dial: func(context.Context, string) (net.Conn, error) { return nil, errors.New("it is gone") }}}
	}
	obs := newObserver()
	s := newServer(t, Config{
		Backends: []NamedBackend{gone("a"), gone("b")},
		Observer: obs,
		Routes:   []Route{{Name: "all", Split: []report.Target{{Backend: "a", Weight: 1}, {Backend: "b", Weight: 1}}}},
	})
	cc := dial(t, serve(t, s))
	for range 10 {
		wantAnswer(t, "a call", asks(within(t, patience), cc, testMethod), "Unavailable the backend could not be reached")
		if info := await(t, "the call's end", obs.ended); info.Backend == "" {
			t.Errorf("the log names no backend: %+v", info)
		}
	}
}

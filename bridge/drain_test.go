package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestCallsThatAreLeftEndOneByOne: all clients of a server that call again at once
// would be a flood for the others.
func TestCallsThatAreLeftEndOneByOne(t *testing.T) {
	const calls, spread = 200, 4 * time.Second
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			g := registryOf(Limits{})
			start := time.Now()
			var mu sync.Mutex
			var ends []time.Duration
			order := make(map[int]int) // the place of each call among the ends
			var waiting sync.WaitGroup
			for i := range calls {
				r, ctx := watch(t, g)
				waiting.Go(func() {
					<-ctx.Done()
					if !errors.Is(context.Cause(ctx), errDraining) {
						t.Errorf("ended with %v", context.Cause(ctx))
					}
					mu.Lock()
					order[i] = len(ends)
					ends = append(ends, time.Since(start))
					mu.Unlock()
					g.remove(r)
				})
			}
			g.cancelOver(t.Context(), start.Add(spread), errDraining, random.Float64)
			waiting.Wait()
			if first, last := ends[0], ends[calls-1]; first < 0 || last > spread || last < spread*9/10 {
				t.Errorf("ends from %v to %v, want them within %v", first, last, spread)
			}
			for at := time.Duration(0); at < spread; at += spread / 10 { // each tenth of the time has its share
				n := 0
				for _, end := range ends {
					if at <= end && end < at+spread/10 {
						n++
					}
				}
				if n < calls/10-2 || n > calls/10+2 {
					t.Errorf("%d ends from %v on, want about %d", n, at, calls/10)
				}
			}
			if inOrder := slices.IsSortedFunc(slices.Collect(func(yield func(int) bool) {
				for i := range calls {
					if !yield(order[i]) {
						return
					}
				}
			}), func(a, b int) int { return a - b }); inOrder {
				t.Error("the calls end in the order in which they began")
			}
		})
	}
}

// TestEndingOneByOneEnds with the last call, and with the caller's patience.
func TestEndingOneByOneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryOf(Limits{})
		r, _ := watch(t, g)
		start := time.Now()
		time.AfterFunc(time.Second, func() { g.remove(r) })
		g.cancelOver(t.Context(), start.Add(time.Minute), errDraining, func() float64 { return 0.99 })
		if took := time.Since(start); took != time.Second {
			t.Errorf("it waited for %v, and the last call ended after 1 s", took)
		}
		other, _ := watch(t, g)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		g.cancelOver(ctx, start.Add(time.Minute), errDraining, func() float64 { return 0.99 })
		if took := time.Since(start); took != time.Second {
			t.Errorf("it waited for %v, and had 1 s", took)
		}
		g.remove(other)
	})
}

func TestDrainTimes(t *testing.T) {
	for _, c := range []struct{ within, spread, first, last time.Duration }{
		{20 * time.Second, 5 * time.Second, 15 * time.Second, 19 * time.Second},
		{20 * time.Second, 0, 19 * time.Second, 19 * time.Second},
		{20 * time.Second, 500 * time.Millisecond, 19 * time.Second, 19 * time.Second},
		{20 * time.Second, 20 * time.Second, 0, 19 * time.Second},
		{time.Second, 500 * time.Millisecond, 500 * time.Millisecond, 500 * time.Millisecond},
		{200 * time.Millisecond, 0, 100 * time.Millisecond, 100 * time.Millisecond},
		{0, 0, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := new(Server)
			s.policy.Store(&policy{drainSpread: c.spread})
			ctx, cancel := context.WithTimeout(t.Context(), c.within)
			defer cancel()
			at := newDrain(ctx, s)
			if first, last := at.first.Sub(at.begin), at.last.Sub(at.begin); first != c.first || last != c.last || at.end.Sub(at.begin) != c.within {
				t.Errorf("within %v, spread over %v: from %v to %v of %v, want from %v to %v", c.within, c.spread, first, last, at.end.Sub(at.begin), c.first, c.last)
			}
		})
	}
	if at := newDrain(t.Context(), nil); *at != (drain{}) {
		t.Errorf("without a deadline: %v", at)
	}
}

// TestCallsEndWithinTheSpread, and Shutdown is over by its deadline.
func TestCallsEndWithinTheSpread(t *testing.T) {
	begun := make(chan struct{}, 20)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		begun <- struct{}{}
		return hold(ss)
	})
	s := newServer(t, Config{Backend: Backend{Target: backend}, DrainSpread: 1500 * time.Millisecond})
	cc := dial(t, serve(t, s))
	var streams []grpc.ClientStream
	for range cap(begun) {
		streams = append(streams, open(within(t, patience), t, cc, testMethod))
		await(t, "the call at the backend", begun)
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	done := drained(s, ctx)
	for _, stream := range streams {
		err := stream.RecvMsg(new([]byte))
		if status.Code(err) != codes.Unavailable || reasonFor(err) != report.ReasonDraining || retryOf(err) == nil {
			t.Errorf("a call ended with %v, want UNAVAILABLE, %s and when to try again", err, report.ReasonDraining)
		}
		if after := time.Since(start); after < 500*time.Millisecond {
			t.Errorf("a call ended after %v, want at least 500 ms", after)
		}
	}
	if err := await(t, "Shutdown's return", done); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
	if took := time.Since(start); took > patience/2 { // the calls would be held for ever
		t.Errorf("Shutdown took %v, want 2 s at most", took)
	}
}

// TestDrainTellsSlowReaders: a client that pauses, and reads on before the drain is over,
// gets the rest of the message that was being written, and then the status.
func TestDrainTellsSlowReaders(t *testing.T) {
	for name, dial := range map[string]func(address string) *grpc.ClientConn{
		"native": func(address string) *grpc.ClientConn { return dial(t, address) },
		"tunnel": func(address string) *grpc.ClientConn { return dialTunnel(t, address, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits for a slow reader
			ended := make(chan struct{})
			backend := startBackend(t, func(ss grpc.ServerStream) error {
				defer close(ended)
				for {
					if err := ss.SendMsg(pattern(20 << 10)); err != nil {
						return err
					}
				}
			})
			s := newServer(t, Config{Backend: Backend{Target: backend}, DrainSpread: patience})
			s.random = func() float64 { return 0 } // the call ends first, and its client has the rest of the drain
			stream := open(within(t, patience), t, dial(serve(t, s)), testMethod)
			poll(t, func() string {
				s.registry.mu.Lock()
				defer s.registry.mu.Unlock()
				for _, r := range s.registry.calls {
					if _, out := r.blocked(); out {
						return ""
					}
				}
				return "the client accepts more"
			})

			done := drained(s, within(t, patience))
			await(t, "the call's end at the backend", ended)
			pause := time.NewTimer(3 * writeGrace)
			<-pause.C
			var err error
			for err == nil {
				err = stream.RecvMsg(new([]byte))
			}
			if status.Code(err) != codes.Unavailable || reasonFor(err) != report.ReasonDraining || retryOf(err) == nil {
				t.Errorf("the call ended with %v, want UNAVAILABLE, %s and when to try again", err, report.ReasonDraining)
			}
			if err := await(t, "Shutdown's return", done); err != nil {
				t.Errorf("Shutdown returned %v", err)
			}
		})
	}
}

// retryOf returns the RetryInfo of an error, or nil.
func retryOf(err error) *errdetails.RetryInfo {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info
		}
	}
	return nil
}

// TestRefusedCallsGoElsewhere: a client of HTTP/2 is told before a call of it is
// refused, in a tunnel, too.
func TestRefusedCallsGoElsewhere(t *testing.T) {
	for _, standard := range []bool{false, true} {
		for way, refuse := range map[string]func(s *Server, ctx context.Context){
			"RefuseCalls": func(s *Server, _ context.Context) { s.RefuseCalls() },
			"Shutdown":    func(s *Server, ctx context.Context) { _ = s.Shutdown(ctx) },
		} {
			for _, tunnelled := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, tunnel: %v, net/http's: %v", way, tunnelled, standard), func(t *testing.T) {
					t.Parallel()
					backend := startBackend(t, echo)
					s := newServer(t, Config{Backend: Backend{Target: backend}, StandardHTTP2: standard})
					other := newServer(t, Config{Backend: Backend{Target: backend}, StandardHTTP2: standard})
					testGoesElsewhere(t, s, serve(t, s), serve(t, other), tunnelled, refuse)
				})
			}
		}
	}
}

// TestEmbeddedClientsGoElsewhere: the clients of an embedder's http.Server are told, too.
func TestEmbeddedClientsGoElsewhere(t *testing.T) {
	for way, refuse := range map[string]func(s *Server, ctx context.Context){
		"RefuseCalls": func(s *Server, _ context.Context) { s.RefuseCalls() },
		"Shutdown":    func(s *Server, ctx context.Context) { _ = s.Shutdown(ctx) },
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			backend := startBackend(t, echo)
			s := newServer(t, Config{Backend: Backend{Target: backend}})
			hs := new(http.Server)
			s.ConfigureHTTP(hs)
			other := newServer(t, Config{Backend: Backend{Target: backend}})
			testGoesElsewhere(t, s, parts.Serve(t, hs), serve(t, other), false, refuse)
		})
	}
}

// TestLateArrivalsAreServed: while Shutdown waits for calls that are on their way, it
// serves the first request of an HTTP/1.1 connection, and a new tunnel.
func TestLateArrivalsAreServed(t *testing.T) {
	t.Parallel()
	backend := startBackend(t, echo)
	s := newServer(t, Config{Backend: Backend{Target: backend}})
	arrived := make(chan time.Time)
	s.goodbyeArrived = func() <-chan time.Time { return arrived }
	hs := new(http.Server)
	s.ConfigureHTTP(hs)
	embedded := parts.Serve(t, hs)
	address := serve(t, s)
	conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	poll(t, func() string {
		if s.edge.Open() == 0 {
			return "no connection"
		}
		return ""
	})
	done := drained(s, within(t, patience))
	poll(t, func() string {
		if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address); err == nil {
			_ = c.Close() // it is no late arrival
			return "the listener is open"
		}
		return ""
	})
	_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	_, err = io.WriteString(conn, "POST "+testMethod+" HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ncontent-length: 5\r\n\r\n\x00\x00\x00\x00\x00")
	answer, _ := io.ReadAll(conn) // a reset shows in what is missing
	if text := string(answer); err != nil || !strings.Contains(text, "200 OK") || !strings.Contains(text, "grpc-status: 0") || !strings.Contains(text, "Connection: close") {
		t.Errorf("a late first request: %v, answered %q", err, answer)
	}
	cc := dialTunnel(t, embedded, nil)
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("a call in a late tunnel: %v", err)
	}
	close(arrived)
	if err := await(t, "Shutdown's return", done); err != nil {
		t.Errorf("Shutdown returned %v", err)
	}
}

// testGoesElsewhere calls the server at the address while it begins to refuse calls. New
// connections go to the other address. The server refuses calls once the client has such a connection.
func testGoesElsewhere(t *testing.T, s *Server, address, other string, tunnelled bool, refuse func(s *Server, ctx context.Context)) {
	t.Helper()
	var at atomic.Pointer[string] // where the load balancer sends connections
	at.Store(&address)
	told := make(chan time.Time)
	s.goodbyeArrived = func() <-chan time.Time { return told }
	var moved atomic.Bool // the client begins no call at the address any more
	cc := dial(t, address, grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		to := *at.Load()
		if to == other {
			moved.Store(true)
		}
		if !tunnelled {
			return new(net.Dialer).DialContext(ctx, "tcp", to)
		}
		ws, _, err := websocket.Dial(ctx, "ws://"+to, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}))
	ctx := within(t, patience)
	if err := unary(ctx, cc, testMethod); err != nil {
		t.Fatal(err)
	}
	tell := sync.OnceFunc(func() { close(told) })
	defer context.AfterFunc(ctx, tell)() // a test that hangs fails
	at.Store(&other)
	stop := make(chan struct{})
	var calling sync.WaitGroup
	calling.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				last := moved.Load()
				if err := unary(ctx, cc, testMethod); err != nil {
					t.Errorf("a call of a client that can go elsewhere: %v", err)
				}
				if last {
					tell() // all calls at the address have ended
				}
			}
		}
	})
	refuse(s, ctx)
	for range 20 {
		if err := unary(ctx, cc, testMethod); err != nil {
			t.Errorf("a call after that: %v", err)
		}
	}
	close(stop)
	calling.Wait()
	if !s.RefusesCalls() || !s.Snapshot().Draining {
		t.Error("the server doesn't say that it refuses calls")
	}
}

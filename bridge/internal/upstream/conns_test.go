package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A countedBackend is a backend in memory that counts its connections and the
// calls on each. A call lasts until its client ends it.
type countedBackend struct {
	report.Backend

	ln     *parts.PipeListener
	health *scriptedHealth

	mu       sync.Mutex
	open     map[net.Conn]bool
	most     int // of them at once
	down     bool
	attempts *atomic.Int64   // to connect; nil: nobody asks
	calls    []*atomic.Int64 // by connection, in the order in which they came
}

type callsKey struct{}

// TagConn gives a connection its counter.
func (b *countedBackend) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	calls := new(atomic.Int64)
	b.calls = append(b.calls, calls)
	return context.WithValue(ctx, callsKey{}, calls)
}

func (b *countedBackend) HandleConn(context.Context, stats.ConnStats) {}

func (b *countedBackend) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (b *countedBackend) HandleRPC(context.Context, stats.RPCStats) {}

// callsBy returns the calls by connection.
func (b *countedBackend) callsBy() (calls []int) {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.calls {
		calls = append(calls, int(c.Load()))
	}
	return calls
}

func newCountedBackend(t *testing.T, streams uint32, opts ...grpc.ServerOption) *countedBackend {
	t.Helper()
	b := &countedBackend{ln: parts.ListenPipe(t), health: newScriptedHealth(), open: map[net.Conn]bool{}}
	stop := serveBackend(t, b.ln, func(ss grpc.ServerStream) error {
		if method, _ := grpc.MethodFromServerStream(ss); method == healthpb.Health_Watch_FullMethodName {
			return b.health.watch(ss)
		}
		calls := ss.Context().Value(callsKey{}).(*atomic.Int64)
		calls.Add(1)
		defer calls.Add(-1)
		return hold(ss)
	}, append(opts, grpc.MaxConcurrentStreams(streams), grpc.StatsHandler(b))...)
	t.Cleanup(stop)
	b.Backend = report.Backend{Target: "passthrough:///bubble", Dial: b.dial}
	return b
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func (b *countedBackend) dial(ctx context.Context, _ string) (net.Conn, error) {
	b.mu.Lock()
	down := b.down
	if b.attempts != nil {
		b.attempts.Add(1)
	}
	b.mu.Unlock()
	if down {
		return nil, errors.New("the backend is down")
	}
	conn, err := b.ln.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[conn] = true
	b.most = max(b.most, len(b.open))
	return &countedConn{conn, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.open, conn)
	}}, nil
}

// connections returns how many there are now.
func (b *countedBackend) connections() int {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// crash cuts all connections, and refuses further ones until up.
func (b *countedBackend) crash() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = true
	for conn := range b.open {
		_ = conn.Close() // its other end learns of it
	}
}

func (b *countedBackend) up() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = false
}

// holding opens n calls one after the other. end ends one of them.
func holding(t *testing.T, u *Upstream, n int) (ends []func()) {
	t.Helper()
	for i := range n {
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := openCall(ctx, u, Request{Method: testMethod}); err != nil {
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

// TestFurtherConnections: a connection is opened for the first call that finds
// no place, and not before; those that stay without use are closed.
func TestFurtherConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 100)
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 100)
		if got := b.connections(); got != 1 {
			t.Errorf("%d connections for 100 calls, want 1", got)
		}
		ends = append(ends, holding(t, u, 150)...)
		if got := b.connections(); got != 3 {
			t.Errorf("%d connections for 250 calls, want 3", got)
		}
		endAll(ends[50:])
		time.Sleep(trimInterval + time.Second)
		if got := b.connections(); got != 3 {
			t.Errorf("%d connections behind a busy interval, want 3", got)
		}
		time.Sleep(trimInterval)
		if got := b.connections(); got != 1 {
			t.Errorf("%d connections for 50 calls on the first, want 1", got)
		}
		endAll(ends[:50])
		time.Sleep(time.Hour)
		if got := b.connections(); got != 1 {
			t.Errorf("%d connections without a call, want 1", got)
		}
	})
}

// TestEmptiestConnection: a new call goes where the fewest are.
func TestEmptiestConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 10)
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 20)
		endAll(ends[:6])
		endAll(ends[10:12])
		for _, want := range [][]int{{5, 8}, {6, 8}, {7, 8}, {8, 8}} {
			holding(t, u, 1)
			if got := b.callsBy(); !slices.Equal(got, want) {
				t.Errorf("%v calls, want %v", got, want)
			}
		}
	})
}

// TestSpareConnectionIsUsedAgain, rather than another one opened.
func TestSpareConnectionIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 10)
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 15)
		endAll(ends[:9])
		endAll(ends[11:]) // one call on the first connection, one on the second
		time.Sleep(2*trimInterval + time.Second)
		if got := b.connections(); got != 2 {
			t.Errorf("%d connections, want 2: each has a call", got)
		}
		holding(t, u, 18)
		if got := b.connections(); got != 2 || b.most != 2 {
			t.Errorf("%d connections, %d at most, want 2 for 20 calls", got, b.most)
		}
	})
}

// TestQueueOfCalls: calls that wait for a place get one in the order in which
// they came.
func TestQueueOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 2)
		b.MaxConnections, b.QueueTimeout = 1, time.Hour
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 2)
		const n = 50
		opened := make(chan int, n)
		for i := range n {
			go func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel() // gives the place to the next
				if _, err := openCall(ctx, u, Request{Method: testMethod}); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
				opened <- i
			}()
			synctest.Wait() // it waits
			if len(opened) > 0 {
				t.Fatalf("call %d has a place, and all were taken", i)
			}
		}
		ends[0]()
		for want := range n {
			if got := <-opened; got != want {
				t.Errorf("call %d came through, want %d", got, want)
			}
		}
	})
}

// TestQueuedCallEnds with the time for it, as OVERLOADED, and with its own
// deadline.
func TestQueuedCallEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 3)
		b.MaxConnections, b.QueueTimeout = 2, 7*time.Second
		u := upstreamTo(t, b.Backend)
		holding(t, u, 6)
		start := time.Now()
		e := callUpstream(t.Context(), t, u, nil)
		if got := time.Since(start); got != b.QueueTimeout || e.status.Code() != codes.Unavailable || e.reason != report.ReasonOverloaded {
			t.Errorf("got %v for %s after %v, want UNAVAILABLE for %s after %v", e.status, e.reason, got, report.ReasonOverloaded, b.QueueTimeout)
		}
		info := errorInfo(t, e.status).GetMetadata()
		if text := e.status.Message(); !strings.Contains(text, report.KeyMaxConnections) || !strings.Contains(text, report.KeyQueueTimeout) || info["limit"] != report.KeyMaxConnections || info["sent"] != "no" {
			t.Errorf("%q with %v doesn't name the keys", text, info)
		}
		start = time.Now()
		ctx, cancel := context.WithDeadlineCause(t.Context(), start.Add(time.Second), errDeadline)
		defer cancel()
		if e := callUpstream(ctx, t, u, nil); e.reason != report.ReasonDeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("got %v for %s after %v, want %s after 1s", e.status, e.reason, time.Since(start), report.ReasonDeadlineExceeded)
		}
	})
}

// TestQueueOutlastsTheWaitForAConnection: the two have bounds of their own.
func TestQueueOutlastsTheWaitForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 1)
		b.MaxConnections, b.QueueTimeout = 1, time.Minute
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 1)
		timer := time.AfterFunc(2*connectPatience, ends[0])
		defer timer.Stop()
		start := time.Now()
		ends = holding(t, u, 1)
		if got := time.Since(start); got != 2*connectPatience {
			t.Errorf("the call has its place after %v, want %v", got, 2*connectPatience)
		}
		time.Sleep(time.Hour) // and nothing cuts it later
		if got := b.callsBy(); !slices.Equal(got, []int{1}) {
			t.Errorf("%v calls, want 1", got)
		}
		endAll(ends)
	})
}

// TestNoWaitForAPlace: 0s in the configuration.
func TestNoWaitForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 1)
		b.MaxConnections, b.QueueTimeout = 1, -1
		u := upstreamTo(t, b.Backend)
		holding(t, u, 1)
		start := time.Now()
		if e := callUpstream(t.Context(), t, u, nil); e.reason != report.ReasonOverloaded || time.Since(start) != 0 {
			t.Errorf("got %v after %v, want %s at once", e.status, time.Since(start), report.ReasonOverloaded)
		}
	})
}

// TestCrashUnderSeveralConnections: all calls end, one connection is opened
// again, and the calls that wait for it get more as they need them.
func TestCrashUnderSeveralConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 10)
		u := upstreamTo(t, b.Backend)
		var ended sync.WaitGroup
		for i := range 35 {
			call, err := openCall(t.Context(), u, Request{Method: testMethod})
			if err != nil {
				t.Fatal(err)
			}
			ended.Go(func() {
				_, err := call.Recv()
				if f := (*report.Fault)(nil); !errors.As(err, &f) || f.Reason != report.ReasonUpstreamReset {
					t.Errorf("call %d ended with %v, want %s", i, err, report.ReasonUpstreamReset)
				}
			})
		}
		b.crash()
		ended.Wait()
		time.Sleep(time.Minute)
		if got := b.connections(); got != 0 {
			t.Fatalf("%d connections to a backend that is down", got)
		}
		b.up()
		time.Sleep(2 * time.Second) // the next attempt
		if got := b.connections(); got != 1 {
			t.Errorf("%d connections without calls, want 1", got)
		}
		holding(t, u, 35)
		if got := b.connections(); got != 4 {
			t.Errorf("%d connections for 35 calls, want 4", got)
		}
	})
}

// TestFurtherConnectionThatFails: the calls that have a place go on, those in
// the queue wait for one of theirs, and no attempt follows without a pause.
func TestFurtherConnectionThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 1)
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 1)
		var attempts atomic.Int64
		b.mu.Lock()
		b.down, b.attempts = true, &attempts
		b.mu.Unlock()
		for range 20 {
			e := callUpstream(t.Context(), t, u, nil)
			// The remedy names several keys. In brackets are those of limits that were reached.
			reached := func(key string) bool { return strings.Contains(e.status.Message(), "("+key+")") }
			if e.reason != report.ReasonOverloaded || !reached(report.KeyQueueTimeout) || reached(report.KeyMaxConnections) {
				t.Fatalf("got %v for %s, want %s by %s, and not by %s", e.status, e.reason, report.ReasonOverloaded, report.KeyQueueTimeout, report.KeyMaxConnections)
			}
		}
		if took, got := 20*rules.QueueTimeout, attempts.Load(); got > int64(took/(700*time.Millisecond)) || got < 20 {
			t.Errorf("%d attempts in %v", got, took)
		}
		b.up()
		ends = append(ends, holding(t, u, 1)...)
		if got := b.callsBy(); !slices.Equal(got, []int{1, 1}) {
			t.Errorf("%v calls by connection, want 1 on each", got)
		}
		endAll(ends)
	})
}

// TestLostConnectionsPlaces: calls that a connection took with it leave no
// place taken.
func TestLostConnectionsPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 5)
		b.MaxConnections = 1
		u := upstreamTo(t, b.Backend)
		for range 10 {
			holding(t, u, 5)
			b.crash()
			synctest.Wait()
			b.up()
			time.Sleep(2 * time.Second)
		}
		if got := b.connections(); got != 1 {
			t.Errorf("%d connections, want 1", got)
		}
	})
}

// TestSettingsThatChange: the backend says at any time how many calls it takes.
func TestSettingsThatChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := parts.ListenPipe(t)
		b := inBubble(ln)
		b.MaxConnections = 1
		u := upstreamTo(t, b)
		raw, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		framer := http2.NewFramer(raw, raw)
		var reading sync.WaitGroup
		reading.Go(func() { _, _ = io.Copy(io.Discard, raw) })
		set := func(max uint32) {
			t.Helper()
			if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 16}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: max}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		set(2)
		ends := holding(t, u, 2)
		opened := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := openCall(t.Context(), u, Request{Method: testMethod})
				opened <- err
			}()
		}
		synctest.Wait()
		if len(opened) != 0 {
			t.Error("a third call has a place, and two are allowed")
		}
		set(3)
		if len(opened) != 1 {
			t.Errorf("%d calls came through, want 1", len(opened))
		}
		set(1)
		endAll(ends)
		if len(opened) != 1 {
			t.Errorf("%d calls came through, want 1: one is allowed, and it is there", len(opened))
		}
		set(0)
		set(100)
		for range 2 {
			if err := <-opened; err != nil {
				t.Error(err)
			}
		}
		_ = raw.Close() // ends the reading
		_ = ln.Close()
		reading.Wait()
	})
}

// TestGoAwayUnderSeveralConnections: the calls go on, further ones have new
// connections, and the old ones end with their calls.
func TestGoAwayUnderSeveralConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const age = time.Minute
		b := newCountedBackend(t, 3, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: age, MaxConnectionAgeGrace: 24 * time.Hour}))
		b.MaxConnections = 2
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 6)
		time.Sleep(age + age/2) // the age varies by a tenth
		more := holding(t, u, 6)
		if got := b.callsBy(); len(got) < 4 || got[0] != 3 || got[1] != 3 {
			t.Errorf("%v calls by connection, want 3 on the first two, and more connections", got)
		}
		endAll(ends)
		endAll(more)
		time.Sleep(age / 2)
		if got := b.connections(); got != 1 {
			t.Errorf("%d connections without a call, want 1", got)
		}
	})
}

// TestFurtherConnectionsOverTLS: SETTINGS are read inside of TLS.
func TestFurtherConnectionsOverTLS(t *testing.T) {
	ca := parts.NewAuthority(t)
	address := startBackend(t, hold, grpc.MaxConcurrentStreams(1), grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{ca.Server(t, "backend.example")}})))
	for name, b := range map[string]report.Backend{
		"fixed":   {TLS: &tls.Config{RootCAs: ca.Pool}},
		"current": {TLSSource: tlsSource(func() *tls.Config { return &tls.Config{RootCAs: ca.Pool} })},
	} {
		b.Target, b.MaxConnections = address, 3
		u := upstreamTo(t, b)
		ctx, cancel := context.WithCancel(within(t, patience))
		for i := range 3 {
			if _, err := openCall(ctx, u, Request{Method: testMethod}); err != nil {
				t.Errorf("%s: call %d: %v", name, i, err)
			}
		}
		cancel()
	}
}

// TestCallsThatComeAndGo: whatever order calls begin and end in, each place is
// given out once and given back.
func TestCallsThatComeAndGo(t *testing.T) {
	b := newCountedBackend(t, 3)
	b.MaxConnections, b.QueueTimeout = 4, patience
	u := upstreamTo(t, b.Backend)
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for round := range 30 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*7+round*13)%10)*time.Millisecond)
				_, err := openCall(ctx, u, Request{Method: testMethod})
				if f := (*report.Fault)(nil); err != nil && !errors.Is(err, context.DeadlineExceeded) && !(errors.As(err, &f) && f.Reason == report.ReasonDeadlineExceeded) {
					t.Errorf("call %d.%d: %v", i, round, err)
				}
				if round%3 > 0 {
					cancel()
				}
				<-ctx.Done()
				cancel()
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 12 {
		if _, err := openCall(ctx, u, Request{Method: testMethod}); err != nil {
			t.Fatalf("call %d of 12: %v", i, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.most > 4 {
		t.Errorf("%d connections at once, want 4 at most", b.most)
	}
}

// TestLastConnectionStays, although it was to be closed beside another one that
// is lost.
func TestLastConnectionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 10)
		var conns []net.Conn
		dial := b.Backend.Dial
		b.Backend.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			c, err := dial(ctx, address)
			b.mu.Lock()
			defer b.mu.Unlock()
			conns = append(conns, c)
			return c, err
		}
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 15)
		endAll(ends[2:10])
		endAll(ends[11:]) // two calls on the first connection, one on the second
		time.Sleep(2*trimInterval + time.Second)
		if got := b.callsBy(); !slices.Equal(got, []int{2, 1}) {
			t.Fatalf("%v calls by connection, want 2 and 1", got)
		}
		_ = conns[0].Close() // it is lost, and the second does
		endAll(ends)
		time.Sleep(trimInterval + time.Second)
		if got := b.connections(); got != 1 {
			t.Errorf("%d connections without a call, want 1", got)
		}
	})
}

// TestConnectionsThatEndAtOnce: a backend that ends each connection as soon as it
// stands is tried again with a pause.
func TestConnectionsThatEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := parts.ListenPipe(t)
		attempts := 0
		var serving sync.WaitGroup
		serving.Go(func() {
			for attempts < 500 { // else it would never end
				raw, err := ln.Accept()
				if err != nil {
					return
				}
				attempts++
				framer := http2.NewFramer(raw, raw)
				_ = framer.WriteSettings() // what fails is counted as well
				_ = framer.WriteGoAway(0, http2.ErrCodeNo, nil)
				serving.Go(func() {
					_, _ = io.Copy(io.Discard, raw) // until culvert closes it
					_ = raw.Close()
				})
			}
		})
		u, err := New(inBubble(ln), testMessages, testHeaderBytes, memory.New(1<<30, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := u.Close(); err != nil {
			t.Error(err)
		}
		_ = ln.Close()
		serving.Wait()
		if attempts < 30 || attempts > 61 {
			t.Errorf("%d connections within a minute, want one a second", attempts)
		}
	})
}

type tlsSource func() *tls.Config

func (s tlsSource) Config() *tls.Config { return s() }

// TestWaitingCalls are bounded: whether they wait for a place or for a connection, a
// further one ends at once.
func TestWaitingCalls(t *testing.T) {
	const most = 3
	full := func(t *testing.T) (report.Backend, func()) {
		b := newCountedBackend(t, 2)
		b.MaxConnections = 1
		return b.Backend, func() {}
	}
	away := func(*testing.T) (report.Backend, func()) {
		gone := make(chan struct{})
		return report.Backend{Target: "passthrough:///bubble", Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			select {
			case <-ctx.Done():
			case <-gone:
			}
			return nil, errors.New("gone")
		}}, func() { close(gone) }
	}
	for _, c := range []struct {
		what  string
		start func(*testing.T) (b report.Backend, end func())
		held  int // calls that don't wait
	}{{"full", full, 2}, {"away", away, 0}} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, end := c.start(t)
				defer end()
				b.MaxWaiting, b.QueueTimeout = most, time.Hour
				u := upstreamTo(t, b)
				waiting := func() int {
					synctest.Wait()
					n := u.pool.State().Waiting
					return n
				}
				holding(t, u, c.held)
				for round := range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					var ended sync.WaitGroup
					for range most {
						ended.Go(func() {
							if _, err := openCall(ctx, u, Request{Method: testMethod}); !errors.Is(err, context.Canceled) {
								t.Errorf("a call that waits ended with %v", err)
							}
						})
					}
					if got := waiting(); got != most {
						t.Errorf("%d calls wait, want %d", got, most)
					}
					start := time.Now()
					e := callUpstream(t.Context(), t, u, nil)
					if e.reason != report.ReasonOverloaded || time.Since(start) != 0 {
						t.Errorf("round %d: one call more ended with %v for %s after %v, want %s at once", round, e.status, e.reason, time.Since(start), report.ReasonOverloaded)
					}
					info := errorInfo(t, e.status).GetMetadata()
					if text := e.status.Message(); !strings.Contains(text, "("+report.KeyWaitingCalls+")") || info["limit"] != report.KeyWaitingCalls || info["sent"] != "no" {
						t.Errorf("%q with %v doesn't name the key", text, info)
					}
					cancel()
					ended.Wait()
					if got := waiting(); got != 0 {
						t.Errorf("%d calls wait, and all have ended", got)
					}
				}
			})
		})
	}
}

// TestWaitingCallsThatBegin aren't counted any more.
func TestWaitingCallsThatBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 1)
		b.MaxConnections, b.MaxWaiting = 1, 1
		u := upstreamTo(t, b.Backend)
		ends := holding(t, u, 1)
		for range 10 {
			next := make(chan func())
			go func() { next <- holding(t, u, 1)[0] }()
			synctest.Wait()
			ends[0]()
			ends[0] = <-next
		}
		endAll(ends)
		if got := u.pool.State().Waiting; got != 0 {
			t.Errorf("%d calls wait", got)
		}
	})
}

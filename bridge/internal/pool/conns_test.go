package pool

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// TestFurtherConnections: a connection is opened for the first call that finds
// no place, and not before; those that stay without use are closed.
func TestFurtherConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 100)
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 100)
		if got := b.Connections(); got != 1 {
			t.Errorf("%d connections for 100 calls, want 1", got)
		}
		ends = append(ends, holding(t, p, 150)...)
		if got := b.Connections(); got != 3 {
			t.Errorf("%d connections for 250 calls, want 3", got)
		}
		endAll(ends[50:])
		time.Sleep(trimInterval + time.Second)
		if got := b.Connections(); got != 3 {
			t.Errorf("%d connections behind a busy interval, want 3", got)
		}
		time.Sleep(trimInterval)
		if got := b.Connections(); got != 1 {
			t.Errorf("%d connections for 50 calls on the first, want 1", got)
		}
		endAll(ends[:50])
		time.Sleep(time.Hour)
		if got := b.Connections(); got != 1 {
			t.Errorf("%d connections without a call, want 1", got)
		}
	})
}

// TestEmptiestConnection: a new call goes where the fewest are.
func TestEmptiestConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 10)
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 20)
		endAll(ends[:6])
		endAll(ends[10:12])
		for _, want := range [][]int{{5, 8}, {6, 8}, {7, 8}, {8, 8}} {
			holding(t, p, 1)
			if got := b.CallsBy(); !slices.Equal(got, want) {
				t.Errorf("%v calls, want %v", got, want)
			}
		}
	})
}

// TestSpareConnectionIsUsedAgain, rather than another one opened.
func TestSpareConnectionIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 10)
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 15)
		endAll(ends[:9])
		endAll(ends[11:]) // one call on the first connection, one on the second
		time.Sleep(2*trimInterval + time.Second)
		if got := b.Connections(); got != 2 {
			t.Errorf("%d connections, want 2: each has a call", got)
		}
		holding(t, p, 18)
		if got := b.Connections(); got != 2 || b.Most() != 2 {
			t.Errorf("%d connections, %d at most, want 2 for 20 calls", got, b.Most())
		}
	})
}

// TestQueueOfCalls: calls that wait for a place get one in the order in which
// they came.
func TestQueueOfCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 2)
		b.MaxConnections, b.QueueTimeout = 1, time.Hour
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 2)
		const n = 50
		opened := make(chan int, n)
		for i := range n {
			go func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel() // gives the place to the next
				if _, err := openCall(ctx, p); err != nil {
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
		p := poolTo(t, b.Backend)
		holding(t, p, 6)
		start := time.Now()
		e := makeCall(t.Context(), t, p)
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
		if e := makeCall(ctx, t, p); e.reason != report.ReasonDeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("got %v for %s after %v, want %s after 1s", e.status, e.reason, time.Since(start), report.ReasonDeadlineExceeded)
		}
	})
}

// TestQueueOutlastsTheWaitForAConnection: the two have bounds of their own.
func TestQueueOutlastsTheWaitForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 1)
		b.MaxConnections, b.QueueTimeout = 1, time.Minute
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 1)
		timer := time.AfterFunc(2*rules.ConnectTimeout, ends[0])
		defer timer.Stop()
		start := time.Now()
		ends = holding(t, p, 1)
		if got := time.Since(start); got != 2*rules.ConnectTimeout {
			t.Errorf("the call has its place after %v, want %v", got, 2*rules.ConnectTimeout)
		}
		time.Sleep(time.Hour) // and nothing cuts it later
		if got := b.CallsBy(); !slices.Equal(got, []int{1}) {
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
		p := poolTo(t, b.Backend)
		holding(t, p, 1)
		start := time.Now()
		if e := makeCall(t.Context(), t, p); e.reason != report.ReasonOverloaded || time.Since(start) != 0 {
			t.Errorf("got %v after %v, want %s at once", e.status, time.Since(start), report.ReasonOverloaded)
		}
	})
}

// TestCrashUnderSeveralConnections: all calls end, one connection is opened
// again, and the calls that wait for it get more as they need them.
func TestCrashUnderSeveralConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 10)
		p := poolTo(t, b.Backend)
		var ended sync.WaitGroup
		for i := range 35 {
			call, err := openCall(t.Context(), p)
			if err != nil {
				t.Fatal(err)
			}
			ended.Go(func() {
				if err := call.RecvMsg(new([]byte)); status.Code(err) != codes.Unavailable {
					t.Errorf("call %d ended with %v, want %v", i, err, codes.Unavailable)
				}
			})
		}
		b.Crash()
		ended.Wait()
		time.Sleep(time.Minute)
		if got := b.Connections(); got != 0 {
			t.Fatalf("%d connections to a backend that is down", got)
		}
		b.Up()
		time.Sleep(2 * time.Second) // the next attempt
		if got := b.Connections(); got != 1 {
			t.Errorf("%d connections without calls, want 1", got)
		}
		holding(t, p, 35)
		if got := b.Connections(); got != 4 {
			t.Errorf("%d connections for 35 calls, want 4", got)
		}
	})
}

// TestFurtherConnectionThatFails: the calls that have a place go on, those in
// the queue wait for one of theirs, and no attempt follows without a pause.
func TestFurtherConnectionThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 1)
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 1)
		before := b.Attempts()
		b.Refuse()
		for range 20 {
			e := makeCall(t.Context(), t, p)
			// The remedy names several keys. In brackets are those of limits that were reached.
			reached := func(key string) bool { return strings.Contains(e.status.Message(), "("+key+")") }
			if e.reason != report.ReasonOverloaded || !reached(report.KeyQueueTimeout) || reached(report.KeyMaxConnections) {
				t.Fatalf("got %v for %s, want %s by %s, and not by %s", e.status, e.reason, report.ReasonOverloaded, report.KeyQueueTimeout, report.KeyMaxConnections)
			}
		}
		if took, got := 20*rules.QueueTimeout, b.Attempts()-before; got > int(took/(700*time.Millisecond)) || got < 20 {
			t.Errorf("%d attempts in %v", got, took)
		}
		b.Up()
		ends = append(ends, holding(t, p, 1)...)
		if got := b.CallsBy(); !slices.Equal(got, []int{1, 1}) {
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
		p := poolTo(t, b.Backend)
		for range 10 {
			holding(t, p, 5)
			b.Crash()
			synctest.Wait()
			b.Up()
			time.Sleep(2 * time.Second)
		}
		if got := b.Connections(); got != 1 {
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
		p := poolTo(t, b)
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
		ends := holding(t, p, 2)
		opened := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := openCall(t.Context(), p)
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
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 6)
		time.Sleep(age + age/2) // the age varies by a tenth
		more := holding(t, p, 6)
		if got := b.CallsBy(); len(got) < 4 || got[0] != 3 || got[1] != 3 {
			t.Errorf("%v calls by connection, want 3 on the first two, and more connections", got)
		}
		endAll(ends)
		endAll(more)
		time.Sleep(age / 2)
		if got := b.Connections(); got != 1 {
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
		p := poolTo(t, b)
		ctx, cancel := context.WithCancel(within(t, patience))
		for i := range 3 {
			if _, err := openCall(ctx, p); err != nil {
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
	p := poolTo(t, b.Backend)
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for round := range 30 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*7+round*13)%10)*time.Millisecond)
				_, err := openCall(ctx, p)
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
		if _, err := openCall(ctx, p); err != nil {
			t.Fatalf("call %d of 12: %v", i, err)
		}
	}
	if got := b.Most(); got > 4 {
		t.Errorf("%d connections at once, want 4 at most", got)
	}
}

// TestLastConnectionStays, although it was to be closed beside another one that
// is lost.
func TestLastConnectionStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 10)
		var mu sync.Mutex
		var conns []net.Conn
		dial := b.Backend.Dial
		b.Backend.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			c, err := dial(ctx, address)
			mu.Lock()
			defer mu.Unlock()
			conns = append(conns, c)
			return c, err
		}
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 15)
		endAll(ends[2:10])
		endAll(ends[11:]) // two calls on the first connection, one on the second
		time.Sleep(2*trimInterval + time.Second)
		if got := b.CallsBy(); !slices.Equal(got, []int{2, 1}) {
			t.Fatalf("%v calls by connection, want 2 and 1", got)
		}
		_ = conns[0].Close() // it is lost, and the second does
		endAll(ends)
		time.Sleep(trimInterval + time.Second)
		if got := b.Connections(); got != 1 {
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
		p, err := newPool(inBubble(ln), memory.New(1<<30, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := p.Close(); err != nil {
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
				p := poolTo(t, b)
				waiting := func() int {
					synctest.Wait()
					n := p.State().Waiting
					return n
				}
				holding(t, p, c.held)
				for round := range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					var ended sync.WaitGroup
					for range most {
						ended.Go(func() {
							if _, err := openCall(ctx, p); !errors.Is(err, context.Canceled) {
								t.Errorf("a call that waits ended with %v", err)
							}
						})
					}
					if got := waiting(); got != most {
						t.Errorf("%d calls wait, want %d", got, most)
					}
					start := time.Now()
					e := makeCall(t.Context(), t, p)
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
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 1)
		for range 10 {
			next := make(chan func())
			go func() { next <- holding(t, p, 1)[0] }()
			synctest.Wait()
			ends[0]()
			ends[0] = <-next
		}
		endAll(ends)
		if got := p.State().Waiting; got != 0 {
			t.Errorf("%d calls wait", got)
		}
	})
}

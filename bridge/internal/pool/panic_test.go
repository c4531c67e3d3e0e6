package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A badBalancer opens no connection.
type badBalancer struct{ balancer.ClientConn }

// TestPickThatPanics ends its call, which waits for no place any more.
func TestPickThatPanics(t *testing.T) {
	p := &Pool{panics: quietPanics(), config: config{maxConnections: 2, maxWaiting: 1}, cc: badBalancer{}}
	a := &address{pool: p, streams: 1}
	p.addresses, p.ready = []*address{a}, []*address{a}
	for i := range int64(3) {
		k := p.NewCall("", 0, nil)
		k.opening = p.openings.start(p, patience, func(error) {}, false)
		ctx := context.WithValue(within(t, patience), callKey{}, k)
		if _, err := (balancing{p}).Pick(balancer.PickInfo{Ctx: ctx}); status.Code(err) != codes.Unavailable || !report.IsPanic(k.refusal.Load()) {
			t.Fatalf("%v because of %v, want a panic's fault", err, k.refusal.Load())
		}
		p.began(k.opening)
		if p.queue.Len() > 0 || p.waiting > 0 || p.panics.Count() != i+1 {
			t.Fatalf("%d calls are in the queue, %d wait, %d panics are counted", p.queue.Len(), p.waiting, p.panics.Count())
		}
	}
}

// TestDialerThatPanics has failed.
func TestDialerThatPanics(t *testing.T) {
	panics := quietPanics()
	dial := safely(func(context.Context, string) (net.Conn, error) { panic("no network") }, panics)
	if c, err := dial(t.Context(), "localhost:1"); c != nil || !report.IsPanic(err) || panics.Count() != 1 {
		t.Errorf("%v, %v, %d panics", c, err, panics.Count())
	}
}

// A onceBad panics once when it is armed, in one of its methods.
type onceBad struct {
	mem.BufferPool
	method atomic.Pointer[string]
}

func (p *onceBad) arm(method string) { p.method.Store(&method) }

func (p *onceBad) reach(method string) {
	if armed := p.method.Load(); armed != nil && *armed == method && p.method.CompareAndSwap(armed, nil) {
		panic("a test panics in " + method)
	}
}

func (p *onceBad) Get(length int) *[]byte {
	p.reach("Get")
	return p.BufferPool.Get(length)
}

func (p *onceBad) Put(b *[]byte) {
	p.reach("Put")
	p.BufferPool.Put(b)
}

// TestBuffersThatPanic end the connections that read into them.
func TestBuffersThatPanic(t *testing.T) {
	for _, method := range []string{"Get", "Put"} {
		account, panics := memory.New(1<<30, 0), quietPanics()
		buffers := &onceBad{BufferPool: account.Pool}
		account.Pool = buffers
		p, err := newPool(report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error { return ss.SendMsg(make([]byte, 40<<10)) })}, account, panics)
		if err != nil {
			t.Fatal(err)
		}
		makeCall(within(t, patience), t, p)
		before := p.Readied()
		buffers.arm(method)
		makeCall(within(t, patience), t, p) // its reply may have arrived before
		poll(t, func() string {
			if e := makeCall(within(t, patience), t, p); e.status.Code() != codes.OK || p.Readied() == before {
				return fmt.Sprintf("%s: %d connections after %d, and a call ends with %v", method, p.Readied(), before, e.status)
			}
			return ""
		})
		if err := p.Close(); err != nil || account.Held() != 0 || panics.Count() != 1 {
			t.Errorf("%s: closed with %v, %d bytes held and %d panics", method, err, account.Held(), panics.Count())
		}
	}
}

// TestBalancerThatPanics ends the connections that it was at, and goes on with others. All
// places are given back.
func TestBalancerThatPanics(t *testing.T) {
	for name, reach := range map[string]func(s *several, p *Pool){
		"in new addresses":       func(s *several, _ *Pool) { s.resolveTo(1, 0) },
		"in a connection's loss": func(s *several, _ *Pool) { s.each[0].Crash() },
		"in a timer": func(_ *several, p *Pool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.after(0, p.rechoose)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, account, panics := newSeveral(t, 2, 100), memory.New(1<<30, 0), quietPanics()
				p, err := newPool(b.Backend, account, panics)
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				before, ends := p.Readied(), holding(t, p, 2)
				armed, among := true, p.config.balance.among
				p.mu.Lock()
				p.config.balance.among = func(ready []*address) []*address {
					if armed {
						armed = false
						panic("a test panics in the balancer")
					}
					return among(ready)
				}
				p.mu.Unlock()
				reach(b, p)
				synctest.Wait()
				b.each[0].Up()
				time.Sleep(2 * unusedPause)
				if got := b.calls(); p.Readied() == before || slices.Equal(got, []int{1, 1}) {
					t.Errorf("%d connections after %d, with %v calls", p.Readied(), before, got)
				}
				endAll(append(ends, holding(t, p, 4)...))
				wantNoCalls(t, p)
				if err := p.Close(); err != nil || account.Held() != 0 || panics.Count() != 1 {
					t.Errorf("closed with %v, %d bytes held and %d panics", err, account.Held(), panics.Count())
				}
			})
		})
	}
}

// wantNoCalls wants all places of a pool free.
func wantNoCalls(t *testing.T, p *Pool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range append(p.addresses, p.gone...) {
		if a.calls != 0 || a.open != 0 {
			t.Errorf("address %v has %d calls, %d of them on connections that accept more", a, a.open, a.calls)
		}
	}
	if p.queue.Len() != 0 || p.waiting != 0 {
		t.Errorf("%d calls are in the queue, and %d wait", p.queue.Len(), p.waiting)
	}
}

// TestResolverThatPanics asks again.
func TestResolverThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		panics, looks := quietPanics(), 0
		r := &nameResolver{panics: panics, host: "backend.test", port: "1", changed: make(chan struct{}, 1)}
		r.lookup = func(context.Context, string) ([]string, error) {
			looks++
			if looks < 3 {
				panic("a test panics in the lookup")
			}
			return []string{"192.0.2.1"}, nil
		}
		cc := &panickyConn{panics: panics}
		r.cc = cc
		ctx, cancel := context.WithCancel(t.Context())
		r.watching.Go(func() { r.watch(ctx) })
		time.Sleep(10 * time.Second)
		cancel()
		r.watching.Wait()
		if got := panics.Count(); got != 5 || cc.updates != 2 {
			t.Errorf("%d panics are counted, and %d updates came; want 5 and 2", got, cc.updates)
		}
	})
}

// A panickyConn panics on the goroutine that resolves, and once in its pool.
type panickyConn struct {
	resolver.ClientConn
	panics  *report.Panics
	updates int
}

func (c *panickyConn) ReportError(error) { panic("a test panics in ReportError") }

func (c *panickyConn) UpdateState(resolver.State) (err error) {
	c.updates++
	defer c.panics.Catch("the balancer", func(f *report.Fault) { err = f })
	if c.updates == 1 {
		panic("a test panics in UpdateState")
	}
	return nil
}

// badCredentials panic behind the handshake.
type badCredentials struct {
	credentials.TransportCredentials
}

func (badCredentials) Info() credentials.ProtocolInfo { panic("a test panics in Info") }

// TestHandshakeThatPanics leaves no goroutine and no memory behind.
func TestHandshakeThatPanics(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	a, p := memory.New(16<<20, 0), &Pool{panics: quietPanics()}
	w := wireCredentials{badCredentials{insecure.NewCredentials()}, a, p}
	c, _, err := w.ClientHandshake(t.Context(), "", near)
	if c != nil || !report.IsPanic(err) || p.panics.Count() != 1 || a.Held() != 0 {
		t.Errorf("%v, %v, %d panics and %d bytes held", c, err, p.panics.Count(), a.Held())
	}
}

// TestPanicOfAPlace cuts its connection, and Close still ends.
func TestPanicOfAPlace(t *testing.T) {
	for name, fail := range map[string]func(t *testing.T, c *wire.Conn, panics *report.Panics){
		"in a call's end": func(_ *testing.T, c *wire.Conn, _ *report.Panics) {
			l := &conn{wire: c, slot: &slot{address: &address{pool: &Pool{addresses: []*address{nil}}}}}
			l.slot.address.pool.queue.PushBack("no waiter")
			l.release(false)
			l.slot.address.pool.mu.Lock() // it isn't held
			defer l.slot.address.pool.mu.Unlock()
		},
		"in a call's choice": func(t *testing.T, c *wire.Conn, panics *report.Panics) {
			var err error
			p := &Pool{panics: panics}
			l := &conn{wire: c, slot: &slot{address: &address{pool: p, open: 1, calls: 1}}, calls: 1}
			k := new(Call)
			its := &place{Place: wire.Place{Call: &k.Call}, conn: l}
			expectNow := func(p *wire.Place) {
				if taken, err := c.Expect(within(t, patience), p); !taken || err != nil {
					t.Fatal("another call of the id is expected", err)
				}
			}
			expectNow(&its.Place)
			func() {
				defer p.catchPick(k, &its, &err)
				panic("a test panics in Pick")
			}()
			expectNow(&wire.Place{Call: &k.Call})
			if l.calls != 0 || l.slot.address.open != 0 || status.Code(err) != codes.Unavailable {
				t.Errorf("%d calls, %d at the address, and %v", l.calls, l.slot.address.open, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			a, panics := memory.New(16<<20, 0), quietPanics()
			near, far := net.Pipe()
			c := wire.NewConn(near, wire.Options{Account: a, Window: wire.ConnWindow(a), Panics: panics})
			ended := make(chan error, 1)
			go func() {
				_, err := io.Copy(io.Discard, far)
				ended <- err
			}()
			fail(t, c, panics)
			if err := await(t, "the connection's end", ended); err != nil && !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			_ = c.Close() // it is closed
			if panics.Count() != 1 || a.Held() != 0 {
				t.Errorf("%d panics are counted, and %d bytes held; want 1 and 0", panics.Count(), a.Held())
			}
		})
	}
}

package quota

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// at is a clock that stands still.
func at(now int64) clock { return func() int64 { return now } }

func TestBucket(t *testing.T) {
	const second = int64(time.Second)
	b, r := new(bucket), perSecond(4)
	for i := range 4 {
		if wait := b.take(r, at(0)); wait != 0 {
			t.Fatalf("token %d of a full bucket of 4 comes after %v", i, wait)
		}
	}
	if got, want := b.take(r, at(0)), time.Second/4; got != want {
		t.Errorf("an empty bucket has a token after %v, want %v", got, want)
	}
	if got, want := b.take(r, at(second/8)), time.Second/8; got != want {
		t.Errorf("halfway to the next token it comes after %v, want %v", got, want)
	}
	if wait := b.take(r, at(second/4)); wait != 0 {
		t.Errorf("the token that is due comes after %v", wait)
	}
	taken := 0
	for b.take(r, at(100*second)) == 0 {
		taken++
	}
	if taken != 4 {
		t.Errorf("after a long rest there are %d tokens, want 4", taken)
	}
	if wait := new(bucket).take(0, at(0)); wait != 0 {
		t.Errorf("without a rate a token comes after %v", wait)
	}
}

// A goroutine that is stopped for a while with the time in its hand doesn't
// find the bucket empty because others went on.
func TestBucketIsJudgedByTheTimeThatIs(t *testing.T) {
	const second = int64(time.Second)
	b, r := new(bucket), perSecond(4)
	now, stopped := int64(0), false
	clock := func() int64 {
		read := now
		if !stopped {
			stopped = true
			now = 60 * second
			if wait := b.take(r, at(now)); wait != 0 {
				t.Errorf("the other's token comes after %v", wait)
			}
		}
		return read
	}
	if wait := b.take(r, clock); wait != 0 {
		t.Errorf("one of four tokens is taken, and the next comes after %v", wait)
	}
}

func TestBucketUnderConcurrentUse(t *testing.T) {
	b, r := new(bucket), perSecond(1000)
	var taken atomic.Int64
	var takers sync.WaitGroup
	for range 8 {
		takers.Go(func() {
			for range 1000 {
				if b.take(r, at(0)) == 0 {
					taken.Add(1)
				}
			}
		})
	}
	takers.Wait()
	if got := taken.Load(); got != 1000 {
		t.Errorf("%d tokens were taken of 1000", got)
	}
}

// newTestQuotas returns quotas, and where refusals are told.
func newTestQuotas(t testing.TB, limits scopeLimits) (*testQuotas, *told) {
	t.Helper()
	obs := &told{Observer: report.Discard(), refused: make(chan report.Refusal, 10_000)}
	q := New(limits.server, limits.address, false, report.NewRefusals(slog.New(slog.DiscardHandler), obs))
	return &testQuotas{q, NewMethodScope(limits.method)}, obs
}

// scopeLimits are those of the server, of an address, and of limitedMethod.
type scopeLimits struct{ server, address, method report.Quota }

// limitedMethod is the one method that has a scope.
const limitedMethod = "/a.B/C"

type testQuotas struct {
	*Limiter
	method *Scope
}

// told is an Observer that keeps the refusals that it is told of.
type told struct {
	report.Observer
	refused chan report.Refusal
}

func (o *told) Refused(r report.Refusal) { o.refused <- r }

// start begins a call from a peer.
func (q *testQuotas) start(l *Scope, peer, method string) (*Call, error) {
	var own *Scope
	if method == limitedMethod {
		own = q.method
	}
	u := q.Call(l, own, peer, nil)
	return &u, u.Begin(method)
}

func anyListener() *Scope { return NewListenerScope(report.Quota{}) }

// wantKey wants a refusal that names the key and when to try again.
func wantKey(t *testing.T, err error, key string) {
	t.Helper()
	var f *report.Fault
	if !errors.As(err, &f) || f.Reason != report.ReasonLimitExceeded || f.Key != key || f.Retry <= 0 || !strings.Contains(f.Text, "("+report.Named(key)+")") {
		t.Errorf("got %v (%+v), want %s for %s", err, f, report.ReasonLimitExceeded, key)
	}
}

// TestCallsCountWhereTheyBelong: each limit bites those that it is for, and no
// others.
func TestCallsCountWhereTheyBelong(t *testing.T) {
	const one, other = "192.0.2.1:1000", "192.0.2.2:1000"
	for _, c := range []struct {
		name   string
		limits scopeLimits
		quota  report.Quota // of the listener
		key    string
		// what is let in although the call from one to /a.B/C is not
		elsewhere, otherAddress, otherMethod bool
	}{
		{name: "server", limits: scopeLimits{server: report.Quota{Calls: 2}}, key: "limits.calls"},
		{name: "server's rate", limits: scopeLimits{server: report.Quota{CallsPerSecond: 2}}, key: "limits.calls_per_second"},
		{name: "listener", quota: report.Quota{Calls: 2}, key: "listen[].limits.calls", elsewhere: true},
		{name: "listener's rate", quota: report.Quota{CallsPerSecond: 2}, key: "listen[].limits.calls_per_second", elsewhere: true},
		{name: "address", limits: scopeLimits{address: report.Quota{Calls: 2}}, key: "limits.address.calls", otherAddress: true},
		{name: "address's rate", limits: scopeLimits{address: report.Quota{CallsPerSecond: 2}}, key: "limits.address.calls_per_second", otherAddress: true},
		{name: "method", limits: scopeLimits{method: report.Quota{Calls: 2}}, key: "limits.methods[].calls", otherMethod: true},
		{name: "method's rate", limits: scopeLimits{method: report.Quota{CallsPerSecond: 2}}, key: "limits.methods[].calls_per_second", otherMethod: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, obs := newTestQuotas(t, c.limits)
				here, there := NewListenerScope(c.quota), anyListener()
				var running []*Call
				for range 2 {
					call, err := q.start(here, one, limitedMethod)
					if err != nil {
						t.Fatal(err)
					}
					running = append(running, call)
				}
				_, err := q.start(here, one, limitedMethod)
				wantKey(t, err, c.key)
				if f, ok := errors.AsType[*report.Fault](err); !ok || f.Detail != limitedMethod || !strings.HasPrefix(f.Hint, "raise "+report.Named(c.key)) || f.ReportOnly || len(obs.refused) > 0 {
					t.Errorf("the fault is %+v, want it to be noted by whoever answers with it", f)
				}
				for _, o := range []struct {
					what         string
					l            *Scope
					peer, method string
					letIn        bool
				}{
					{"another listener", there, one, limitedMethod, c.elsewhere},
					{"another address", here, other, limitedMethod, c.otherAddress},
					{"another method", here, one, "/other.B/C", c.otherMethod},
				} {
					call, err := q.start(o.l, o.peer, o.method)
					if (err == nil) != o.letIn {
						t.Errorf("%s: %v, want it let in: %v", o.what, err, o.letIn)
					}
					call.End()
				}
				for _, call := range running {
					call.End()
					call.End() // once is enough
				}
				time.Sleep(time.Second)
				for range 2 {
					if _, err := q.start(here, one, limitedMethod); err != nil {
						t.Errorf("with room again: %v", err)
					}
				}
				_, err = q.start(here, one, limitedMethod)
				wantKey(t, err, c.key)
			})
		})
	}
}

// TestRefusedCallsTakeNothing: what an address may not do is taken neither
// from the others nor from itself.
func TestRefusedCallsTakeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, scopeLimits{server: report.Quota{Calls: 5, CallsPerSecond: 5}, address: report.Quota{Calls: 1}})
		l := anyListener()
		first, err := q.start(l, "192.0.2.1", limitedMethod)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			_, err := q.start(l, "192.0.2.1", limitedMethod)
			wantKey(t, err, "limits.address.calls")
		}
		for i := range 4 {
			if _, err := q.start(l, fmt.Sprintf("192.0.2.%d", 10+i), limitedMethod); err != nil {
				t.Errorf("another address: %v", err)
			}
		}
		_, err = q.start(l, "192.0.2.99", limitedMethod)
		wantKey(t, err, "limits.calls")
		first.End()
		time.Sleep(time.Second)
		if _, err := q.start(l, "192.0.2.1", limitedMethod); err != nil {
			t.Errorf("after its end the next: %v", err)
		}
	})
}

// TestRetryIsWhenThereIsRoom: the time that a refused client is told is right.
func TestRetryIsWhenThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, scopeLimits{server: report.Quota{CallsPerSecond: 2}})
		l := anyListener()
		var f *report.Fault
		for f == nil {
			_, err := q.start(l, "192.0.2.1", limitedMethod)
			errors.As(err, &f)
		}
		if want := time.Second / 2; f.Retry != want {
			t.Errorf("at 2 a second one is to come again after %v, want %v", f.Retry, want)
		}
		time.Sleep(f.Retry)
		if _, err := q.start(l, "192.0.2.1", limitedMethod); err != nil {
			t.Errorf("after that time: %v", err)
		}
	})
}

// TestPlacesAreGivenBack: a call that one of its scopes refuses takes neither a
// place nor a token from the others.
func TestPlacesAreGivenBack(t *testing.T) {
	const peer, method = "192.0.2.1:1", limitedMethod
	type lowered = func(server, address, listener, method *report.Quota)
	for key, lower := range map[string]lowered{
		"limits.calls":                      func(s, _, _, _ *report.Quota) { s.Calls = 1 },
		"limits.calls_per_second":           func(s, _, _, _ *report.Quota) { s.CallsPerSecond = 1 },
		"limits.address.calls":              func(_, a, _, _ *report.Quota) { a.Calls = 1 },
		"limits.address.calls_per_second":   func(_, a, _, _ *report.Quota) { a.CallsPerSecond = 1 },
		"listen[].limits.calls":             func(_, _, l, _ *report.Quota) { l.Calls = 1 },
		"listen[].limits.calls_per_second":  func(_, _, l, _ *report.Quota) { l.CallsPerSecond = 1 },
		"limits.methods[].calls":            func(_, _, _, m *report.Quota) { m.Calls = 1 },
		"limits.methods[].calls_per_second": func(_, _, _, m *report.Quota) { m.CallsPerSecond = 1 },
	} {
		synctest.Test(t, func(t *testing.T) {
			many := report.Quota{Calls: 9, CallsPerSecond: 9}
			limits, own := scopeLimits{server: many, address: many, method: many}, many
			lower(&limits.server, &limits.address, &own, &limits.method)
			q, _ := newTestQuotas(t, limits)
			l := NewListenerScope(own)
			first, err := q.start(l, peer, method)
			if err != nil {
				t.Fatal(err)
			}
			for range 100 {
				_, err := q.start(l, peer, method)
				wantKey(t, err, key)
			}
			for name, s := range map[string]Scope{
				"address": {&q.address, &first.address.tally}, "method": *q.method,
				"listener": *l, "server": q.server,
			} {
				if n := s.tally.calls.Load(); n != 1 {
					t.Errorf("%s: by 100 refused calls the %s has %d running, want the 1 that is", key, name, n)
				}
				left := 0
				for s.tally.calling.take(s.callRate, q.now) == 0 {
					left++
				}
				if want := int(s.callRate) - 1; left != want {
					t.Errorf("%s: by 100 refused calls the %s has %d tokens, want %d", key, name, left, want)
				}
			}
			if n := first.address.holders.Load(); n != 1 {
				t.Errorf("%s: the address is held by %d, want 1", key, n)
			}
		})
	}
}

// TestTokensOfWebSocketsAndConnectionsAreGivenBack, as those of calls.
func TestTokensOfWebSocketsAndConnectionsAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, scopeLimits{address: report.Quota{Connections: 3, HandshakesPerSecond: 3}})
		l := NewListenerScope(report.Quota{Connections: 1, HandshakesPerSecond: 1})
		begin := func(peer string, l *Scope) error { return new(Conn).Begin(q.Limiter, peer, l, true) }
		upgrade := func(peer string, l *Scope) error {
			u := q.Call(l, nil, peer, nil)
			return u.Handshake("")
		}
		if err := errors.Join(begin("192.0.2.1:1", l), upgrade("192.0.2.1:1", l)); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			wantKey(t, begin("192.0.2.1:1", l), "listen[].limits.connections")
			wantKey(t, upgrade("192.0.2.1:1", l), "listen[].limits.handshakes_per_second")
		}
		elsewhere := anyListener()
		for range 2 {
			if err := errors.Join(begin("192.0.2.1:2", elsewhere), upgrade("192.0.2.1:2", elsewhere)); err != nil {
				t.Errorf("by what the listener refused the address is refused elsewhere: %v", err)
			}
		}
		wantKey(t, begin("192.0.2.1:2", elsewhere), "limits.address.connections")
	})
}

// seenByKey counts what the Observer was told of.
func seenByKey(t *testing.T, obs *told) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for len(obs.refused) > 0 {
		r := <-obs.refused
		if !r.ReportOnly {
			t.Errorf("%+v isn't said to be tried out", r)
		}
		seen[r.Key]++
	}
	return seen
}

// TestLimitsAreTriedOut: nothing is refused, and each refusal that there would have
// been is reported once.
func TestLimitsAreTriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, obs := newTestQuotas(t, scopeLimits{server: report.Quota{Calls: 2, HandshakesPerSecond: 1, DecompressedPerSecond: 1}, address: report.Quota{Connections: 1, Calls: 3}})
		q.tryOut = true
		l := anyListener()
		var calls []*Call
		var conns []*Conn
		for range 4 {
			c, err := q.start(l, "192.0.2.1:1", limitedMethod)
			conn := new(Conn)
			if err := errors.Join(err, c.Handshake(limitedMethod), conn.Begin(q.Limiter, "192.0.2.1:1", l, false)); err != nil {
				t.Errorf("refused: %v", err)
			}
			calls, conns = append(calls, c), append(conns, conn)
		}
		for _, c := range calls {
			for range 5 { // a message each
				if err := c.MayExpand(); err != nil {
					t.Errorf("refused: %v", err)
				}
				_ = c.Expanded(10, 10) // what is only tried out refuses nothing
			}
		}
		want := map[string]int{
			"limits.calls": 2, "limits.handshakes_per_second": 3, "limits.address.connections": 3,
			"limits.decompressed_bytes_per_second": 2, // the calls that would be there
		}
		if seen := seenByKey(t, obs); !maps.Equal(seen, want) {
			t.Errorf("the Observer is told of %v, want %v", seen, want)
		}
		time.Sleep(9 * time.Second) // until the 10 bytes of the one message are paid that would be there
		if wait := q.server.expanding.debt(1, q.now); wait != 0 {
			t.Errorf("of messages that would be refused %v is owed", wait)
		}
		for _, c := range conns {
			if c.From() == nil || c.From() != conns[0].From() {
				t.Errorf("a connection over a limit that is only tried out counts with %p, want its address", c.From())
			}
		}
		for _, c := range calls {
			c.End()
		}
		for _, c := range conns {
			c.End()
		}
		from := q.addresses.hold(addressKey("192.0.2.1"), 0)
		if calls, conns, holders := q.server.tally.calls.Load(), from.connections.Load(), from.holders.Load(); calls != 0 || conns != 0 || holders != 1 {
			t.Errorf("after the last %d calls and %d connections are counted, and the address is held by %d", calls, conns, holders-1)
		}
	})
}

func TestConnectionsCountWhereTheyBelong(t *testing.T) {
	q, _ := newTestQuotas(t, scopeLimits{address: report.Quota{Connections: 2, HandshakesPerSecond: 1}})
	l := NewListenerScope(report.Quota{Connections: 3})
	open := func(peer string) (*Conn, error) {
		u := new(Conn)
		return u, u.Begin(q.Limiter, peer, l, false)
	}
	var uses []*Conn
	for _, peer := range []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"} {
		u, err := open(peer)
		if err != nil {
			t.Fatalf("%s: %v", peer, err)
		}
		uses = append(uses, u)
	}
	refused, err := open("[2001:db8::ffff]:1")
	wantKey(t, err, "limits.address.connections")
	refused.End()
	refused, err = open("192.0.2.2:1")
	wantKey(t, err, "listen[].limits.connections")
	refused.End()
	uses[0].End()
	uses[0].End()
	if _, err := open("[2001:db8::3]:1"); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if n := l.tally.connections.Load(); n != 3 {
		t.Errorf("the listener has %d connections, want 3", n)
	}
	early := new(Conn)
	early.End()
	if err := early.Begin(q.Limiter, "192.0.2.3:1", anyListener(), false); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection that has closed begins with %v", err)
	}
	if n := early.address.holders.Load(); n != 0 {
		t.Errorf("it holds its address %d times", n)
	}
}

// endsConns is an Observer that ends a connection while it is told that it would be
// refused, as its close may.
type endsConns struct {
	report.Observer
	ends *Conn
	told bool
}

func (o *endsConns) Refused(report.Refusal) {
	o.ends.End()
	o.told = true
}

// TestNoLockIsHeldOverTheObserver: what is told of a connection's refusal may
// take its time.
func TestNoLockIsHeldOverTheObserver(t *testing.T) {
	obs := new(endsConns)
	q := New(report.Quota{}, report.Quota{Connections: 1}, true, report.NewRefusals(slog.New(slog.DiscardHandler), obs))
	l := anyListener()
	if err := new(Conn).Begin(q, "192.0.2.1:1", l, false); err != nil {
		t.Fatal(err)
	}
	obs.ends = new(Conn)
	refused := make(chan error, 1)
	go func() { refused <- obs.ends.Begin(q, "192.0.2.1:1", l, false) }()
	if err := <-refused; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection that was closed begins with %v", err)
	}
	if !obs.told {
		t.Error("the Observer isn't told")
	}
}

// TestHandshakesCountApart: a TLS handshake and a WebSocket's don't take each
// other's place.
func TestHandshakesCountApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, scopeLimits{address: report.Quota{HandshakesPerSecond: 1}})
		const plain, secure = false, true
		l := anyListener()
		begin := func(tls bool) error { return new(Conn).Begin(q.Limiter, "192.0.2.1:1", l, tls) }
		upgrade := func() error {
			u := q.Call(l, nil, "192.0.2.1:2", nil)
			return u.Handshake("")
		}
		for _, f := range []func() error{
			func() error { return begin(plain) },
			func() error { return begin(plain) },
			func() error { return begin(secure) },
			upgrade,
		} {
			if err := f(); err != nil {
				t.Error(err)
			}
		}
		wantKey(t, begin(secure), "limits.address.handshakes_per_second")
		wantKey(t, upgrade(), "limits.address.handshakes_per_second")
		if err := begin(plain); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if err := errors.Join(begin(secure), upgrade()); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}

// TestUseIsGivenBackOnce, however many begin and end at once.
func TestUseIsGivenBackOnce(t *testing.T) {
	q, _ := newTestQuotas(t, scopeLimits{server: report.Quota{Calls: 10}, address: report.Quota{Calls: 4}, method: report.Quota{Calls: 7}})
	l := NewListenerScope(report.Quota{Calls: 9})
	var work sync.WaitGroup
	var most atomic.Int64
	for i := range 8 {
		peer := fmt.Sprintf("192.0.2.%d", i%3)
		work.Go(func() {
			for range 400 { // all refused, they fit the observer
				c, err := q.start(l, peer, limitedMethod)
				if err == nil {
					most.Store(max(most.Load(), int64(q.server.tally.calls.Load())))
				}
				c.End()
			}
		})
	}
	work.Wait()
	if most.Load() == 0 {
		t.Error("no call was let in")
	}
	for name, tally := range map[string]*tally{"server": q.server.tally, "listener": l.tally, "method": q.method.tally} {
		if n := tally.calls.Load(); n != 0 {
			t.Errorf("%s: %d calls are counted after the last", name, n)
		}
	}
	for i := range q.addresses.shards {
		for key, a := range q.addresses.shards[i].entries {
			if a.holders.Load() != 0 || a.tally.calls.Load() != 0 {
				t.Errorf("%x: %d holders and %d calls after the last", key, a.holders.Load(), a.tally.calls.Load())
			}
		}
	}
}

// TestExpandingIsADebt: a message is expanded whole, and the next wait for what it
// has too much.
func TestExpandingIsADebt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, scopeLimits{server: report.Quota{DecompressedPerSecond: 1000}})
		c, err := q.start(anyListener(), "192.0.2.1", limitedMethod)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.MayExpand(); err != nil {
			t.Fatal(err)
		}
		if err := c.Expanded(3000, 3000); err != nil {
			t.Errorf("in a message that began without a debt: %v", err)
		}
		wantKey(t, c.MayExpand(), "limits.decompressed_bytes_per_second")
		time.Sleep(2*time.Second - time.Nanosecond)
		wantKey(t, c.MayExpand(), "limits.decompressed_bytes_per_second")
		time.Sleep(time.Nanosecond)
		if err := c.MayExpand(); err != nil {
			t.Errorf("with the debt paid: %v", err)
		}
		c.End()
		if err := new(Call).Expanded(1<<20, 0); err != nil { // one that never began counts with nobody
			t.Error(err)
		}
	})
}

// TestMessagesAtOnceShareADebt: however many messages of an address begin before one
// is expanded, together they expand to what is there and one message more. The next
// of another address doesn't wait for them.
func TestMessagesAtOnceShareADebt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, message, piece = 16_000, 16_000, 100
		q, _ := newTestQuotas(t, scopeLimits{server: report.Quota{DecompressedPerSecond: 2 * rate}, address: report.Quota{DecompressedPerSecond: rate}})
		calls := make([]*Call, 1000)
		for i := range calls {
			c, err := q.start(anyListener(), "192.0.2.1", limitedMethod)
			if err == nil {
				err = c.MayExpand()
			}
			if err != nil {
				t.Fatal(err)
			}
			calls[i] = c
		}
		expanded := 0
		for range message / piece {
			for i, c := range calls {
				if c == nil {
					continue
				}
				expanded += piece
				if err := c.Expanded(piece, message); err != nil {
					wantKey(t, err, "limits.address.decompressed_bytes_per_second")
					c.End()
					calls[i] = nil
				}
			}
		}
		if most := rate + message + piece*len(calls); expanded > most {
			t.Errorf("%d bytes are expanded, want at most %d", expanded, most)
		}
		other, err := q.start(anyListener(), "192.0.2.2", limitedMethod)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // each of the calls got one piece before it was refused
		if err := other.MayExpand(); err != nil {
			t.Errorf("another address: %v", err)
		}
		other.End()
	})
}

// generous are limits of an address that no benchmark reaches.
var generous = report.Quota{Connections: 20_000, Calls: 20_000, CallsPerSecond: 1e8, HandshakesPerSecond: 10_000, DecompressedPerSecond: 1 << 30}

// BenchmarkQuotas is what a call costs with the default limits.
func BenchmarkQuotas(b *testing.B) {
	q, _ := newTestQuotas(b, scopeLimits{address: generous})
	l := anyListener()
	conn := new(Conn)
	if err := conn.Begin(q.Limiter, "192.0.2.1:1000", l, false); err != nil {
		b.Fatal(err)
	}
	for name, from := range map[string]*Address{"own connection": conn.address, "behind a proxy": nil} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				u := q.Call(l, nil, "192.0.2.1:1000", from)
				if err := u.Begin(limitedMethod); err != nil {
					b.Fatal(err)
				}
				u.End()
			}
		})
	}
}

// BenchmarkExpanding is what limits add to a compressed message.
func BenchmarkExpanding(b *testing.B) {
	q, _ := newTestQuotas(b, scopeLimits{address: generous, method: report.Quota{DecompressedPerSecond: 1<<31 - 2}})
	c, err := q.start(anyListener(), "192.0.2.1:1000", limitedMethod)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.MayExpand(); err != nil {
			b.Fatal(err)
		}
		if err := c.Expanded(1, 1<<24); err != nil {
			b.Fatal(err)
		}
	}
}

// TestMovedCallCountsWithItsNewScopes only, or with its old ones if the new have no room.
func TestMovedCallCountsWithItsNewScopes(t *testing.T) {
	q := New(report.Quota{}, report.Quota{}, false, report.NewRefusals(slog.New(slog.DiscardHandler), report.Discard()))
	l, method, route, other := NewListenerScope(report.Quota{}), NewMethodScope(report.Quota{Calls: 1}), NewRouteScope("one", report.Quota{}, nil), NewRouteScope("two", report.Quota{Calls: 1}, nil)
	count := func(want ...int) {
		t.Helper()
		if got := []int{method.Running(), route.Running(), other.Running(), l.Running()}; !slices.Equal(got, want) {
			t.Errorf("counted %v, want %v", got, want)
		}
	}
	u := q.Call(l, method, "192.0.2.1:1", nil)
	if err := u.Move(method, route, "m"); err != nil {
		t.Fatal(err)
	}
	count(0, 0, 0, 0)
	if err := u.Begin("m"); err != nil {
		t.Fatal(err)
	}
	count(1, 1, 0, 1)
	if err := u.Move(nil, other, "m"); err != nil {
		t.Fatal(err)
	}
	count(0, 0, 1, 1)

	second := q.Call(l, nil, "192.0.2.1:2", nil)
	if err := second.Begin("m"); err != nil {
		t.Fatal(err)
	}
	f, ok := errors.AsType[*report.Fault](second.Move(method, other, "m"))
	if !ok || !strings.Contains(f.Text, "routes[].limits.calls") || f.Hint != "raise "+report.Named("routes[].limits.calls")+" of the route two" {
		t.Errorf("a call too many: %+v", f)
	}
	count(0, 0, 1, 2)
	second.End()
	u.End()
	count(0, 0, 0, 0)

	tried := q.With(report.Quota{}, report.Quota{}, true)
	first, over := tried.Call(l, nil, "192.0.2.1:1", nil), tried.Call(l, nil, "192.0.2.1:2", nil)
	for _, c := range []*Call{&first, &over} {
		if err := c.Begin("m"); err != nil {
			t.Fatal(err)
		}
		if err := c.Move(nil, other, "m"); err != nil {
			t.Errorf("limits that are tried out refuse: %v", err)
		}
	}
	count(0, 0, 1, 1) // the second isn't counted any more
	first.End()
	over.End()
	count(0, 0, 0, 0)
}

package bridge

import (
	"bytes"
	"crypto/tls"
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
	"testing/iotest"
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

// A call is judged at its admission. It may have begun long before: culvert may
// have been stopped in between.
func TestCallThatBeganLongAgoIsntOneTooMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, Limits{Address: Quota{CallsPerSecond: 20000}})
		l := &listening{scope: q.listener(Quota{})}
		began := time.Now()
		<-time.After(3 * time.Second)
		if _, err := q.call(l, "192.0.2.1:1", "/a/b"); err != nil {
			t.Fatal(err)
		}
		late := &Call{Method: "/a/b", info: &report.CallInfo{Begin: began}}
		late.use = callUse{quotas: q, of: l, peer: "192.0.2.1:2"}
		if err := late.use.begin(late); err != nil {
			t.Errorf("the second call of 20000 within a second, which began 3 s ago: %v", err)
		}
	})
}

// TestBucketInDebt: what is spent may be more than there is, and then nothing
// goes on until it is paid.
func TestBucketInDebt(t *testing.T) {
	const second = int64(time.Second)
	b, r := new(bucket), perSecond(1000)
	if wait := b.debt(r, at(0)); wait != 0 {
		t.Errorf("a full bucket has a debt of %v", wait)
	}
	b.spend(r, 0, 1000)
	if wait := b.debt(r, at(0)); wait != 0 {
		t.Errorf("what was there has been spent, and the debt is %v", wait)
	}
	b.spend(r, 0, 5000)
	if got, want := b.debt(r, at(second)), 4*time.Second; got != want {
		t.Errorf("5000 were owed at 1000 a second; a second later it is %v, want %v", got, want)
	}
	if wait := b.debt(r, at(5*second)); wait != 0 {
		t.Errorf("after 5 s the debt is %v", wait)
	}
	b.spend(0, 0, 1<<40)
	if wait := b.debt(0, at(0)); wait != 0 {
		t.Errorf("without a rate there is a debt of %v", wait)
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
func newTestQuotas(t testing.TB, limits Limits, methods ...MethodQuota) (*quotas, *anObserver) {
	t.Helper()
	obs := newObserver()
	q, err := newQuotas(limits.withDefaults(), methods, false, report.NewRefusals(slog.New(slog.DiscardHandler), obs))
	if err != nil {
		t.Fatal(err)
	}
	return q, obs
}

// call is one from a peer that begins now.
func (q *quotas) call(l *listening, peer, method string) (*Call, error) {
	c := &Call{Method: method, info: &report.CallInfo{Begin: time.Now()}}
	c.use = callUse{quotas: q, of: l, peer: peer, method: q.method(method)}
	return c, c.use.begin(c)
}

func (q *quotas) anyListener() *listening { return &listening{scope: q.listener(Quota{})} }

// wantKey wants a refusal that names the key and when to try again.
func wantKey(t *testing.T, err error, key string) {
	t.Helper()
	var f *report.Fault
	if !errors.As(err, &f) || f.Reason != report.ReasonLimitExceeded || f.Limit != key || f.Retry <= 0 || !strings.Contains(f.Text, "("+key+")") {
		t.Errorf("got %v (%+v), want %s for %s", err, f, report.ReasonLimitExceeded, key)
	}
}

// TestCallsCountWhereTheyBelong: each limit bites those that it is for, and no
// others.
func TestCallsCountWhereTheyBelong(t *testing.T) {
	const one, other = "192.0.2.1:1000", "192.0.2.2:1000"
	for _, c := range []struct {
		name    string
		limits  Limits
		quota   Quota // of the listener
		methods []MethodQuota
		key     string
		// what is let in although the call from one to /a.B/C is not
		elsewhere, otherAddress, otherMethod bool
	}{
		{name: "server", limits: Limits{Calls: 2}, key: "limits.calls"},
		{name: "server's rate", limits: Limits{CallsPerSecond: 2}, key: "limits.calls_per_second"},
		{name: "listener", quota: Quota{Calls: 2}, key: "listen[].limits.calls", elsewhere: true},
		{name: "listener's rate", quota: Quota{CallsPerSecond: 2}, key: "listen[].limits.calls_per_second", elsewhere: true},
		{name: "address", limits: Limits{Address: Quota{Calls: 2}}, key: "limits.address.calls", otherAddress: true},
		{name: "address's rate", limits: Limits{Address: Quota{CallsPerSecond: 2}}, key: "limits.address.calls_per_second", otherAddress: true},
		{name: "method", methods: []MethodQuota{{Pattern: "a.B/*", Calls: 2}}, key: "limits.methods[].calls", otherMethod: true},
		{name: "method's rate", methods: []MethodQuota{{Pattern: "/a.B/C", CallsPerSecond: 2}}, key: "limits.methods[].calls_per_second", otherMethod: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, obs := newTestQuotas(t, c.limits, c.methods...)
				here, there := &listening{scope: q.listener(c.quota)}, q.anyListener()
				var running []*Call
				for range 2 {
					call, err := q.call(here, one, "/a.B/C")
					if err != nil {
						t.Fatal(err)
					}
					running = append(running, call)
				}
				_, err := q.call(here, one, "/a.B/C")
				wantKey(t, err, c.key)
				if r := await(t, "the refusal", obs.refused); r.Reason != report.ReasonLimitExceeded || r.Key != c.key || r.Peer != one || r.Detail != "/a.B/C" || r.ReportOnly {
					t.Errorf("the Observer is told of %+v", r)
				}
				for _, o := range []struct {
					what         string
					l            *listening
					peer, method string
					letIn        bool
				}{
					{"another listener", there, one, "/a.B/C", c.elsewhere},
					{"another address", here, other, "/a.B/C", c.otherAddress},
					{"another method", here, one, "/other.B/C", c.otherMethod},
				} {
					call, err := q.call(o.l, o.peer, o.method)
					if (err == nil) != o.letIn {
						t.Errorf("%s: %v, want it let in: %v", o.what, err, o.letIn)
					}
					call.use.end()
				}
				for _, call := range running {
					call.use.end()
					call.use.end() // once is enough
				}
				time.Sleep(time.Second)
				for range 2 {
					if _, err := q.call(here, one, "/a.B/C"); err != nil {
						t.Errorf("with room again: %v", err)
					}
				}
				_, err = q.call(here, one, "/a.B/C")
				wantKey(t, err, c.key)
			})
		})
	}
}

// TestRefusedCallsTakeNothing: what an address may not do is taken neither
// from the others nor from itself.
func TestRefusedCallsTakeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, Limits{Calls: 5, CallsPerSecond: 5, Address: Quota{Calls: 1}})
		l := q.anyListener()
		first, err := q.call(l, "192.0.2.1", "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		for range 100 {
			_, err := q.call(l, "192.0.2.1", "/a.B/C")
			wantKey(t, err, "limits.address.calls")
		}
		for i := range 4 {
			if _, err := q.call(l, fmt.Sprintf("192.0.2.%d", 10+i), "/a.B/C"); err != nil {
				t.Errorf("another address: %v", err)
			}
		}
		_, err = q.call(l, "192.0.2.99", "/a.B/C")
		wantKey(t, err, "limits.calls")
		first.use.end()
		time.Sleep(time.Second)
		if _, err := q.call(l, "192.0.2.1", "/a.B/C"); err != nil {
			t.Errorf("after its end the next: %v", err)
		}
	})
}

// TestRetryIsWhenThereIsRoom: the time that a refused client is told is right.
func TestRetryIsWhenThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, Limits{CallsPerSecond: 2})
		l := q.anyListener()
		var f *report.Fault
		for f == nil {
			_, err := q.call(l, "192.0.2.1", "/a.B/C")
			errors.As(err, &f)
		}
		if want := time.Second / 2; f.Retry != want {
			t.Errorf("at 2 a second one is to come again after %v, want %v", f.Retry, want)
		}
		time.Sleep(f.Retry)
		if _, err := q.call(l, "192.0.2.1", "/a.B/C"); err != nil {
			t.Errorf("after that time: %v", err)
		}
	})
}

// TestPlacesAreGivenBack: a call that one of its scopes refuses takes neither a
// place nor a token from the others.
func TestPlacesAreGivenBack(t *testing.T) {
	const peer, method = "192.0.2.1:1", "/a.B/C"
	narrow := func() (Limits, Quota, []MethodQuota) {
		return Limits{Calls: 9, CallsPerSecond: 9, Address: Quota{Calls: 9, CallsPerSecond: 9}},
			Quota{Calls: 9, CallsPerSecond: 9},
			[]MethodQuota{{Pattern: "a.B/*", Calls: 9, CallsPerSecond: 9}}
	}
	for key, lower := range map[string]func(*Limits, *Quota, *MethodQuota){
		"limits.calls":                      func(l *Limits, _ *Quota, _ *MethodQuota) { l.Calls = 1 },
		"limits.calls_per_second":           func(l *Limits, _ *Quota, _ *MethodQuota) { l.CallsPerSecond = 1 },
		"limits.address.calls":              func(l *Limits, _ *Quota, _ *MethodQuota) { l.Address.Calls = 1 },
		"limits.address.calls_per_second":   func(l *Limits, _ *Quota, _ *MethodQuota) { l.Address.CallsPerSecond = 1 },
		"listen[].limits.calls":             func(_ *Limits, l *Quota, _ *MethodQuota) { l.Calls = 1 },
		"listen[].limits.calls_per_second":  func(_ *Limits, l *Quota, _ *MethodQuota) { l.CallsPerSecond = 1 },
		"limits.methods[].calls":            func(_ *Limits, _ *Quota, m *MethodQuota) { m.Calls = 1 },
		"limits.methods[].calls_per_second": func(_ *Limits, _ *Quota, m *MethodQuota) { m.CallsPerSecond = 1 },
	} {
		synctest.Test(t, func(t *testing.T) {
			limits, own, methods := narrow()
			lower(&limits, &own, &methods[0])
			q, _ := newTestQuotas(t, limits, methods...)
			l := &listening{scope: q.listener(own)}
			first, err := q.call(l, peer, method)
			if err != nil {
				t.Fatal(err)
			}
			for range 100 {
				_, err := q.call(l, peer, method)
				wantKey(t, err, key)
			}
			for name, s := range map[string]share{
				"address": {&q.address, &first.use.address.tally}, "method": {&q.methods[0].rules, &q.methods[0].tally},
				"listener": {&l.scope.rules, &l.scope.tally}, "server": {&q.server.rules, &q.server.tally},
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
			if n := first.use.address.holders.Load(); n != 1 {
				t.Errorf("%s: the address is held by %d, want 1", key, n)
			}
		})
	}
}

// TestTokensOfWebSocketsAndConnectionsAreGivenBack, as those of calls.
func TestTokensOfWebSocketsAndConnectionsAreGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, Limits{Address: Quota{Connections: 3, HandshakesPerSecond: 3}})
		l := &listening{scope: q.listener(Quota{Connections: 1, HandshakesPerSecond: 1})}
		l.TLS = new(tls.Config)
		conn := new(connUse)
		if err := conn.begin(q, "192.0.2.1:1", l); err != nil {
			t.Fatal(err)
		}
		upgrade := callUse{quotas: q, of: l, peer: "192.0.2.1:1"}
		if err := upgrade.handshake(""); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			wantKey(t, new(connUse).begin(q, "192.0.2.1:1", l), "listen[].limits.connections")
			wantKey(t, upgrade.handshake(""), "listen[].limits.handshakes_per_second")
		}
		elsewhere := q.anyListener()
		elsewhere.TLS = l.TLS
		for range 2 {
			if err := errors.Join(new(connUse).begin(q, "192.0.2.1:2", elsewhere), (&callUse{quotas: q, of: elsewhere, peer: "192.0.2.1:2"}).handshake("")); err != nil {
				t.Errorf("by what the listener refused the address is refused elsewhere: %v", err)
			}
		}
		wantKey(t, new(connUse).begin(q, "192.0.2.1:2", elsewhere), "limits.address.connections")
	})
}

// seenByKey counts what the Observer was told of.
func seenByKey(t *testing.T, obs *anObserver) map[string]int {
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

// TestLimitsAreTriedOut: all goes on, and is told of as often as it would be
// refused. What is over a limit counts no further.
func TestLimitsAreTriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, obs := newTestQuotas(t, Limits{Calls: 2, HandshakesPerSecond: 1, DecompressedPerSecond: 1, Address: Quota{Connections: 1, Calls: 3}})
		q.tryOut = true
		l := q.anyListener()
		var calls []*Call
		var conns []*connUse
		for range 4 {
			c, err := q.call(l, "192.0.2.1:1", "/a.B/C")
			conn := new(connUse)
			if err := errors.Join(err, c.use.handshake("/a.B/C"), conn.begin(q, "192.0.2.1:1", l)); err != nil {
				t.Errorf("refused: %v", err)
			}
			calls, conns = append(calls, c), append(conns, conn)
		}
		for _, c := range calls {
			for range 5 { // a message each
				if err := c.use.mayExpand(); err != nil {
					t.Errorf("refused: %v", err)
				}
				c.use.expanded(10)
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
		for _, c := range calls {
			c.use.end()
		}
		for _, c := range conns {
			c.end()
		}
		from := q.addresses.hold(addressKey("192.0.2.1"), 0)
		if calls, conns, holders := q.server.tally.calls.Load(), from.connections.Load(), from.holders.Load(); calls != 0 || conns != 0 || holders != 1 {
			t.Errorf("after the last %d calls and %d connections are counted, and the address is held by %d", calls, conns, holders-1)
		}
	})
}

// TestBodyThatIsTriedOutIsToldOfOnce, in however many parts it is read.
func TestBodyThatIsTriedOutIsToldOfOnce(t *testing.T) {
	q, obs := newTestQuotas(t, Limits{DecompressedPerSecond: 1})
	q.tryOut = true
	for i := range 3 {
		c, err := q.call(q.anyListener(), "192.0.2.1:1", "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		message := append([]byte{0, 0, 1, 0x86, 0xa0}, pattern(100_000)...)
		m := newReader(nil, 1<<20, "")
		m.packed = &gzipBody{src: sourceReader{r: iotest.OneByteReader(bytes.NewReader(gzipped(slices.Concat(message, message, message))))}, use: &c.use}
		m.body, m.use = m.packed, &c.use
		for range 3 {
			payload, err := m.next()
			if err != nil {
				t.Fatal(err)
			}
			payload.Free()
		}
		c.use.end()
		if got := seenByKey(t, obs)["limits.decompressed_bytes_per_second"]; got != 1 {
			t.Errorf("of call %d the Observer is told %d times, want once", i, got)
		}
	}
}

// TestCompressedBodyIsExpandedByMessages: one that has begun is expanded whole,
// as where messages are compressed each for itself.
func TestCompressedBodyIsExpandedByMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, Limits{DecompressedPerSecond: 1000})
		c, err := q.call(q.anyListener(), "192.0.2.1:1", "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		message := append([]byte{0, 0, 1, 0x86, 0xa0}, pattern(100_000)...)
		m := newReader(nil, 1<<20, "")
		m.packed = &gzipBody{src: sourceReader{r: bytes.NewReader(gzipped(slices.Concat(message, message)))}, use: &c.use}
		m.body = m.packed
		payload, err := m.next()
		if err != nil {
			t.Fatalf("the first message: %v", err)
		}
		payload.Free()
		_, err = m.next()
		wantKey(t, err, "limits.decompressed_bytes_per_second")
		c.use.end()
	})
}

func TestConnectionsCountWhereTheyBelong(t *testing.T) {
	q, _ := newTestQuotas(t, Limits{Address: Quota{Connections: 2, HandshakesPerSecond: 1}})
	l := &listening{scope: q.listener(Quota{Connections: 3})}
	open := func(peer string) (*connUse, error) {
		u := new(connUse)
		return u, u.begin(q, peer, l)
	}
	var uses []*connUse
	for _, peer := range []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1"} {
		u, err := open(peer)
		if err != nil {
			t.Fatalf("%s: %v", peer, err)
		}
		uses = append(uses, u)
	}
	refused, err := open("[2001:db8::ffff]:1")
	wantKey(t, err, "limits.address.connections")
	refused.end()
	refused, err = open("192.0.2.2:1")
	wantKey(t, err, "listen[].limits.connections")
	refused.end()
	uses[0].end()
	uses[0].end()
	if _, err := open("[2001:db8::3]:1"); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if n := l.scope.tally.connections.Load(); n != 3 {
		t.Errorf("the listener has %d connections, want 3", n)
	}
	early := new(connUse)
	early.end()
	if err := early.begin(q, "192.0.2.3:1", q.anyListener()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection that has closed begins with %v", err)
	}
	if n := early.address.holders.Load(); n != 0 {
		t.Errorf("it holds its address %d times", n)
	}
}

// endsConns is an Observer that ends a connection while it is told of one that
// is refused, as its close may.
type endsConns struct {
	report.Observer
	ends *connUse
	told bool
}

func (o *endsConns) Refused(report.Refusal) {
	o.ends.end()
	o.told = true
}

// TestNoLockIsHeldOverTheObserver: what is told of a connection's refusal may
// take its time.
func TestNoLockIsHeldOverTheObserver(t *testing.T) {
	obs := new(endsConns)
	q, err := newQuotas(Limits{Address: Quota{Connections: 1}}, nil, false, report.NewRefusals(slog.New(slog.DiscardHandler), obs))
	if err != nil {
		t.Fatal(err)
	}
	l := q.anyListener()
	if err := new(connUse).begin(q, "192.0.2.1:1", l); err != nil {
		t.Fatal(err)
	}
	obs.ends = new(connUse)
	refused := make(chan error, 1)
	go func() { refused <- obs.ends.begin(q, "192.0.2.1:1", l) }()
	wantKey(t, await(t, "the refusal", refused), "limits.address.connections")
	if !obs.told {
		t.Error("the Observer isn't told")
	}
}

// TestHandshakesCountApart: a TLS handshake and a WebSocket's don't take each
// other's place, and the listener says whether there is TLS.
func TestHandshakesCountApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, Limits{Address: Quota{HandshakesPerSecond: 1}})
		plain, secure := q.anyListener(), q.anyListener()
		secure.TLS = new(tls.Config)
		begin := func(l *listening) error { return new(connUse).begin(q, "192.0.2.1:1", l) }
		upgrade := func() error {
			u := callUse{quotas: q, of: plain, peer: "192.0.2.1:2"}
			return u.handshake("")
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
	q, _ := newTestQuotas(t, Limits{Calls: 10, Address: Quota{Calls: 4}}, MethodQuota{Pattern: "*/*", Calls: 7})
	l := &listening{scope: q.listener(Quota{Calls: 9})}
	var work sync.WaitGroup
	var most atomic.Int64
	for i := range 8 {
		peer := fmt.Sprintf("192.0.2.%d", i%3)
		work.Go(func() {
			for range 400 { // all refused, they fit the observer
				c, err := q.call(l, peer, "/a.B/C")
				if err == nil {
					most.Store(max(most.Load(), int64(q.server.tally.calls.Load())))
				}
				c.use.end()
			}
		})
	}
	work.Wait()
	if most.Load() == 0 {
		t.Error("no call was let in")
	}
	for name, tally := range map[string]*tally{"server": &q.server.tally, "listener": &l.scope.tally, "method": &q.methods[0].tally} {
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

// TestExpandingIsADebt: a message is expanded whole or not at all.
func TestExpandingIsADebt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, _ := newTestQuotas(t, Limits{DecompressedPerSecond: 1000})
		c, err := q.call(q.anyListener(), "192.0.2.1", "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.use.mayExpand(); err != nil {
			t.Fatal(err)
		}
		c.use.expanded(3000)
		wantKey(t, c.use.mayExpand(), "limits.decompressed_bytes_per_second")
		time.Sleep(2*time.Second - time.Nanosecond)
		wantKey(t, c.use.mayExpand(), "limits.decompressed_bytes_per_second")
		time.Sleep(time.Nanosecond)
		if err := c.use.mayExpand(); err != nil {
			t.Errorf("with the debt paid: %v", err)
		}
		c.use.end()
		new(callUse).expanded(1) // one that never began counts with nobody
	})
}

func TestFirstMethodThatMatchesCounts(t *testing.T) {
	q, _ := newTestQuotas(t, Limits{}, MethodQuota{Pattern: "shop.v1.Orders/Get", MessageBytes: 1}, MethodQuota{Pattern: "shop.*/*", MessageBytes: 2})
	for method, want := range map[string]int{"/shop.v1.Orders/Get": 1, "/shop.v1.Orders/Put": 2, "/other.v1.Orders/Get": 0} {
		got := 0
		if m := q.method(method); m != nil {
			got = m.messageBytes
		}
		if got != want {
			t.Errorf("%s has the limit %d, want %d", method, got, want)
		}
	}
	if _, err := newQuotas(Limits{}, []MethodQuota{{Pattern: "nothing"}}, false, nil); err == nil {
		t.Error("a pattern without a slash is taken")
	}
}

// BenchmarkQuotas is what a call costs with the default limits.
func BenchmarkQuotas(b *testing.B) {
	q, _ := newTestQuotas(b, Limits{})
	l := q.anyListener()
	conn := new(connUse)
	if err := conn.begin(q, "192.0.2.1:1000", l); err != nil {
		b.Fatal(err)
	}
	c := &Call{Method: "/a.B/C", info: &report.CallInfo{Begin: time.Now()}}
	for name, from := range map[string]*address{"own connection": conn.address, "behind a proxy": nil} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.info.Begin = c.info.Begin.Add(time.Millisecond) // the limit isn't the matter
				c.use = callUse{quotas: q, of: l, peer: "192.0.2.1:1000", address: from}
				if err := c.use.begin(c); err != nil {
					b.Fatal(err)
				}
				c.use.end()
			}
		})
	}
}

// BenchmarkExpanding is what limits add to a compressed message.
func BenchmarkExpanding(b *testing.B) {
	q, _ := newTestQuotas(b, Limits{}, MethodQuota{Pattern: "a.B/*", DecompressedPerSecond: noLimit - 1})
	c, err := q.call(q.anyListener(), "192.0.2.1:1000", "/a.B/C")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := c.use.mayExpand(); err != nil {
			b.Fatal(err)
		}
		c.use.expanded(1)
	}
}

package ratelimittest

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/ratelimit"
)

// options wait as long as they may: questions that count aren't asked twice.
func options(target string, descriptors ...ratelimit.Descriptor) ratelimit.Options {
	return ratelimit.Options{
		Target: target, Domain: "shop", Descriptors: descriptors, Timeout: ratelimit.MaxTimeout, FailClosed: true,
		ReservedDown: func(name string) bool { return strings.HasPrefix(name, "grpc-") },
	}
}

func newLimiter(t testing.TB, o ratelimit.Options) *ratelimit.Limiter {
	t.Helper()
	l, err := ratelimit.New(o)
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

// A tally is what became of calls.
type tally struct {
	passed, over int
	last         *ratelimit.Refusal // over the limit
}

// A caller returns the facts of its i-th call in a round. No two rounds share a limit.
type caller func(round string, i int) ratelimit.Facts

// count makes calls by turns at the limiters, all at once if together is set. A busy machine
// may answer a question too late, and nobody knows whether it counted: then all is repeated,
// in another round.
func count(t *testing.T, together bool, n int, facts caller, limiters ...*ratelimit.Limiter) tally {
	t.Helper()
	for round := range 20 {
		var mu sync.Mutex
		var got tally
		var late error
		ask := func(i int) {
			_, err := limiters[i%len(limiters)].Check(t.Context(), facts(fmt.Sprint(round), i))
			mu.Lock()
			defer mu.Unlock()
			var r *ratelimit.Refusal
			switch {
			case err == nil:
				got.passed++
			case errors.As(err, &r) && r.Kind == ratelimit.OverLimit:
				got.over, got.last = got.over+1, r
			default:
				late = err
			}
		}
		var calls sync.WaitGroup
		for i := range n {
			calls.Go(func() { ask(i) })
			if !together {
				calls.Wait()
			}
		}
		calls.Wait()
		if late == nil {
			return got
		}
		t.Logf("again: %v", late)
	}
	t.Fatal("the service is too slow")
	return tally{}
}

var byIdentity = ratelimit.Descriptor{{Key: "identity", Source: ratelimit.FromIdentity}}

// person has an identity of a round.
func person(subject string) caller {
	return func(round string, _ int) ratelimit.Facts {
		return ratelimit.Facts{Kind: "jwt", Issuer: "https://idp.example", Subject: subject + round, Method: "/shop.v1.Orders/Get"}
	}
}

// TestReplicasShareALimit by identity.
func TestReplicasShareALimit(t *testing.T) {
	w := startWorld(t)
	one, two := newLimiter(t, options(w.target, byIdentity)), newLimiter(t, options(w.target, byIdentity))
	got := count(t, false, 9, person("alice-"), one, two)
	if got.passed != 5 || got.over != 4 {
		t.Fatalf("alice: %d calls pass, %d don't; want 5 and 4", got.passed, got.over)
	}
	if r := got.last; r.Kind != ratelimit.OverLimit || r.RetryAfter <= 0 || r.RetryAfter > 366*24*time.Hour ||
		r.Message != fmt.Sprintf("the rate limit of this service was reached; try again in %d s", r.RetryAfter/time.Second) ||
		r.Error() != "over the limit by identity (5 in a year)" {
		t.Errorf("alice gets %q, %v; the log %q", r.Message, r.RetryAfter, r.Error())
	}
	if md := got.last.Header; strings.Join(md["ratelimit-remaining"], "") != "0" || len(md["ratelimit-limit"]) != 1 || len(md["ratelimit-reset"]) != 1 {
		t.Errorf("alice gets the header %v", md)
	}
	if got := count(t, true, 40, person("bob-"), one, two); got.passed != 5 || got.over != 35 {
		t.Errorf("bob, all at once: %d calls pass, %d don't; want 5 and 35", got.passed, got.over)
	}
	another := func(round string, i int) ratelimit.Facts {
		f := person("alice-")(round, i)
		f.Issuer = "https://another.example"
		return f
	}
	if got := count(t, false, 6, another, one, two); got.passed != 5 {
		t.Errorf("another issuer's alice: %d calls pass, want 5", got.passed)
	}
	nobody := func(string, int) ratelimit.Facts { return ratelimit.Facts{Method: "/shop.v1.Orders/Get"} }
	if got := count(t, false, 9, nobody, one, two); got.passed != 9 {
		t.Errorf("nobody: %d calls pass, want 9", got.passed)
	}
	if n := one.Snapshot().Unasked + two.Snapshot().Unasked; n != 9 {
		t.Errorf("%d calls weren't asked about, want 9", n)
	}
}

// TestLimitsByDescriptor: each value has its own count, and an address has it in each spelling.
func TestLimitsByDescriptor(t *testing.T) {
	w := startWorld(t)
	peer := ratelimit.Descriptor{{Key: "peer", Source: ratelimit.FromPeer}}
	tenant := ratelimit.Descriptor{{Key: "subject", Source: ratelimit.FromSubject}, {Key: "tenant", Source: ratelimit.FromMetadata, Text: "x-tenant"}}
	batch := ratelimit.Descriptor{{Key: "class", Text: "batch"}, {Key: "method", Source: ratelimit.FromMethod}}
	subject := ratelimit.Descriptor{{Key: "subject", Source: ratelimit.FromSubject}}
	long := strings.Repeat("long", 100)
	in := func(subject, tenant string) caller {
		return func(round string, _ int) ratelimit.Facts {
			return ratelimit.Facts{Kind: "jwt", Subject: subject + round, Metadata: metadata.MD{"x-tenant": {tenant}}}
		}
	}
	at := func(formats ...string) caller { // by turns
		return func(round string, i int) ratelimit.Facts {
			return ratelimit.Facts{Peer: netip.MustParseAddr(fmt.Sprintf(formats[i%len(formats)], round))}
		}
	}
	for _, c := range []struct {
		name        string
		descriptors []ratelimit.Descriptor
		facts       caller
		want        int // calls that pass, of 12
	}{
		{"an IPv4 address", []ratelimit.Descriptor{peer}, at("192.0.2.%s", "::ffff:192.0.2.%s"), 3},
		{"an IPv6 address", []ratelimit.Descriptor{peer}, at("2001:db8:0:%s::1", "2001:db8:0:%s:ffff::2"), 3},
		{"a method of a class", []ratelimit.Descriptor{batch}, func(round string, _ int) ratelimit.Facts { return ratelimit.Facts{Method: "/shop.v1.Orders/" + round} }, 4},
		{"a subject", []ratelimit.Descriptor{subject}, in("alice", ""), 6},
		{"in a tenant", []ratelimit.Descriptor{tenant, subject}, in("bob", "blue"), 2},
		{"in another tenant", []ratelimit.Descriptor{tenant}, in("bob", "green"), 2},
		{"a long subject", []ratelimit.Descriptor{subject}, in(long, ""), 6},
		{"another with its beginning", []ratelimit.Descriptor{subject}, in(long+"er", ""), 6},
		{"a person", []ratelimit.Descriptor{byIdentity}, person("dave-"), 5},
		{"a partner", []ratelimit.Descriptor{byIdentity}, person("partner-"), 8},
		{"without a limit", []ratelimit.Descriptor{{{Key: "unknown", Text: "a"}}}, in("alice", ""), 12},
	} {
		if got := count(t, false, 12, c.facts, newLimiter(t, options(w.target, c.descriptors...))); got.passed != c.want {
			t.Errorf("%s: %d calls pass, want %d", c.name, got.passed, c.want)
		}
	}
}

// TestNobodyUsesUpAnothersLimit by a value that the service joins to the key of another count.
func TestNobodyUsesUpAnothersLimit(t *testing.T) {
	w := startWorld(t)
	o := options(w.target,
		ratelimit.Descriptor{{Key: "subject", Source: ratelimit.FromSubject}, {Key: "tenant", Source: ratelimit.FromMetadata, Text: "x-tenant"}},
		ratelimit.Descriptor{{Key: "subject", Source: ratelimit.FromSubject}})
	l := newLimiter(t, o)
	mallory := func(round string, _ int) ratelimit.Facts {
		return ratelimit.Facts{Kind: "jwt", Subject: "alice_tenant_" + round}
	}
	alice := func(round string, _ int) ratelimit.Facts {
		return ratelimit.Facts{Kind: "jwt", Subject: "alice", Metadata: metadata.MD{"x-tenant": {round}}}
	}
	count(t, false, 12, mallory, l)
	if got := count(t, false, 12, alice, l); got.passed != 2 {
		t.Errorf("%d calls pass, want 2", got.passed)
	}
}

// TestOutages: without an answer a call passes or doesn't, as the options say, and within its
// time-out. A service that comes back counts on.
func TestOutages(t *testing.T) {
	w := startWorld(t)
	o := options(w.target, byIdentity)
	patient := newLimiter(t, o)
	o.Timeout = 0 // the default
	shut := newLimiter(t, o)
	o.FailClosed = false
	open := newLimiter(t, o)
	if got := count(t, false, 6, person("alice-"), patient); got.passed != 5 {
		t.Fatalf("%d calls pass, want 5", got.passed)
	}
	// outage asks both until one of them has noticed.
	outage := func(what, want string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			a, err := open.Check(t.Context(), person("carol")("", 0))
			_, refused := shut.Check(t.Context(), person("carol")("", 0))
			var r *ratelimit.Refusal
			if err == nil && a.Open != nil && strings.Contains(a.Open.Error(), want) && errors.As(refused, &r) && r.Kind == ratelimit.Unavailable && strings.Contains(r.Error(), want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: got %+v, %v and %v", what, a, err, refused)
			}
		}
	}
	signal := func(p *process, s syscall.Signal) {
		t.Helper()
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(w.service, syscall.SIGSTOP)
	outage("the service hangs", "no answer in 50ms")
	signal(w.service, syscall.SIGCONT)
	signal(w.redis, syscall.SIGSTOP)
	outage("Redis hangs", "no answer in 50ms")
	signal(w.redis, syscall.SIGCONT)
	w.service.kill()
	outage("the service is gone", "connection refused")
	w.startService(t)
	back := func(what string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; {
			_, err := patient.Check(t.Context(), person("alice-")("0", 0))
			var r *ratelimit.Refusal
			if errors.As(err, &r) && r.Kind == ratelimit.OverLimit {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: got %v", what, err)
			}
		}
	}
	back("the service is back")
	w.redis.kill()
	outage("Redis is gone", "ShouldRateLimit: ") // an error, or none before the time-out
}

// BenchmarkService is a question with the way to the service and Redis, and its time.
func BenchmarkService(b *testing.B) {
	w := startWorld(b)
	o := options(w.target, byIdentity)
	o.Timeout = 0
	l := newLimiter(b, o)
	n := 0
	for b.Loop() {
		n++
		f := person(fmt.Sprint(n, "-"))("", 0)
		if _, err := l.Check(b.Context(), f); err != nil {
			b.Log(err)
		}
	}
	s := l.Snapshot()
	b.ReportMetric(float64(s.Failed), "late")
	b.ReportMetric(float64(s.Allowed)/float64(n), "answered/op")
	b.Logf("%d questions took %v on average", s.Asked, s.Mean)
}

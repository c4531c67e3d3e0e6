package upstream

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// labelled is a real backend that answers each message with its name.
type labelled struct {
	address string
	answers atomic.Int64
	ended   chan struct{} // a value for each connection that ended
}

func startLabelled(t testing.TB, name string) *labelled {
	b := &labelled{ended: make(chan struct{}, 16)}
	b.address = startBackend(t, func(ss grpc.ServerStream) error {
		for {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return nil //nolint:nilerr // the half-close, or the client is gone
			}
			b.answers.Add(1)
			if err := ss.SendMsg([]byte(name)); err != nil {
				return err
			}
		}
	}, grpc.StatsHandler(b))
	return b
}

// TagRPC implements stats.Handler.
func (b *labelled) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (b *labelled) HandleRPC(context.Context, stats.RPCStats) {}

// TagConn implements stats.Handler.
func (b *labelled) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (b *labelled) HandleConn(_ context.Context, s stats.ConnStats) {
	if _, ok := s.(*stats.ConnEnd); ok {
		b.ended <- struct{}{}
	}
}

// newSet returns a Set that is closed at the test's end.
func newSet(t testing.TB) *Set {
	s := NewSet()
	t.Cleanup(s.Close)
	return s
}

// newUpstream returns an upstream for a Set to close.
func newUpstream(t testing.TB, b *labelled) *Upstream {
	t.Helper()
	u, err := New(report.Backend{Target: b.address}, testMessages, testHeaderBytes, memory.New(1<<30, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// callSet makes one call to the upstream of that name and returns who answered.
func callSet(ctx context.Context, t testing.TB, s *Set, name string) (string, error) {
	t.Helper()
	u, err := s.Acquire(name, 0)
	if err != nil {
		return "", err
	}
	defer u.Release()
	e := callUpstream(ctx, t, u, nil)
	if e.status.Code() != codes.OK || len(e.messages) != 1 {
		return "", fmt.Errorf("%v (%s), %d messages", e.status, e.cause, len(e.messages))
	}
	return string(e.messages[0]), nil
}

// A heldCall is a call that stays open until a test ends it.
type heldCall struct {
	*Stream
	u      *Upstream
	cancel context.CancelFunc
}

func holdCall(t testing.TB, s *Set, name string) *heldCall {
	t.Helper()
	u, err := s.Acquire(name, 0)
	must(t, err)
	ctx, cancel := context.WithCancel(within(t, patience))
	up, err := openCall(ctx, u, Request{Method: testMethod})
	must(t, err)
	return &heldCall{up, u, cancel}
}

// ask sends a message and returns who answered.
func (c *heldCall) ask(t testing.TB) string {
	t.Helper()
	must(t, c.Send(mem.BufferSlice{mem.SliceBuffer("hello")}))
	m, err := c.Recv()
	must(t, err)
	defer m.Free()
	return string(m.Materialize())
}

func (c *heldCall) end() {
	c.cancel()
	c.u.Release()
}

// TestReplacedUnderLoad: no call fails, each goes to an upstream that is at least as
// new as the one that was there when it began, and what was replaced is closed.
func TestReplacedUnderLoad(t *testing.T) {
	const callers, replacements = 8, 20
	s := newSet(t)
	old := startLabelled(t, "0")
	must(t, s.Put("a", newUpstream(t, old)))
	var newest, calls atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range callers {
		running.Go(func() {
			for ctx.Err() == nil {
				least := newest.Load()
				who, err := callSet(t.Context(), t, s, "a")
				if err != nil {
					t.Errorf("after %d replacements: %v", least, err)
					return
				}
				if got, _ := strconv.ParseInt(who, 10, 64); got < least {
					t.Errorf("upstream %d answers after %d replacements", got, least)
				}
				calls.Add(1)
			}
		})
	}
	for n := int64(1); n <= replacements && !t.Failed(); n++ {
		for old.answers.Load() == 0 && !t.Failed() {
			if _, err := callSet(t.Context(), t, s, "a"); err != nil {
				t.Error(err)
			}
		}
		b := startLabelled(t, strconv.FormatInt(n, 10))
		must(t, s.Put("a", newUpstream(t, b)))
		newest.Store(n)
		await(t, "the end of the old upstream's connection", old.ended)
		old = b
	}
	stop()
	running.Wait()
	if calls.Load() < callers {
		t.Errorf("%d calls in all: that is no load", calls.Load())
	}
}

// sameState ignores the addresses.
func sameState(a, b report.UpstreamState) bool {
	a.Addresses, b.Addresses = nil, nil
	return reflect.DeepEqual(a, b)
}

func wantStates(t *testing.T, s *Set, what string, want ...report.UpstreamState) {
	t.Helper()
	got := s.States()
	if !slices.EqualFunc(got, want, sameState) {
		t.Errorf("%s: the states are %v, want %v", what, got, want)
	}
}

// TestReplacedUpstreamEndsAfterItsLastCall, and not before. Until then it is one of
// the states.
func TestReplacedUpstreamEndsAfterItsLastCall(t *testing.T) {
	for _, how := range []string{"replaced", "removed"} {
		s := newSet(t)
		before, after := startLabelled(t, "before"), startLabelled(t, "after")
		must(t, s.Put("a", newUpstream(t, before)))
		first, second := holdCall(t, s, "a"), holdCall(t, s, "a")
		wantStates(t, s, "two calls are open", report.UpstreamState{Name: "a", Conns: connectivity.Ready, Calls: 2})
		draining := report.UpstreamState{Name: "a", Conns: connectivity.Ready, Calls: 2, Draining: true}
		if how == "replaced" {
			must(t, s.Put("a", newUpstream(t, after)))
			if who, err := callSet(within(t, patience), t, s, "a"); who != "after" {
				t.Errorf("a new call is answered by %q, %v", who, err)
			}
			wantStates(t, s, how, report.UpstreamState{Name: "a", Conns: connectivity.Ready}, draining)
		} else {
			must(t, s.Remove("a", s.Get("a")))
			wantStates(t, s, how, draining)
		}
		first.ask(t)
		first.end()
		if who := second.ask(t); who != "before" {
			t.Errorf("%s: the call that was open is answered by %q", how, who)
		}
		if len(before.ended) > 0 {
			t.Errorf("%s: the connection ended before its last call", how)
		}
		draining.Calls = 1
		if got := s.States(); !sameState(got[len(got)-1], draining) {
			t.Errorf("%s, with one call left: %v, want %v last", how, got, draining)
		}
		second.end()
		for _, state := range s.States() {
			if state.Draining {
				t.Errorf("%s, after the last call: %v drains", how, state)
			}
		}
		await(t, how+": the end of the connection", before.ended)
		if yes, _ := first.u.holders.acquire(0); yes {
			t.Errorf("%s: an upstream that is closed takes a call that found it before", how)
		}
		if len(after.ended) > 0 {
			t.Error("the new upstream's connection ended, too")
		}
	}
}

// TestCloseEndsUpstreamsThatCallsHold: the one that was replaced, and the one that
// takes calls.
func TestCloseEndsUpstreamsThatCallsHold(t *testing.T) {
	s := NewSet()
	before, after := startLabelled(t, "before"), startLabelled(t, "after")
	must(t, s.Put("a", newUpstream(t, before)))
	first := holdCall(t, s, "a")
	must(t, s.Put("a", newUpstream(t, after)))
	second := holdCall(t, s, "a")
	s.Close()
	s.Close()
	for _, c := range []*heldCall{first, second} {
		if _, err := c.Recv(); judge(err).status.Code() == codes.OK {
			t.Errorf("a call that Close ended has %v", err)
		}
		c.end()
	}
	await(t, "the end of the replaced upstream's connection", before.ended)
	await(t, "the end of the new upstream's connection", after.ended)
	late := newUpstream(t, after)
	if err := s.Put("b", late); err == nil {
		t.Error("a closed Set takes an upstream")
	}
	must(t, late.Close()) // it is still the caller's
	if _, err := s.Acquire("a", 0); err == nil || len(s.States()) != 0 {
		t.Errorf("a closed Set gives out an upstream: %v, %v", err, s.States())
	}
}

func TestSetRefusesNames(t *testing.T) {
	s := newSet(t)
	b := startLabelled(t, "first")
	must(t, s.Put("a", newUpstream(t, b)))
	removed := newUpstream(t, b)
	must(t, s.Put("removed", removed))
	must(t, s.Remove("removed", removed))
	twice := newUpstream(t, b)
	must(t, s.Put("twice", twice))
	other := newUpstream(t, b)
	for _, c := range []struct {
		what string
		err  error
	}{
		{"the removal of none", s.Remove("none", s.Get("none"))},
		{"the removal of another one", s.Remove("a", other)},
		{"one that was removed", s.Put("again", removed)},
		{"one that is there", s.Put("again", twice)},
		{"one in place of itself", s.Put("twice", twice)},
	} {
		if c.err == nil {
			t.Errorf("%s is taken", c.what)
		}
	}
	must(t, other.Close()) // it is still the caller's
	if who, err := callSet(within(t, patience), t, s, "a"); who != "first" {
		t.Errorf("the first upstream doesn't answer: %q, %v", who, err)
	}
}

// TestUpstreamThatIsGone: the call ends UNAVAILABLE, so that a client tries again,
// and isn't told the upstream's name.
func TestUpstreamThatIsGone(t *testing.T) {
	s := newSet(t)
	_, err := s.Acquire("secret", 0)
	v := judge(err)
	if v.reason != report.ReasonUpstreamUnreachable || v.status.Code() != codes.Unavailable || errorInfo(t, v.status).GetMetadata()["sent"] != "no" {
		t.Errorf("got %v for %s, want UNAVAILABLE for %s, not sent", v.status, v.reason, report.ReasonUpstreamUnreachable)
	}
	if !strings.Contains(v.cause, `upstream "secret"`) {
		t.Errorf("the log is told %q", v.cause)
	}
}

// TestAcquireCostsNothing: no allocation a call.
func TestAcquireCostsNothing(t *testing.T) {
	s := newSet(t)
	must(t, s.Put("a", newUpstream(t, startLabelled(t, "a"))))
	if n := testing.AllocsPerRun(100, func() {
		if u, err := s.Acquire("a", 0); err == nil {
			u.Release()
		}
	}); n != 0 {
		t.Errorf("%v allocations a call, want 0", n)
	}
	if calls := s.States()[0].Calls; calls != 0 {
		t.Errorf("%d calls are counted after the last, want 0", calls)
	}
}

// TestBorrower isn't a call: it takes no room of the limit, and a replaced upstream
// waits for it.
func TestBorrower(t *testing.T) {
	s, b := newSet(t), startLabelled(t, "a")
	must(t, s.Put("a", newUpstream(t, b)))
	borrowed, err := s.Borrow("a")
	must(t, err)
	call, err := s.Acquire("a", 1)
	if err != nil {
		t.Fatalf("a call beside a borrower: %v", err)
	}
	if _, err := s.Acquire("a", 1); err == nil {
		t.Error("a second call passed a limit of 1")
	}
	if got := s.States()[0].Calls; got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
	must(t, s.Put("a", newUpstream(t, b)))
	call.Release()
	select {
	case <-borrowed.holders.none:
		t.Error("the upstream is closed although it is borrowed")
	default:
	}
	borrowed.Return()
	await(t, "the end of the borrower", borrowed.holders.none)
	if _, err := s.Borrow("b"); err == nil {
		t.Error("borrowed one that there is not")
	}
}

package bridge

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// callOf is a call of an address that holds so many bytes of messages.
func callOf(t *testing.T, g *testRegistry, o *memory.Address, held int) (*watched, context.Context) {
	t.Helper()
	r, ctx := watch(t, g)
	r.held.Own(o)
	r.held.Add(memory.Small, held)
	ended := make(chan struct{})
	go func() {
		<-ctx.Done()
		r.held.Settle()
		g.remove(r)
		close(ended)
	}()
	t.Cleanup(func() {
		r.cancel(errFinished)
		<-ended
	})
	return r, ctx
}

// keepMoving has a call get on until it ends.
func keepMoving(r *watched, ctx context.Context) {
	go func() {
		for pause(ctx, time.Second) {
			r.out.bytes.Add(1 << 10)
		}
	}()
}

// waitFor waits for room for an address.
func waitFor(t *testing.T, g *testRegistry, o *memory.Address, n int) error {
	t.Helper()
	e := g.account.NewEntry()
	e.Own(o)
	c := memory.NewClaim(e)
	defer c.Done()
	return c.Reserve(t.Context(), memory.Small, n)
}

const some = 64 << 10

func registryWith(room int64) *testRegistry {
	return &testRegistry{newRegistry(memory.New(room, 0), nil, noneIdle), withDefaults(Limits{})}
}

// TestLargestAddressMakesRoom: calls end of the address that holds most, those that
// have stood still longest, and no more than are needed.
func TestLargestAddressMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryWith(10 * some)
		var attacker, neighbour, victim memory.Address
		_, first := callOf(t, g, &attacker, 3*some)
		elapse(2 * time.Second)
		_, second := callOf(t, g, &attacker, 3*some)
		_, third := callOf(t, g, &neighbour, 4*some)
		elapse(2 * time.Second)
		start := time.Now()
		if err := waitFor(t, g, &victim, some); err != nil {
			t.Errorf("an address that holds nothing got no room: %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it waited %v", took)
		}
		if cause := context.Cause(first); reasonOf(cause) != report.ReasonLimitExceeded || !strings.Contains(cause.Error(), report.KeyBufferedBytes) {
			t.Errorf("the first call ended with %v, want %s that names %s", cause, report.ReasonLimitExceeded, report.KeyBufferedBytes)
		}
		if second.Err() != nil || third.Err() != nil {
			t.Errorf("calls ended that needn't have: %v, %v", context.Cause(second), context.Cause(third))
		}
		if got := g.evicted.Load(); got != 1 {
			t.Errorf("%d evicted calls are counted, want 1", got)
		}
	})
}

// TestAddressAloneUsesEverything: its calls end only if they stand still for long.
func TestAddressAloneUsesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryWith(4 * some)
		var alone memory.Address
		_, stuckEnd := callOf(t, g, &alone, 2*some)
		moving, movingEnd := callOf(t, g, &alone, 2*some)
		keepMoving(moving, movingEnd)
		start := time.Now()
		if err := waitFor(t, g, &alone, some); err != nil {
			t.Errorf("no room: %v", err)
		}
		if took := time.Since(start); took < 5*time.Second || took > 5*time.Second+2*lookInterval {
			t.Errorf("a call ended after %v, want %v", took, 5*time.Second)
		}
		if stuckEnd.Err() == nil || movingEnd.Err() != nil {
			t.Errorf("the call that stands still: %v, the one that moves: %v, want the first alone ended", context.Cause(stuckEnd), context.Cause(movingEnd))
		}
	})
}

// TestCallWithinItsShareIsLeftAlone while it makes progress, however many others wait.
func TestCallWithinItsShareIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryWith(4 * some)
		var one, other, third memory.Address
		a, aEnd := callOf(t, g, &one, some)
		b, bEnd := callOf(t, g, &other, 3*some)
		keepMoving(a, aEnd)
		keepMoving(b, bEnd)
		if err := waitFor(t, g, &third, some); err != nil {
			t.Errorf("an address that holds nothing got no room beside one that has more than its share: %v", err)
		}
		if aEnd.Err() != nil || bEnd.Err() == nil {
			t.Errorf("within its share: %v, over it: %v, want the second alone ended", context.Cause(aEnd), context.Cause(bEnd))
		}
	})
}

// TestWaitingIsNoStandstill: a call that waits for room itself isn't ended for that.
func TestWaitingIsNoStandstill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryWith(4 * some)
		var one memory.Address
		r, end := callOf(t, g, &one, 3*some)
		c := memory.NewClaim(r.held)
		defer c.Done()
		if err := c.Reserve(end, memory.Small, 2*some); reasonOf(err) != report.ReasonLimitExceeded {
			t.Errorf("waiting for what it holds itself ended with %v", err)
		}
		if end.Err() != nil {
			t.Errorf("the call was ended: %v", context.Cause(end))
		}
	})
}

// TestReliefEndsWithTheWaiting: nothing runs once nobody waits.
func TestReliefEndsWithTheWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := registryWith(4 * some)
		var one, other memory.Address
		r, end := callOf(t, g, &one, 4*some)
		keepMoving(r, end)
		done := make(chan error, 1)
		go func() { done <- waitFor(t, g, &other, some) }()
		elapse(time.Second / 2)
		r.held.Sub(memory.Small, some)
		if err := <-done; err != nil {
			t.Error(err)
		}
		elapse(2 * reliefInterval)
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.relief != nil || g.relieving || end.Err() != nil {
			t.Errorf("a timer runs: %v, or the call ended: %v", g.relief != nil, context.Cause(end))
		}
	})
}

// TestSharesBehindATrustedProxy: a share is the client's that the proxy names, and not
// the proxy's.
func TestSharesBehindATrustedProxy(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	cc := dial(t, serve(t, s))
	ctx := within(t, patience)
	for _, client := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.1"} {
		stream := open(metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", client), t, cc, testMethod)
		if err := stream.SendMsg([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); err != nil {
			t.Fatal(err)
		}
	}
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	owners := make(map[*memory.Address]int)
	for _, r := range s.registry.calls {
		owners[r.held.Owner()]++
	}
	if counts := slices.Sorted(maps.Values(owners)); !slices.Equal(counts, []int{1, 2}) {
		t.Errorf("the calls of two clients, two and one, count with addresses as %v", counts)
	}
}

// noneIdle is a server without idle connections.
func noneIdle(all []*memory.Candidate) []*memory.Candidate { return all }

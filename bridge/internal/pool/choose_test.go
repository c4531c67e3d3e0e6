package pool

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

func TestRoundRobin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSeveral(t, 3, 100)
		p := poolTo(t, b.Backend) // the default
		synctest.Wait()
		ends := holding(t, p, 30)
		if got, want := b.calls(), []int{10, 10, 10}; !slices.Equal(got, want) {
			t.Errorf("%v calls at each address, want %v", got, want)
		}
		// Calls of unequal length don't change whose turn it is.
		for i := range ends {
			if i%3 > 0 {
				ends[i]()
			}
		}
		before := b.calls()
		holding(t, p, 30)
		for i, n := range b.calls() {
			if n-before[i] != 10 {
				t.Errorf("%v calls after %v, want 10 more at each address", b.calls(), before)
			}
		}
	})
}

// TestPickFirst: calls go to the first address that works, and a full address works.
func TestPickFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSeveral(t, 3, 10)
		b.Balance, b.MaxConnections, b.QueueTimeout = "pick_first", 2, -1
		p := poolTo(t, b.Backend)
		synctest.Wait()
		wantMore := func(what string, want ...int) {
			t.Helper()
			before := b.calls()
			holding(t, p, 5)
			got := b.calls()
			for i := range got {
				got[i] -= before[i]
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v more calls at each address, want %v", what, got, want)
			}
		}
		wantMore("all work", 5, 0, 0)
		b.each[0].Crash()
		synctest.Wait()
		wantMore("the first is down", 0, 5, 0)
		b.each[1].Crash()
		synctest.Wait()
		wantMore("two are down", 0, 0, 5)
		b.each[1].Up()
		time.Sleep(2 * time.Second) // it is tried again
		wantMore("the second is back", 0, 5, 0)
		b.each[0].Up()
		time.Sleep(2 * time.Second)
		ends := holding(t, p, 10)
		p.config.queueTimeout = time.Minute // no connection has room, and one is opened
		ends = append(ends, holding(t, p, 10)...)
		if got := b.calls(); got[0] != 20 {
			t.Errorf("%v calls at each address, want 20 at the first", got)
		}
		p.config.queueTimeout = 0
		if e := makeCall(t.Context(), t, p); e.reason != "OVERLOADED" {
			t.Errorf("the first address is full: got %v for %s", e.status, e.reason)
		}
		endAll(ends)
	})
}

// TestLeastRequest: a new call goes to the address with fewer calls, so long calls
// spread evenly whatever the short ones do.
func TestLeastRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSeveral(t, 2, 100)
		b.Balance = "least_request"
		p := poolTo(t, b.Backend)
		synctest.Wait()
		var long []func()
		for range 20 {
			long = append(long, holding(t, p, 1)...)
			endAll(holding(t, p, 1)) // round_robin would put all long calls on one address
		}
		if got, want := b.calls(), []int{10, 10}; !slices.Equal(got, want) {
			t.Errorf("%v long calls, want %v", got, want)
		}
		endAll(long[:10])
		before := b.calls()
		holding(t, p, 10)
		if got, want := b.calls(), []int{10, 10}; !slices.Equal(got, want) {
			t.Errorf("%v calls after %v, want %v", got, before, want)
		}
	})
}

// TestLeastRequestRemembers the calls of an address that was away, and those on
// connections that accept no further calls.
func TestLeastRequestRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSeveral(t, 2, 100)
		b.Balance = "least_request"
		p := poolTo(t, b.Backend)
		synctest.Wait()
		b.resolveTo(0)
		holding(t, p, 20)
		b.resolveTo(1)
		holding(t, p, 10)
		b.resolveTo(0, 1)
		time.Sleep(time.Second)
		holding(t, p, 10)
		if got, want := b.calls(), []int{20, 20}; !slices.Equal(got, want) {
			t.Errorf("%v calls at each address, want %v", got, want)
		}
	})
}

// TestFullAddress: with every policy that uses all addresses, a call takes the last
// free place there is, and none is opened for it.
func TestFullAddress(t *testing.T) {
	for _, balance := range []string{"round_robin", "least_request"} {
		t.Run(balance, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newSeveral(t, 3, 5)
				b.Balance, b.MaxConnections, b.QueueTimeout = balance, 1, -1
				p := poolTo(t, b.Backend)
				synctest.Wait()
				ends := holding(t, p, 15)
				endAll(ends[7:8])
				endAll(holding(t, p, 1))
				endAll(ends)
			})
		})
	}
}

func TestUnknownPolicy(t *testing.T) {
	_, err := newPool(report.Backend{Target: "localhost:1", Balance: "ring_hash"}, memory.New(1<<30, 0), nil)
	if err == nil {
		t.Fatal("balance: ring_hash is taken")
	}
}

// TestOrderOfHosts is the order in which pick_first tries the addresses of a name.
func TestOrderOfHosts(t *testing.T) {
	hosts := []string{"fe80::1%eth1", "2001:db8::1", "10.0.0.10", "fe80::1%eth0", "10.0.0.9", "::1"}
	slices.SortFunc(hosts, compareHosts)
	if want := []string{"10.0.0.9", "10.0.0.10", "::1", "2001:db8::1", "fe80::1%eth0", "fe80::1%eth1"}; !slices.Equal(hosts, want) {
		t.Errorf("got %v, want %v", hosts, want)
	}
}

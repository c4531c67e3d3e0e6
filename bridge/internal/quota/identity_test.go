package quota

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

func identityLimiter(limits report.Quota) *Limiter {
	refusals := report.NewRefusals(nil, report.Discard())
	return New(report.Quota{}, report.Quota{}, false, refusals).WithIdentities(limits)
}

// TestIdentitiesCountApart, and together where a call has two. A refused call takes nothing of
// either.
func TestIdentitiesCountApart(t *testing.T) {
	q := identityLimiter(report.Quota{Calls: 2})
	alice, bob, other := Identity{"home", "alice"}, Identity{"home", "bob"}, Identity{"homea", "lice"}
	begin := func(of ...Identity) (*Identities, bool) {
		u := new(Identities)
		return u, u.Begin(q, of, "192.0.2.1", "/a.B/C") == nil
	}
	first, _ := begin(alice)
	both, ok := begin(bob, alice)
	if !ok {
		t.Fatal("the second call of alice is refused")
	}
	if _, ok := begin(alice); ok {
		t.Error("the third call of alice begins")
	}
	for range 3 {
		if _, ok := begin(bob, alice); ok {
			t.Error("a call of both begins, though one has no room")
		}
	}
	second, ok := begin(bob)
	if !ok {
		t.Error("refused calls of bob took his place")
	}
	if _, ok := begin(other); !ok {
		t.Error("another one with the same letters has no room")
	}
	first.End()
	first.End()
	if _, ok := begin(alice); !ok {
		t.Error("the place of a call that ended isn't free")
	}
	both.End()
	second.End()
	if _, ok := begin(bob, alice); !ok {
		t.Error("the places of calls that ended aren't free")
	}
	if q.identities == q.addresses {
		t.Error("identities and addresses share a table")
	}
}

// TestIdentitiesAreForgotten once they use nothing, so that an attack by many names leaves nothing
// behind; while they use something, their number is bounded.
func TestIdentitiesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := identityLimiter(report.Quota{Calls: 1, CallsPerSecond: 1})
		entries := func() (n int) {
			for i := range q.identities.shards {
				n += len(q.identities.shards[i].entries)
			}
			return n
		}
		held := make([]Identities, maxAddresses+maxAddresses/8)
		for i := range held {
			_ = held[i].Begin(q, []Identity{{"home", fmt.Sprint(i)}}, "192.0.2.1", "") // those that share an entry are refused
		}
		if n := entries(); n > maxAddresses {
			t.Errorf("%d identities have entries, want %d at most", n, maxAddresses)
		}
		for i := range held {
			held[i].End()
		}
		time.Sleep(2 * sweepEvery) // of the bubble's clock
		for i := range 64 << addressShardBits {
			u := new(Identities)
			_ = u.Begin(q, []Identity{{"later", fmt.Sprint(i)}}, "192.0.2.1", "") // as above
			u.End()
		}
		if n := entries(); n > maxAddresses/8 {
			t.Errorf("%d identities are remembered", n)
		}
	})
}

// TestNoLimitOfIdentities costs nothing.
func TestNoLimitOfIdentities(t *testing.T) {
	q := identityLimiter(report.Quota{})
	of := []Identity{{"home", "alice"}}
	if n := testing.AllocsPerRun(100, func() {
		var u Identities
		if err := u.Begin(q, of, "192.0.2.1", ""); err != nil {
			t.Error(err)
		}
		u.End()
	}); n > 0 {
		t.Errorf("a call makes %v allocations", n)
	}
}

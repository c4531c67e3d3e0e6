package bridge

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestBlockedRoutesAreCounted: a client that reads nothing blocks the messages of its
// route and backend. A route that Apply removes has no count, also while its calls wait.
func TestBlockedRoutesAreCounted(t *testing.T) {
	flood := func(ss grpc.ServerStream) error {
		for {
			if err := ss.SendMsg(pattern(64 << 10)); err != nil {
				return err
			}
		}
	}
	backend := NamedBackend{Name: "floods", Backend: Backend{Target: startBackend(t, flood)}}
	stays := Route{Name: "stays", Match: report.Match{Methods: []string{"test.Service/*"}}, Split: []report.Target{{Backend: "floods", Weight: 1}}}
	goes := Route{Name: "goes", Match: report.Match{Methods: []string{"going.S/*"}}, Backend: "floods"}
	cfg := Config{Backends: []NamedBackend{backend}, Routes: []Route{stays, goes}}
	s := newServer(t, cfg)
	cc := dial(t, serve(t, s))
	ctx := within(t, patience)
	open(ctx, t, cc, testMethod)
	open(ctx, t, cc, "/going.S/M")
	names := func(n Snapshot) (all []string) {
		for _, b := range n.Blocked {
			if b.Out > 0 && b.In == 0 {
				all = append(all, fmt.Sprint(b.Route, " ", b.Backend, " ", b.Others))
			}
		}
		return all
	}
	wantSnapshot(t, s, "with two routes", func(n Snapshot) bool {
		return slices.Equal(names(n), []string{"goes floods false", "stays floods false"})
	})
	cfg.Routes = cfg.Routes[:1]
	if err := s.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	wantSnapshot(t, s, "without one of them", func(n Snapshot) bool {
		return slices.Equal(names(n), []string{"stays floods false", "  true"})
	})
}

// TestManyBlockedRoutesCountTogether: only so many pairs have their own count, and none
// falls when Apply makes room for others.
func TestManyBlockedRoutesCountTogether(t *testing.T) {
	left := 3 * MaxRoutes
	c := blockedCounts{configured: func(k routeKey) bool { return k.route < fmt.Sprintf("r%04d", left) }}
	wait := func() {
		for i := range 3 * MaxRoutes {
			c.of(routeKey{fmt.Sprintf("r%04d", i), "b"}).In += time.Second
		}
	}
	wait()
	wait()
	all := c.list()
	if n := len(all); n != MaxRoutes+1 || all[0] != (Blocked{Route: "r0000", Backend: "b", In: 2 * time.Second}) || all[n-1] != (Blocked{Others: true, In: 4 * MaxRoutes * time.Second}) {
		t.Errorf("%d counts, from %+v to %+v", n, all[0], all[n-1])
	}
	left = MaxRoutes / 2
	c.forget()
	left = 3 * MaxRoutes
	c.of(routeKey{"r0599", "b"}).In += time.Second
	all = c.list()
	if n := len(all); n != MaxRoutes/2+2 || all[n-2] != (Blocked{Route: "r0599", Backend: "b", In: time.Second}) || all[n-1].In != 4*MaxRoutes*time.Second {
		t.Errorf("with room again, %d counts end with %+v", n, all[max(n-2, 0):])
	}
}

package upstream

import (
	"cmp"
	"slices"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// States returns the state of each upstream that accepts calls, and of each draining
// one with calls left. It is sorted by name; for one name, the upstream that accepts
// calls is first.
func (s *Set) States() []report.UpstreamState {
	s.mu.Lock()
	defer s.mu.Unlock()
	byName := *s.byName.Load()
	states := make([]report.UpstreamState, 0, len(byName)+len(s.draining))
	for name, u := range byName {
		states = append(states, u.state(name))
	}
	for u, name := range s.draining {
		if state := u.state(name); state.Calls > 0 {
			state.Draining = true
			states = append(states, state)
		}
	}
	rank := map[bool]int{true: 1} // draining behind accepting
	slices.SortFunc(states, func(a, b report.UpstreamState) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(rank[a.Draining], rank[b.Draining]), cmp.Compare(a.Calls, b.Calls))
	})
	return states
}

// state returns the state under a name of the Set, whose mu is held.
func (u *Upstream) state(name string) report.UpstreamState {
	state := u.pool.State()
	state.Name, state.Calls = name, u.holders.calls()
	state.Retries = report.Retries{ByPolicy: u.sentAgain.byPolicy.Load(), Elsewhere: u.sentAgain.elsewhere.Load(), Withheld: u.sentAgain.withheld.Load()}
	return state
}

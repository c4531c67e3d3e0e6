package upstream

import (
	"cmp"
	"slices"

	"google.golang.org/grpc/connectivity"
)

// A State is the state of an upstream in a Set.
type State struct {
	Name  string
	Conns connectivity.State // Ready: at least one connection is up
	Calls int                // calls that hold it

	// Draining reports that the upstream was replaced or removed: it accepts no new
	// calls, and is closed after its last one.
	Draining bool

	LostPings int64          // connections so far that were closed because the backend answered no ping
	Retries   Retries        // of calls, so far
	Waiting   int            // calls that wait for a connection or a place
	Addresses []AddressState // as the backend's name resolves now, in the order of pick_first
}

// Retries counts attempts beside each call's first.
type Retries struct {
	ByPolicy  int64 // by the policies of routes
	Elsewhere int64 // to another address, because one had refused the call unseen. The attempts of grpc-go aren't counted
	Withheld  int64 // that a policy asked for while too many calls failed
}

// An AddressState is the state of one address of a backend.
type AddressState struct {
	Address   string
	Accepts   bool   // it gets new calls, unless pick_first prefers another one
	Unhealthy bool   // it doesn't, because the health check of a connection fails
	Failure   string // why an attempt to connect or the health check failed last; empty: it didn't. For the log and operators only
}

// States returns the state of each upstream that accepts calls, and of each draining
// one with calls left. It is sorted by name; for one name, the upstream that accepts
// calls is first.
func (s *Set) States() []State {
	s.mu.Lock()
	defer s.mu.Unlock()
	byName := *s.byName.Load()
	states := make([]State, 0, len(byName)+len(s.draining))
	for name, u := range byName {
		states = append(states, u.state(name))
	}
	for u, name := range s.draining {
		if state := u.state(name); state.Calls > 0 {
			state.Draining = true
			states = append(states, state)
		}
	}
	slices.SortFunc(states, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), compareBool(a.Draining, b.Draining), cmp.Compare(a.Calls, b.Calls))
	})
	return states
}

// state returns the state under a name of the Set, whose mu is held.
func (u *Upstream) state(name string) State {
	waiting, addresses := u.pool.state()
	return State{
		Name: name, Conns: u.cc.GetState(), Calls: u.holders.calls(), LostPings: u.pool.lostPings.Load(),
		Retries: Retries{u.sentAgain.byPolicy.Load(), u.sentAgain.elsewhere.Load(), u.sentAgain.withheld.Load()},
		Waiting: waiting, Addresses: addresses,
	}
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// String returns the address for people.
func (a *backendAddress) String() string {
	if len(a.endpoint.Addresses) == 0 {
		return ""
	}
	return a.endpoint.Addresses[0].Addr
}

// state returns the number of waiting calls, and the state of each address.
func (p *pool) state() (waiting int, states []AddressState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	states = make([]AddressState, 0, len(p.addresses))
	for _, a := range p.addresses {
		s := AddressState{Address: a.String(), Accepts: a.accepts()}
		for _, c := range a.conns {
			if c.failure != nil {
				s.Failure = causeOf(c.failure).Error()
				s.Unhealthy = s.Unhealthy || c.link != nil && !s.Accepts
			}
		}
		states = append(states, s)
	}
	return p.waiting, states
}

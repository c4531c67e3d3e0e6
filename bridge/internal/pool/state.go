package pool

import "github.com/culvert-grpc/culvert/bridge/report"

// String returns the address for people.
func (a *address) String() string {
	if len(a.endpoint.Addresses) == 0 {
		return ""
	}
	return a.endpoint.Addresses[0].Addr
}

// State returns the pool's part of the upstream's state.
func (p *Pool) State() report.UpstreamState {
	state := report.UpstreamState{Conns: p.client.GetState(), LostPings: p.lostPings.Load()}
	p.mu.Lock()
	defer p.mu.Unlock()
	state.Waiting = p.waiting
	state.Addresses = make([]report.AddressState, 0, len(p.addresses))
	for _, a := range p.addresses {
		of := report.AddressState{Address: a.String(), Accepts: a.accepts(), Calls: a.open, Picks: a.picks}
		unlimited := false
		for _, s := range a.slots {
			if s.accepts() {
				of.Connections++
				of.Places += s.conn.places()
				unlimited = unlimited || s.conn.max == maxPlaces
			}
			if s.failure != nil {
				of.Failure = s.failure.Error()
				of.Unhealthy = of.Unhealthy || s.conn != nil && !of.Accepts
			}
		}
		if unlimited {
			of.Places = -1
		}
		state.Addresses = append(state.Addresses, of)
	}
	return state
}

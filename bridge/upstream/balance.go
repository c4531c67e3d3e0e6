package upstream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A policy distributes calls over the backend's addresses.
type policy struct {
	name string

	// among returns the addresses that calls may use, of those that accept calls.
	among func(ready []*backendAddress) []*backendAddress

	// take takes a place for a call. It returns nil if all places are taken. The
	// pool's mu is held.
	take func(*pool) *backendLink
}

// policies has the meanings and names of grpc-go's balancers. Those can't be used:
// they know no places, so they would give a call to a full address while another has
// room, and least_request forgets the calls of an address that was away.
var policies = []policy{
	{"round_robin", all, (*pool).takeInTurn},
	{"least_request", all, (*pool).takeLeastCalls},
	{"pick_first", onlyFirst, (*pool).takeInTurn},
}

// findPolicy returns the policy of a name, the first for no name.
func findPolicy(name string) (policy, error) {
	for _, p := range policies {
		if p.name == name || name == "" {
			return p, nil
		}
	}
	return policy{}, fmt.Errorf("balance %q: want round_robin, least_request or pick_first", name)
}

func all(ready []*backendAddress) []*backendAddress { return ready }

// onlyFirst ignores the other addresses even if the first is full: a full one works,
// and a call waits there for a place.
func onlyFirst(ready []*backendAddress) []*backendAddress { return ready[:min(len(ready), 1)] }

// choose sets the addresses that calls may use. mu is held.
func (p *pool) choose() {
	var ready, willing []*backendAddress
	for _, a := range p.addresses {
		if a.accepts() {
			ready = append(ready, a)
			if a.refusal == nil {
				willing = append(willing, a)
			}
		}
	}
	if len(willing) > 0 {
		ready = willing
	}
	p.ready = p.config.balance.among(ready)
}

// refusedPause is how long other addresses get the calls after an address has refused
// one, so that another attempt doesn't reach it again.
const refusedPause = time.Second

// noteRefusal notes that the link's address has refused a call. The pool's mu is held.
func (l *backendLink) noteRefusal() {
	a, p := l.conn.address, l.conn.address.pool
	if a.refusal != nil || p.closed || len(p.addresses) < 2 || !slices.Contains(p.addresses, a) {
		return
	}
	a.refusal = p.after(refusedPause, func() {
		a.refusal = nil
		p.choose()
		p.grant()
	})
	p.choose()
}

// avoid is noteRefusal for a call that knows of its refusal: grpc-go may have released
// its place without a reason. l may be nil.
func (p *pool) avoid(l *backendLink) {
	if l == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.noteRefusal()
}

// isRefusal reports whether a call ended because the backend didn't want it, and surely
// hasn't seen it. RFC 9113 §8.7.
func isRefusal(err error) bool {
	text := status.Convert(err).Message()
	return status.Code(err) == codes.Unavailable && (strings.HasPrefix(text, rstRefused) || text == leftOut || text == leftOutHeader)
}

// takeInTurn takes a place on the address whose turn it is, or on the next one with
// room. mu is held.
func (p *pool) takeInTurn() *backendLink {
	for _, spare := range [...]bool{false, true} {
		for range p.ready {
			p.turn = (p.turn + 1) % len(p.ready)
			if l := p.ready[p.turn].take(spare); l != nil {
				return l
			}
		}
	}
	return nil
}

// takeLeastCalls takes a place on the address of two random ones that has fewer open
// calls, or on the other one, or on any. A choice among two, and not all, keeps an
// address that fails every call at once from getting most of the calls. gRFC A48.
// mu is held.
func (p *pool) takeLeastCalls() *backendLink {
	if n := len(p.ready); n > 1 {
		i, j := rand.IntN(n), rand.IntN(n-1) //nolint:gosec // it spreads calls
		if j >= i {
			j++
		}
		a, b := p.ready[i], p.ready[j]
		if b.open < a.open {
			a, b = b, a
		}
		for _, chosen := range [...]*backendAddress{a, b} {
			for _, spare := range [...]bool{false, true} {
				if l := chosen.take(spare); l != nil {
					return l
				}
			}
		}
	}
	return p.takeInTurn()
}

package pool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// A policy distributes calls over the backend's addresses.
type policy struct {
	name string

	// among returns the addresses that calls may use, of those that accept calls.
	among func(ready []*address) []*address

	// take takes a place for a call at one of the addresses. It returns nil if all
	// places are taken. The pool's mu is held.
	take func(p *Pool, among []*address) *conn
}

// policies has the meanings and names of grpc-go's balancers. Those can't be used:
// they know no places, so they would give a call to a full address while another has
// room, and least_request forgets the calls of an address that was away.
var policies = []policy{
	{rules.RoundRobin, all, (*Pool).takeInTurn},
	{rules.LeastRequest, all, (*Pool).takeLeastCalls},
	{rules.PickFirst, onlyFirst, (*Pool).takeInTurn},
}

// findPolicy returns the policy of a name, the first for no name.
func findPolicy(name string) (policy, error) {
	for _, p := range policies {
		if p.name == name || name == "" {
			return p, nil
		}
	}
	last := len(rules.Balances) - 1
	return policy{}, fmt.Errorf("balance %q: want %s or %s", name, strings.Join(rules.Balances[:last], ", "), rules.Balances[last])
}

func all(ready []*address) []*address { return ready }

// onlyFirst ignores the other addresses even if the first is full: a full one works,
// and a call waits there for a place.
func onlyFirst(ready []*address) []*address { return ready[:min(len(ready), 1)] }

// choose returns the addresses for a call, without those that refused it. They are in
// the order of their places. mu is held.
func (p *Pool) choose(refused []*address) []*address {
	var ready, willing []*address
	for _, a := range p.addresses {
		if a.accepts() && !slices.Contains(refused, a) {
			ready = append(ready, a)
			if a.avoided == nil {
				willing = append(willing, a)
			}
		}
	}
	if len(willing) > 0 {
		ready = willing
	}
	return p.config.balance.among(ready)
}

// take takes a place for a call. The addresses that refused it get it only if no other
// one accepts calls. mu is held.
func (p *Pool) take(refused []*address) *conn {
	among := p.ready
	if len(refused) > 0 {
		if others := p.choose(refused); len(others) > 0 {
			among = others
		}
	}
	return p.config.balance.take(p, among)
}

// takeInTurn takes a place on the address behind the one that was called last, or on the
// next one with room. mu is held.
func (p *Pool) takeInTurn(among []*address) *conn {
	first, _ := slices.BinarySearchFunc(among, p.turn+1, func(a *address, place int) int { return a.index - place })
	for _, spare := range [...]bool{false, true} {
		for i := range among {
			a := among[(first+i)%len(among)]
			if c := a.take(spare); c != nil {
				p.turn = a.index
				return c
			}
		}
	}
	return nil
}

// takeLeastCalls takes a place on the address of two random ones that has fewer open
// calls, or on the other one, or on any. A choice among two, and not all, keeps an
// address that fails every call at once from getting most of the calls. gRFC A48.
// mu is held.
func (p *Pool) takeLeastCalls(among []*address) *conn {
	if n := len(among); n > 1 {
		i, j := rand.IntN(n), rand.IntN(n-1) //nolint:gosec // it spreads calls
		if j >= i {
			j++
		}
		a, b := among[i], among[j]
		if b.open < a.open {
			a, b = b, a
		}
		for _, chosen := range [...]*address{a, b} {
			for _, spare := range [...]bool{false, true} {
				if c := chosen.take(spare); c != nil {
					return c
				}
			}
		}
	}
	return p.takeInTurn(among)
}

// avoidedPause is how long other addresses get the calls after an address has refused
// one.
const avoidedPause = time.Second

// maxRefusals bounds the addresses that are asked for one call.
const maxRefusals = 100

// avoid gives the calls to other addresses for a moment: a has refused one. The pool's mu
// is held.
func (a *address) avoid() {
	p := a.pool
	if a.avoided != nil || p.closed || len(p.addresses) < 2 || !slices.Contains(p.addresses, a) {
		return
	}
	a.avoided = p.after(avoidedPause, func() {
		a.avoided = nil
		p.rechoose()
	})
	p.rechoose()
}

// rechoose follows a change of the addresses that are avoided. mu is held.
func (p *Pool) rechoose() {
	p.ready = p.choose(nil)
	p.seat()
	p.growOrDismiss()
}

package pool

import (
	"slices"
	"time"
)

// grow opens the connections that the calls in the queue need. It returns the number of
// places on connections that are being opened, or wait for their first health answer. mu
// is held.
func (p *Pool) grow() (coming int) {
	for _, a := range p.ready {
		for _, s := range a.slots {
			switch {
			case s.failure != nil || s.accepts():
			case s.conn == nil:
				coming += a.streams
			default:
				coming += s.conn.places()
			}
		}
	}
	for coming < p.queue.Len() {
		a := p.growable()
		if a == nil {
			break
		}
		a.connect()
		coming += a.streams
	}
	return coming
}

// growable returns the address with the fewest connections among the full ones that may
// have another one, or nil. mu is held.
func (p *Pool) growable() *address {
	var best *address
	for _, a := range p.ready {
		eligible := len(a.slots) < p.config.maxConnections && a.streams > 0 && !a.hasRoom()
		if eligible && (best == nil || len(a.slots) < len(best.slots)) && a.mayGrow() {
			best = a
		}
	}
	return best
}

// excessUnhealthy is how many more unhealthy connections than healthy ones an address
// may have and still get another one.
const excessUnhealthy = 3

// mayGrow reports whether another connection to the address may be of use. It isn't
// while an attempt fails. An unhealthy connection doesn't speak for the next one:
// behind a load balancer, that may reach another server. mu is held.
func (a *address) mayGrow() bool {
	excess := 0
	for _, s := range a.slots {
		switch {
		case s.failure == nil:
			excess--
		case s.conn == nil:
			return false
		default:
			excess++
		}
	}
	return excess < excessUnhealthy
}

// trimInterval is how long there must be room to spare before a connection is closed.
const trimInterval = 10 * time.Second

// startTrimming runs trim after the interval. mu is held.
func (p *Pool) startTrimming() {
	if p.trimTimer == nil && !p.closed {
		p.trimTimer = p.after(trimInterval, p.trim)
	}
}

// trim closes connections that were not needed for an interval. mu is held.
func (p *Pool) trim() {
	p.trimTimer = nil
	for _, a := range p.addresses {
		a.trim(p.queue.Len() == 0)
		if len(a.slots) > 1 {
			p.startTrimming()
		}
	}
	p.growOrDismiss() // in place of unhealthy ones
}

// trim gives no further calls to connections that the last interval didn't need. It
// closes those without calls, and unhealthy ones beside one that accepts calls. mu is
// held.
func (a *address) trim(unqueued bool) {
	used := slices.DeleteFunc(slices.Clone(a.slots), func(s *slot) bool { return !s.accepts() || s.spare })
	slices.SortFunc(used, func(a, b *slot) int { return a.conn.calls - b.conn.calls })
	for n := len(used) - 1; unqueued && n > 0 && a.peak <= n*a.streams-a.streams/4; n-- {
		used[len(used)-1-n].spare = true
	}
	a.peak = a.calls
	for _, s := range a.slots {
		unhealthy := s.conn != nil && s.failure != nil && a.accepts()
		if (unhealthy || s.spare && a.hasOther(s)) && s.conn.calls == 0 {
			s.close()
		}
	}
}

package upstream

import (
	"slices"
	"time"
)

// grow opens the connections that the calls in the queue need. mu is held.
func (p *pool) grow() {
	coming := 0 // places on connections that are being opened
	for _, a := range p.ready {
		for _, c := range a.conns {
			if c.link == nil && c.failure == nil {
				coming += a.streams
			}
		}
	}
	for coming < p.queue.Len() {
		a := p.growable()
		if a == nil {
			return
		}
		a.connect()
		coming += a.streams
	}
}

// growable returns the address with the fewest connections among those that may have
// another one, or nil. mu is held.
func (p *pool) growable() *backendAddress {
	var best *backendAddress
	for _, a := range p.ready {
		if len(a.conns) >= p.config.maxConnections || a.streams == 0 || best != nil && len(a.conns) >= len(best.conns) {
			continue
		}
		if !slices.ContainsFunc(a.conns, func(c *backendConn) bool { return c.failure != nil }) {
			best = a
		}
	}
	return best
}

// trimInterval is how long there must be room to spare before a connection is closed.
const trimInterval = 10 * time.Second

// startTrimming runs trim after the interval. mu is held.
func (p *pool) startTrimming() {
	if p.trimTimer == nil && !p.closed {
		p.trimTimer = p.after(trimInterval, p.trim)
	}
}

// trim closes connections that were not needed for an interval. mu is held.
func (p *pool) trim() {
	p.trimTimer = nil
	for _, a := range p.addresses {
		a.trim(p.queue.Len() == 0)
		if len(a.conns) > 1 {
			p.startTrimming()
		}
	}
}

// trim gives no further calls to connections that the last interval didn't need, and
// closes those without calls. mu is held.
func (a *backendAddress) trim(unqueued bool) {
	var used []*backendConn
	for _, c := range a.conns {
		if c.accepts() && !c.spare {
			used = append(used, c)
		}
	}
	slices.SortFunc(used, func(a, b *backendConn) int { return a.link.calls - b.link.calls })
	for n := len(used) - 1; unqueued && n > 0 && a.peak <= n*a.streams-a.streams/4; n-- {
		used[len(used)-1-n].spare = true
	}
	a.peak = a.calls
	for _, c := range a.conns {
		if c.spare && c.link.calls == 0 && a.hasOther(c) {
			c.close()
		}
	}
}

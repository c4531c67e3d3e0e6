package pool

import (
	"slices"
	"time"
)

// avoidedPause is how long other addresses get the calls after an address has refused
// one.
const avoidedPause = time.Second

// MaxRefusals bounds the addresses that are asked for one call.
const MaxRefusals = 100

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

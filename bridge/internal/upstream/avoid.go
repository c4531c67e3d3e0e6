package upstream

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

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
func (p *pool) rechoose() {
	p.ready = p.choose(nil)
	p.seat()
	p.growOrDismiss()
}

// refusedBy notes that the address has refused the call. The pool's mu is held.
func (k *callFacts) refusedBy(a *address) {
	if !slices.Contains(k.refused, a) {
		k.refused = append(k.refused, a)
	}
	a.avoid()
}

// noteRefusal notes which address has refused the call, if it ended so, since grpc-go may
// have released the place without the reason. It puts into the error how many addresses
// have refused the call.
func (k *callFacts) noteRefusal(end error) {
	f, place := refusal(end), k.place.Load()
	if f == nil || place == nil {
		return
	}
	address := place.conn.slot.address
	p := address.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if place.IsWritten() { // as in repick
		k.refusedBy(address)
	}
	if n := len(k.refused); n > 1 {
		f.Text += fmt.Sprintf(" (%d addresses refused it)", n)
	}
}

// mayServe reports whether an address may still serve a call that others have refused.
// If no address accepts calls, the next one to do so may.
func (p *pool) mayServe(k *callFacts) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(k.refused) < maxRefusals && slices.ContainsFunc(p.addresses, func(a *address) bool {
		return !slices.Contains(k.refused, a) && (len(p.ready) == 0 || a.accepts())
	})
}

// refusal returns the fault of a call that ended because its address has refused it
// unseen, or lost it before it was sent, or nil.
func refusal(end error) *report.Fault {
	if f, ok := errors.AsType[*report.Fault](end); ok && f.Reason == report.ReasonUpstreamReset && f.Unseen() {
		return f
	}
	return nil
}

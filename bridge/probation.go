package bridge

import (
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// probationTime is how long a tunnel may be open before the Authenticator lets a call pass.
const probationTime = 10 * time.Second

// A probation is the time in which the Authenticator must let a tunnel's first call pass. Then,
// or with the tunnel, it ends. If it runs out while calls are judged, they decide, and later ones
// don't: a client could have always one more.
type probation struct {
	timer *time.Timer

	mu      sync.Mutex
	judging int    // calls that the Authenticator was asked about in time
	out     bool   // the time is over
	expel   func() // closes the tunnel; nil: the probation has ended
}

// newProbation begins a probation. pass must follow.
func newProbation(expel func()) *probation {
	p := &probation{expel: expel}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(probationTime, p.runOut)
	return p
}

func (p *probation) runOut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out = true
	p.judge()
}

// judge closes the tunnel if nothing can save it. mu is held.
func (p *probation) judge() {
	if p.out && p.judging == 0 && p.expel != nil {
		p.expel()
		p.expel = nil
	}
}

// begin notes that the Authenticator is asked about a call. It reports whether that is in time,
// for end, which must follow. p may be nil.
func (p *probation) begin() (inTime bool) {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out {
		return false
	}
	p.judging++
	return true
}

// end notes whether the Authenticator has let the call pass.
func (p *probation) end(inTime, passed bool) {
	if p == nil {
		return
	}
	if passed {
		p.pass()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if inTime {
		p.judging--
	}
	p.judge()
}

// pass ends the probation. p may be nil.
func (p *probation) pass() {
	if p == nil {
		return
	}
	p.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expel = nil
}

// unproved is what a tunnel's client is told that fails its probation.
var unproved = report.Newf(report.ReasonUnauthenticated, "no call was authenticated within %v of the tunnel's opening", probationTime).Ending(report.EndedUnauthenticated)

package bridge

import "sync/atomic"

// arrivals counts the requests that have taken a policy, and may still ask for one of its
// backends: from their arrival until their stream is open, or until they are answered
// without one. Apply removes a backend only when no request can ask for it any more.
//
// newArrivals makes one, for a policy that is about to be in force.
type arrivals struct {
	n    atomic.Int64 // and 1 while the policy is in force, and 1 while the policy before has arrivals
	over func()       // called when n is 0, which then stays 0
}

// newArrivals returns the count of a policy that replaces another one, or of the first.
func newArrivals(replaces bool) *arrivals {
	a := new(arrivals)
	a.n.Store(1)
	if replaces {
		a.n.Store(2)
	}
	return a
}

// begin counts a request. It reports false if the policy was replaced, and has no
// arrivals any more: the request takes the newer one.
func (a *arrivals) begin() bool {
	for {
		n := a.n.Load()
		if n == 0 {
			return false
		}
		if a.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (a *arrivals) end() {
	if a.n.Add(-1) == 0 {
		a.over()
	}
}

// replace is called once another policy is in force, with that one's count. It calls
// over when the last request that took this policy, or one before it, needs no backend.
func (a *arrivals) replace(next *arrivals, over func()) {
	a.over = func() {
		over()
		next.end()
	}
	a.end()
}

// takePolicy returns the policy in force for a request that has arrived, and counts the
// request with the policy's arrivals.
func (s *Server) takePolicy() *policy {
	for {
		if p := s.policy.Load(); p.arrivals.begin() {
			return p
		}
	}
}

// arrived ends what takePolicy began. It may be called again.
func (c *call) arrived() {
	if c.arriving {
		c.arriving = false
		c.policy.arrivals.end()
	}
}

package bridge

import "sync/atomic"

// policyUsers counts the requests that have taken a policy, and may still ask for one of
// its backends: from their arrival until their stream is open, or until they are answered
// without one. Apply removes a backend only when no request can ask for it any more.
type policyUsers struct {
	n    atomic.Int64 // and 1 while the policy is in force, and 1 while the policy before has users
	gone func()       // called when n is 0, which then stays 0
}

// newPolicyUsers returns the count of a policy that replaces another one, or of the first.
func newPolicyUsers(replaces bool) *policyUsers {
	u := new(policyUsers)
	u.n.Store(1)
	if replaces {
		u.n.Store(2)
	}
	return u
}

// begin counts a request. It reports false if the policy was replaced, and has no
// users any more: the request takes the newer one.
func (u *policyUsers) begin() bool {
	for {
		n := u.n.Load()
		if n == 0 {
			return false
		}
		if u.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (u *policyUsers) end() {
	if u.n.Add(-1) == 0 {
		u.gone()
	}
}

// replace is called once another policy is in force, with that one's count. It calls
// gone when the last request that took this policy, or one before it, needs no backend.
func (u *policyUsers) replace(next *policyUsers, gone func()) {
	u.gone = func() {
		gone()
		next.end()
	}
	u.end()
}

// A policyHold is one request's share in policyUsers. The zero value is none.
type policyHold struct{ users *policyUsers }

// takePolicy returns the policy in force for a request that has arrived. Its backends stay
// until the hold is released.
func (s *Server) takePolicy() (*policy, policyHold) {
	for {
		if p := s.policy.Load(); p.users.begin() {
			return p, policyHold{p.users}
		}
	}
}

// release ends what takePolicy began, once.
func (h *policyHold) release() {
	if h.users != nil {
		h.handOver().users.end()
	}
}

// handOver returns the hold for another owner to release.
func (h *policyHold) handOver() policyHold {
	owned := *h
	h.users = nil
	return owned
}

package quota

import (
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A FallbackRequest is the usage of one request to the web server, from Begin to End. It
// counts apart from calls, so that a page and its calls take nothing from each other.
type FallbackRequest struct {
	quotas   *Limiter
	listener *Scope
	peer     string
	address  *Address // before Begin: the address of the request's own connection, or nil
	holds    bool     // the request holds the address; else its connection does
	begun    bool
}

// FallbackRequest returns the usage of a request on a listener. from is as with Call.
func (q *Limiter) FallbackRequest(listener *Scope, peer string, from *Address) FallbackRequest {
	return FallbackRequest{quotas: q, listener: listener, peer: peer, address: from}
}

// Begin counts the request until End, or returns why it is refused. The detail is for
// the log. End must follow either way.
func (u *FallbackRequest) Begin(detail string) error {
	if u.address == nil {
		u.address, u.holds = u.quotas.addresses.hold(addressKey(u.peer), u.quotas.now()), true
	}
	shares := u.shares()
	if x := takeAll(shares[:], u.quotas.now, Scope.beginFallback, Scope.endFallback); x != nil {
		return u.quotas.refuse(x, u.peer, detail)
	}
	u.begun = true
	return nil
}

// Memory returns the memory of the request's address. It is valid from Begin to End.
func (u *FallbackRequest) Memory() *memory.Address { return &u.address.memory }

// End gives back the request's usage, and releases its address.
func (u *FallbackRequest) End() {
	if u.begun {
		u.begun = false
		for _, s := range u.shares() {
			s.endFallback()
		}
	}
	if u.holds {
		u.holds = false
		u.address.holders.Add(-1)
		u.address = nil
	}
}

func (u *FallbackRequest) shares() [3]Scope { return u.quotas.shares(u.address, u.listener) }

func (s Scope) beginFallback(clock) *report.Fault {
	if limit := s.rules.fallbackRequests; !enter(&s.tally.fallbackRequests, limit) {
		return s.excess("fallback_requests", report.AnyMoment, "%d requests%s to the web server are running, which is the limit", limit)
	}
	return nil
}

func (s Scope) endFallback() { s.tally.fallbackRequests.Add(-1) }

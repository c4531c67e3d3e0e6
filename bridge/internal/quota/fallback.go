package quota

import "github.com/culvert-grpc/culvert/bridge/report"

// A FallbackRequest is the usage of one request to the web server, from Begin to End. It
// counts apart from calls, so that a page and its calls take nothing from each other.
type FallbackRequest struct{ client }

// FallbackRequest returns the usage of a request on a listener. from is as with Call.
func (q *Limiter) FallbackRequest(listener *Scope, peer string, from *Address) FallbackRequest {
	return FallbackRequest{client{quotas: q, listener: listener, peer: peer, address: from}}
}

// Begin counts the request until End, or returns why it is refused. The detail is for
// the log. End must follow either way.
func (u *FallbackRequest) Begin(detail string) error {
	u.hold()
	shares := u.shares()
	if x := takeAll(shares[:], u.quotas.now, Scope.beginFallback, Scope.endFallback); x != nil {
		return u.quotas.refuse(x, u.peer, detail)
	}
	u.begun = true
	return nil
}

// End gives back the request's usage, and releases its address.
func (u *FallbackRequest) End() {
	if u.begun {
		u.begun = false
		for _, s := range u.shares() {
			s.endFallback()
		}
	}
	u.release()
}

func (u *FallbackRequest) shares() [3]Scope { return u.quotas.shares(u.address, u.listener) }

func (s Scope) beginFallback(clock) *report.Fault {
	if limit := s.bounds.fallbackRequests; !enter(&s.tally.fallbackRequests, limit) {
		return s.excess("fallback_requests", report.AnyMoment, "%d requests%s to the web server are running, which is the limit", limit)
	}
	return nil
}

func (s Scope) endFallback() { s.tally.fallbackRequests.Add(-1) }

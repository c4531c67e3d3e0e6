package quota

import (
	"hash/maphash"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// WithIdentities returns a Limiter with limits of each identity that continues q's counts. An
// identity counts only while there is a limit, so a new limit counts the calls that begin
// from now on. Only calls are limited.
func (q *Limiter) WithIdentities(identity report.Quota) *Limiter {
	with := *q
	with.identity = boundsOf(report.Quota{Calls: identity.Calls, CallsPerSecond: identity.CallsPerSecond}, " of this identity", report.KeyIdentityLimits)
	return &with
}

// Identities are the usage that a call has of the identities of its caller, from Begin to End. The
// zero value has none. They are kept like addresses (addressTable), with the same bounds.
type Identities struct {
	quotas *Limiter
	held   [2]*Address // nil: none
}

// An Identity names a caller. Names are unique for an issuer only.
type Identity struct{ Issuer, Name string }

// Begin counts a call with its identities, at most two that differ, until End. If one of them
// has no room, the call counts with none, and Begin returns why. peer and method are for the
// log.
func (u *Identities) Begin(q *Limiter, identities []Identity, peer, method string) error {
	if q.identity.calls == 0 && q.identity.callRate == 0 {
		return nil
	}
	u.quotas = q
	var room [len(u.held)]Scope
	scopes := room[:0]
	for i, identity := range identities {
		u.held[i] = q.identities.hold(q.identities.keyOf(identity), q.now())
		scopes = append(scopes, Scope{&q.identity, &u.held[i].tally})
	}
	x := takeAll(scopes, q.now, Scope.beginCall, Scope.cancelCall)
	if x == nil {
		return nil
	}
	u.release()
	return q.refuse(x, peer, method)
}

// keyOf returns the table's key for an identity. The seed is secret, so nobody can choose a name
// that has the key of another one.
func (t *addressTable) keyOf(of Identity) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	_, _ = h.WriteString(of.Issuer) // it never fails
	_ = h.WriteByte(0)              // likewise
	_, _ = h.WriteString(of.Name)   // likewise
	return h.Sum64()
}

// End gives back what Begin has taken. It may be called again.
func (u *Identities) End() {
	for _, a := range u.held {
		if a != nil {
			Scope{&u.quotas.identity, &a.tally}.endCall()
		}
	}
	u.release()
}

func (u *Identities) release() {
	for i, a := range u.held {
		if a != nil {
			a.holders.Add(-1)
			u.held[i] = nil
		}
	}
}

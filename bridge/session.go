package bridge

import (
	"context"
	"net/http"
	"reflect"
	"sync/atomic"
	"time"
)

// A policyAuthenticator is the Authenticator of policies.
type policyAuthenticator struct {
	Authenticator
	ofConn ConnAuthenticator // the same; nil: it judges no connections
}

// newPolicyAuthenticator returns that of a policy, which is that of the policy before if
// the Authenticator is the same.
func newPolicyAuthenticator(a Authenticator, before *policy) *policyAuthenticator {
	if a == nil {
		return nil
	}
	if before != nil && before.auth != nil && reflect.TypeOf(a).Comparable() && before.auth.Authenticator == a {
		return before.auth
	}
	to := &policyAuthenticator{Authenticator: a}
	to.ofConn, _ = a.(ConnAuthenticator)
	return to
}

// retire tells an Authenticator that nobody asks it any more. a may be nil.
func (a *policyAuthenticator) retire() {
	if a == nil {
		return
	}
	if r, ok := a.Authenticator.(Retirer); ok {
		r.Retire()
	}
}

// A session is a connection that a request has opened for calls, a WebSocket or a tunnel, with
// what the Authenticator has found of that request. Its calls ask once.
//
// Cookies count only for calls whose route lets the page send them. The calls inside a tunnel
// may have several routes. So a session with cookies has two sides.
type session struct {
	wrong     error      // why the request's credential can't be read; nil: it can
	cookies   bool       // the request has some
	probation *probation // nil: the session is no tunnel's

	callers tunnelCallers // of calls with credentials of their own, in a tunnel

	turn    chan struct{} // full while somebody asks. It guards request, and the writing of sides
	request ConnRequest   // with the credentials that count now
	sides   [2]sessionSide
}

// A sessionSide is what is found of a session with its cookies, or without.
type sessionSide struct {
	found  atomic.Pointer[sessionIdentity] // nil: nobody has asked
	proved *sessionIdentity                // the last one with an identity; nil: there was none
}

// A sessionIdentity is what an Authenticator has found of a session.
type sessionIdentity struct {
	*ConnIdentity
	by            *policyAuthenticator
	expires       *expiry  // of the identity: the calls that it lets in share it. nil: there is no identity
	authorization []string // that has renewed the session's; nil: the request's own counts
}

// newSession returns that of a request for a WebSocket or a tunnel, which isn't accepted yet.
func (a *arrival) newSession(r *http.Request) *session {
	s := a.sessionWith(r.Header)
	if a.policy.bearerSubprotocol {
		s.request.Credentials.Bearer, s.wrong = bearerIn(r.Header)
	}
	return s
}

// sessionWith returns a session whose request has the header.
func (a *arrival) sessionWith(h http.Header) *session {
	s := &session{request: ConnRequest{Authority: a.host, Scheme: a.forward.Proto, Local: a.local, Peer: a.peer}, turn: make(chan struct{}, 1)}
	if len(a.asker.Origins) > 0 {
		s.request.Origin = a.asker.Origins[0]
	}
	if a.tunnel {
		s.request.Peer.Transport = tunnelName
	}
	s.request.Credentials.Authorization = h["Authorization"]
	if a.policy.takesCookies() {
		s.request.Credentials.Cookie = h["Cookie"]
		s.cookies = len(h["Cookie"]) > 0
	}
	return s
}

// sessionInside returns that of the tunnel that the request came through. A tunnel that was
// opened when there was no Authenticator gets it now.
func (a *arrival) sessionInside() *session {
	t := a.on.Tunnel()
	if t.Session.Load() == nil {
		t.Session.CompareAndSwap(nil, a.sessionWith(t.Header))
	}
	return t.Session.Load().(*session) //nolint:forcetypeassert // nothing else is there
}

// side returns the index of the side of calls for which cookies count, or don't.
func (s *session) side(cookies bool) int {
	if s.cookies && cookies {
		return 1
	}
	return 0
}

// judge returns what the Authenticator finds of the connection, for a call for which cookies
// count, or don't. It asks if nobody has asked it yet, and waits if somebody does.
func (s *session) judge(ctx context.Context, by *policyAuthenticator, cookies bool) (*sessionIdentity, error) {
	if s.wrong != nil {
		return nil, s.wrong
	}
	side := s.side(cookies)
	if found := s.sides[side].found.Load(); found.holds(by) {
		return found, nil
	}
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.give()
	if found := s.sides[side].found.Load(); found.holds(by) {
		return found, nil
	}
	return s.ask(ctx, by, side)
}

func (s *session) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *session) give() { <-s.turn }

// ask asks the Authenticator. The caller has the turn.
func (s *session) ask(ctx context.Context, by *policyAuthenticator, side int) (*sessionIdentity, error) {
	request := s.request
	if s.cookies && side == 0 {
		request.Credentials.Cookie = nil
	}
	id, err := by.ofConn.AuthenticateConn(ctx, &request)
	if err != nil {
		return nil, err
	}
	return s.keep(id, by, side, s.renewal()), nil
}

// renewal returns the authorization that has renewed the session's, or nil. The caller has
// the turn.
func (s *session) renewal() []string {
	if found := s.sides[0].found.Load(); found != nil {
		return found.authorization
	}
	return nil
}

// keep keeps what an Authenticator has found. Running calls of the same identity go on until
// the new one expires. The caller has the turn.
func (s *session) keep(id *ConnIdentity, by *policyAuthenticator, side int, authorization []string) *sessionIdentity {
	to := &s.sides[side]
	found := &sessionIdentity{ConnIdentity: id, by: by, authorization: authorization}
	if id.Identity != nil {
		if before := to.proved; before != nil && sameIdentity(before.Identity, id.Identity) {
			found.expires = before.expires
			found.expires.set(id.Identity.Expires)
		} else {
			found.expires = newExpiry(id.Identity.Expires)
		}
		to.proved = found
	}
	to.found.Store(found)
	return found
}

// holds reports whether the Authenticator needn't be asked again. i may be nil.
func (i *sessionIdentity) holds(by *policyAuthenticator) bool {
	return i != nil && i.by == by && (i.Until.IsZero() || time.Now().Before(i.Until))
}

// sameIdentity reports whether two identities are those of one caller.
func sameIdentity(a, b *Identity) bool { return a.Name == b.Name && a.Issuer == b.Issuer }

// onProbation returns the session's probation, or nil. s may be nil.
func (s *session) onProbation() *probation {
	if s == nil {
		return nil
	}
	return s.probation
}

package bridge

import (
	"context"
	"net/http"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
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
type session struct {
	request ConnRequest

	turn    chan struct{} // full while a call asks
	found   atomic.Pointer[sessionIdentity]
	expires expiry // of the identity in found
}

// A sessionIdentity is what an Authenticator has found of a session.
type sessionIdentity struct {
	*ConnIdentity
	by *policyAuthenticator
}

// newSession returns that of a WebSocket, which isn't accepted yet.
func (a *arrival) newSession(r *http.Request) *session {
	s := &session{request: ConnRequest{Authority: a.host, Scheme: a.forward.Proto, Local: a.local, Peer: a.peer}, turn: make(chan struct{}, 1)}
	if len(a.asker.Origins) > 0 {
		s.request.Origin = a.asker.Origins[0]
	}
	s.request.Credentials.Authorization = r.Header["Authorization"]
	if a.origin.Credentials {
		s.request.Credentials.Cookie = r.Header["Cookie"]
	}
	return s
}

// sessionOf returns that of a tunnel, or nil if it was opened when there was no Authenticator.
func sessionOf(on *edge.Conn) *session {
	s, _ := on.Tunnel().Session.(*session)
	return s
}

// judge returns what the Authenticator finds of the connection. It asks if nobody has asked
// it yet, and waits if somebody does.
func (s *session) judge(ctx context.Context, by *policyAuthenticator) (*ConnIdentity, error) {
	if found := s.found.Load(); found.holds(by) {
		return found.ConnIdentity, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if found := s.found.Load(); found.holds(by) {
		return found.ConnIdentity, nil
	}
	id, err := by.ofConn.AuthenticateConn(ctx, &s.request)
	if err != nil {
		return nil, err
	}
	s.keep(id, by)
	return id, nil
}

// keep keeps what an Authenticator has found. The caller has the turn.
func (s *session) keep(id *ConnIdentity, by *policyAuthenticator) {
	if id.Identity != nil {
		s.expires.set(id.Identity.Expires)
	}
	s.found.Store(&sessionIdentity{id, by})
}

// holds reports whether the Authenticator needn't be asked again. i may be nil.
func (i *sessionIdentity) holds(by *policyAuthenticator) bool {
	return i != nil && i.by == by && (i.Until.IsZero() || time.Now().Before(i.Until))
}

// proves reports whether the identity is that of the connection alone.
func (s *session) proves(id *Identity) bool {
	found := s.found.Load()
	return found != nil && found.Identity == id
}

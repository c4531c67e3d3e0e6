package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// This file renews the credential of a connection whose calls go on: by the method
// culvert.v1.Session/Refresh inside a tunnel, or by a message on a WebSocket of bare messages.
// docs/decisions/0066 says why.

var (
	errHasExpired     = report.New(report.ReasonUnauthenticated, "the credential has expired")
	errNothingToRenew = &report.Fault{
		Reason: report.ReasonPermissionDenied, Text: "this connection has proved no identity, so there is none to renew",
		Remedy: "send the credential with each call, or open another connection with it",
	}
	errOtherIdentity = &report.Fault{
		Reason: report.ReasonPermissionDenied, Text: "the new credential is that of another identity",
		Remedy: "open another connection for it",
	}
	errNoRenewal = &report.Fault{
		Reason: report.ReasonNoRoute, Text: "this server judges credentials call by call",
		Remedy: "send the credential with each call",
	}
	errNoCredential = report.New(report.ReasonUnauthenticated, "the new credential must be in the metadata authorization of this call")
)

// refresh renews the credential of the call's tunnel, or of calls in it, by that of the call.
func (c *call) refresh(ctx context.Context) (*Identity, error) {
	if !c.auth.own {
		return nil, errNoCredential
	}
	id, err := c.auth.conn.renew(ctx, c.auth.policyAuthenticator, c.origin.Credentials, c.Metadata["authorization"])
	return id, c.renewed(ctx, c.auth.policyAuthenticator, err)
}

// renew renews the credential that the call was let in with. If it fails, the call goes on
// with the old one, and the log has why.
func (c *call) renew(ctx context.Context, authorization string) {
	defer c.s.panics.Catch("the Authenticator", nil)
	if err := c.renewOwn(ctx, []string{authorization}); err != nil && ctx.Err() == nil {
		f := *unauthenticated(err)
		f.Key, f.Detail = report.KeyMessageRefresh, c.Method
		c.s.refusals.Note(&f, c.peer.Addr)
	}
}

// renewByMessage is renew for a message that has come, perhaps before the call's stream is open.
// Without an Authenticator there is nothing to renew.
func (c *call) renewByMessage(authorization string) {
	if c.auth == nil {
		return
	}
	if c.early != nil {
		select {
		case <-c.early.opened:
		case <-c.timed.Done():
			return
		}
	}
	if wait := renewalEvery - time.Since(c.auth.renewed); wait > 0 {
		select {
		case <-time.After(wait):
		case <-c.timed.Done():
			return
		}
	}
	c.auth.renewed = time.Now()
	c.renew(c.timed, authorization)
}

// renewalEvery is the time between two renewals by messages of one stream. Unlike calls, no limit
// counts them. The client's other messages wait meanwhile.
const renewalEvery = 100 * time.Millisecond

// renewOwn asks the Authenticator in force, which may be another one than has let the call in: that
// one was told that nobody asks it any more, and doesn't learn which credentials are withdrawn.
func (c *call) renewOwn(ctx context.Context, authorization []string) error {
	p, hold := c.s.takePolicy()
	defer hold.release()
	to, by := c.auth, p.auth
	switch caller := c.peer.Identity; {
	case by == nil: // nobody judges credentials any more
		return nil
	case by.ofConn == nil:
		return errNoRenewal
	case caller == nil:
		return errNothingToRenew
	case to.proves(caller):
		_, err := to.conn.renew(ctx, by, c.origin.Credentials, authorization)
		return c.renewed(ctx, by, err)
	default:
		if err := to.conn.take(ctx); err != nil {
			return err
		}
		defer to.conn.give()
		_, id, err := to.conn.prove(ctx, by, authorization)
		if err != nil {
			return c.renewed(ctx, by, err)
		}
		if !sameIdentity(id.Identity, caller) {
			return errOtherIdentity
		}
		if e := c.expires.Load(); e != nil {
			e.set(id.Identity.Expires)
		} else {
			c.endAt(newExpiry(id.Identity.Expires))
		}
		return nil
	}
}

// renewed returns why a renewal failed. If AuthenticateConn found no identity in the credential,
// Authenticate says what is wrong with it, as for a call that has no other one.
func (c *call) renewed(ctx context.Context, by *policyAuthenticator, err error) error {
	unproved, ok := errors.AsType[*unprovedError](err)
	if !ok {
		return err
	}
	r := c.authRequest()
	r.Metadata, r.Conn = r.Metadata.Copy(), unproved.found
	if _, err := by.Authenticate(ctx, r); err != nil {
		return err
	}
	return report.New(report.ReasonUnauthenticated, unproved.Error())
}

// renew replaces the session's credentials by an authorization of the same identity. The calls
// before and after share what it finds. It also extends the calls that have proved that identity
// by credentials of their own. If it returns an error, nothing has changed.
func (s *session) renew(ctx context.Context, by *policyAuthenticator, cookies bool, authorization []string) (*Identity, error) {
	if err := s.take(ctx); err != nil {
		return nil, err
	}
	defer s.give()
	side := s.side(cookies)
	if s.wrong != nil {
		return nil, s.wrong
	}
	if s.sides[side].proved == nil {
		if _, err := s.ask(ctx, by, side); err != nil {
			return nil, err
		}
	}
	before := s.sides[side].proved
	if before == nil && !s.callers.any() {
		return nil, errNothingToRenew
	}
	request, id, err := s.prove(ctx, by, authorization)
	if err != nil {
		return nil, err
	}
	switch extended := s.callers.extend(id.Identity); {
	case before != nil && sameIdentity(id.Identity, before.Identity):
		s.request = *request
		for side := range s.sides {
			s.keep(id, by, side, authorization)
		}
	case !extended:
		return nil, errOtherIdentity
	}
	return id.Identity, nil
}

// prove asks for the identity of an authorization. The caller has the turn.
func (s *session) prove(ctx context.Context, by *policyAuthenticator, authorization []string) (*ConnRequest, *ConnIdentity, error) {
	request := s.request
	request.Credentials = Credentials{Authorization: authorization}
	id, err := by.ofConn.AuthenticateConn(ctx, &request)
	switch {
	case context.Cause(ctx) != nil:
		return nil, nil, context.Cause(ctx)
	case err != nil:
		return nil, nil, err
	case id.Identity == nil:
		return nil, nil, &unprovedError{id}
	case !id.Identity.Expires.IsZero() && !time.Now().Before(id.Identity.Expires):
		return nil, nil, errHasExpired
	}
	return &request, id, nil
}

// An unprovedError is that of a credential in which the Authenticator finds no identity.
type unprovedError struct{ found *ConnIdentity }

func (*unprovedError) Error() string { return "the new credential proves no identity" }

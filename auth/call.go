package auth

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/auth/internal/check"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/ratelimit"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A judgement is what has been found out of one call.
type judgement struct {
	*Authenticator
	r        *bridge.AuthRequest
	conn     *connection // nil: the call has no connection of its own
	findings findings
	own      bool // the call itself has a credential
	said     []rules.Said
	verdict  rules.Verdict
	answer   *check.Answer // of the service; nil: it wasn't asked

	room        [maxFew]credential
	roomOf      [maxFew]finding
	roomForSaid [maxFew]rules.Said
}

// maxFew is how many ways and credentials a judgement has room for, without an allocation.
const maxFew = 4

var judgements = sync.Pool{New: func() any { return new(judgement) }}

// Authenticate judges a call: its credentials, the rules, and then the services. The error is
// a *report.Fault, or the end of ctx.
func (a *Authenticator) Authenticate(ctx context.Context, r *bridge.AuthRequest) (*bridge.Identity, error) {
	j := judgements.Get().(*judgement)
	defer func() {
		*j = judgement{} // it held credentials
		judgements.Put(j)
	}()
	j.Authenticator, j.r = a, r
	id, err := j.authenticate(ctx)
	if f, is := errors.AsType[*report.Fault](err); is {
		a.refused.count(f, j.verdict.Way, time.Now())
	}
	return id, err
}

func (j *judgement) authenticate(ctx context.Context) (*bridge.Identity, error) {
	j.clear()
	if err := j.identify(ctx); err != nil {
		j.settle(nil) // as below
		return nil, err
	}
	id := j.verdict.Identity
	f := j.decide(id)
	j.settle(id) // also for a call that passes although a rule refuses it, since auth is tried out
	if f != nil {
		j.r.Refused = j.bridged(id)
		return nil, f
	}
	var counted ratelimit.Answer
	if j.limiter != nil {
		var err error
		if counted, err = j.limiter.check(ctx, j.r, id); err != nil {
			j.r.Refused = j.bridged(id)
			return nil, err
		}
	}
	j.editHeader(counted.Header)
	if j.conn != nil && j.conn.from != nil && !j.own && j.answer == nil {
		return j.conn.identity, nil // the same pointer, so that a new token of the connection extends it
	}
	return j.bridged(id), nil
}

// clear deletes the metadata that only an Authenticator sets. Credentials that a service may
// replace stay until it has seen them.
func (j *judgement) clear() {
	for _, name := range report.IdentityMetadata {
		j.r.Delete(name)
	}
	for _, name := range j.claimNames {
		j.r.Delete(name)
	}
	if j.external != nil {
		for _, name := range j.external.own {
			if !j.config.isCredential(name) {
				j.r.Delete(name)
			}
		}
	}
}

// identify finds out who calls. The error is a fault, or the end of ctx.
func (j *judgement) identify(ctx context.Context) error {
	j.look(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if j.findings.wrong != nil {
		return faultOf(j.findings.wrong, report.KeyAuth)
	}
	j.collect()
	j.verdict = j.requirement.Judge(j.r.Method, j.said)
	if j.external != nil && j.needsService() {
		if err := j.ask(ctx); err != nil {
			return err
		}
	}
	if refused := j.verdict.Refusal; refused != nil {
		return faultOf(refused, keyOf(j.verdict.Way))
	}
	return nil
}

// look finds the credentials of the call, and takes over what its connection has proved.
func (j *judgement) look(ctx context.Context) {
	if n := len(j.requirement.Ways()); n <= maxFew {
		j.findings.of, j.said = j.roomOf[:n], j.roomForSaid[:n]
	} else {
		j.findings.of, j.said = make([]finding, n), make([]rules.Said, n)
	}
	list := j.places.of(j.room[:0], &j.r.Own, true)
	list = j.places.ofKey(list, j.r.Metadata)
	if j.r.Conn != nil {
		j.conn, _ = j.r.Conn.Value.(*connection)
	}
	if j.conn == nil && j.r.Peer.Client != nil {
		list = append(list, credential{place: inCertificate})
	}
	if len(list) > 0 {
		j.find(ctx, &j.r.Peer, list, &j.findings)
		j.own = j.findings.some || j.findings.left
	}
	if j.conn != nil {
		j.findings.inherit(&j.conn.findings, len(j.r.Own.Authorization) > 0)
	}
}

// collect makes what Requirement.Judge wants of the findings, for the call's route.
func (j *judgement) collect() {
	for way := range j.findings.of {
		f := &j.findings.of[way]
		j.said[way] = f.Said
		if f.token != nil && !f.issuer.accepts(f.token, j.r.Route) {
			j.said[way] = rules.Said{Finding: rules.Invalid, OfCall: f.OfCall, Refusal: &f.token.ForOthers().Refusal}
		}
	}
}

// needsService reports whether the verdict depends on the service: a credential is left that
// no other way takes, or what others have found isn't enough. Public methods need nothing, and
// a call that is refused anyway doesn't either.
func (j *judgement) needsService() bool {
	for i := range j.said {
		if f := j.said[i].Finding; f == rules.Invalid || f == rules.Unavailable {
			return false
		}
	}
	switch {
	case j.findings.left:
		return true
	case !j.findings.some && j.requirement.Public(j.r.Method):
		return false
	case !j.external.inAllOf && (j.verdict.Identity != nil || j.verdict.Public):
		return false
	}
	j.said[j.external.way] = serviceWouldPermit
	without := j.requirement.Judge(j.r.Method, j.said)
	if without.Refusal == nil && without.Identity != nil {
		return true
	}
	j.said[j.external.way] = rules.Said{} // nobody asks it
	j.verdict = without
	return false
}

// serviceWouldPermit stands for the answer of a service, to find out what else is missing.
var serviceWouldPermit = rules.Said{Finding: rules.Valid, Identity: &identity.Identity{Kind: identity.External}}

// ask asks the service, and judges once more. The error is a fault, or the end of ctx.
func (j *judgement) ask(ctx context.Context) error {
	asked, err := j.external.ask(ctx, j.r, !j.findings.left || j.findings.ofCall, j.findings.any(rules.Valid))
	switch {
	case err != nil:
		return err
	case asked.refusal != nil:
		return faultOfService(asked.refusal)
	}
	j.answer = &asked.answer
	j.said[j.external.way] = asked.said
	j.verdict = j.requirement.Judge(j.r.Method, j.said)
	return nil
}

// decide asks the rules, and returns the fault of a call that they refuse.
func (j *judgement) decide(id *identity.Identity) *report.Fault {
	d := j.rules.Decide(&rules.Facts{Identity: id, Said: j.said, Public: j.verdict.Public, Method: j.r.Method, Origin: j.r.Origin, Route: j.r.Route})
	if refused := d.Refusal(); refused != nil {
		j.r.Rule = d.Rule
		return faultOf(refused, report.KeyAuthRules)
	}
	if d.Rule != rules.NoAllowRules && d.Rule != rules.PublicMethod {
		j.r.Rule = d.Rule
	}
	return nil
}

// settle makes the metadata of a call that is permitted what the backend may believe.
func (j *judgement) settle(id *identity.Identity) {
	j.forward()
	if j.external != nil && j.answer == nil {
		for _, name := range j.external.own { // before the identity's: an issuer may set the same name
			j.r.Delete(name)
		}
	}
	if id != nil {
		setIdentity(j.r, id)
	}
	if j.answer != nil {
		j.answer.Request.ApplyBy(j.r.Metadata, j.r.Set, j.r.Delete)
		j.r.Backend = j.answer.Backend
	}
}

// forward lets credentials pass to the backend, or not.
func (j *judgement) forward() {
	if !j.config.Strip {
		if j.conn != nil && len(j.r.Metadata["authorization"]) == 0 && j.conn.request.Credentials.Bearer != "" {
			j.r.Set("authorization", "Bearer "+j.conn.request.Credentials.Bearer)
		}
		return
	}
	if j.bearers || j.external != nil {
		j.r.Delete("authorization")
	}
	if j.places.keyHeader != "" {
		j.r.Delete(j.places.keyHeader)
	}
	if cookies := j.r.Metadata["cookie"]; j.places.cookie != "" && len(cookies) > 0 {
		if left := withoutCookie(cookies, j.places.cookie); len(left) > 0 {
			j.r.Set("cookie", left...)
		} else {
			j.r.Delete("cookie")
		}
	}
}

// setIdentity tells the backend who calls.
func setIdentity(r *bridge.AuthRequest, id *identity.Identity) {
	for name, values := range id.Metadata {
		r.Set(name, values...)
	}
	if id.Subject == "" {
		return // a service permits the call, and doesn't say whose it is
	}
	values := id.ForBackend()
	for i, name := range report.IdentityMetadata {
		if values[i] != "" {
			r.Set(name, values[i:i+1:i+1]...)
		}
	}
}

// editHeader has the services' metadata for the client follow the backend's header.
func (j *judgement) editHeader(counted metadata.MD) {
	var edits check.Edits
	if j.answer != nil {
		edits = j.answer.Response
	}
	if len(edits)+len(counted) == 0 {
		return
	}
	j.r.EditHeader = func(header metadata.MD) {
		edits.Apply(header)
		maps.Copy(header, counted)
	}
}

// bridged returns an identity as the bridge has it, or nil if it has neither a name nor an end. One
// without a name has an end if the service permits a call with a token and doesn't say whose it is.
func (a *Authenticator) bridged(id *identity.Identity) *bridge.Identity {
	if id == nil {
		return nil
	}
	// Subjects are unique for a kind only, and only tokens have an issuer.
	to := &bridge.Identity{Name: id.Subject, Issuer: cmp.Or(id.Issuer, string(id.Kind))}
	if !a.config.IgnoreExpiry {
		to.Expires = id.Expires
	}
	if to.Name == "" && to.Expires.IsZero() {
		return nil
	}
	return to
}

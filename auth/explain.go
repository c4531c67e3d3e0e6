package auth

import (
	"cmp"
	"slices"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
)

// A Caller is an identity without a credential, to explain what it may do.
type Caller struct {
	Subject string
	Issuer  string // the name of one of Config.Issuers, or an iss; "": none
	Kind    string // "": jwt with an Issuer, else mtls
	Scopes  []string
	Claims  map[string][]string // values, by the claim as a Requirement has it; of a token
}

// An Explanation tells what the rules say of a call.
type Explanation struct {
	Allowed bool
	Rule    string // the name of the rule that decides, or a text in its place: "no rule allows"
	Public  bool   // the method needs no credential
	Rules   []RuleResult
}

// A RuleResult tells what a rule says of a call.
type RuleResult struct {
	Name       string
	Deny       bool
	Matches    bool
	Decides    bool
	Conditions []Condition
}

// A Condition tells whether one condition of a rule matches.
type Condition struct {
	Matches bool
	Text    string // `methods: none matches "/shop.v1.Orders/Get"`
}

// Explain tells what the rules say of a call of r's method, route and origin by a caller, none
// for one without an identity. Several are one caller with a credential of each. It looks at no
// credential.
func (a *Authenticator) Explain(r *bridge.AuthRequest, as ...Caller) Explanation {
	facts := rules.Facts{Public: a.requirement.Public(r.Method), Method: r.Method, Origin: r.Origin, Route: r.Route}
	facts.Identity, facts.Said = a.identitiesOf(as, r.Method)
	said := a.rules.Explain(&facts)
	e := Explanation{Allowed: said.Decision.Allowed, Rule: said.Decision.Rule, Public: facts.Public}
	for i := range said.Rules {
		from := &said.Rules[i]
		to := RuleResult{Name: from.Name, Deny: from.Effect == rules.Deny, Matches: from.Matches, Decides: from.Decides}
		for _, c := range from.Conditions {
			to.Conditions = append(to.Conditions, Condition{c.Matches, c.String()})
		}
		e.Rules = append(e.Rules, to)
	}
	return e
}

// identitiesOf returns the identity that counts, and what the ways say. If all_of needs more than
// the callers have, the first one counts, as if the others were missing in the question only.
func (a *Authenticator) identitiesOf(as []Caller, method string) (*identity.Identity, []rules.Said) {
	if len(as) == 0 {
		return nil, nil
	}
	said := make([]rules.Said, len(a.requirement.Ways()))
	for i := range as {
		id := a.identityOf(&as[i])
		if way := a.wayThatProves(id); way >= 0 {
			said[way] = rules.Said{Finding: rules.Valid, OfCall: id.Kind != identity.MTLS, Identity: id}
		}
	}
	if verdict := a.requirement.Judge(method, said); verdict.Identity != nil {
		return verdict.Identity, said
	}
	return a.identityOf(&as[0]), said
}

// wayThatProves returns the place of the way that proves such an identity, or -1.
func (a *Authenticator) wayThatProves(id *identity.Identity) int {
	return slices.IndexFunc(a.requirement.Ways(), func(way string) bool {
		at := slices.IndexFunc(a.config.Issuers, func(i Issuer) bool { return i.Name == way })
		return a.config.kindOf(way) == id.Kind && (at < 0 || a.config.Issuers[at].Issuer == id.Issuer)
	})
}

func (a *Authenticator) identityOf(as *Caller) *identity.Identity {
	id := &identity.Identity{Subject: as.Subject, Issuer: as.Issuer, Kind: identity.Kind(as.Kind), Scopes: as.Scopes}
	for _, i := range a.config.Issuers {
		if i.Name == as.Issuer {
			id.Issuer = i.Issuer
		}
	}
	usual := identity.MTLS
	if as.Issuer != "" {
		usual = identity.JWT
	}
	id.Kind = cmp.Or(id.Kind, usual)
	if id.Kind == identity.JWT {
		id.Claims = claim.Answer(a.rules.Claims(), func(r *claim.Requirement) bool { return r.Met(as.Claims[r.Claim.String()]) })
	}
	return id
}

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
	Lacks   string // `"certificates" found no credential, and all_of needs it`: the rules aren't asked; "": nothing
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

// Explain tells what becomes of a call of r's method, route and origin whose caller has valid
// credentials of these identities, one of each way to authenticate. It looks at no credential.
func (a *Authenticator) Explain(r *bridge.AuthRequest, as ...Caller) Explanation {
	said := a.saidOf(as)
	verdict := a.requirement.Judge(r.Method, said)
	result := a.rules.Explain(&rules.Facts{Identity: verdict.Identity, Said: said, Public: verdict.Public, Method: r.Method, Origin: r.Origin, Route: r.Route})
	e := Explanation{Allowed: result.Decision.Allowed, Rule: result.Decision.Rule, Public: verdict.Public}
	if verdict.Refusal != nil {
		e.Allowed, e.Rule, e.Lacks = false, rules.NoIdentity, verdict.Refusal.Cause.Error()
	}
	for i := range result.Rules {
		from := &result.Rules[i]
		to := RuleResult{Name: from.Name, Deny: from.Effect == rules.Deny, Matches: from.Matches, Decides: from.Decides && e.Lacks == ""}
		for _, c := range from.Conditions {
			to.Conditions = append(to.Conditions, Condition{c.Matches, c.String()})
		}
		e.Rules = append(e.Rules, to)
	}
	return e
}

// saidOf returns what the ways say of valid credentials of these identities. Those of an identity
// that no way proves are left out.
func (a *Authenticator) saidOf(as []Caller) []rules.Said {
	said := make([]rules.Said, len(a.requirement.Ways()))
	for i := range as {
		id := a.identityOf(&as[i])
		if way := a.wayThatProves(id); way >= 0 { // certificates are the connection's
			said[way] = rules.Said{Finding: rules.Valid, OfCall: id.Kind != identity.MTLS, Identity: id}
		}
	}
	return said
}

// wayThatProves returns the place of the way that proves such an identity, or -1.
func (a *Authenticator) wayThatProves(id *identity.Identity) int {
	for _, i := range a.config.Issuers {
		if id.Kind == identity.JWT && i.Issuer == id.Issuer {
			return a.wayOf(i.Name)
		}
	}
	return slices.IndexFunc(a.requirement.Ways(), func(way string) bool { return id.Kind != identity.JWT && KindOf(way) == string(id.Kind) })
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

package rules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

var (
	alice = &identity.Identity{Subject: "alice", Issuer: "https://id.example", Kind: identity.JWT, Scopes: []string{"read", "write"}}
	robot = &identity.Identity{Subject: "ci-deploy", Kind: identity.APIKey, Scopes: []string{"read"}}
	pod   = &identity.Identity{Subject: "spiffe://example.org/ns/shop/sa/orders", Kind: identity.MTLS}
)

// claiming returns an identity like alice whose token meets the requirements with these indexes.
func claiming(met ...int) *identity.Identity {
	id := *alice
	asked := -1
	id.Claims = claim.Answer(make([]claim.Requirement, claim.MaxAnswers), func(*claim.Requirement) bool {
		asked++
		return slices.Contains(met, asked)
	})
	return &id
}

// valid returns what ways said that found valid credentials of these identities.
func valid(all ...*identity.Identity) (said []Said) {
	for _, id := range all {
		said = append(said, Said{Finding: Valid, Identity: id})
	}
	return said
}

func TestDecide(t *testing.T) {
	const method, page = "/shop.v1.Orders/Get", "https://app.example.com"
	allow := func(name string, r Rule) Rule { r.Name, r.Effect = name, Allow; return r }
	deny := func(name string, r Rule) Rule { r.Name, r.Effect = name, Deny; return r }
	role, verified := claim.Requirement{Claim: claim.Path{"role"}, Values: []string{"admin"}}, claim.Requirement{Claim: claim.Path{"email_verified"}, Values: []string{"true"}}
	everybody := Rule{Identities: []string{"*"}}
	orders := Rule{Methods: []string{"shop.v1.Orders/*"}}
	for _, c := range []struct {
		name  string
		rules []Rule
		facts Facts
		want  Decision
	}{
		{"no rules, an identity", nil, Facts{Identity: alice}, Decision{true, NoAllowRules}},
		{"no rules, nobody", nil, Facts{}, Decision{false, NoIdentity}},
		{"no rules, nobody, a public method", nil, Facts{Public: true}, Decision{true, PublicMethod}},
		{"no rules, an identity without a subject", nil, Facts{Identity: &identity.Identity{Kind: identity.JWT}}, Decision{true, NoAllowRules}},
		{"no rules, an identity of no kind", nil, Facts{Identity: &identity.Identity{Subject: "a"}}, Decision{false, NoIdentity}},
		{"a deny rule for others", []Rule{deny("d", Rule{Identities: []string{"bob"}})}, Facts{Identity: alice}, Decision{true, NoAllowRules}},
		{"a deny rule for alice", []Rule{deny("d", Rule{Identities: []string{"bob", "ali*"}})}, Facts{Identity: alice}, Decision{false, "d"}},
		{"an allow rule for others", []Rule{allow("a", Rule{Identities: []string{"bob"}})}, Facts{Identity: alice}, Decision{false, NoRuleAllows}},
		{"an allow rule for alice", []Rule{allow("a", Rule{Identities: []string{"bob"}}), allow("b", Rule{Identities: []string{"alice"}})}, Facts{Identity: alice}, Decision{true, "b"}},
		{"deny wins, though it is later", []Rule{allow("a", everybody), deny("d", everybody)}, Facts{Identity: alice}, Decision{false, "d"}},
		{"the first of several names", []Rule{allow("a", everybody), deny("d1", everybody), deny("d2", everybody)}, Facts{Identity: alice}, Decision{false, "d1"}},
		{"deny wins over a public method", []Rule{deny("d", orders)}, Facts{Public: true, Method: method}, Decision{false, "d"}},
		{"a public method needs no allow rule", []Rule{allow("a", Rule{Scopes: []string{"admin"}})}, Facts{Public: true, Method: method}, Decision{true, PublicMethod}},
		{"a public method that an identity calls", []Rule{allow("a", Rule{Scopes: []string{"admin"}})}, Facts{Public: true, Identity: alice}, Decision{true, PublicMethod}},
		{"an allow rule for methods lets nobody in who proved nothing", []Rule{allow("a", orders)}, Facts{Method: method}, Decision{false, NoIdentity}},
		{"an allow rule for a page lets nobody in who proved nothing", []Rule{allow("a", Rule{Origins: []string{page}})}, Facts{Origin: page}, Decision{false, NoIdentity}},
		{"unless it has the kind none", []Rule{allow("a", Rule{Methods: orders.Methods, Kinds: []identity.Kind{identity.None}})}, Facts{Method: method}, Decision{true, "a"}},
		{"the kind none is not every identity", []Rule{allow("a", Rule{Kinds: []identity.Kind{identity.None}})}, Facts{Identity: alice}, Decision{false, NoRuleAllows}},
		{"an allow rule doesn't match an identity of no kind", []Rule{allow("a", orders)}, Facts{Identity: &identity.Identity{Subject: "a", Kind: "x"}, Method: method}, Decision{false, NoIdentity}},
		{"a deny rule matches callers who proved nothing", []Rule{deny("d", orders), allow("a", Rule{Kinds: []identity.Kind{identity.None}})}, Facts{Method: method}, Decision{false, "d"}},

		{"kinds", []Rule{allow("a", Rule{Kinds: []identity.Kind{identity.MTLS, identity.APIKey}})}, Facts{Identity: robot}, Decision{true, "a"}},
		{"other kinds", []Rule{allow("a", Rule{Kinds: []identity.Kind{identity.MTLS, identity.APIKey}})}, Facts{Identity: alice}, Decision{false, NoRuleAllows}},
		{"an issuer", []Rule{allow("a", Rule{Issuers: []string{"https://id.example"}})}, Facts{Identity: alice}, Decision{true, "a"}},
		{"another issuer", []Rule{allow("a", Rule{Issuers: []string{"https://id.example/"}})}, Facts{Identity: alice}, Decision{false, NoRuleAllows}},
		{"no issuer", []Rule{allow("a", Rule{Issuers: []string{"https://id.example"}})}, Facts{Identity: robot}, Decision{false, NoRuleAllows}},
		{"all scopes", []Rule{allow("a", Rule{Scopes: []string{"write", "read"}})}, Facts{Identity: alice}, Decision{true, "a"}},
		{"one scope of two", []Rule{allow("a", Rule{Scopes: []string{"read", "write"}})}, Facts{Identity: robot}, Decision{false, NoRuleAllows}},
		{"a part of a scope", []Rule{allow("a", Rule{Scopes: []string{"rea"}})}, Facts{Identity: robot}, Decision{false, NoRuleAllows}},
		{"a claim", []Rule{allow("a", Rule{Claims: []claim.Requirement{role}})}, Facts{Identity: claiming(0)}, Decision{true, "a"}},
		{"no claim", []Rule{allow("a", Rule{Claims: []claim.Requirement{role}})}, Facts{Identity: alice}, Decision{false, NoRuleAllows}},
		{"all claims", []Rule{allow("a", Rule{Claims: []claim.Requirement{role, verified}})}, Facts{Identity: claiming(0, 1)}, Decision{true, "a"}},
		{"one claim of two", []Rule{allow("a", Rule{Claims: []claim.Requirement{role, verified}})}, Facts{Identity: claiming(0)}, Decision{false, NoRuleAllows}},
		{"the same claim in two rules", []Rule{allow("a", Rule{Claims: []claim.Requirement{role, verified}}), allow("b", Rule{Claims: []claim.Requirement{verified}})}, Facts{Identity: claiming(1)}, Decision{true, "b"}},
		{"a claim in a deny rule", []Rule{deny("d", Rule{Claims: []claim.Requirement{role}})}, Facts{Identity: claiming(0)}, Decision{false, "d"}},
		{"a deny rule for a claim that isn't there", []Rule{deny("d", Rule{Claims: []claim.Requirement{role}})}, Facts{Identity: alice}, Decision{true, NoAllowRules}},
		{"a claim of no token", []Rule{allow("a", Rule{Claims: []claim.Requirement{role}})}, Facts{Identity: robot}, Decision{false, NoRuleAllows}},
		{"a claim of nobody", []Rule{deny("d", Rule{Claims: []claim.Requirement{role}})}, Facts{Public: true}, Decision{true, PublicMethod}},
		{"a page", []Rule{allow("a", Rule{Origins: []string{page}})}, Facts{Identity: alice, Origin: page}, Decision{true, "a"}},
		{"no page", []Rule{allow("a", Rule{Origins: []string{page}})}, Facts{Identity: alice}, Decision{false, NoRuleAllows}},
		{"a route", []Rule{allow("a", Rule{Routes: []string{"shop"}})}, Facts{Identity: alice, Route: "shop"}, Decision{true, "a"}},
		{"another route", []Rule{allow("a", Rule{Routes: []string{"shop"}})}, Facts{Identity: alice, Route: "shops"}, Decision{false, NoRuleAllows}},
		{"no route", []Rule{allow("a", Rule{Routes: []string{"shop"}})}, Facts{Identity: alice}, Decision{false, NoRuleAllows}},
		{"all conditions are needed: the method fails", []Rule{allow("a", Rule{Identities: []string{"alice"}, Methods: []string{"shop.v1.Orders/Delete"}})}, Facts{Identity: alice, Method: method}, Decision{false, NoRuleAllows}},
		{"all conditions are needed: the identity fails", []Rule{deny("d", Rule{Identities: []string{"bob"}, Methods: orders.Methods})}, Facts{Identity: alice, Method: method}, Decision{true, NoAllowRules}},
		{"a deny rule for another credential", []Rule{deny("d", Rule{Identities: []string{pod.Subject}})}, Facts{Identity: alice, Said: valid(alice, pod)}, Decision{false, "d"}},
		{"a deny rule for the kind of another credential", []Rule{deny("d", Rule{Kinds: []identity.Kind{identity.MTLS}})}, Facts{Identity: alice, Said: valid(alice, pod)}, Decision{false, "d"}},
		{"a deny rule for the issuer of another credential", []Rule{deny("d", Rule{Issuers: []string{alice.Issuer}})}, Facts{Identity: pod, Said: valid(pod, alice)}, Decision{false, "d"}},
		{"a deny rule for a scope of another credential", []Rule{deny("d", Rule{Identities: []string{pod.Subject}, Scopes: []string{"write"}})}, Facts{Identity: pod, Said: valid(pod, alice)}, Decision{false, "d"}},
		{"a deny rule for scopes of two credentials", []Rule{deny("d", Rule{Scopes: []string{"write", "drop"}})}, Facts{Identity: alice, Said: valid(alice, &identity.Identity{Kind: identity.APIKey, Scopes: []string{"drop"}})}, Decision{false, "d"}},
		{"a deny rule for a claim of another credential", []Rule{deny("d", Rule{Claims: []claim.Requirement{role}})}, Facts{Identity: pod, Said: valid(pod, claiming(0))}, Decision{false, "d"}},
		{"a deny rule for a credential that isn't enough, on a public method", []Rule{deny("d", Rule{Identities: []string{pod.Subject}})}, Facts{Public: true, Said: valid(pod)}, Decision{false, "d"}},
		{"a deny rule for a kind and an issuer of two credentials", []Rule{deny("d", Rule{Kinds: []identity.Kind{identity.MTLS}, Issuers: []string{alice.Issuer}})}, Facts{Identity: alice, Said: valid(alice, pod)}, Decision{true, NoAllowRules}},
		{"a deny rule for a credential that isn't valid", []Rule{deny("d", Rule{Identities: []string{pod.Subject}})}, Facts{Identity: alice, Said: []Said{{Finding: Valid, Identity: alice}, {Identity: pod}, {Finding: Valid}}}, Decision{true, NoAllowRules}},
		{"a deny rule for a scope of a credential that isn't valid", []Rule{deny("d", Rule{Scopes: []string{"write"}})}, Facts{Identity: pod, Said: []Said{{Finding: Valid, Identity: pod}, {Identity: alice}, {Finding: Valid}}}, Decision{true, NoAllowRules}},
		{"an allow rule for another credential", []Rule{allow("a", Rule{Identities: []string{pod.Subject}})}, Facts{Identity: alice, Said: valid(alice, pod)}, Decision{false, NoRuleAllows}},
		{"an allow rule for a scope of another credential", []Rule{allow("a", Rule{Scopes: []string{"write"}})}, Facts{Identity: pod, Said: valid(pod, alice)}, Decision{false, NoRuleAllows}},
		{"all conditions together", []Rule{deny("d", Rule{
			Identities: []string{"spiffe://example.org/**"}, Kinds: []identity.Kind{identity.MTLS}, Methods: orders.Methods, Routes: []string{"shop"}, Origins: []string{page},
		})}, Facts{Identity: pod, Method: method, Route: "shop", Origin: page}, Decision{false, "d"}},
	} {
		set := compile(t, c.rules...)
		if got := set.Decide(&c.facts); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		decision Decision
		reason   identity.Reason
		cause    string
	}{
		{Decision{false, "d"}, identity.NotPermitted, `the rule "d" denies it`},
		{Decision{false, NoRuleAllows}, identity.NotPermitted, "no rule allows it"},
		{Decision{false, NoIdentity}, identity.BadCredential, "kind none"},
	} {
		got := c.decision.Refusal()
		if got == nil || got.Reason != c.reason || !strings.Contains(got.Cause.Error(), c.cause) || strings.Contains(got.Text, "rule") {
			t.Errorf("%+v: got %v %q, %v", c.decision, got.Reason, got.Text, got.Cause)
		}
	}
	for _, rule := range []string{"a", PublicMethod, NoAllowRules} {
		if got := (Decision{true, rule}).Refusal(); got != nil {
			t.Errorf("%s: got %v, want none", rule, got)
		}
	}
}

func TestExplain(t *testing.T) {
	set := compile(t,
		Rule{Name: "writers", Effect: Allow, Scopes: []string{"read", "write"}, Methods: []string{"a.B/*", "shop.*/*"}},
		Rule{Name: "no-pages", Effect: Deny, Origins: []string{"https://app.example.com"}},
		Rule{Name: "people", Effect: Allow, Identities: []string{"bob", "a*"}, Kinds: []identity.Kind{identity.JWT}, Issuers: []string{"https://id.example"}},
		Rule{Name: "robots", Effect: Allow, Kinds: []identity.Kind{identity.APIKey}, Routes: []string{"shop"}},
		Rule{Name: "owners", Effect: Deny, Claims: []claim.Requirement{
			{Claim: claim.Path{"email"}}, {Claim: claim.Path{"realm", "a.b"}, Values: []string{"x"}}, {Claim: claim.Path{"role"}, Values: []string{"admin", "root"}},
		}},
	)
	said := func(e Explanation) string {
		var b strings.Builder
		for _, r := range e.Rules {
			fmt.Fprintf(&b, "%s %s %v %v\n", r.Name, r.Effect, r.Matches, r.Decides)
			for _, c := range r.Conditions {
				fmt.Fprintf(&b, "  %v\n", c)
			}
		}
		return b.String()
	}
	for _, c := range []struct {
		facts Facts
		rule  string
		want  string
	}{
		{Facts{Identity: alice, Method: "/shop.Orders/Get", Origin: "https://other.test", Route: "shop"}, "writers", `writers allow true true
  methods: "shop.*/*" matches "/shop.Orders/Get"
  scopes: the caller has all
no-pages deny false false
  origins: none matches "https://other.test"
people allow true false
  kinds: "jwt" matches "jwt"
  issuers: "https://id.example" matches "https://id.example"
  identities: "a*" matches "alice"
robots allow false false
  kinds: none matches "jwt"
  routes: "shop" matches "shop"
owners deny false false
  claims: the caller lacks "email"
`},
		{Facts{Identity: claiming(0), Route: "x"}, "people", `writers allow false false
  methods: the call has none
  scopes: the caller has all
no-pages deny false false
  origins: the call has none
people allow true true
  kinds: "jwt" matches "jwt"
  issuers: "https://id.example" matches "https://id.example"
  identities: "a*" matches "alice"
robots allow false false
  kinds: none matches "jwt"
  routes: none matches "x"
owners deny false false
  claims: the caller lacks "realm.a\\.b" with "x"
`},
		{Facts{Identity: claiming(0, 1), Route: "shop"}, "people", `writers allow false false
  methods: the call has none
  scopes: the caller has all
no-pages deny false false
  origins: the call has none
people allow true true
  kinds: "jwt" matches "jwt"
  issuers: "https://id.example" matches "https://id.example"
  identities: "a*" matches "alice"
robots allow false false
  kinds: none matches "jwt"
  routes: "shop" matches "shop"
owners deny false false
  claims: the caller lacks "role" with one of "admin", "root"
`},
		{Facts{Identity: claiming(0, 1, 2)}, "owners", `writers allow false false
  methods: the call has none
  scopes: the caller has all
no-pages deny false false
  origins: the call has none
people allow true false
  kinds: "jwt" matches "jwt"
  issuers: "https://id.example" matches "https://id.example"
  identities: "a*" matches "alice"
robots allow false false
  kinds: none matches "jwt"
  routes: the call has none
owners deny true true
  claims: the caller has all
`},
		{Facts{Identity: robot, Method: "/x.Y/Z", Origin: "https://app.example.com"}, "no-pages", `writers allow false false
  methods: none matches "/x.Y/Z"
  scopes: the caller lacks "write"
no-pages deny true true
  origins: "https://app.example.com" matches "https://app.example.com"
people allow false false
  kinds: none matches "api-key"
  issuers: the call has none
  identities: none matches "ci-deploy"
robots allow false false
  kinds: "api-key" matches "api-key"
  routes: the call has none
owners deny false false
  claims: the caller lacks "email"
`},
		{Facts{Method: "/shop.Orders/Get"}, NoIdentity, `writers allow false false
  kinds: the caller has no identity, and the rule doesn't list "none"
  methods: "shop.*/*" matches "/shop.Orders/Get"
  scopes: the caller lacks "read"
no-pages deny false false
  origins: the call has none
people allow false false
  kinds: the caller has no identity, and the rule doesn't list "none"
  issuers: the call has none
  identities: the call has none
robots allow false false
  kinds: the caller has no identity, and the rule doesn't list "none"
  routes: the call has none
owners deny false false
  claims: the caller lacks "email"
`},
	} {
		e := set.Explain(&c.facts)
		if got := said(e); got != c.want || e.Decision.Rule != c.rule {
			t.Errorf("decided by %q, want %q\ngot\n%s\nwant\n%s", e.Decision.Rule, c.rule, got, c.want)
		}
	}
}

// A source makes rules and facts of few words, so that they often meet.
type source struct{ *rand.Rand }

// some returns up to n of the words.
func (s source) some(n int, words ...string) []string {
	var list []string
	for range s.IntN(n + 1) {
		list = append(list, words[s.IntN(len(words))])
	}
	return list
}

func (s source) rule(name string, effect Effect) Rule {
	for {
		r := Rule{Name: name, Effect: effect}
		for _, key := range s.Perm(8)[:1+s.IntN(2)] {
			switch key {
			case 0:
				r.Identities = s.some(2, "*", "alice", "ci-*", "spiffe://example.org/**", "bob")
			case 1:
				r.Issuers = s.some(1, "https://id.example", "https://other.example")
			case 2:
				r.Scopes = s.some(2, "read", "write", "admin")
			case 3:
				r.Methods = s.some(2, "*/*", "shop.v1.Orders/*", "shop.*/Get", "*/Get*", "x.Y/Z")
			case 4:
				r.Origins = s.some(1, "https://app.example.com", "null")
			case 5:
				r.Routes = s.some(1, "shop", "admin")
			case 6:
				r.Claims = []claim.Requirement{{Claim: claim.Path{"role"}, Values: s.some(1, "admin")}}
			default:
				r.Kinds = []identity.Kind{identity.Kinds[s.IntN(len(identity.Kinds))]}
			}
		}
		if _, err := Compile([]Rule{r}); err == nil {
			return r // others have no condition, or can match no call
		}
	}
}

func (s source) rules() []Rule {
	var list []Rule
	for i := range s.IntN(6) {
		list = append(list, s.rule(fmt.Sprintf("r%d", i), []Effect{Allow, Deny}[s.IntN(2)]))
	}
	return list
}

func (s source) facts() *Facts {
	all := []*identity.Identity{nil, alice, robot, pod, claiming(0, 1, 2, 3)}
	id := all[s.IntN(len(all))]
	said := []Said{{Finding: Valid, Identity: id}}
	for range s.IntN(3) {
		said = append(said, Said{Finding: Finding(s.IntN(4)), Identity: all[s.IntN(len(all))]})
	}
	return &Facts{
		Identity: id,
		Said:     said,
		Public:   s.IntN(4) == 0,
		Method:   []string{"/shop.v1.Orders/Get", "/shop.v1.Orders/Delete", "/x.Y/Z"}[s.IntN(3)],
		Origin:   []string{"", "null", "https://app.example.com"}[s.IntN(3)],
		Route:    []string{"", "shop", "admin"}[s.IntN(3)],
	}
}

// each runs a property over many sets of rules and facts.
func each(t *testing.T, property func(s source, rules []Rule, f *Facts)) {
	t.Helper()
	s := source{rand.New(rand.NewPCG(1, 2))}
	for range 5000 {
		property(s, s.rules(), s.facts())
		if t.Failed() {
			return
		}
	}
}

// TestOrderDecidesNothing: the rules of any order allow the same, and a matching deny rule
// wins in each.
func TestOrderDecidesNothing(t *testing.T) {
	denied := 0
	each(t, func(s source, rules []Rule, f *Facts) {
		want := compile(t, rules...).Decide(f)
		matches := false
		for _, r := range rules {
			matches = matches || r.Effect == Deny && !compile(t, r).Decide(&Facts{f.Identity, f.Said, true, f.Method, f.Origin, f.Route}).Allowed
		}
		if matches {
			denied++
		}
		s.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
		if got := compile(t, rules...).Decide(f); got.Allowed != want.Allowed || matches && got.Allowed {
			t.Errorf("%+v\n%+v\ngot %+v, in another order %+v, and a deny rule matches: %v", rules, f, got, want, matches)
		}
	})
	if denied < 500 {
		t.Errorf("only %d of the calls met a deny rule: the test shows little", denied)
	}
}

// TestAnotherDenyRuleNeverAllowsMore, wherever it stands.
func TestAnotherDenyRuleNeverAllowsMore(t *testing.T) {
	fewer := 0
	each(t, func(s source, rules []Rule, f *Facts) {
		before := compile(t, rules...).Decide(f)
		more := slices.Insert(slices.Clone(rules), s.IntN(len(rules)+1), s.rule("more", Deny))
		after := compile(t, more...).Decide(f)
		if after.Allowed && (!before.Allowed || after != before) {
			t.Errorf("%+v\n%+v\ngot %+v, before %+v", more, f, after, before)
		}
		if before.Allowed && !after.Allowed {
			fewer++
		}
	})
	if fewer < 100 {
		t.Errorf("only %d of the calls met the new rule: the test shows little", fewer)
	}
}

// TestNobodyHidesBehindAnotherCredential: if a deny rule refuses the owner of a valid credential,
// it refuses a call that has the credential beside others.
func TestNobodyHidesBehindAnotherCredential(t *testing.T) {
	hidden := 0
	each(t, func(_ source, rules []Rule, f *Facts) {
		rules = slices.DeleteFunc(rules, func(r Rule) bool { return r.Effect == Allow })
		set := compile(t, rules...)
		for _, s := range f.Said {
			alone := Facts{Identity: s.Identity, Public: true, Method: f.Method, Origin: f.Origin, Route: f.Route}
			if s.finding() != Valid || set.Decide(&alone).Allowed {
				continue
			}
			if got := set.Decide(f); got.Allowed {
				t.Errorf("%+v\n%+v\ngot %+v, though %q is denied", rules, f, got, s.Identity.Subject)
			}
			if s.Identity != f.Identity {
				hidden++
			}
		}
	})
	if hidden < 100 {
		t.Errorf("only %d of the calls had a denied credential beside another: the test shows little", hidden)
	}
}

// TestExplainDecidesTheSame as Decide, marks the rule that decides, and calls a rule a match
// only if all of its conditions are.
func TestExplainDecidesTheSame(t *testing.T) {
	each(t, func(_ source, rules []Rule, f *Facts) {
		set := compile(t, rules...)
		want, e := set.Decide(f), set.Explain(f)
		if e.Decision != want || len(e.Rules) != len(rules) {
			t.Errorf("%+v\n%+v\ngot %+v, want %+v", rules, f, e.Decision, want)
		}
		decides := ""
		for _, r := range e.Rules {
			all := !slices.ContainsFunc(r.Conditions, func(c ConditionResult) bool { return !c.Matches })
			if r.Matches != all || r.Decides && !r.Matches {
				t.Errorf("%+v\n%+v\n%+v", rules, f, r)
			}
			if r.Decides {
				decides += r.Name
			}
		}
		if named := strings.HasPrefix(want.Rule, "r"); named && decides != want.Rule || !named && decides != "" {
			t.Errorf("%+v\n%+v\nthe rule %q decides, want %q", rules, f, decides, want.Rule)
		}
	})
}

// hundred are rules of which the last matches. Most fail at their identity.
func hundred(t testing.TB) *Set {
	t.Helper()
	var list []Rule
	for i := range 99 {
		effect := Allow
		if i%4 == 0 {
			effect = Deny
		}
		list = append(list, Rule{
			Name: fmt.Sprintf("r%d", i), Effect: effect,
			Methods: []string{"shop.*/Get*"}, Identities: []string{fmt.Sprintf("spiffe://example.org/ns/n%d/sa/*", i)},
		})
	}
	last := Rule{
		Name: "last", Effect: Allow, Scopes: []string{"write"}, Issuers: []string{"https://id.example"},
		Claims: []claim.Requirement{{Claim: claim.Path{"role"}, Values: []string{"admin"}}},
	}
	return compile(t, append(list, last)...)
}

func TestDecideAllocatesNothing(t *testing.T) {
	set, id := hundred(t), claiming(0)
	said := valid(id, pod)
	if n := testing.AllocsPerRun(100, func() {
		f := Facts{Identity: id, Said: said, Method: "/shop.v1.Orders/Get", Origin: "https://app.example.com", Route: "shop"}
		if d := set.Decide(&f); d != (Decision{true, "last"}) {
			t.Error(d)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	set := hundred(b)
	for name, id := range map[string]*identity.Identity{"last_of_100_rules": claiming(0), "none_of_100_rules": pod} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			f := Facts{Identity: id, Method: "/shop.v1.Orders/Get"}
			for b.Loop() {
				set.Decide(&f)
			}
		})
	}
}

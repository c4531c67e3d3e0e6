package rules

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
)

// compile compiles rules that have no mistake.
func compile(t testing.TB, rules ...Rule) *Set {
	t.Helper()
	set, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestMistakes: each error has the rule, the key, and what to do.
func TestMistakes(t *testing.T) {
	good := Rule{Name: "good", Effect: Allow, Identities: []string{"*"}}
	long := strings.Repeat("x", maxEntryBytes+1)
	claims := func(path claim.Path, values ...string) []claim.Requirement {
		return []claim.Requirement{{Claim: claim.Path{"email"}}, {Claim: path, Values: values}}
	}
	for _, c := range []struct {
		rule           Rule
		key, says      string
		nameInTheError string
	}{
		{Rule{Effect: Allow, Identities: []string{"*"}}, "name", "is empty", "rule 2"},
		{Rule{Name: "no rule allows", Effect: Allow, Identities: []string{"*"}}, "name", "only letters", `"no rule allows"`},
		{Rule{Name: "a\nb", Effect: Allow, Identities: []string{"*"}}, "name", "only letters", `"a\nb"`},
		{Rule{Name: strings.Repeat("n", 65), Effect: Allow, Identities: []string{"*"}}, "name", "up to 64", "nnn"},
		{Rule{Name: "good", Effect: Allow, Identities: []string{"*"}}, "name", "that of rule 1", `"good"`},
		{Rule{Name: "r", Identities: []string{"*"}}, "effect", "write allow or deny", `"r"`},
		{Rule{Name: "r", Effect: "Allow", Identities: []string{"*"}}, "effect", `"Allow": write allow or deny`, `"r"`},
		{Rule{Name: "r", Effect: Allow}, "", `no condition: write identities: ["*"]`, `"r"`},
		{Rule{Name: "r", Effect: Deny}, "", `no condition: write methods: ["*/*"]`, `"r"`},
		{Rule{Name: "r", Effect: Deny, Identities: []string{}}, "", "no condition", `"r"`},
		{Rule{Name: "r", Effect: Allow, Kinds: []identity.Kind{"none"}, Identities: []string{"*"}}, "identities", "can match no call", `"r"`},
		{Rule{Name: "r", Effect: Allow, Kinds: []identity.Kind{"none"}, Scopes: []string{"a"}}, "scopes", "can match no call", `"r"`},
		{Rule{Name: "r", Effect: Allow, Kinds: []identity.Kind{"none"}, Issuers: []string{"a"}}, "issuers", "can match no call", `"r"`},
		{Rule{Name: "r", Effect: Allow, Kinds: []identity.Kind{"jwt", "JWT"}}, "kinds[1]", "one of none, jwt, api-key, mtls, external", `"r"`},
		{Rule{Name: "r", Effect: Allow, Identities: []string{"a", ""}}, "identities[1]", "is empty", `"r"`},
		{Rule{Name: "r", Effect: Allow, Identities: []string{" a"}}, "identities[0]", "remove the blanks", `"r"`},
		{Rule{Name: "r", Effect: Allow, Identities: []string{"a\x00"}}, "identities[0]", "control character", `"r"`},
		{Rule{Name: "r", Effect: Allow, Identities: []string{long}}, "identities[0]", "512 are allowed", `"r"`},
		{Rule{Name: "r", Effect: Allow, Identities: []string{"**"}}, "identities[0]", `write "*"`, `"r"`},
		{Rule{Name: "r", Effect: Allow, Identities: []string{"***"}}, "identities[0]", "only be at the end", `"r"`},
		{Rule{Name: "r", Effect: Allow, Identities: []string{"a**b"}}, "identities[0]", "only be at the end", `"r"`},
		{Rule{Name: "r", Effect: Allow, Issuers: []string{""}}, "issuers[0]", "is empty", `"r"`},
		{Rule{Name: "r", Effect: Allow, Routes: []string{""}}, "routes[0]", "is empty", `"r"`},
		{Rule{Name: "r", Effect: Allow, Scopes: []string{"read write"}}, "scopes[0]", "entry of its own", `"r"`},
		{Rule{Name: "r", Effect: Allow, Claims: claims(claim.Path{""})}, "claims[1].claim", "is empty", `"r"`},
		{Rule{Name: "r", Effect: Allow, Claims: claims(claim.Path{long})}, "claims[1].claim", "512 are allowed", `"r"`},
		{Rule{Name: "r", Effect: Allow, Claims: claims(claim.Path{"role"}, "a", "")}, "claims[1].values[1]", "is empty", `"r"`},
		{Rule{Name: "r", Effect: Allow, Claims: claims(claim.Path{"role"}, "a ")}, "claims[1].values[0]", "remove the blanks", `"r"`},
		{Rule{Name: "r", Effect: Allow, Claims: claims(claim.Path{"role"}, make([]string, 257)...)}, "claims[1].values", "256 are allowed", `"r"`},
		{Rule{Name: "r", Effect: Allow, Claims: make([]claim.Requirement, 257)}, "claims", "256 are allowed", `"r"`},
		{Rule{Name: "r", Effect: Allow, Kinds: []identity.Kind{"none"}, Claims: claims(claim.Path{"role"})}, "claims", "can match no call", `"r"`},
		{Rule{Name: "r", Effect: Deny, Methods: []string{"*"}}, "methods[0]", `want "package.Service/Method"`, `"r"`},
		{Rule{Name: "r", Effect: Deny, Origins: []string{"app.example.com"}}, "origins[0]", "https://app.example.com", `"r"`},
		{Rule{Name: "r", Effect: Deny, Routes: make([]string, 257)}, "routes", "256 are allowed", `"r"`},
	} {
		set, err := Compile([]Rule{good, c.rule})
		mistake := new(Mistake)
		if !errors.As(err, &mistake) || set != nil {
			t.Errorf("%+v: got %v, want a mistake", c.rule, err)
			continue
		}
		if mistake.Rule != 1 || mistake.Key != c.key || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.nameInTheError) || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%+v:\ngot  rule %d, %q, %v\nwant rule 1, %q, %q in it", c.rule, mistake.Rule, mistake.Key, err, c.key, c.says)
		}
	}
}

func TestRulesAreBounded(t *testing.T) {
	list := make([]Rule, MaxRules+1)
	for i := range list {
		list[i] = Rule{Name: fmt.Sprintf("r%d", i), Effect: Deny, Routes: []string{"a"}}
	}
	if _, err := Compile(list[:MaxRules]); err != nil {
		t.Error(err)
	}
	if _, err := Compile(list); err == nil || !strings.Contains(err.Error(), "1000 are allowed") {
		t.Errorf("got %v, want an error for the number", err)
	}
}

// TestClaimsAreNumbered: each different requirement once, over all rules, and a bounded number.
func TestClaimsAreNumbered(t *testing.T) {
	claims := func(from, to int) (list []claim.Requirement) {
		for i := from; i < to; i++ {
			list = append(list, claim.Requirement{Claim: claim.Path{"role"}, Values: []string{fmt.Sprint(i)}})
		}
		return list
	}
	rules := []Rule{
		{Name: "one", Effect: Allow, Claims: claims(0, 200)},
		{Name: "two", Effect: Allow, Claims: claims(100, claim.MaxAnswers-1)},
		{Name: "wary", Effect: Deny, Claims: claims(0, 1)},
	}
	want := claims(0, claim.MaxAnswers)
	want[claim.MaxAnswers-1] = claim.Requirement{Claim: want[0].Claim, Values: want[0].Values, Wary: true}
	if got := compile(t, rules...).Claims(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	_, err := Compile(append(rules, Rule{Name: "three", Effect: Deny, Claims: []claim.Requirement{want[0], {Claim: claim.Path{"role"}}}}))
	if m := new(Mistake); !errors.As(err, &m) || m.Rule != 3 || m.Key != "claims[1]" || !strings.Contains(m.Text, "256 different") {
		t.Errorf("one more: %v", err)
	}
	if got := compile(t, Rule{Name: "none", Effect: Deny, Routes: []string{"a"}}).Claims(); got != nil {
		t.Errorf("no rule asks for claims, and got %v", got)
	}
}

func TestCompileKeepsNoListOfItsCaller(t *testing.T) {
	rule := Rule{
		Name: "r", Effect: Deny, Origins: []string{"HTTPS://App.example.com"}, Routes: []string{"shop"},
		Claims: []claim.Requirement{{Claim: claim.Path{"role"}, Values: []string{"admin"}}},
	}
	set := compile(t, rule)
	if rule.Origins[0] != "HTTPS://App.example.com" {
		t.Errorf("the caller's list became %q", rule.Origins)
	}
	rule.Routes[0], rule.Origins[0], rule.Claims[0].Claim[0], rule.Claims[0].Values[0] = "x", "x", "x", "x"
	if set.Decide(&Facts{Identity: claiming(0), Public: true, Origin: "https://app.example.com", Route: "shop"}).Allowed {
		t.Error("the set changed with the caller's list")
	}
	if r := set.Claims()[0]; r.Claim[0] != "role" || r.Values[0] != "admin" {
		t.Errorf("the claim became %v", r)
	}
}

package auth

import (
	"slices"
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
)

func TestExplain(t *testing.T) {
	a := newAuth(t, Config{
		Issuers: []Issuer{staff(t), shop(t)}, Certificates: true, Routes: []string{"orders"}, PublicMethods: []string{"shop.v1.Catalog/*"},
		Rules: []Rule{
			{Name: "readers", Issuers: []string{"staff"}, Scopes: []string{"read"}, Methods: []string{"shop.v1.Orders/Get*"}},
			{Name: "agents", Kinds: []string{"mtls"}, Routes: []string{"orders"}},
			{Name: "not-eve", Deny: true, Identities: []string{"eve"}},
			{Name: "no-guests", Deny: true, Claims: []Requirement{{Claim: "role", Values: []string{"guest", "trial"}}}},
			{Name: "pages", Origins: []string{"https://app.example"}},
		},
	})
	get := &bridge.AuthRequest{Method: method, Route: "orders"}
	for name, row := range map[string]struct {
		r       *bridge.AuthRequest
		as      []Caller
		allowed bool
		rule    string
	}{
		"a reader":         {get, []Caller{{Subject: "alice", Issuer: "staff", Scopes: []string{"read"}}}, true, "readers"},
		"by the iss":       {get, []Caller{{Subject: "alice", Issuer: staffIssuer, Scopes: []string{"read"}}}, true, "readers"},
		"without scopes":   {get, []Caller{{Subject: "alice", Issuer: "staff"}}, false, "no rule allows"},
		"another issuer's": {get, []Caller{{Subject: "alice", Issuer: "shop", Scopes: []string{"read"}}}, false, "no rule allows"},
		"a guest":          {get, []Caller{{Subject: "alice", Issuer: "staff", Scopes: []string{"read"}, Claims: map[string][]string{"role": {"x", "trial"}}}}, false, "no-guests"},
		"no guest":         {get, []Caller{{Subject: "alice", Issuer: "staff", Scopes: []string{"read"}, Claims: map[string][]string{"role": {"x"}, "roles": {"guest"}}}}, true, "readers"},
		"no token":         {get, []Caller{{Subject: "agent", Kind: "mtls", Claims: map[string][]string{"role": {"guest"}}}}, true, "agents"},
		"an agent":         {get, []Caller{{Subject: "agent"}}, true, "agents"},
		"eve":              {get, []Caller{{Subject: "eve", Issuer: "staff", Scopes: []string{"read"}}}, false, "not-eve"},
		"a page":           {&bridge.AuthRequest{Method: "/a.B/C", Origin: "https://app.example"}, []Caller{{Subject: "x"}}, true, "pages"},
		"nobody":           {get, nil, false, "no identity"},
		"nobody, public":   {&bridge.AuthRequest{Method: "/shop.v1.Catalog/List"}, nil, true, "public method"},
	} {
		got := a.Explain(row.r, row.as...)
		if got.Allowed != row.allowed || got.Rule != row.rule || len(got.Rules) != 5 || got.Public != (row.rule == "public method") {
			t.Errorf("%s: got %+v", name, got)
		}
		decides := slices.IndexFunc(got.Rules, func(r RuleResult) bool { return r.Decides })
		if (decides >= 0) != slices.Contains([]string{"readers", "agents", "not-eve", "no-guests", "pages"}, row.rule) || decides >= 0 && got.Rules[decides].Name != row.rule {
			t.Errorf("%s: %+v decides", name, got.Rules)
		}
	}
	// With several credentials, one counts, and a rule that denies sees all.
	alice, eve := Caller{Subject: "alice", Issuer: "staff", Scopes: []string{"read"}}, Caller{Subject: "eve", Kind: "mtls"}
	if got := a.Explain(get, alice, eve); got.Allowed || got.Rule != "not-eve" {
		t.Errorf("with eve's certificate: got %+v", got)
	}
	if got := a.Explain(get, Caller{Subject: "agent"}, alice); !got.Allowed || got.Rule != "readers" || !slices.Contains(got.Rules[1].Conditions, Condition{false, `kinds: none matches "jwt"`}) {
		t.Errorf("with an agent's certificate: got %+v", got)
	}
	all := newAuth(t, Config{Issuers: []Issuer{staff(t)}, Certificates: true, AllOf: []string{WayCertificates, "staff"}, PublicMethods: []string{"shop.v1.Catalog/*"}, Rules: []Rule{
		{Name: "readers", Kinds: []string{"mtls"}, Scopes: []string{"read"}},
		{Name: "not-eve", Deny: true, Identities: []string{"eve"}},
		{Name: "not-nobody", Deny: true, Kinds: []string{"none"}},
	}})
	if got := all.Explain(get, alice, Caller{Subject: "agent"}); !got.Allowed || got.Rule != "readers" {
		t.Errorf("with all_of: got %+v", got)
	}
	if got := all.Explain(get, Caller{Subject: "agent"}); got.Allowed || got.Rule != "no identity" || got.Lacks != `"staff" found no credential, and all_of needs it` {
		t.Errorf("with one of all_of: got %+v", got)
	}
	if got := all.Explain(&bridge.AuthRequest{Method: "/shop.v1.Catalog/List"}, Caller{Subject: "agent"}); got.Allowed || got.Rule != "not-nobody" || got.Lacks != "" {
		t.Errorf("with one of all_of, of a public method: got %+v", got)
	}
	if got := all.Explain(get, Caller{Subject: "eve"}); got.Rule != "no identity" || slices.ContainsFunc(got.Rules, func(r RuleResult) bool { return r.Decides }) {
		t.Errorf("a rule decides on a call that lacks one of all_of: got %+v", got)
	}
	e := a.Explain(get, Caller{Subject: "alice", Issuer: "staff"})
	want := []Condition{{true, `issuers: "https://staff.example" matches "https://staff.example"`}, {true, `methods: "shop.v1.Orders/Get*" matches "/shop.v1.Orders/Get"`}, {false, `scopes: the caller lacks "read"`}}
	if got := (Condition{false, `claims: the caller lacks "role" with one of "guest", "trial"`}); !slices.Contains(e.Rules[3].Conditions, got) {
		t.Errorf("%+v lacks %+v", e.Rules[3].Conditions, got)
	}
	for _, c := range want {
		if !slices.Contains(e.Rules[0].Conditions, c) {
			t.Errorf("%+v lacks %+v", e.Rules[0].Conditions, c)
		}
	}
}

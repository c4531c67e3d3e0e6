package auth

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/rules"
)

// TestMistakes: each wrong field is named as a file has it. Nothing is left open.
func TestMistakes(t *testing.T) {
	keys, _ := keysOf(t, time.Time{}, "ci")
	good := func() Config {
		return Config{
			Issuers: []Issuer{staff(t), shop(t)}, APIKeys: keys, Certificates: true, External: &External{Target: "127.0.0.1:1"},
			RateLimit: &RateLimit{Target: "127.0.0.1:1", Domain: "d", Descriptors: [][]DescriptorEntry{{{Key: "k", Value: "v"}}}},
			Rules:     []Rule{{Name: "one", Identities: []string{"*"}}}, Routes: []string{"orders"},
		}
	}
	for name, row := range map[string]struct {
		change    func(c *Config)
		key, says string
	}{
		"nothing": {func(c *Config) { *c = Config{} }, "", "no way to authenticate"},
		"rules alone": {func(c *Config) {
			*c = Config{Rules: []Rule{{Name: "a", Deny: true, Methods: []string{"a.B/C"}}, {Name: "b", Methods: []string{"a.B/*"}}}}
		}, "rules[1]", "every call passes"},
		"no name":                  {func(c *Config) { c.Issuers[1].Name = "" }, "issuers[1].name", "is empty"},
		"a name of another way":    {func(c *Config) { c.Issuers[1].Name = WayExternal }, "issuers[1].name", "another way"},
		"no name at all":           {func(c *Config) { c.Issuers[1].Name = "a b" }, "issuers[1].name", "letters"},
		"two of a name":            {func(c *Config) { c.Issuers[1].Name = "staff" }, "issuers[1].name", "issuers[0]"},
		"no issuer":                {func(c *Config) { c.Issuers[0].Issuer = "" }, "issuers[0].issuer", "iss"},
		"two of an issuer":         {func(c *Config) { c.Issuers[1].Issuer = staffIssuer }, "issuers[1].issuer", "issuers[0]"},
		"two places":               {func(c *Config) { c.Issuers[0].KeysURL = "https://x.example/keys" }, "issuers[0].keys_url", "one of them"},
		"access without discovery": {func(c *Config) { c.Issuers[0].KeysAccess.CAFile = "ca.pem" }, "issuers[0].keys_ca", "discovery"},
		"plain http": {func(c *Config) {
			c.Issuers[0].KeysFile, c.Issuers[0].KeysURL = "", "http://staff.example/keys"
		}, "issuers[0].keys_url", "https"},
		"no URL":  {func(c *Config) { c.Issuers[0].KeysFile, c.Issuers[0].Issuer = "", "staff" }, "issuers[0].issuer", "absolute URL"},
		"no file": {func(c *Config) { c.Issuers[0].KeysFile = "/nonexistent/keys.json" }, "issuers[0].keys_file", "/nonexistent/keys.json"},
		"a file without keys": {func(c *Config) {
			c.Issuers[0].KeysFile = writeFile(t, "none.json", []byte(`{"keys":[]}`))
		}, "issuers[0].keys_file", "no key"},
		"no audience":             {func(c *Config) { c.Issuers[0].Audiences = nil }, "issuers[0].audiences", "aud"},
		"an unknown route":        {func(c *Config) { c.Issuers[0].RouteAudiences = map[string][]string{"x": {"a"}} }, "issuers[0].route_audiences", "no route"},
		"a route of nobody":       {func(c *Config) { c.Issuers[0].RouteAudiences = map[string][]string{"orders": nil} }, "issuers[0].route_audiences", "no audience"},
		"HS256":                   {func(c *Config) { c.Issuers[0].Algorithms = []string{"ES256", "HS256"} }, "issuers[0].algorithms[1]", "symmetric"},
		"a skew":                  {func(c *Config) { c.Issuers[0].Skew = time.Hour }, "issuers[0]", "skew"},
		"a claim":                 {func(c *Config) { c.Issuers[0].Required = []Requirement{{Claim: "a..b"}} }, "issuers[0].required[0].claim", "claim"},
		"a claim as metadata":     {func(c *Config) { c.Issuers[0].Metadata = []ClaimMetadata{{"", "x-a"}} }, "issuers[0].metadata[0].claim", "claim"},
		"reserved metadata":       {func(c *Config) { c.Issuers[0].Metadata = []ClaimMetadata{{"sub", "x-culvert-subject"}} }, "issuers[0].metadata[0].name", "reserved"},
		"a fact of culvert's":     {func(c *Config) { c.Issuers[0].Metadata = []ClaimMetadata{{"sub", "x-forwarded-for"}} }, "issuers[0].metadata[0].name", "reserved"},
		"a credential's metadata": {func(c *Config) { c.Issuers[0].Metadata = []ClaimMetadata{{"sub", "authorization"}} }, "issuers[0].metadata[0].name", "reserved"},
		"illegal metadata":        {func(c *Config) { c.Issuers[0].Metadata = []ClaimMetadata{{"sub", "X-A"}} }, "issuers[0]", "X-A"},
		"a cookie's name":         {func(c *Config) { c.Cookie = "a=b" }, "cookie", "a=b"},
		"a cookie of nobody":      {func(c *Config) { c.Cookie, c.Issuers, c.External, c.Rules = "a", nil, nil, nil }, "cookie", "nothing judges"},
		"no file of keys":         {func(c *Config) { c.APIKeys = &APIKeys{} }, "api_keys.file", "is empty"},
		"no such file of keys":    {func(c *Config) { c.APIKeys = &APIKeys{File: "/nonexistent/keys"} }, "api_keys.file", "/nonexistent/keys"},
		"a broken file of keys": {func(c *Config) {
			c.APIKeys = &APIKeys{File: writeFile(t, "broken", []byte("\nhush-a-secret\n"))}
		}, "api_keys.file", "line 2"},
		"a header of keys": {func(c *Config) { c.APIKeys = &APIKeys{File: keys.File, Header: "host"} }, "api_keys.header", "host"},
		"two services":     {func(c *Config) { c.External.URL = "https://x.example" }, "external", "not both"},
		"no service":       {func(c *Config) { c.External.Target = "" }, "external", "not both"},
		"a time-out":       {func(c *Config) { c.External.Timeout = time.Hour }, "external", "time-out"},
		"reserved names":   {func(c *Config) { c.External.Own = []string{"grpc-x"} }, "external", "grpc-x"},
		"a domain":         {func(c *Config) { c.RateLimit.Domain = "" }, "rate_limit", "domain"},
		"an entry":         {func(c *Config) { c.RateLimit.Descriptors[0][0].From = "subject" }, "rate_limit.descriptors[0][0]", "not both"},
		"an entry with a key": {func(c *Config) {
			c.APIKeys, _ = keysOf(t, time.Time{}, "ci")
			c.APIKeys.Header, c.RateLimit.Descriptors[0][0] = "x-caller", DescriptorEntry{Key: "k", From: "metadata:x-caller"}
		}, "rate_limit.descriptors[0][0]", "API key"},
		"an entry from nowhere": {func(c *Config) { c.RateLimit.Descriptors[0][0] = DescriptorEntry{Key: "k", From: "x"} }, "rate_limit.descriptors[0][0]", "metadata:"},
		"all_of":                {func(c *Config) { c.AllOf = []string{"staff", "stuff"} }, "all_of[1]", "stuff"},
		"any_of":                {func(c *Config) { c.AnyOf = []string{"staff", "staff"} }, "any_of[1]", "second time"},
		"a way that's nowhere":  {func(c *Config) { c.AnyOf = []string{"staff", "shop", WayAPIKeys, WayExternal} }, "any_of", WayCertificates},
		"a public method":       {func(c *Config) { c.PublicMethods = []string{"a.B/C", "shop"} }, "public_methods[1]", "shop"},
		"a rule without a name": {func(c *Config) { c.Rules = append(c.Rules, Rule{}) }, "rules[1].name", "is empty"},
		"a rule of nothing":     {func(c *Config) { c.Rules = append(c.Rules, Rule{Name: "two"}) }, "rules[1]", "no condition"},
		"a kind":                {func(c *Config) { c.Rules[0].Kinds = []string{"jwt", "saml"} }, "rules[0].kinds[1]", "saml"},
		"a rule's claim":        {func(c *Config) { c.Rules[0].Claims = []Requirement{{Claim: "email"}, {Claim: `a\b`}} }, "rules[0].claims[1].claim", "backslash"},
		"a rule's claim's value": {func(c *Config) {
			c.Rules[0].Claims = []Requirement{{Claim: "role", Values: []string{"admin", ""}}}
		}, "rules[0].claims[0].values[1]", "is empty"},
		"claims without tokens": {func(c *Config) {
			c.Issuers, c.Rules[0].Claims = nil, []Requirement{{Claim: "email"}}
		}, "rules[0].claims", "only tokens have claims"},
		"too many claims": {func(c *Config) {
			for i := range 257 {
				c.Rules = append(c.Rules, Rule{Name: fmt.Sprint(i), Claims: []Requirement{{Claim: "role", Values: []string{fmt.Sprint(i)}}}})
			}
		}, "rules[257].claims[0]", "256 different"},
		"a rule's issuer": {func(c *Config) { c.Rules[0].Issuers = []string{"staff", staffIssuer} }, "rules[0].issuers[1]", "no issuer has the name"},
		"callers without a credential": {func(c *Config) {
			c.Rules[0].Identities, c.Rules[0].Kinds, c.Rules[0].Methods = nil, []string{"none"}, []string{"a.B/C"}
		}, "rules[0].kinds", "public_methods"},
		"a kind of no way": {func(c *Config) {
			c.Certificates, c.Rules[0].Kinds = false, []string{"mtls"}
		}, "rules[0].kinds", "can match no call"},
		"a kind of no way, to deny": {func(c *Config) {
			c.Certificates, c.Rules[0] = false, Rule{Name: "one", Deny: true, Kinds: []string{"mtls"}}
		}, "rules[0].kinds", "can match no call"},
		"a kind of a later way": {func(c *Config) {
			c.AllOf, c.AnyOf = []string{"shop", WayCertificates}, []string{"staff", WayAPIKeys, WayExternal}
			c.Rules[0].Kinds = []string{"mtls", "api-key"}
		}, "rules[0].kinds", `the identity of "shop", the first of all_of`},
		"an issuer of a later way": {func(c *Config) {
			c.AllOf, c.AnyOf = []string{"shop", WayCertificates}, []string{"staff", WayAPIKeys, WayExternal}
			c.Rules[0].Issuers = []string{"staff"}
		}, "rules[0].issuers", `the identity of "shop", the first of all_of`},
		"a kind and an issuer of two ways": {func(c *Config) {
			c.Rules[0].Kinds, c.Rules[0].Issuers = []string{"mtls", "none"}, []string{"staff"}
		}, "rules[0].kinds", "no way to authenticate proves such an identity"},
		"a rule's route": {func(c *Config) { c.Rules[0].Routes = []string{"x"} }, "rules[0].routes[0]", "no route"},
	} {
		cfg := good()
		row.change(&cfg)
		a, err := New(cfg, nil)
		m, is := errors.AsType[*Mistake](err)
		if !is || a != nil {
			t.Errorf("%s: got %v, %v", name, a, err)
			continue
		}
		if m.Key != row.key || !strings.Contains(m.Text, row.says) || !strings.HasPrefix(m.Error(), row.key) || strings.Contains(m.Error(), "hush") {
			t.Errorf("%s: got %q, want the key %s, and %q in the text", name, m, row.key, row.says)
		}
	}
	newAuth(t, good())
	for _, only := range []Config{
		{Rules: []Rule{{Name: "no", Deny: true, Methods: []string{"*/*"}}}},
		{Issuers: []Issuer{staff(t)}, Rules: []Rule{{Name: "some", Kinds: []string{"mtls", "jwt"}}, {Name: "nobody", Deny: true, Kinds: []string{"none"}}}},
		{Issuers: []Issuer{staff(t)}, Certificates: true, AllOf: []string{"staff", WayCertificates}, Rules: []Rule{{Name: "no", Deny: true, Kinds: []string{"mtls"}}}},
		{RateLimit: &RateLimit{Target: "127.0.0.1:1", TLS: &tls.Config{}, Domain: "d", Descriptors: [][]DescriptorEntry{{{Key: "k", Value: "v"}}}}},
	} {
		newAuth(t, only)
	}
}

func TestMistakeOfAnotherError(t *testing.T) {
	if m := mistakeOf(errors.New("x")); m.Key != "" || m.Error() != "x" {
		t.Errorf("got %+v", m)
	}
	if m := mistakeOf(&rules.Mistake{Rule: 2, Text: "is wrong"}); m.Error() != "rules[2] is wrong" {
		t.Errorf("got %+v", m)
	}
}

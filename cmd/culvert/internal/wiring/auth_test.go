package wiring

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
)

const everyAuthKey = `listen: [{address: ":8443", tls: {cert: c.pem, key: k.pem, client_ca: ca.pem}}]
backend: {address: localhost:9000}
routes: [{name: orders, backend: default}]
auth:
  issuers:
  - name: staff
    issuer: https://id.example.com
    ca: /id.pem
    token_file: /id.token
    keys_ca: /keys.pem
    keys_token_file: /keys.token
    algorithms: [ES256]
    types: [at+jwt, none]
    audiences: [orders]
    route_audiences: [{route: orders, audiences: [orders-api]}]
    skew: 5s
    endless: true
    required: [{claim: realm_access.roles, values: [user]}]
    scopes: [orders.read]
    metadata: [{claim: email, name: x-email}]
  - {name: partner, issuer: partner, keys_url: https://partner.example.com/keys, audiences: [orders]}
  - {name: test, issuer: test, keys_file: /test.json, audiences: [orders]}
  api_keys: {file: /keys.txt, header: x-key}
  certificates: true
  external:
    EXTERNAL
    answer_names: [x-user]
    own: [x-role]
    timeout: 1s
    fail_open: true
    concurrent: 7
    bytes: 8KiB
    cache: {ttl: 10s, entries: 9}
  all_of: [certificates]
  any_of: [staff, partner, test, api_keys, external]
  public_methods: [grpc.health.v1.Health/*]
  rules:
  - {name: admins, deny: true, identities: ["*@example.com"], issuers: [staff], kinds: [jwt], scopes: [admin], claims: [{claim: email_verified, values: ["true"]}], origins: [https://app.example.com], methods: [shop.v1.Admin/*], routes: [orders]}
  strip: true
  token_expiry: ignore
  cookie: session
  rate_limit:
    address: limits:8081
    domain: edge
    descriptors: [{entries: [{key: subject, from: subject}, {key: plan, value: free}]}]
    timeout: 20ms
    fail_closed: true
`

// TestEveryKeyOfAuthReachesIt: no field of package auth's Config is left out.
func TestEveryKeyOfAuthReachesIt(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	got := Auth(cmdtest.Load(t, strings.ReplaceAll(everyAuthKey, "EXTERNAL", "url: https://auth.example.com/verify\n    get: true\n    names: []")))
	want := &auth.Config{
		Issuers: []auth.Issuer{
			{
				Name: "staff", Issuer: "https://id.example.com", Access: auth.Access{CAFile: "/id.pem", TokenFile: "/id.token"}, KeysAccess: auth.Access{CAFile: "/keys.pem", TokenFile: "/keys.token"},
				Algorithms: []string{"ES256"}, Types: []string{"at+jwt", ""}, Audiences: []string{"orders"}, RouteAudiences: map[string][]string{"orders": {"orders-api"}},
				Skew: 5 * time.Second, Endless: true, Required: []auth.Requirement{{Claim: "realm_access.roles", Values: []string{"user"}}}, Scopes: []string{"orders.read"}, Metadata: []auth.ClaimMetadata{{Claim: "email", Name: "x-email"}},
			},
			{Name: "partner", Issuer: "partner", KeysURL: "https://partner.example.com/keys", Audiences: []string{"orders"}},
			{Name: "test", Issuer: "test", KeysFile: "/test.json", Audiences: []string{"orders"}},
		},
		APIKeys: &auth.APIKeys{File: "/keys.txt", Header: "x-key"}, Certificates: true,
		External: &auth.External{
			URL: "https://auth.example.com/verify", Get: true, AnswerNames: []string{"x-user"}, Names: []string{}, Own: []string{"x-role"},
			Timeout: time.Second, FailOpen: true, Concurrent: 7, Bytes: 8 << 10, CacheTTL: 10 * time.Second, CacheEntries: 9,
		},
		RateLimit: &auth.RateLimit{
			Target: "limits:8081", Domain: "edge", Timeout: 20 * time.Millisecond, FailClosed: true,
			Descriptors: [][]auth.DescriptorEntry{{{Key: "subject", From: "subject"}, {Key: "plan", Value: "free"}}},
		},
		AllOf: []string{"certificates"}, AnyOf: []string{"staff", "partner", "test", "api_keys", "external"}, PublicMethods: []string{"grpc.health.v1.Health/*"},
		Rules: []auth.Rule{{
			Name: "admins", Deny: true, Identities: []string{"*@example.com"}, Issuers: []string{"staff"}, Kinds: []string{"jwt"}, Scopes: []string{"admin"},
			Claims:  []auth.Requirement{{Claim: "email_verified", Values: []string{"true"}}},
			Origins: []string{"https://app.example.com"}, Methods: []string{"shop.v1.Admin/*"}, Routes: []string{"orders"},
		}},
		Cookie: "session", Strip: true, IgnoreExpiry: true, Routes: []string{"orders"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	byTarget := Auth(cmdtest.Load(t, strings.Replace(everyAuthKey, "EXTERNAL\n    answer_names: [x-user]", "address: localhost:1\n    names: [authorization]", 1)))
	allSet(t, *got)
	allSet(t, got.Issuers...)
	allSet(t, *got.External, *byTarget.External)
	allSet(t, *got.RateLimit)
	allSet(t, got.Rules...)
	if c := Auth(cmdtest.Load(t, "backend: {address: localhost:1}")); c != nil {
		t.Errorf("without the section: %+v, want nothing", c)
	}
}

// allSet fails for each field that all of the values leave out, except those that serve sets.
func allSet[T any](t *testing.T, values ...T) {
	t.Helper()
	of := reflect.TypeFor[T]()
	for i := range of.NumField() {
		name := of.Field(i).Name
		if name != "Logger" && name != "TLS" && name != "Offline" && !slices.ContainsFunc(values, func(v T) bool { return !reflect.ValueOf(v).Field(i).IsZero() }) {
			t.Errorf("%s.%s is set nowhere", of.Name(), name)
		}
	}
}

// TestAuthMistakesHaveTheirPlaces in the file, for each form of a key.
func TestAuthMistakesHaveTheirPlaces(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	c := cmdtest.Load(t, `backend: {address: localhost:9000}
auth:
  issuers:
  - name: staff
    issuer: https://id.example.com
    audiences: [orders]
  external:
    address: localhost:1
  rules:
  - name: one
    methods:
    - a.B/*
    - a.C/*
  rate_limit:
    address: localhost:2
    domain: edge
    descriptors:
    - entries:
      - key: a
        from: subject
`)
	for key, want := range map[string]string{
		"":                                  "auth: is wrong",
		"issuers[0].audiences":              ":6: auth.issuers[0].audiences: is wrong",
		"issuers[0].skew":                   ":4: auth.issuers[0].skew: is wrong",
		"rules[0].methods[1]":               ":11: auth.rules[0].methods: is wrong",
		"external":                          ":8: auth.external.address: is wrong",
		"external.timeout":                  "auth.external.timeout: is wrong",
		"rate_limit":                        ":15: auth.rate_limit.address: is wrong",
		"rate_limit.descriptors[0]":         ":18: auth.rate_limit.descriptors[0]: is wrong",
		"rate_limit.descriptors[0][0].from": ":20: auth.rate_limit.descriptors[0].entries[0].from: is wrong",
	} {
		if got := AuthPlaced(&auth.Mistake{Key: key, Text: "is wrong"}, c).Error(); !strings.HasSuffix(got, want) {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
	other := errors.New("other")
	if got := AuthPlaced(errors.Join(other, &auth.Mistake{Key: "external", Text: "is wrong"}), c).Error(); !strings.HasPrefix(got, "other\n") || !strings.HasSuffix(got, ":8: auth.external.address: is wrong") {
		t.Errorf("several: %q", got)
	}
}

// TestMistakesOfAuthAreThoseOfTheFile: what package config can't see, auth does.
func TestMistakesOfAuthAreThoseOfTheFile(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	const head = "backend: {address: localhost:9000}\nauth:\n  api_keys: {file: FILE}\n"
	for _, c := range []struct{ name, file, want string }{
		{"reserved metadata", "  external:\n    address: localhost:1\n    own:\n    - grpc-timeout\n", ":5: auth.external.address: "},
		{"a pattern of methods", "  rules:\n  - {name: a, kinds: [none]}\n  - name: b\n    methods: ['a.B/[xy]']\n", ":7: auth.rules[1].methods: "},
		{"a pattern of identities", "  rules:\n  - name: b\n    identities: ['a**b']\n", ":6: auth.rules[0].identities: "},
		{"an origin", "  rules:\n  - name: b\n    origins: ['https://*.example.com']\n", ":6: auth.rules[0].origins: "},
		{"a rule's claim", "  issuers:\n  - {name: b, issuer: b, keys_url: 'https://id.example.com', audiences: [a]}\n  rules:\n  - name: b\n    claims:\n    - claim: 'a\\b'\n", ":9: auth.rules[0].claims[0].claim: "},
		{"a value of a rule's claim", "  issuers:\n  - {name: b, issuer: b, keys_url: 'https://id.example.com', audiences: [a]}\n  rules:\n  - name: b\n    claims:\n    - claim: a\n      values: [x, '']\n", ":10: auth.rules[0].claims[0].values: "},
		{"claims without tokens", "  rules:\n  - name: b\n    claims: [{claim: a}]\n", ":6: auth.rules[0].claims: "},
		{"a claim", "  issuers:\n  - name: b\n    issuer: https://id.example.com\n    audiences: [a]\n    required: [{claim: 'a\\b'}]\n", ":8: auth.issuers[0].required[0].claim: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(keys, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			loaded := cmdtest.Load(t, strings.Replace(head, "FILE", keys, 1)+c.file)
			a, err := auth.New(*Auth(loaded), nil)
			if err == nil {
				_ = a.Close()
				t.Fatal("package auth takes it")
			}
			if got := AuthPlaced(err, loaded).Error(); !strings.Contains(got, c.want) || !strings.HasPrefix(got, loaded.File) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestWhoGetsCookies: requests with cookies need an origin if auth looks at them.
func TestWhoGetsCookies(t *testing.T) {
	cmdtest.ClearEnvironment(t)
	const issuer = "issuers: [{name: a, issuer: 'https://a.example', audiences: [x]}]"
	for _, c := range []struct {
		auth              string
		cookies, protocol bool
	}{
		{issuer, false, false},
		{issuer + ", cookie: session", true, false},
		{issuer + ", bearer_subprotocol: true", false, true},
		{"external: {url: 'http://localhost:1'}", true, false},
		{"external: {url: 'http://localhost:1', names: [authorization]}", false, false},
		{"external: {address: 'localhost:1'}", false, false},
		{"external: {address: 'localhost:1', names: [cookie]}", true, false},
	} {
		got := Bridge(cmdtest.Load(t, "backend: {address: localhost:1}\nauth: {"+c.auth+"}\n"))
		if got.AuthCookies != c.cookies || got.BearerSubprotocol != c.protocol {
			t.Errorf("%s: cookies %v, subprotocol %v", c.auth, got.AuthCookies, got.BearerSubprotocol)
		}
	}
}

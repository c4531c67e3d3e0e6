package config

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// everyAuthKey sets all keys of auth. A part that excludes another stands in its comment.
const everyAuthKey = `listen: [{address: ":8443", tls: {cert: c.pem, key: k.pem, client_ca: ca.pem}}]
backend: {address: localhost:9000}
routes: [{name: orders, backend: default}]
auth:
  issuers:
  - name: staff
    issuer: https://id.example.com
    ca: id.pem
    token_file: id.token
    keys_ca: keys.pem
    keys_token_file: keys.token
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
  - {name: test, issuer: test, keys_file: test.json, audiences: [orders]}
  api_keys: {file: keys.txt, header: x-key}
  certificates: true
  external:
    url: https://auth.example.com/verify
    tls: {enabled: true, ca: ext.pem, cert: ext-c.pem, key: ext-k.pem, server_name: auth.internal}
    get: true
    answer_names: [x-user]
    names: [authorization]
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
  enforce: false
  strip: true
  token_expiry: ignore
  cookie: session
  bearer_subprotocol: true
  rate_limit:
    address: limits:8081
    tls: {enabled: true, ca: rl.pem, cert: rl-c.pem, key: rl-k.pem, server_name: limits.internal}
    domain: edge
    descriptors: [{entries: [{key: subject, from: subject}, {key: plan, value: free}]}]
    timeout: 20ms
    fail_closed: true
`

func TestEveryKeyOfAuthReachesItsField(t *testing.T) {
	clearEnvironment(t)
	file := write(t, "proxy.yaml", everyAuthKey)
	l, err := Load(Options{}, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(filepath.Dir(file), name) }
	want := Auth{
		Issuers: []AuthIssuer{
			{
				Name: "staff", Issuer: "https://id.example.com", CA: at("id.pem"), TokenFile: at("id.token"), KeysCA: at("keys.pem"), KeysTokenFile: at("keys.token"),
				Algorithms: []string{"ES256"}, Types: []string{"at+jwt", "none"}, Audiences: []string{"orders"}, RouteAudiences: []AuthRouteAudiences{{"orders", []string{"orders-api"}}},
				Skew: 5 * time.Second, Endless: true, Required: []AuthRequiredClaim{{"realm_access.roles", []string{"user"}}}, Scopes: []string{"orders.read"}, Metadata: []AuthClaimMetadata{{"email", "x-email"}},
			},
			{Name: "partner", Issuer: "partner", KeysURL: "https://partner.example.com/keys", Audiences: []string{"orders"}},
			{Name: "test", Issuer: "test", KeysFile: at("test.json"), Audiences: []string{"orders"}},
		},
		APIKeys: AuthAPIKeys{at("keys.txt"), "x-key"}, Certificates: true,
		External: AuthExternal{
			URL: "https://auth.example.com/verify", TLS: ServiceTLS{true, at("ext.pem"), at("ext-c.pem"), at("ext-k.pem"), "auth.internal"}, Get: true, AnswerNames: []string{"x-user"}, Names: []string{"authorization"},
			Own: []string{"x-role"}, Timeout: time.Second, FailOpen: true, Concurrent: 7, Bytes: 8 << 10, Cache: AuthCache{10 * time.Second, 9},
		},
		AllOf: []string{"certificates"}, AnyOf: []string{"staff", "partner", "test", "api_keys", "external"}, PublicMethods: []string{"grpc.health.v1.Health/*"},
		Rules: []AuthRule{{
			Name: "admins", Deny: true, Identities: []string{"*@example.com"}, Issuers: []string{"staff"}, Kinds: []string{"jwt"}, Scopes: []string{"admin"}, Claims: []AuthRequiredClaim{{"email_verified", []string{"true"}}},
			Origins: []string{"https://app.example.com"}, Methods: []string{"shop.v1.Admin/*"}, Routes: []string{"orders"},
		}},
		Strip: true, TokenExpiry: "ignore", Cookie: "session", BearerSubprotocol: true,
		RateLimit: AuthRateLimit{
			Address: "limits:8081", TLS: ServiceTLS{true, at("rl.pem"), at("rl-c.pem"), at("rl-k.pem"), "limits.internal"}, Domain: "edge",
			Descriptors: []AuthDescriptor{{[]AuthDescriptorEntry{{Key: "subject", From: "subject"}, {Key: "plan", Value: "free"}}}}, Timeout: 20 * time.Millisecond, FailClosed: true,
		},
	}
	if !reflect.DeepEqual(l.Auth, want) {
		t.Errorf("got  %+v\nwant %+v", l.Auth, want)
	}
	for _, k := range fileKeys.keys {
		if strings.HasPrefix(k.Name, "auth.") && k.Name != "auth.external.address" && !l.IsSet(k.Name) {
			t.Errorf("%s isn't looked at here", k.Name)
		}
	}
	changed := Changed(&Loaded{Config: Defaults()}, l)
	for _, key := range changed {
		if strings.HasPrefix(key, "auth.") && NeedsRestart(key) {
			t.Errorf("%s needs a restart", key)
		}
	}
}

func TestAuthKeysThatDontGoTogether(t *testing.T) {
	const issuer = "auth: {issuers: [{name: staff, issuer: 'https://id.example.com', audiences: [a]}]"
	for _, c := range []struct {
		name, file     string
		errs, warnings []string
	}{
		{"nothing", "auth: {}", nil, nil},
		{"an issuer", issuer + "}", nil, nil},
		{"defaults without a way", "auth: {enforce: true, token_expiry: close}", nil, nil},
		{"keys without a way", "auth:\n  strip: true\n  public_methods: [a.B/*]", []string{
			"proxy.yaml:3: auth.public_methods: … no effect … auth.issuers … remove",
			"proxy.yaml:2: auth.strip: … no effect … auth.issuers … remove",
		}, nil},
		{"rules without a way", "auth:\n  rules:\n  - {name: a, methods: [a.B/*]}\n  - {name: b, deny: true, methods: [a.B/C]}", []string{
			"proxy.yaml:3: auth.rules[0]: … no effect … every call passes … auth.issuers",
		}, nil},
		{"two issuers of one name", "auth:\n  issuers:\n  - {name: a, issuer: 'https://a.example', audiences: [x]}\n  - {name: a, issuer: 'https://a.example', audiences: [x]}", []string{
			"proxy.yaml:4: auth.issuers[1].name: … proxy.yaml:3: auth.issuers[0].name … another",
			"proxy.yaml:4: auth.issuers[1].issuer: … proxy.yaml:3: auth.issuers[0].issuer … merge",
		}, nil},
		{"an issuer with the name of a way", "auth: {issuers: [{name: external, issuer: 'https://a.example', audiences: [x]}]}", []string{
			"proxy.yaml:1: auth.issuers[0].name: … another way",
		}, nil},
		{"no audience", "auth:\n  issuers:\n  - name: a\n    issuer: https://a.example", []string{
			"proxy.yaml:3: auth.issuers[0].audiences: … aud … other services",
		}, nil},
		{"a plaintext issuer", "auth: {issuers: [{name: a, issuer: 'http://a.example', audiences: [x]}]}", []string{
			"proxy.yaml:1: auth.issuers[0].issuer: … HTTPS … keys_url … keys_file",
		}, nil},
		{"a plaintext issuer on loopback", "auth: {issuers: [{name: a, issuer: 'http://127.0.0.1:8080/realm', audiences: [x]}]}", nil, nil},
		{"plaintext keys", "auth: {issuers: [{name: a, issuer: a, keys_url: 'http://a.example/keys', audiences: [x]}]}", []string{
			`proxy.yaml:1: auth.issuers[0].keys_url: … "http://a.example/keys" … plaintext … https:// … loopback`,
		}, nil},
		{"a password in a URL", "auth: {issuers: [{name: a, issuer: a, keys_url: 'https://u:hunter2@a.example/keys', audiences: [x]}]}", []string{
			`proxy.yaml:1: auth.issuers[0].keys_url: … user name … write`,
		}, nil},
		{"two places of keys", "auth: {issuers: [{name: a, issuer: a, keys_url: 'https://a.example/keys', keys_file: f, audiences: [x]}]}", []string{
			"proxy.yaml:1: auth.issuers[0].keys_file: … auth.issuers[0].keys_url … remove",
		}, nil},
		{"a CA for a file", "auth: {issuers: [{name: a, issuer: a, ca: c.pem, keys_file: f, audiences: [x]}]}", []string{
			"proxy.yaml:1: auth.issuers[0].ca: … no effect … auth.issuers[0].keys_file",
		}, nil},
		{"a token for another host without discovery", "auth: {issuers: [{name: a, issuer: a, keys_url: 'https://a.example', keys_token_file: f, audiences: [x]}]}", []string{
			"proxy.yaml:1: auth.issuers[0].keys_token_file: … no effect … token_file",
		}, nil},
		{"audiences of no route", "auth: {issuers: [{name: a, issuer: 'https://a.example', route_audiences: [{route: r, audiences: [x]}, {route: r, audiences: []}]}]}", []string{
			`proxy.yaml:1: auth.issuers[0].route_audiences[0].route: … no route … "r"`,
			`proxy.yaml:1: auth.issuers[0].route_audiences[1].route: … no route … "r"`,
			`proxy.yaml:1: auth.issuers[0].route_audiences[1].route: … merge`,
			`proxy.yaml:1: auth.issuers[0].route_audiences[1].audiences: … empty`,
		}, nil},
		{"a long skew and tokens for ever", "auth: {issuers: [{name: a, issuer: 'https://a.example', audiences: [x], skew: 11m, endless: true}]}", []string{
			"proxy.yaml:1: auth.issuers[0].skew: … 10m0s",
		}, []string{"proxy.yaml:1: auth.issuers[0].endless: … exp"}},
		{"no skew", "auth: {issuers: [{name: a, issuer: 'https://a.example', audiences: [x], skew: 0s}]}", []string{
			`proxy.yaml:1: auth.issuers[0].skew: … "0s" … more than 0s`,
		}, nil},
		{"an algorithm with a shared secret", "auth: {issuers: [{name: a, issuer: 'https://a.example', audiences: [x], algorithms: [HS256]}]}", []string{
			`proxy.yaml:1: auth.issuers[0].algorithms: … "HS256" … RS256`,
		}, nil},
		{"two claims for one name", "auth: {issuers: [{name: a, issuer: 'https://a.example', audiences: [x], metadata: [{claim: a, name: x-a}, {claim: b, name: x-a}]}]}", []string{
			"proxy.yaml:1: auth.issuers[0].metadata[1].name: … auth.issuers[0].metadata[0].name … another",
		}, nil},
		{"an illegal name and claim", "auth: {issuers: [{name: a, issuer: 'https://a.example', audiences: [x], metadata: [{claim: '', name: X-A}]}]}", []string{
			"proxy.yaml:1: auth.issuers[0].metadata[0].claim: … names no claim",
			`proxy.yaml:1: auth.issuers[0].metadata[0].name: … "X-A" … lower-case`,
		}, nil},
		{"two scopes in one entry", "auth: {issuers: [{name: a, issuer: 'https://a.example', audiences: [x], scopes: ['a b']}]}", []string{
			`proxy.yaml:1: auth.issuers[0].scopes: … "a b" … entry`,
		}, nil},
		{"unknown ways", issuer + ", all_of: [staf, api_keys], any_of: [certificates, external]}", []string{
			`proxy.yaml:1: auth.all_of: … "staf" … staff`,
			`proxy.yaml:1: auth.all_of: … "api_keys" … auth.api_keys.file`,
			`proxy.yaml:1: auth.any_of: … "certificates" … auth.certificates`,
			`proxy.yaml:1: auth.any_of: … "external" … auth.external.address … auth.external.url`,
			"proxy.yaml:1: auth.issuers[0]: … auth.all_of … auth.any_of",
		}, nil},
		{"ways twice", issuer + ", all_of: [staff, staff], any_of: [staff]}", []string{
			`proxy.yaml:1: auth.all_of: … "staff" … twice`,
			`proxy.yaml:1: auth.any_of: … "staff" … auth.all_of`,
		}, nil},
		{"certificates without a CA", "auth: {certificates: true}", []string{
			"proxy.yaml:1: auth.certificates: … tls.client_ca",
		}, nil},
		{"two services", "auth: {external: {address: 'localhost:1', url: 'http://localhost:2'}}", []string{
			"proxy.yaml:1: auth.external.url: … auth.external.address … remove",
		}, nil},
		{"keys of HTTP on gRPC", "auth: {external: {address: 'localhost:1', get: true, answer_names: [x-user]}}", []string{
			"proxy.yaml:1: auth.external.get: … gRPC … auth.external.url",
			"proxy.yaml:1: auth.external.answer_names: … gRPC … auth.external.url",
		}, nil},
		{"out of bounds", "auth: {external: {address: 'localhost:1', names: [a], timeout: 11s, concurrent: 10001, bytes: 5MiB, cache: {ttl: 6m, entries: 100001}}}", []string{
			"proxy.yaml:1: auth.external.timeout: … 10s",
			"proxy.yaml:1: auth.external.concurrent: … 10000",
			"proxy.yaml:1: auth.external.bytes: … 4MiB",
			"proxy.yaml:1: auth.external.cache.ttl: … 5m0s",
			"proxy.yaml:1: auth.external.cache.entries: … 100000",
		}, nil},
		{"a cache without names", "auth: {external: {address: 'localhost:1', cache: {ttl: 1m}}}", []string{
			"proxy.yaml:1: auth.external.cache.ttl: … auth.external.names",
		}, nil},
		{"keys of a service that isn't there", issuer + ", external: {fail_open: true}, rate_limit: {domain: a}}", []string{
			"proxy.yaml:1: auth.external.fail_open: … auth.external.address … auth.external.url",
			"proxy.yaml:1: auth.rate_limit.domain: … auth.rate_limit.address",
		}, nil},
		{"TLS against the URL", "auth: {external: {url: 'http://localhost:1', tls: {enabled: true, ca: c.pem}}}", []string{
			"proxy.yaml:1: auth.external.tls.enabled: … auth.external.url … remove",
			"proxy.yaml:1: auth.external.tls.ca: … plaintext … https://",
		}, nil},
		{"half a certificate", "auth: {external: {address: 'a:1', tls: {cert: c.pem}}}", []string{
			"proxy.yaml:1: auth.external.tls.cert: … auth.external.tls.key",
		}, nil},
		{"TLS that is off", "auth: {external: {address: 'a:1', tls: {enabled: false, ca: c.pem}}}", []string{
			"proxy.yaml:1: auth.external.tls.ca: … auth.external.tls.enabled … remove",
		}, []string{"proxy.yaml:1: auth.external.address: … plaintext … TLS"}},
		{"services over plaintext", "auth: {external: {url: 'http://auth.example/'}, rate_limit: {address: 'limits:1', domain: a, descriptors: [{entries: [{key: a, value: b}]}]}}", nil, []string{
			"proxy.yaml:1: auth.external.url: … plaintext … TLS",
			"proxy.yaml:1: auth.rate_limit.address: … plaintext … TLS",
		}},
		{"services that stay here", "auth: {external: {address: 'dns:///127.0.0.1:1'}, rate_limit: {address: 'unix:///run/a.sock', domain: a, descriptors: [{entries: [{key: a, value: b}]}]}}", nil, nil},
		{"a rate limit of nothing", "auth: {rate_limit: {address: 'localhost:1', timeout: 2s}}", []string{
			"proxy.yaml:1: auth.rate_limit.address: … auth.rate_limit.domain",
			"proxy.yaml:1: auth.rate_limit.address: … auth.rate_limit.descriptors",
			"proxy.yaml:1: auth.rate_limit.timeout: … 1s",
		}, nil},
		{"entries of descriptors", "auth: {rate_limit: {address: 'localhost:1', domain: a, descriptors: [{entries: []}, {entries: [{key: a}, {key: a, value: b, from: route}, {key: a, from: user}]}]}}", []string{
			`proxy.yaml:1: auth.rate_limit.descriptors[1].entries[2].from: … "user" … subject … metadata:x-tenant`,
		}, nil},
		{"values of descriptors", "auth: {rate_limit: {address: 'localhost:1', domain: a, descriptors: [{entries: []}, {entries: [{key: a}, {key: a, value: b, from: 'metadata:x-a'}]}]}}", []string{
			"proxy.yaml:1: auth.rate_limit.descriptors[0].entries: … empty",
			"proxy.yaml:1: auth.rate_limit.descriptors[1].entries[0]: … value … from",
			"proxy.yaml:1: auth.rate_limit.descriptors[1].entries[1].from: … auth.rate_limit.descriptors[1].entries[1].value … remove",
		}, nil},
		{"rules", issuer + ", rules: [{name: a, routes: [r], issuers: [staf]}, {name: a}]}", []string{
			`proxy.yaml:1: auth.rules[0].routes: … no route … "r"`,
			`proxy.yaml:1: auth.rules[0].issuers: … no issuer … "staff"`,
			"proxy.yaml:1: auth.rules[1].name: … auth.rules[0].name … another",
		}, nil},
		{"claims of rules", issuer + ", rules: [{name: a, claims: [{claim: email}, {claim: 'a..b'}, {claim: '', values: [x]}]}]}", []string{
			`proxy.yaml:1: auth.rules[0].claims[1].claim: … "a..b" … names no claim … realm_access.roles`,
			`proxy.yaml:1: auth.rules[0].claims[2].claim: … names no claim … email`,
		}, nil},
		{"a claim without its name", issuer + ", rules: [{name: a, claims: [{values: [x]}]}]}", []string{
			`proxy.yaml:1: auth.rules[0].claims[0] … no claim … realm_access.roles`,
		}, nil},
		{"claims of another form", issuer + ", rules: [{name: a, claims: [email], methods: ['a.B/C']}]}", []string{
			`proxy.yaml:1: auth.rules[0].claims[0] … section … keys`,
		}, nil},
		{"one value of a claim", issuer + ", rules: [{name: a, claims: [{claim: email, value: x}]}]}", []string{
			`proxy.yaml:1: unknown key "value" … "values"`,
		}, nil},
		{"names of several ways", issuer + ", api_keys: {file: f}, rules: [{name: a, identities: [alice]}, {name: b, identities: [alice], kinds: [jwt]}, {name: c, identities: [alice], issuers: [staff]}, {name: d, deny: true, identities: [alice]}, {name: e, identities: ['*']}]}", nil, []string{
			"proxy.yaml:1: auth.rules[0].identities: … staff, api_keys … issuers or kinds",
		}},
		{"names of one way", issuer + ", api_keys: {file: f}, all_of: [staff, api_keys], rules: [{name: a, identities: [alice]}]}", nil, nil},
		{"a cookie that nobody judges", "auth: {rules: [{name: a, deny: true}], cookie: session, bearer_subprotocol: true}", []string{
			"proxy.yaml:1: auth.cookie: … auth.issuers",
			"proxy.yaml:1: auth.bearer_subprotocol: … auth.issuers",
		}, nil},
		{"credentials in addresses", "auth: {api_keys: {file: f}}\nroutes: [{name: r, backend: default, message: {path: /r, method: a.B/C, framing: protobuf, query: [x-api-key, authorization, x-room]}}]", []string{
			`proxy.yaml:2: routes[0].message.query: … "x-api-key" … message.first_message`,
			`proxy.yaml:2: routes[0].message.query: … "authorization" … message.first_message`,
		}, nil},
		{"API keys in the log", "auth: {api_keys: {file: f, header: x-caller}}\nlog: {fields: [metadata.x-caller, metadata.x-room]}", []string{
			`proxy.yaml:2: log.fields: … metadata.x-caller … proxy.yaml:1: auth.api_keys.header … remove`,
		}, nil},
		{"no API keys in the log", "log: {fields: [metadata.x-caller]}", nil, nil},
		{"an authorization that only the backend judges", "tls: {cert: c, key: k, client_ca: c}\nauth: {certificates: true}\nroutes: [{name: r, backend: default, message: {path: /r, method: a.B/C, framing: protobuf, query: [authorization, x-api-key]}}]", nil, nil},
		{"a cookie's name", issuer + ", cookie: 'a=b'}", []string{`proxy.yaml:1: auth.cookie: … "a=b" … cookie`}, nil},
		{"limits of identities", issuer + "}\nlimits: {calls: 5, identity: {calls: 6}}", nil, []string{"proxy.yaml:2: limits.identity.calls: … limits.calls … lower"}},
		{"limits of no identity", "limits: {identity: {calls: 6}}", nil, []string{"proxy.yaml:1: limits.identity.calls: … no call has an identity … auth"}},
		{"not enforced", issuer + ", enforce: false}", nil, []string{"proxy.yaml:1: auth.enforce: … true"}},
	} {
		t.Run(c.name, func(t *testing.T) { loadSays(t, "proxy.yaml", c.file, c.errs, c.warnings) })
	}
}

func TestHostsOfServices(t *testing.T) {
	for place, want := range map[string]string{
		"auth:9000": "auth", "dns:///auth.internal:9000": "auth.internal", "dns:auth:9000": "auth", "dns://192.0.2.53/auth": "auth", "[::1]:9000": "::1", "127.0.0.1:9000": "127.0.0.1",
		"https://auth.example.com/verify": "auth.example.com", "https://[::1]:8443/": "::1", "unix:///run/auth.sock": "localhost", "unix:auth.sock": "localhost",
	} {
		if got := (AuthService{Place: place}).Host(); got != want {
			t.Errorf("%s: got %q, want %q", place, got, want)
		}
	}
}

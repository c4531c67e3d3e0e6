// Package auth says who calls, and who may: it is a bridge.ConnAuthenticator of tokens, API keys,
// certificates and services that judge.
//
// A call passes these, in this order (call.go):
//
//  1. place.go finds credentials: of the call itself, else of its connection. conn.go judges what
//     came with the request for a WebSocket or a tunnel, once for 10 s.
//  2. Each way judges those of its kind: way_apikey.go, way_jwt.go, way_certificate.go. A
//     credential that no way takes is invalid, unless a service judges what is left. Nothing
//     invalid gives way to another credential.
//  3. Package rules makes one verdict of what the ways say. If that depends on a service,
//     way_external.go asks it.
//  4. Package rules decides by the identity.
//  5. The metadata of the call becomes what the backend may believe.
//  6. ratelimit.go has a service count the call.
//
// fault.go makes faults of refusals. failures.go bounds the tokens and the questions to a service
// that an address can have looked at in vain.
//
// auth.go makes an Authenticator of a Config, and mistake.go tells what is wrong with one.
// issuer.go and keys.go are about issuers and their keys. shared.go has what an Authenticator
// takes over from the one before, so that a reload loses no good keys. state.go and explain.go
// are for operators.
//
// # Goroutines
//
// Authenticate and AuthenticateConn run in their callers' goroutines. The leaves below internal
// have their own: sources of keys, and connections to services. Close waits for those that no
// other Authenticator uses.
package auth

import (
	"crypto/tls"
	"log/slog"
	"time"
)

// Config says who may call what. A zero Config can't be used: without a way to authenticate a
// server needs no Authenticator.
type Config struct {
	Issuers       []Issuer   // of bearer tokens that are JWTs
	APIKeys       *APIKeys   // nil: API keys aren't taken
	Certificates  bool       // a verified client certificate proves an identity
	External      *External  // a service that judges calls; nil: none
	RateLimit     *RateLimit // a service that counts calls across replicas; nil: none
	AllOf, AnyOf  []string   // names of ways: those of Issuers, and WayAPIKeys, WayCertificates, WayExternal; both empty: any way will do
	PublicMethods []string   // patterns as those of bridge.Config.AllowMethods: they need no credential
	Rules         []Rule     // see package rules: a deny rule wins; with allow rules, one must match

	Cookie       string // the name of a cookie that has a token; "": tokens in cookies aren't taken
	Strip        bool   // credentials that were judged don't reach the backend
	IgnoreExpiry bool   // calls go on when their credential expires

	// Offline fetches no keys, so that New only checks the Config. It is for Explain, too.
	Offline bool

	Routes []string // the names of routes, which rules and audiences may name

	Logger *slog.Logger // messages for the operator; nil: discarded
}

// Names of ways to authenticate, for AllOf, AnyOf and logs. Issuers have names of their own.
const (
	WayAPIKeys      = "api_keys"
	WayCertificates = "certificates"
	WayExternal     = "external"
)

// An Issuer is one whose tokens count.
type Issuer struct {
	Name   string // of the way: "staff"
	Issuer string // the claim iss must be the same, byte by byte

	// One of these says where the keys are. If none is set, the issuer's metadata does (OpenID
	// Connect Discovery).
	KeysURL, KeysFile  string
	Access, KeysAccess Access // see jwk.Options

	Algorithms     []string            // nil: all that aren't symmetric
	Types          []string            // values of typ that count; nil: JWT, at+jwt and none
	Audiences      []string            // aud must have one of them
	RouteAudiences map[string][]string // in place of Audiences, by the name of a route
	Skew           time.Duration       // how far clocks may differ; 0: a minute, negative: nothing
	Endless        bool                // tokens without exp count
	Required       []Requirement
	Scopes         []string // all of them are needed
	Metadata       []ClaimMetadata
}

// Access has the files for fetches of keys. Both are read again at each fetch.
type Access struct{ CAFile, TokenFile string }

// A Requirement is one for a claim. Claim is a path: "realm.roles", with \. for a dot in a name.
type Requirement struct {
	Claim  string
	Values []string // empty: it must be there
}

// A ClaimMetadata sends the backend a claim as metadata.
type ClaimMetadata struct{ Claim, Name string }

// APIKeys are keys of a file, by their hashes.
type APIKeys struct {
	File string

	// Header has the key of a call, in lower case; "": x-api-key. As authorization with the
	// scheme Bearer a key counts in any case, also that of a tunnel's request.
	Header string
}

// External is a service that judges calls: one of Target and URL is set.
type External struct {
	Target string      // of Envoy's envoy.service.auth.v3.Authorization
	URL    string      // of an HTTP service: forward-auth
	TLS    *tls.Config // nil: plaintext for Target, the system's authorities for URL. Another pointer is another service

	Get          bool     // the HTTP service is asked by GET
	AnswerNames  []string // headers of a 2xx answer that become metadata
	Names        []string // the metadata that the service gets; nil: see check.Options
	Own          []string // metadata that only the service may set
	Timeout      time.Duration
	FailOpen     bool
	Concurrent   int
	Bytes        int
	CacheTTL     time.Duration // 0: answers aren't kept
	CacheEntries int
}

// RateLimit is a service of Envoy's envoy.service.ratelimit.v3.RateLimitService.
type RateLimit struct {
	Target      string
	TLS         *tls.Config
	Domain      string
	Descriptors [][]DescriptorEntry
	Timeout     time.Duration // 0: 50 ms
	FailClosed  bool
}

// A DescriptorEntry is a part of a descriptor: a key, and either a value or where one comes from.
type DescriptorEntry struct {
	Key   string
	Value string // literal
	From  string // "identity", "subject", "issuer", "kind", "method", "service", "route", "peer", or "metadata:" with a name
}

// A Rule allows or denies the calls that meet all of its conditions. An empty list is no
// condition.
type Rule struct {
	Name       string
	Deny       bool
	Identities []string
	Issuers    []string // names of Config.Issuers
	Kinds      []string
	Scopes     []string      // all of them are needed
	Claims     []Requirement // of tokens; all of them are needed
	Origins    []string
	Methods    []string
	Routes     []string
}

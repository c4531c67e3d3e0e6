package config

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Auth configures who may call what.
type Auth struct {
	// Issuers whose tokens (JWTs) identify callers.
	Issuers []AuthIssuer `key:"issuers"`

	// API keys, by their hashes in a file.
	APIKeys AuthAPIKeys `key:"api_keys"`

	// Let verified client certificates identify callers (tls.client_ca).
	Certificates bool `key:"certificates"`

	// A service that judges each call.
	External AuthExternal `key:"external"`

	// Ways to authenticate that each call needs together: names of issuers,
	// "api_keys", "certificates", "external". The first one names the subject.
	AllOf []string `key:"all_of" is:"way"`

	// Ways of which each call needs one, in addition to all_of. Without both keys,
	// any way will do.
	AnyOf []string `key:"any_of" is:"way"`

	// Patterns of methods that need no credential, as in rules. An invalid one is
	// refused all the same.
	PublicMethods []string `key:"public_methods" is:"method pattern"`

	// Rules for calls. A deny rule wins. If there are allow rules, one must match.
	Rules []AuthRule `key:"rules"`

	// Refuse calls. With false, culvert only logs and counts them.
	Enforce bool `key:"enforce"`

	// Remove the credentials that culvert has judged from calls to the backend.
	Strip bool `key:"strip"`

	// When the credential of running calls expires, they end with UNAUTHENTICATED
	// ("close"), or continue ("ignore").
	TokenExpiry string `key:"token_expiry" one:"close,ignore"`

	// The name of a cookie that has a token. It counts only for culvert's own pages
	// and for origins that allow_origins lists without a pattern.
	Cookie string `key:"cookie" is:"cookie name"`

	// Also take tokens from the WebSocket subprotocol "culvert.bearer.<token in
	// base64url>". Middleboxes may log it: prefer a cookie or authorization.
	BearerSubprotocol bool `key:"bearer_subprotocol"`

	// A service that counts calls across replicas of culvert.
	RateLimit AuthRateLimit `key:"rate_limit"`
}

// AuthIssuer is an issuer of tokens.
type AuthIssuer struct {
	// The name in all_of, any_of, rules and the log.
	Name string `key:"name" is:"backend name" needed:"true"`

	// The claim iss of its tokens, byte by byte. Unless keys_url or keys_file is
	// set, it is also the URL of OpenID Connect Discovery.
	Issuer string `key:"issuer" is:"word" needed:"true"`

	// The URL of the issuer's keys (JWK set), in place of discovery. culvert
	// fetches it again as its headers say, and for an unknown key at most once a
	// minute.
	KeysURL string `key:"keys_url" is:"service url"`

	// A file with the issuer's keys (JWK set), in place of discovery.
	KeysFile string `key:"keys_file" is:"file"`

	// CA certificates (PEM) for verifying the host in issuer or keys_url. Default:
	// the system's CAs.
	CA string `key:"ca" is:"file"`

	// A file with a bearer token that culvert sends to this host.
	TokenFile string `key:"token_file" is:"file"`

	// CA certificates (PEM) for verifying another host that discovery names as the
	// place of the keys. Default: the system's CAs.
	KeysCA string `key:"keys_ca" is:"file"`

	// A file with a bearer token for that host.
	KeysTokenFile string `key:"keys_token_file" is:"file"`

	// Algorithms of the signatures. Default: all of these.
	Algorithms []string `key:"algorithms" one:"RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA"`

	// Types of tokens (the header typ); "none" for tokens without. Default: JWT,
	// at+jwt, none. Only "at+jwt" keeps ID tokens out, if the issuer sets it.
	Types []string `key:"types" is:"word"`

	// Names of this service in the claim aud, of which a token needs one. Each
	// issuer needs this key or route_audiences.
	Audiences []string `key:"audiences" is:"word"`

	// Audiences for calls of a route, in place of audiences.
	RouteAudiences []AuthRouteAudiences `key:"route_audiences"`

	// How far the issuer's clock and culvert's may differ, up to 10m. Default: 1m.
	Skew time.Duration `key:"skew" is:"positive duration"`

	// Accept tokens without the claim exp, which never expire.
	Endless bool `key:"endless"`

	// Claims that a token must have.
	Required []AuthRequiredClaim `key:"required"`

	// Scopes that a token must have, all of them.
	Scopes []string `key:"scopes" is:"scope"`

	// Claims that become metadata for the backend. Nobody else can set it.
	Metadata []AuthClaimMetadata `key:"metadata"`
}

// AuthRouteAudiences are the audiences for calls of one route.
type AuthRouteAudiences struct {
	// The name of the route.
	Route string `key:"route" is:"backend name" needed:"true"`

	// Names of this service in the claim aud.
	Audiences []string `key:"audiences" is:"word" needed:"true"`
}

// AuthRequiredClaim is a claim that a token must have.
type AuthRequiredClaim struct {
	// The claim: "email", or "realm_access.roles" for one in an object.
	// Write "\." for a dot in a name.
	Claim string `key:"claim" is:"claim" needed:"true"`

	// Values of which it must have one. Without this key, any value will do.
	Values []string `key:"values" is:"word"`
}

// AuthClaimMetadata is a claim that becomes metadata.
type AuthClaimMetadata struct {
	// The claim, as in required.
	Claim string `key:"claim" is:"claim" needed:"true"`

	// The name of the metadata.
	Name string `key:"name" is:"metadata name" needed:"true"`
}

// AuthAPIKeys configures API keys.
type AuthAPIKeys struct {
	// The file with hashes of the keys: lines of "culvert keys new".
	File string `key:"file" is:"file"`

	// The metadata that has the key. A key in authorization, with the scheme
	// Bearer, counts, too.
	Header string `key:"header" is:"metadata name"`
}

// AuthExternal configures external authorization. One of address and url turns it on.
type AuthExternal struct {
	// The address of a gRPC service (Check of envoy.service.auth.v3.Authorization),
	// as in backend.address.
	Address string `key:"address" is:"target"`

	// The URL of an HTTP service that answers as for forward-auth: 2xx permits the
	// call.
	URL string `key:"url" is:"external url"`

	// TLS to the service. For url, the scheme turns it on.
	TLS ServiceTLS `key:"tls" as:"backend.tls"`

	// Ask the HTTP service by GET, in place of POST.
	Get bool `key:"get"`

	// Headers of the HTTP service's 2xx answers that become metadata for the
	// backend. Clients can't set it.
	AnswerNames []string `key:"answer_names" is:"metadata name"`

	// Metadata that the service gets. Default: all of it over gRPC, authorization
	// and cookie over HTTP.
	Names []string `key:"names" is:"metadata name"`

	// Metadata that only the service can set, such as x-user-id.
	Own []string `key:"own" is:"metadata name"`

	// How long an answer may take, up to 10s.
	Timeout time.Duration `key:"timeout" is:"positive duration"`

	// Let calls pass while the service doesn't answer.
	FailOpen bool `key:"fail_open"`

	// Concurrent questions, up to 10000. Further calls wait.
	Concurrent int `key:"concurrent" is:"count"`

	// The largest question, up to 4MiB. Calls with larger metadata are refused.
	Bytes Size `key:"bytes"`

	// The cache of answers.
	Cache AuthCache `key:"cache"`
}

// AuthCache configures a cache of answers.
type AuthCache struct {
	// How long a permission counts for calls with the same method, address, listener
	// and metadata in names, up to 5m. Refusals count at most 5s. 0s: no cache.
	TTL time.Duration `key:"ttl"`

	// Answers in the cache, up to 100000.
	Entries int `key:"entries" is:"count"`
}

// ServiceTLS configures TLS to a service that culvert asks.
type ServiceTLS struct {
	// Use TLS. ca, cert, key and server_name each turn it on.
	Enabled bool `key:"enabled"`

	// CA certificates (PEM) for verifying the service. Default: the system's CAs.
	CA string `key:"ca" is:"file"`

	// culvert's own certificate chain (PEM).
	Cert string `key:"cert" is:"file"`

	// The private key (PEM) of cert.
	Key string `key:"key" is:"file"`

	// The name in the service's certificate. Default: from its address.
	ServerName string `key:"server_name" is:"name"`
}

// AuthRateLimit configures limits across replicas.
type AuthRateLimit struct {
	// The address of the service (ShouldRateLimit of
	// envoy.service.ratelimit.v3.RateLimitService), as in backend.address. Empty:
	// none.
	Address string `key:"address" is:"target"`

	// TLS to the service.
	TLS ServiceTLS `key:"tls" as:"backend.tls"`

	// The domain in the service's configuration.
	Domain string `key:"domain" is:"rate limit word"`

	// Descriptors, by which the service counts calls, except those for one of whose
	// entries a call has no value.
	Descriptors []AuthDescriptor `key:"descriptors"`

	// How long an answer may take, up to 1s.
	Timeout time.Duration `key:"timeout" is:"positive duration"`

	// Refuse calls while the service doesn't answer.
	FailClosed bool `key:"fail_closed"`
}

// AuthDescriptor is one descriptor of a rate limit.
type AuthDescriptor struct {
	// Its entries, in the order of the service's configuration.
	Entries []AuthDescriptorEntry `key:"entries" needed:"true"`
}

// AuthDescriptorEntry is one entry of a descriptor: key, and either value or from.
type AuthDescriptorEntry struct {
	// The key in the service's configuration.
	Key string `key:"key" is:"rate limit word" needed:"true"`

	// A literal value.
	Value string `key:"value" is:"rate limit word"`

	// Where the value comes from: "identity" (unique over all issuers and kinds),
	// "subject", "issuer", "kind", "method", "service", "route", "peer" (the
	// client's address), or "metadata:x-tenant".
	From string `key:"from" is:"descriptor source"`
}

// AuthRule allows or denies the calls that meet all of its conditions.
type AuthRule struct {
	// The name in the log and in "culvert routes explain".
	Name string `key:"name" is:"backend name" needed:"true"`

	// Deny the calls that match, in place of allowing them.
	Deny bool `key:"deny"`

	// Subjects, or patterns of them: "alice", "spiffe://example.com/ns/*/sa/web",
	// "*@example.com". "*" doesn't match /, : and @; "**" at the end matches all.
	Identities []string `key:"identities" is:"word"`

	// Names of issuers.
	Issuers []string `key:"issuers" is:"backend name"`

	// Kinds of credentials. none: callers without one, whom only a deny rule can name.
	Kinds []string `key:"kinds" one:"jwt,api-key,mtls,external,none"`

	// Scopes that the credential must have, all of them.
	Scopes []string `key:"scopes" is:"scope"`

	// Claims that the caller's token must have, all of them.
	Claims []AuthRequiredClaim `key:"claims"`

	// Origins of pages, without patterns.
	Origins []string `key:"origins" is:"word"`

	// Patterns of methods, "shop.v1.Orders/*", as the backend receives them.
	Methods []string `key:"methods" is:"method pattern"`

	// Names of routes.
	Routes []string `key:"routes" is:"backend name"`
}

// Names of ways to authenticate, besides issuers.
const (
	wayAPIKeys      = "api_keys"
	wayCertificates = "certificates"
	wayExternal     = "external"
)

// Enabled reports whether a key of the section has culvert judge calls.
func (a *Auth) Enabled() bool {
	return len(a.Ways()) > 0 || len(a.Rules) > 0 || a.RateLimit.Address != ""
}

// Enabled reports whether there is a service of external authorization.
func (e *AuthExternal) Enabled() bool { return e.Address != "" || e.URL != "" }

// Ways returns the names of the ways to authenticate.
func (a *Auth) Ways() []string {
	var ways []string
	for _, i := range a.Issuers {
		ways = append(ways, i.Name)
	}
	if a.APIKeys.File != "" {
		ways = append(ways, wayAPIKeys)
	}
	if a.Certificates {
		ways = append(ways, wayCertificates)
	}
	if a.External.Enabled() {
		ways = append(ways, wayExternal)
	}
	return ways
}

// Services returns the services that culvert asks about calls.
func (a *Auth) Services() (all []AuthService) {
	if a.External.Enabled() {
		all = append(all, AuthService{"auth.external", cmp.Or(a.External.Address, a.External.URL), &a.External.TLS})
	}
	if a.RateLimit.Address != "" {
		all = append(all, AuthService{"auth.rate_limit", a.RateLimit.Address, &a.RateLimit.TLS})
	}
	return all
}

// An AuthService is a service that culvert asks about calls.
type AuthService struct {
	Section string // "auth.external"
	Place   string // its address or URL
	TLS     *ServiceTLS
}

// PlaceKey returns the key in the section that has the place.
func (s AuthService) PlaceKey() string {
	if strings.HasPrefix(s.Place, "http://") || strings.HasPrefix(s.Place, "https://") {
		return "url"
	}
	return "address"
}

// Host returns the host in the service's address or URL: the name that its certificate has
// unless server_name is set. For a unix socket it is localhost.
func (s AuthService) Host() string {
	if strings.HasPrefix(s.Place, "unix") {
		return "localhost"
	}
	if u, err := url.Parse(s.Place); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return u.Hostname()
	}
	host := strings.TrimPrefix(s.Place[strings.LastIndexByte(s.Place, '/')+1:], "dns:")
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.Trim(host, "[]")
}

func checkCookieName(s string) error {
	if strings.ContainsFunc(s, notInToken) {
		return errors.New("is not the name of a cookie: write one such as session")
	}
	return nil
}

// notInToken reports whether a token of HTTP can't have the character. RFC 9110 §5.6.2.
func notInToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

func checkWay(s string) error {
	if s == "" {
		return errors.New("is empty: write the name of an issuer, api_keys, certificates or external")
	}
	return nil
}

// checkScope accepts a scope-token. RFC 6749 §3.3.
func checkScope(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' }) {
		return errors.New(`is not a scope: write each scope as an entry of its own, such as orders.read`)
	}
	if s == "" {
		return errors.New("is empty: write a scope, such as orders.read")
	}
	return nil
}

func checkClaim(s string) error {
	if s == "" || strings.HasPrefix(s, ".") || strings.HasSuffix(s, ".") && !strings.HasSuffix(s, `\.`) || strings.Contains(s, "..") {
		return errors.New(`names no claim: write email, or realm_access.roles for a claim in an object`)
	}
	return nil
}

// checkServiceURL accepts a URL from which culvert may believe what it fetches.
func checkServiceURL(s string) error {
	if err := checkExternalURL(s); err != nil {
		return err
	}
	if u, err := url.Parse(s); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return errors.New("is plaintext, which anybody on the path can change: begin it with https:// (http:// is for loopback)")
	}
	return nil
}

func checkExternalURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("is not the URL of a service: write https://auth.example.com/verify")
	case u.User != nil:
		return errors.New("has a user name or a password: remove it")
	case u.Fragment != "":
		return errors.New("has a fragment, which isn't sent: remove it")
	}
	return nil
}

// checkRateLimitWord accepts a word that the service may get.
func checkRateLimitWord(s string) error {
	if s == "" || len(s) > 256 || !canBeSent(s) {
		return errors.New("can't be sent: use 1 to 256 printable ASCII characters, without a space at either end")
	}
	return nil
}

var descriptorSources = []string{"identity", "subject", "issuer", "kind", "method", "service", "route", "peer"}

func checkDescriptorSource(s string) error {
	if name, ok := strings.CutPrefix(s, "metadata:"); ok {
		return checkMetadataName(name)
	}
	if !slices.Contains(descriptorSources, s) {
		return errors.New("is not a source: write " + strings.Join(descriptorSources, ", ") + " or metadata:x-tenant")
	}
	return nil
}

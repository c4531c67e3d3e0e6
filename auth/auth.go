package auth

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/identity"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
	"github.com/culvert-grpc/culvert/bridge"
)

// An Authenticator identifies callers by a Config. Its methods may be called concurrently.
type Authenticator struct {
	config Config
	places places
	ways   []way // in the order in which they are asked of a credential

	// The same ways, and the services. Nil for those that aren't configured.
	tokens   *tokens
	keyFile  *keyFile
	external *external
	limiter  *limiter
	bearers  bool // some way, apart from a service, takes bearer tokens

	failures    *failures
	requirement *rules.Requirement
	rules       *rules.Set
	claimNames  []string // metadata of claims

	began   time.Time
	refused refusedCalls

	closing sync.Once
}

var (
	_ bridge.ConnAuthenticator = (*Authenticator)(nil)
	_ bridge.Retirer           = (*Authenticator)(nil)
)

// New returns an Authenticator for a Config, which it doesn't change and which must not be
// changed any more. It fetches the keys of issuers in the background: their calls wait for
// them. The error is a *Mistake.
//
// From before, which may be nil, it takes over what has the same settings: keys of issuers,
// which so survive a reload in an outage, API keys of the same file, connections to services
// and verdicts about tokens. Both can be used, and each must be closed.
func New(cfg Config, before *Authenticator) (*Authenticator, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authenticator{config: cfg, began: time.Now(), failures: new(failures)}
	if before != nil { // or a reload would give an attacker a new share
		a.failures = before.failures
	}
	if wrong := a.open(before); wrong != nil {
		_ = a.Close()
		return nil, wrong
	}
	return a, nil
}

// open makes all parts. Behind a Mistake, Close closes those that it has made.
func (a *Authenticator) open(before *Authenticator) *Mistake {
	for _, step := range []func(*Authenticator) *Mistake{
		func(*Authenticator) *Mistake { return a.decide() },
		a.openTokens, a.openKeyFile, a.openServices,
	} {
		if wrong := step(before); wrong != nil {
			return wrong
		}
	}
	if a.config.Certificates {
		a.ways = append(a.ways, certificates{a.wayOf(WayCertificates)})
	}
	return nil
}

// decide compiles what calls need and the rules.
func (a *Authenticator) decide() *Mistake {
	cfg := &a.config
	need := rules.Need{AllOf: cfg.AllOf, AnyOf: cfg.AnyOf, PublicMethods: cfg.PublicMethods}
	for i := range cfg.Issuers {
		if wrong := cfg.checkIssuer(i); wrong != nil {
			return wrong
		}
		need.Ways = append(need.Ways, cfg.Issuers[i].Name)
	}
	for _, way := range []struct {
		name string
		on   bool
	}{{WayAPIKeys, cfg.APIKeys != nil}, {WayExternal, cfg.External != nil}, {WayCertificates, cfg.Certificates}} { // the certificate may be a proxy's
		if way.on {
			need.Ways = append(need.Ways, way.name)
		}
	}
	if len(need.Ways)+len(cfg.Rules) == 0 && cfg.RateLimit == nil {
		return &Mistake{Text: "no way to authenticate, no rule and no rate limit is configured"}
	}
	if i := slices.IndexFunc(cfg.Rules, func(r Rule) bool { return !r.Deny }); i >= 0 && len(need.Ways) == 0 {
		return mistake(fmt.Sprintf("rules[%d]", i), "has no effect without a way to authenticate: every call passes that no rule denies")
	}
	if wrong := cfg.checkCookie(); wrong != nil {
		return wrong
	}
	var err error
	if a.requirement, err = rules.NewRequirement(need); err != nil {
		return mistakeOf(err)
	}
	for _, way := range need.Ways {
		if a.wayOf(way) < 0 {
			return mistake("any_of", "hasn't %q, and neither has all_of, so its credentials would never count: add it to one of them, or remove it", way)
		}
	}
	if a.rules, err = cfg.compileRules(); err != nil {
		return mistakeOf(err)
	}
	for i := range cfg.Rules {
		if wrong := cfg.checkReach(i, a.requirement.Ways()); wrong != nil {
			return wrong
		}
	}
	return nil
}

// checkReach refuses a rule for kinds and issuers of which it sees no identity. It would read as if
// it did something. ways are all of them.
func (cfg *Config) checkReach(i int, ways []string) *Mistake {
	r := &cfg.Rules[i]
	meets := func(way string) bool {
		return (len(r.Kinds) == 0 || slices.Contains(r.Kinds, KindOf(way))) && (len(r.Issuers) == 0 || slices.Contains(r.Issuers, way))
	}
	key := fmt.Sprintf("rules[%d].kinds", i)
	if len(r.Kinds) == 0 {
		key = fmt.Sprintf("rules[%d].issuers", i)
	}
	switch {
	case !r.Deny && slices.Equal(r.Kinds, []string{string(identity.None)}):
		return mistake(key, "can match no call, because one without a credential is refused before, or its method is public and needs no rule: write the methods into public_methods, and remove the rule")
	case len(r.Issuers) == 0 && (len(r.Kinds) == 0 || slices.Contains(r.Kinds, string(identity.None))):
		return nil
	case !slices.ContainsFunc(ways, meets):
		return mistake(key, "can match no call, because no way to authenticate proves such an identity: add the way, or change the rule")
	case !r.Deny && len(cfg.AllOf) > 0 && !meets(cfg.AllOf[0]):
		return mistake(key, "can match no call, because a rule that allows sees the identity of %q, the first of all_of: put the way that the rule means first, or change the rule", cfg.AllOf[0])
	}
	return nil
}

// KindOf returns the kind of the identities that a way proves: "jwt" for the name of an issuer.
func KindOf(way string) string {
	switch way {
	case WayAPIKeys:
		return string(identity.APIKey)
	case WayCertificates:
		return string(identity.MTLS)
	case WayExternal:
		return string(identity.External)
	default:
		return string(identity.JWT)
	}
}

// wayOf returns the place of a way in what Requirement.Judge wants.
func (a *Authenticator) wayOf(name string) int { return slices.Index(a.requirement.Ways(), name) }

// compileRules compiles the rules. In a rule, the names of issuers stand for their iss.
func (cfg *Config) compileRules() (*rules.Set, error) {
	list := make([]rules.Rule, len(cfg.Rules))
	for i := range cfg.Rules {
		from := &cfg.Rules[i]
		to := &list[i]
		*to = rules.Rule{
			Name: from.Name, Effect: rules.Allow, Identities: from.Identities, Scopes: from.Scopes,
			Origins: from.Origins, Methods: from.Methods, Routes: from.Routes,
		}
		if from.Deny {
			to.Effect = rules.Deny
		}
		for _, kind := range from.Kinds {
			to.Kinds = append(to.Kinds, identity.Kind(kind))
		}
		for n, name := range from.Issuers {
			at := slices.IndexFunc(cfg.Issuers, func(i Issuer) bool { return i.Name == name })
			if at < 0 {
				return nil, entryMistake(i, from.Name, "issuers", n, name, "no issuer has the name")
			}
			to.Issuers = append(to.Issuers, cfg.Issuers[at].Issuer)
		}
		for n, name := range from.Routes {
			if !slices.Contains(cfg.Routes, name) {
				return nil, entryMistake(i, from.Name, "routes", n, name, "no route has the name")
			}
		}
		if len(from.Claims) > 0 && len(cfg.Issuers) == 0 {
			return nil, &rules.Mistake{Rule: i, Name: from.Name, Key: "claims", Text: "can match no call, because only tokens have claims: add an issuer, or remove it"}
		}
		for n, r := range from.Claims {
			path, err := claim.ParsePath(r.Claim)
			if err != nil {
				return nil, &rules.Mistake{Rule: i, Name: from.Name, Key: fmt.Sprintf("claims[%d].claim", n), Text: fmt.Sprintf("isn't a claim: %v", err)}
			}
			to.Claims = append(to.Claims, claim.Requirement{Claim: path, Values: r.Values})
		}
	}
	return rules.Compile(list)
}

func (a *Authenticator) openTokens(before *Authenticator) (wrong *Mistake) {
	if len(a.config.Issuers) == 0 {
		return nil
	}
	tokens, wrong := newTokens(&a.config, a.rules.Claims(), before)
	if wrong != nil {
		return wrong
	}
	tokens.failures = a.failures
	a.tokens, a.bearers, a.places.cookie = tokens, true, a.config.Cookie
	for _, i := range tokens.issuers {
		i.way = a.wayOf(i.name)
	}
	for i := range a.config.Issuers {
		for _, m := range a.config.Issuers[i].Metadata {
			a.claimNames = append(a.claimNames, m.Name)
		}
	}
	a.ways = append(a.ways, tokens)
	return nil
}

func (a *Authenticator) openKeyFile(before *Authenticator) (wrong *Mistake) {
	cfg := a.config.APIKeys
	if cfg == nil {
		return nil
	}
	if a.keyFile, wrong = openAPIKeys(cfg, before); wrong != nil {
		return wrong
	}
	a.bearers = true
	if header := cfg.header(); header != "authorization" {
		a.places.keyHeader = header
	}
	a.ways = slices.Insert(a.ways, 0, way(&apiKeys{a.keyFile, a.wayOf(WayAPIKeys)}))
	return nil
}

func (a *Authenticator) openServices(before *Authenticator) (wrong *Mistake) {
	if a.config.External != nil {
		if a.external, wrong = newExternal(&a.config, before, a.failures); wrong != nil {
			return wrong
		}
		a.places.cookie = a.config.Cookie
		a.external.way = a.wayOf(WayExternal)
		a.external.inAllOf = slices.Contains(a.config.AllOf, WayExternal)
	}
	if a.config.RateLimit != nil {
		a.limiter, wrong = newLimiter(&a.config, before)
	}
	return wrong
}

func (a *Authenticator) issuers() []*issuer {
	if a.tokens == nil {
		return nil
	}
	return a.tokens.issuers
}

// Retire is Close, as the bridge calls it.
func (a *Authenticator) Retire() { _ = a.Close() }

// Close ends fetches of keys and questions to services that no later Authenticator has taken
// over, and waits for their ends. It may be called again.
func (a *Authenticator) Close() error {
	a.closing.Do(func() {
		if a.tokens != nil {
			a.tokens.release()
		}
		if a.external != nil {
			a.external.release()
		}
		if a.limiter != nil {
			a.limiter.release()
		}
	})
	return nil
}

// Files returns the files that Reload reads.
func (a *Authenticator) Files() (names []string) {
	if a.keyFile != nil {
		names = append(names, a.keyFile.file)
	}
	for _, i := range a.issuers() {
		if file := i.keys.value.place.file; file != "" && !slices.Contains(names, file) {
			names = append(names, file)
		}
	}
	return names
}

// Reload reads the files of API keys and of issuers' keys again. Of a file that can't be read,
// the last good keys stay in force.
func (a *Authenticator) Reload() error {
	var all []error
	if a.keyFile != nil {
		if err := a.keyFile.read(); err != nil {
			all = append(all, mistake("api_keys.file", "can't be read, so the last good keys stay in force: %v", err))
		}
	}
	for at, i := range a.issuers() {
		if err := i.keys.value.Reload(); err != nil {
			all = append(all, mistake(issuerKey(at, "keys_file"), "can't be read, so the last good keys stay in force: %v", ofFile(i.keys.value.place.file, err)))
		}
	}
	return errors.Join(all...)
}

// Vouched returns the names of the metadata that an Authenticator sets besides
// report.IdentityMetadata, for bridge.Config.VouchedHeaders. Credentials that a service
// replaces aren't among them: clients send them, too.
func (a *Authenticator) Vouched() []string {
	names := slices.Clone(a.claimNames)
	if a.external != nil {
		names = append(names, a.external.own...)
	}
	names = slices.DeleteFunc(names, a.config.isCredential)
	slices.Sort(names)
	return slices.Compact(names)
}

// CredentialHeaders returns the names for bridge.Config.CredentialHeaders.
func (a *Authenticator) CredentialHeaders() []string { return a.config.keyNames() }

// isCredential reports whether metadata of the name may be a credential of the client's.
func (cfg *Config) isCredential(name string) bool {
	return name == "authorization" || name == "cookie" || slices.Contains(cfg.keyNames(), name)
}

package wiring

import (
	"errors"
	"regexp"
	"slices"

	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/config"
)

// Auth converts who may call what. It returns nil if culvert authenticates nobody. serve adds
// Logger and TLS.
func Auth(c *config.Loaded) *auth.Config {
	a := &c.Auth
	if !a.Enabled() {
		return nil
	}
	to := &auth.Config{
		Certificates:  a.Certificates,
		External:      external(c),
		RateLimit:     rateLimit(&a.RateLimit),
		AllOf:         a.AllOf,
		AnyOf:         a.AnyOf,
		PublicMethods: a.PublicMethods,
		Cookie:        a.Cookie,
		Strip:         a.Strip,
		IgnoreExpiry:  a.TokenExpiry == "ignore",
	}
	for i := range a.Issuers {
		to.Issuers = append(to.Issuers, issuer(&a.Issuers[i]))
	}
	if a.APIKeys.File != "" {
		to.APIKeys = &auth.APIKeys{File: a.APIKeys.File, Header: a.APIKeys.Header}
	}
	for _, r := range a.Rules {
		to.Rules = append(to.Rules, auth.Rule{
			Name:       r.Name,
			Deny:       r.Deny,
			Identities: r.Identities,
			Issuers:    r.Issuers,
			Kinds:      r.Kinds,
			Scopes:     r.Scopes,
			Claims:     claims(r.Claims),
			Origins:    r.Origins,
			Methods:    r.Methods,
			Routes:     r.Routes,
		})
	}
	for i := range c.Routes {
		to.Routes = append(to.Routes, c.Routes[i].Name)
	}
	return to
}

func issuer(i *config.AuthIssuer) auth.Issuer {
	to := auth.Issuer{
		Name:       i.Name,
		Issuer:     i.Issuer,
		KeysURL:    i.KeysURL,
		KeysFile:   i.KeysFile,
		Access:     auth.Access{CAFile: i.CA, TokenFile: i.TokenFile},
		KeysAccess: auth.Access{CAFile: i.KeysCA, TokenFile: i.KeysTokenFile},
		Algorithms: i.Algorithms,
		Types:      types(i.Types),
		Audiences:  i.Audiences,
		Skew:       i.Skew,
		Endless:    i.Endless,
		Required:   claims(i.Required),
		Scopes:     i.Scopes,
	}
	for _, r := range i.RouteAudiences {
		if to.RouteAudiences == nil {
			to.RouteAudiences = make(map[string][]string)
		}
		to.RouteAudiences[r.Route] = r.Audiences
	}
	for _, m := range i.Metadata {
		to.Metadata = append(to.Metadata, auth.ClaimMetadata(m))
	}
	return to
}

func claims(list []config.AuthRequiredClaim) []auth.Requirement {
	var to []auth.Requirement
	for _, r := range list {
		to = append(to, auth.Requirement(r))
	}
	return to
}

// types converts types of tokens: package auth writes "" for a token without one.
func types(list []string) []string {
	var to []string
	for _, t := range list {
		if t == "none" {
			t = ""
		}
		to = append(to, t)
	}
	return to
}

// authCookies reports whether auth needs the cookies of pages: for a token, or for a service
// that judges them. A service over gRPC gets them only if a key says so, since requests with
// cookies then need an origin.
func authCookies(c *config.Loaded) bool {
	a := &c.Auth
	asked := a.External.URL != "" && !c.IsSet("auth.external.names") || slices.Contains(a.External.Names, "cookie")
	return a.Cookie != "" || asked
}

func external(c *config.Loaded) *auth.External {
	e := &c.Auth.External
	if !e.Enabled() {
		return nil
	}
	to := &auth.External{
		Target:       e.Address,
		URL:          e.URL,
		Get:          e.Get,
		AnswerNames:  e.AnswerNames,
		Own:          e.Own,
		Timeout:      e.Timeout,
		FailOpen:     e.FailOpen,
		Concurrent:   e.Concurrent,
		Bytes:        int(e.Bytes),
		CacheTTL:     e.Cache.TTL,
		CacheEntries: e.Cache.Entries,
	}
	if c.IsSet("auth.external.names") {
		to.Names = append([]string{}, e.Names...) // [] isn't nil: the service gets none
	}
	return to
}

func rateLimit(r *config.AuthRateLimit) *auth.RateLimit {
	if r.Address == "" {
		return nil
	}
	to := &auth.RateLimit{Target: r.Address, Domain: r.Domain, Timeout: r.Timeout, FailClosed: r.FailClosed}
	for _, d := range r.Descriptors {
		var entries []auth.DescriptorEntry
		for _, e := range d.Entries {
			entries = append(entries, auth.DescriptorEntry(e))
		}
		to.Descriptors = append(to.Descriptors, entries)
	}
	return to
}

// AuthPlaced adds the source of the key to an error of package auth about its configuration.
func AuthPlaced(err error, c *config.Loaded) error {
	return PlacedEach(err, func(one error) error {
		if m, ok := errors.AsType[*auth.Mistake](one); ok {
			return c.Errorf(authKey(c, m.Key), "%s", m.Text)
		}
		return one
	})
}

// descriptorEntry matches an entry of a descriptor in package auth, where both lists are plain.
var descriptorEntry = regexp.MustCompile(`^rate_limit\.descriptors(\[\d+\])(\[\d+\])`)

// authKey returns the key of a mistake that has a line in the file: a section has none.
func authKey(c *config.Loaded, key string) string {
	key = descriptorEntry.ReplaceAllString(key, "rate_limit.descriptors$1.entries$2")
	switch {
	case key == "":
		return "auth"
	case key == "external" && c.Auth.External.URL != "":
		key = "external.url"
	case key == "external" || key == "rate_limit":
		key += ".address"
	}
	return withLine(c, "auth."+key)
}

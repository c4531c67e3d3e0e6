package auth

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/auth/internal/claim"
	"github.com/culvert-grpc/culvert/auth/internal/jwk"
	"github.com/culvert-grpc/culvert/auth/internal/jwt"
	"github.com/culvert-grpc/culvert/auth/internal/rules"
)

// checkIssuer checks what package jwt doesn't know of an issuer, or says with less.
func (cfg *Config) checkIssuer(at int) *Mistake {
	from := &cfg.Issuers[at]
	wrong := func(key, format string, args ...any) *Mistake { return mistake(issuerKey(at, key), format, args...) }
	switch {
	case from.Name == "":
		return wrong("name", "is empty: give the issuer a name, which rules and logs have")
	case from.Name == WayAPIKeys || from.Name == WayCertificates || from.Name == WayExternal:
		return wrong("name", "is %q, which stands for another way to authenticate: choose another name", from.Name)
	case !rules.IsName(from.Name):
		return wrong("name", rules.NotAName)
	case from.Issuer == "":
		return wrong("issuer", "is empty: write the iss of the tokens, byte by byte")
	case from.KeysURL != "" && from.KeysFile != "":
		return wrong("keys_url", "is set beside keys_file: keys come from one of them")
	case (from.KeysURL != "" || from.KeysFile != "") && from.KeysAccess != Access{}:
		return wrong("keys_ca", "and keys_token_file are for the host that an issuer's discovery names: with keys_url or keys_file write ca and token_file")
	case len(from.Audiences)+len(from.RouteAudiences) == 0:
		return wrong("audiences", "is empty: name this service as aud does, or a token for another service would count here")
	}
	for earlier := range at {
		switch other := &cfg.Issuers[earlier]; {
		case other.Name == from.Name:
			return wrong("name", "is %q, and so is that of %s: choose another name", from.Name, issuerKey(earlier, ""))
		case other.Issuer == from.Issuer:
			return wrong("issuer", "is that of %s, too: write one entry with the audiences of both", issuerKey(earlier, ""))
		}
	}
	for _, route := range slices.Sorted(maps.Keys(from.RouteAudiences)) {
		switch {
		case !slices.Contains(cfg.Routes, route):
			return wrong("route_audiences", "names the route %q, and no route has the name", route)
		case len(from.RouteAudiences[route]) == 0:
			return wrong("route_audiences", "has no audience for the route %q", route)
		}
	}
	for i, algorithm := range from.Algorithms {
		if !slices.Contains(jwk.Algorithms(), algorithm) {
			return wrong(fmt.Sprintf("algorithms[%d]", i), "is %q: write one of %s; symmetric ones and none prove nothing here", algorithm, strings.Join(jwk.Algorithms(), " "))
		}
	}
	return nil
}

// issuerOptions returns the issuer as package jwt has it.
func (cfg *Config) issuerOptions(at int, i *issuer) (jwt.Issuer, *Mistake) {
	from := &cfg.Issuers[at]
	to := jwt.Issuer{
		Name: from.Issuer, Keys: i.keys.value, Algorithms: from.Algorithms, Types: from.Types, Audiences: from.Audiences,
		Skew: from.Skew, Endless: from.Endless, Scopes: from.Scopes,
	}
	for _, audiences := range from.RouteAudiences { // else a token for no route could renew a connection's, which knows no route
		to.Audiences = slices.Concat(to.Audiences, audiences)
	}
	for n, r := range from.Required {
		path, err := claim.ParsePath(r.Claim)
		if err != nil {
			return to, mistake(issuerKey(at, fmt.Sprintf("required[%d].claim", n)), "isn't a claim: %v", err)
		}
		to.Required = append(to.Required, claim.Requirement{Claim: path, Values: r.Values})
	}
	for n, m := range from.Metadata {
		path, err := claim.ParsePath(m.Claim)
		if err != nil {
			return to, mistake(issuerKey(at, fmt.Sprintf("metadata[%d].claim", n)), "isn't a claim: %v", err)
		}
		if reserved(m.Name) || cfg.isCredential(m.Name) {
			return to, mistake(issuerKey(at, fmt.Sprintf("metadata[%d].name", n)), "is %q, which is reserved: choose another name", m.Name)
		}
		to.Metadata = append(to.Metadata, jwt.Mapping{Claim: path, Name: m.Name})
	}
	return to, nil
}

// same reports whether all tokens have the same verdicts with another configuration, so that
// those that are known can stay.
func (w *tokens) same(mine, other *Config, to *tokens) bool {
	return reflect.DeepEqual(mine.Issuers, other.Issuers) && reflect.DeepEqual(w.claims, to.claims) &&
		slices.EqualFunc(w.issuers, to.issuers, func(a, b *issuer) bool { return a.keys == b.keys })
}

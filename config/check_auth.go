package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// checkAuth finds mistakes in who may call what that involve several keys. Package auth finds
// the others, with the same names of keys.
func checkAuth(l *Loaded) {
	a := &l.Auth
	if !a.Enabled() {
		notInUse(l, "auth", ", because culvert authenticates nobody: add a way to authenticate (auth.issuers, auth.api_keys.file, auth.certificates, auth.external)")
		return
	}
	checkWays(l)
	for i := range a.Issuers {
		checkIssuer(l, &a.Issuers[i], Entry("auth.issuers", i))
	}
	checkExternal(l)
	checkRateLimit(l)
	for i := range a.Rules {
		checkAuthRule(l, i)
	}
	checkAuthServices(l)
	checkCredentials(l)
	if !a.Enforce {
		l.warn("auth.enforce", "is false, so culvert lets calls pass that auth refuses: set it to true when the log shows no call that it should allow")
	}
}

// notInUse refuses the keys of a section that isn't in use. An operator who sets one of
// auth expects that calls are judged, except by enforce.
func notInUse(l *Loaded, section, why string) {
	for _, key := range fileKeys.keys {
		if strings.HasPrefix(key.Name, section+".") && key.Name != "auth.enforce" && l.IsSet(key.Name) && !isDefault(l, key) {
			l.refuse(key.Name, "has no effect%s, or remove the key", why)
		}
	}
}

func isDefault(l *Loaded, k Key) bool {
	defaults := Defaults()
	return sameValue(reflect.ValueOf(&l.Config).Elem().FieldByIndex(k.index), reflect.ValueOf(&defaults).Elem().FieldByIndex(k.index))
}

func checkWays(l *Loaded) {
	a := &l.Auth
	for i, issuer := range a.Issuers {
		key := Entry("auth.issuers", i) + ".name"
		if first := slices.IndexFunc(a.Issuers, func(o AuthIssuer) bool { return o.Name == issuer.Name }); first < i {
			l.refuse(key, "is the name of %s, too: use another one", l.Place(Entry("auth.issuers", first)+".name"))
		}
		if slices.Contains([]string{wayAPIKeys, wayCertificates, wayExternal}, issuer.Name) {
			l.refuse(key, "is the name of another way to authenticate: use one such as staff")
		}
		if first := slices.IndexFunc(a.Issuers, func(o AuthIssuer) bool { return o.Issuer == issuer.Issuer }); first < i {
			l.refuse(Entry("auth.issuers", i)+".issuer", "is the issuer of %s, too: merge the two entries", l.Place(Entry("auth.issuers", first)+".issuer"))
		}
	}
	ways := a.Ways()
	for _, list := range []struct {
		key   string
		names []string
	}{{"auth.all_of", a.AllOf}, {"auth.any_of", a.AnyOf}} {
		for i, name := range list.names {
			switch {
			case len(ways) == 0:
				l.refuse(list.key, "has %q, but there is no way to authenticate: add auth.issuers, auth.api_keys.file, auth.certificates or auth.external", name)
			case !slices.Contains(ways, name):
				l.refuse(list.key, "has %q, which is no way to authenticate%s: the ways are %s", name, howToHave(name), strings.Join(ways, ", "))
			case slices.Contains(list.names[:i], name):
				l.refuse(list.key, "has %q twice: remove one of them", name)
			case list.key == "auth.any_of" && slices.Contains(a.AllOf, name):
				l.refuse(list.key, "has %q, which auth.all_of (%s) has, too: remove one of them", name, l.Place("auth.all_of"))
			}
		}
	}
	if len(a.AllOf)+len(a.AnyOf) > 0 {
		for _, name := range ways {
			if !slices.Contains(a.AllOf, name) && !slices.Contains(a.AnyOf, name) {
				l.refuse(l.wayKey(name), "identifies nobody, because neither auth.all_of nor auth.any_of names %s: add it there, or remove it", name)
			}
		}
	}
}

// howToHave returns what would make a name that of a way.
func howToHave(name string) string {
	switch name {
	case wayAPIKeys:
		return " unless auth.api_keys.file is set"
	case wayCertificates:
		return " unless auth.certificates is true"
	case wayExternal:
		return " unless auth.external.address or auth.external.url is set"
	}
	return ""
}

func (l *Loaded) wayKey(name string) string {
	for i, issuer := range l.Auth.Issuers {
		if issuer.Name == name {
			return Entry("auth.issuers", i)
		}
	}
	switch name {
	case wayAPIKeys:
		return "auth.api_keys.file"
	case wayCertificates:
		return "auth.certificates"
	}
	if l.Auth.External.Address != "" {
		return "auth.external.address"
	}
	return "auth.external.url"
}

func checkIssuer(l *Loaded, i *AuthIssuer, at string) {
	byDiscovery := i.KeysURL == "" && i.KeysFile == ""
	switch {
	case i.Issuer == "":
		l.refuse(at+".issuer", "is empty: write the claim iss of the issuer's tokens, such as https://id.example.com")
	case i.KeysURL != "" && i.KeysFile != "":
		l.refuse(at+".keys_file", "is one place of the issuer's keys, and %s another: remove one of them", l.Place(at+".keys_url"))
	case byDiscovery && checkServiceURL(i.Issuer) != nil:
		l.refuse(at+".issuer", "is no HTTPS URL, so culvert can't find the issuer's keys by discovery: set keys_url or keys_file")
	}
	for _, o := range []struct{ name, value string }{{"ca", i.CA}, {"token_file", i.TokenFile}, {"keys_ca", i.KeysCA}, {"keys_token_file", i.KeysTokenFile}} {
		switch discovers := strings.HasPrefix(o.name, "keys_"); {
		case o.value == "":
		case i.KeysFile != "":
			l.refuse(at+"."+o.name, "has no effect, because culvert reads the issuer's keys from a file (%s): remove it", l.Place(at+".keys_file"))
		case discovers && !byDiscovery:
			l.refuse(at+"."+o.name, "has no effect, because keys_url names the place of the keys: write %s, or remove keys_url", strings.TrimPrefix(o.name, "keys_"))
		}
	}
	if len(i.Audiences) == 0 && len(i.RouteAudiences) == 0 {
		l.refuse(at+".audiences", "is missing: list the names of this service in the claim aud, or culvert would accept tokens for other services")
	}
	for j, r := range i.RouteAudiences {
		key := Entry(at+".route_audiences", j)
		l.checkRouteName(key+".route", r.Route)
		if slices.ContainsFunc(i.RouteAudiences[:j], func(o AuthRouteAudiences) bool { return o.Route == r.Route }) {
			l.refuse(key+".route", "has audiences already: merge the two entries")
		}
		if len(r.Audiences) == 0 {
			l.refuse(key+".audiences", "is empty: list the names of this service in the claim aud")
		}
	}
	refuseOver(l, at+".skew", i.Skew, rules.MaxSkew, "is too long")
	if i.Endless {
		l.warn(at+".endless", "lets tokens without exp count for ever, as nobody can revoke them: set it only for an issuer whose tokens have no exp")
	}
	for j, m := range i.Metadata {
		if first := slices.IndexFunc(i.Metadata, func(o AuthClaimMetadata) bool { return o.Name == m.Name }); first < j {
			key, place := Entry(at+".metadata", j)+".name", l.Place(Entry(at+".metadata", first)+".name")
			l.refuse(key, "has the value of another claim already (%s): use another name", place)
		}
	}
}

// checkRouteName refuses the name of a route that doesn't exist.
func (l *Loaded) checkRouteName(key, name string) {
	var names []string
	for i := range l.Routes {
		if l.Routes[i].Name == name {
			return
		}
		names = append(names, l.Routes[i].Name)
	}
	if len(names) == 0 {
		l.refuse(key, "names no route: there is no %q, because the configuration has no routes", name)
		return
	}
	l.refuse(key, "names no route: there is no %q%s; the routes are %s", name, didYouMean(name, names, "%q"), firstNames(names))
}

// firstNames joins names, of which there may be thousands.
func firstNames(names []string) string {
	const most = 20
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}

func checkExternal(l *Loaded) {
	e, at := &l.Auth.External, "auth.external"
	if !e.Enabled() {
		notInUse(l, at, " without auth.external.address or auth.external.url: set it")
		return
	}
	if e.Address != "" && e.URL != "" {
		l.refuse(at+".url", "is one service, and %s another: remove one of them", l.Place(at+".address"))
	}
	if e.URL == "" {
		l.refuseSet([]setKey{{at + ".get", e.Get}, {at + ".answer_names", len(e.AnswerNames) > 0}}, "has no effect on a gRPC service: remove it, or set %s.url in place of %[1]s.address", at)
	}
	refuseOver(l, at+".timeout", e.Timeout, rules.MaxCheckTimeout, "is too long")
	refuseOver(l, at+".concurrent", e.Concurrent, rules.MaxCheckConcurrent, "is too large")
	refuseOver(l, at+".bytes", e.Bytes, rules.MaxCheckBytes, "is too large")
	refuseOver(l, at+".cache.ttl", e.Cache.TTL, rules.MaxCheckTTL, "is too long")
	refuseOver(l, at+".cache.entries", e.Cache.Entries, rules.MaxCheckEntries, "is too large")
	if e.Cache.TTL > 0 && e.URL == "" && !l.IsSet(at+".names") {
		l.refuse(at+".cache.ttl", "requires %s.names: list the metadata by which the service decides, because culvert uses its answer for all calls with the same", at)
	}
}

func checkRateLimit(l *Loaded) {
	r, at := &l.Auth.RateLimit, "auth.rate_limit"
	if r.Address == "" {
		notInUse(l, at, " without auth.rate_limit.address: set it")
		return
	}
	if r.Domain == "" {
		l.refuse(at+".address", "requires %s.domain: write the domain in the service's configuration", at)
	}
	if len(r.Descriptors) == 0 {
		l.refuse(at+".address", "requires %s.descriptors, or the service would count nothing: write {entries: [{key: subject, from: subject}]}, for example", at)
	}
	refuseOver(l, at+".timeout", r.Timeout, rules.MaxRateLimitTimeout, "is too long")
	for i, d := range r.Descriptors {
		entries := Entry(at+".descriptors", i) + ".entries"
		if len(d.Entries) == 0 {
			l.refuse(entries, "is empty: write {key: subject, from: subject}, for example")
		}
		for j, e := range d.Entries {
			switch key := Entry(entries, j); {
			case e.Value == "" && e.From == "":
				l.refuse(key, "has no value: set value, or from for a value of the call")
			case e.Value != "" && e.From != "":
				l.refuse(key+".from", "is one value, and %s another: remove one of them", l.Place(key+".value"))
			}
		}
	}
}

func checkAuthRule(l *Loaded, i int) {
	r, at := &l.Auth.Rules[i], Entry("auth.rules", i)
	if len(l.Auth.Ways()) == 0 && !r.Deny { // an operator who allows some calls expects that others are refused
		l.refuse(at, "has no effect, because culvert authenticates nobody, so every call passes that no rule denies: add a way to authenticate (auth.issuers, auth.api_keys.file, auth.certificates, auth.external)")
	}
	if first := slices.IndexFunc(l.Auth.Rules, func(o AuthRule) bool { return o.Name == r.Name }); first < i {
		l.refuse(at+".name", "is the name of %s, too: use another one", l.Place(Entry("auth.rules", first)+".name"))
	}
	for _, name := range r.Routes {
		l.checkRouteName(at+".routes", name)
	}
	var issuers []string
	for _, i := range l.Auth.Issuers {
		issuers = append(issuers, i.Name)
	}
	for _, name := range r.Issuers {
		if !slices.Contains(issuers, name) {
			l.refuse(at+".issuers", "names no issuer: there is no %q%s in auth.issuers", name, didYouMean(name, issuers, "%q"))
		}
	}
	named := slices.ContainsFunc(r.Identities, func(name string) bool { return name != "*" })
	if ways := l.Auth.namingWays(); named && !r.Deny && len(ways) > 1 && len(r.Issuers)+len(r.Kinds) == 0 {
		l.warn(at+".identities", fmt.Sprintf("has names, and each of %s has names of its own, so the rule may allow somebody else of the same name: add issuers or kinds", strings.Join(ways, ", ")))
	}
}

// namingWays returns the ways to authenticate whose credentials name the caller.
func (a *Auth) namingWays() []string {
	switch {
	case len(a.AllOf) > 0:
		return a.AllOf[:1]
	case len(a.AnyOf) > 0:
		return a.AnyOf
	default:
		return a.Ways()
	}
}

// checkAuthServices checks TLS to the services that culvert asks, and turns it on if a key
// of the section implies it.
func checkAuthServices(l *Loaded) {
	for _, s := range l.Auth.Services() {
		at := s.Section + ".tls"
		if s.PlaceKey() == "url" {
			checkURLTLS(l, at, s)
		} else {
			impliedTLS(l, at, &s.TLS.Enabled, s.TLS.CA, s.TLS.Cert, s.TLS.Key, s.TLS.ServerName)
		}
		checkPair(l, at, s.TLS.Cert, s.TLS.Key)
		if !s.TLS.Enabled && !isLoopback(s.Host()) {
			l.warn(s.Section+"."+s.PlaceKey(), "gets credentials of callers, or what they are known by, over plaintext: use TLS, unless nobody can listen on the way")
		}
	}
}

// checkURLTLS refuses keys of TLS that don't go with the URL's scheme, which turns TLS on.
func checkURLTLS(l *Loaded, at string, s AuthService) {
	secure := strings.HasPrefix(s.Place, "https:")
	switch {
	case l.IsSet(at+".enabled") && s.TLS.Enabled != secure:
		l.refuse(at+".enabled", "contradicts the scheme of %s: remove it", l.Place(s.Section+".url"))
	case secure && !s.TLS.Enabled:
		s.TLS.Enabled = true
		l.derived[at+".enabled"] = s.Section + ".url"
	}
	for _, o := range []struct{ name, value string }{{"ca", s.TLS.CA}, {"cert", s.TLS.Cert}, {"key", s.TLS.Key}, {"server_name", s.TLS.ServerName}} {
		if o.value != "" && !secure {
			l.refuse(at+"."+o.name, "has no effect on plaintext: begin %s.url with https://, or remove this key", s.Section)
		}
	}
}

// checkCredentials finds ways and places of credentials that no call can have.
func checkCredentials(l *Loaded) {
	a := &l.Auth
	if a.Certificates && !l.asksForCertificates() {
		l.refuse("auth.certificates", "identifies nobody, because no listener verifies client certificates: set tls.client_ca")
	}
	if a.Cookie != "" && len(a.Issuers) == 0 && !a.External.Enabled() {
		l.refuse("auth.cookie", "has no effect, because nothing judges tokens in cookies: add auth.issuers or auth.external")
	}
	if a.BearerSubprotocol && len(a.Issuers) == 0 && !a.External.Enabled() && a.APIKeys.File == "" {
		l.refuse("auth.bearer_subprotocol", "has no effect, because nothing judges tokens: add auth.issuers or auth.external")
	}
	for i := range l.Routes {
		for _, name := range l.Routes[i].Message.Query {
			if a.judges(name) {
				l.refuse(Entry("routes", i)+".message.query", "has %q, which has credentials, and credentials in addresses get into histories and logs: remove it, and have clients send them in the header or in message.first_message", name)
			}
		}
	}
}

// judges reports whether metadata of the name has a credential that culvert judges.
func (a *Auth) judges(name string) bool {
	return a.APIKeys.File != "" && name == a.APIKeys.Header ||
		name == "authorization" && (len(a.Issuers) > 0 || a.APIKeys.File != "" || a.External.Enabled())
}

// asksForCertificates reports whether a listener verifies certificates of clients.
func (l *Loaded) asksForCertificates() bool {
	for i, ln := range l.Listen {
		t := l.ListenerTLS(i)
		if ln.TLS.Enabled && (t.ClientCA != "" || slices.ContainsFunc(t.Certificates, func(c Certificate) bool { return c.ClientCA != "" })) {
			return true
		}
	}
	return false
}

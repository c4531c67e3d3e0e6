package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/culvert-grpc/culvert/auth"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// An as is what --as says: who calls.
type as struct {
	texts   []string      // nil: it isn't set
	callers []auth.Caller // one with all these credentials; none: somebody without a credential
}

// asOption begins an option in --as.
var asOption = regexp.MustCompile(`,(issuer|kind|scope|claim)=`)

func (a *as) parse(c *config.Loaded) error {
	switch {
	case len(a.texts) == 0:
		return nil
	case !c.Auth.Enabled():
		return errors.New("--as: the configuration authenticates nobody: set auth")
	case len(a.texts) == 1 && a.texts[0] == "":
		return nil
	}
	for _, text := range a.texts {
		if text == "" {
			return errors.New("--as: '' is a caller without a credential: remove it, or the others")
		}
		caller := parseCaller(text)
		if err := complete(&caller, &c.Auth); err != nil {
			return err
		}
		if at := slices.IndexFunc(a.callers, func(other auth.Caller) bool { return other.Kind == caller.Kind && other.Issuer == caller.Issuer }); at >= 0 {
			return fmt.Errorf("--as: %s and %s are two identities of one way to authenticate, and a call has one of each: remove one", a.callers[at].Subject, caller.Subject)
		}
		a.callers = append(a.callers, caller)
	}
	return nil
}

// parseCaller reads "alice,issuer=staff,scope=orders.read,claim=email_verified=true". The subject
// and values may have commas.
func parseCaller(text string) (caller auth.Caller) {
	options := asOption.FindAllStringSubmatchIndex(text, -1)
	end := func(i int) int { // of what is before the option
		if i < len(options) {
			return options[i][0]
		}
		return len(text)
	}
	caller.Subject = text[:end(0)]
	for i, at := range options {
		value := text[at[1]:end(i+1)]
		switch text[at[2]:at[3]] {
		case "issuer":
			caller.Issuer = value
		case "kind":
			caller.Kind = value
		case "scope":
			caller.Scopes = append(caller.Scopes, value)
		case "claim":
			if caller.Claims == nil {
				caller.Claims = make(map[string][]string)
			}
			name, value, _ := strings.Cut(value, "=")
			caller.Claims[name] = append(caller.Claims[name], value)
		}
	}
	return caller
}

// complete finds the issuer and the kind of a caller: the only ones that the configuration has,
// unless --as names others.
func complete(caller *auth.Caller, c *config.Auth) error {
	var issuers, all []string
	for _, i := range c.Issuers {
		issuers = append(issuers, i.Name)
		if i.Issuer == caller.Issuer {
			caller.Issuer = i.Name
		}
	}
	for _, way := range c.Ways() {
		kind := auth.KindOf(way)
		if !slices.Contains(all, kind) {
			all = append(all, kind)
		}
	}
	if caller.Kind == "" {
		switch {
		case caller.Issuer != "":
			caller.Kind = "jwt"
		case len(all) == 1:
			caller.Kind = all[0]
		case len(all) > 1:
			return fmt.Errorf("--as: say by which credential %s calls: add kind=, which is one of %s, or issuer=", caller.Subject, strings.Join(all, ", "))
		}
	}
	switch {
	case len(all) == 0:
		return errors.New("--as: the configuration has no way to authenticate, so each caller is nobody: write --as ''")
	case !slices.Contains(all, caller.Kind):
		return fmt.Errorf("--as: no caller has the kind %q: write one of %s", caller.Kind, strings.Join(all, ", "))
	case caller.Kind == "jwt" && caller.Issuer == "" && len(issuers) == 1:
		caller.Issuer = issuers[0]
	case caller.Kind == "jwt" && !slices.Contains(issuers, caller.Issuer):
		return fmt.Errorf("--as: there is no issuer %q: write issuer= with one of %s", caller.Issuer, strings.Join(issuers, ", "))
	case caller.Kind != "jwt" && len(caller.Claims) > 0:
		return fmt.Errorf("--as: only tokens have claims, and %s calls by the kind %s: remove claim=, or write issuer=", caller.Subject, caller.Kind)
	}
	return nil
}

func (a *as) String() string {
	if len(a.callers) == 0 {
		return "somebody without a credential"
	}
	var all []string
	for i := range a.callers {
		all = append(all, inWords(&a.callers[i]))
	}
	return strings.Join(all, "; and ")
}

func inWords(caller *auth.Caller) string {
	text := caller.Subject + ", " + caller.Kind
	if caller.Issuer != "" {
		text += " of " + caller.Issuer
	}
	if len(caller.Scopes) > 0 {
		text += ", scopes " + strings.Join(caller.Scopes, " ")
	}
	for _, name := range slices.Sorted(maps.Keys(caller.Claims)) {
		text += fmt.Sprintf(", claim %s %s", name, strings.Join(caller.Claims[name], " "))
	}
	return text
}

// explainAuth returns what the rules of the configuration say of the call by the caller. The
// error is about the configuration.
func explainAuth(c *config.Loaded, r bridge.RouteRequest, a *bridge.RouteAnswer, by []auth.Caller) (auth.Explanation, error) {
	settings := wiring.Auth(c)
	settings.Offline = true
	for i := range settings.Issuers { // the rules need no keys, whose files may be elsewhere
		settings.Issuers[i].KeysFile = ""
		settings.Issuers[i].KeysURL = "https://localhost"
	}
	if settings.APIKeys != nil {
		settings.APIKeys.File = os.DevNull
	}
	judge, err := auth.New(*settings, nil)
	if err != nil {
		return auth.Explanation{}, wiring.AuthPlaced(err, c)
	}
	asked := &bridge.AuthRequest{Method: a.Method, Origin: r.Header.Get("Origin")}
	if a.Route >= 0 {
		asked.Route = c.Routes[a.Route].Name
	}
	return judge.Explain(asked, by...), judge.Close()
}

// explainCaller writes what a call needs, or what becomes of it if somebody makes it.
func explainCaller(line func(name, format string, args ...any), c *config.Loaded, said *auth.Explanation, as *as) {
	if as.texts == nil {
		switch ways := strings.Join(c.Auth.Ways(), ", "); {
		case said.Public:
			line("caller", "needs no credential (auth.public_methods)")
		case ways != "":
			line("caller", "needs a credential (%s): to see what the rules say of an identity, use --as", ways)
		}
		return
	}
	line("caller", "%s", as)
	if len(as.callers) > 0 && said.Lacks != "" {
		line("credentials", "%s: add an --as for it", said.Lacks)
	}
	at := slices.IndexFunc(c.Auth.Rules, func(r config.AuthRule) bool { return r.Name == said.Rule })
	why := said.Rule
	if at >= 0 {
		why = fmt.Sprintf("%s (%s)", said.Rule, c.Place(config.Entry("auth.rules", at)))
	}
	switch {
	case said.Allowed:
		line("rule", "%s: the caller may call", why)
	case !c.Auth.Enforce:
		line("rule", "%s: the caller may call, because auth.enforce is false", why)
	default:
		line("rule", "%s: the caller may not call", why)
	}
}

func explainAuthRules(b *strings.Builder, c *config.Loaded, said *auth.Explanation) {
	if len(said.Rules) == 0 {
		return
	}
	b.WriteString("\n")
	w := tabwriter.NewWriter(b, 0, 0, 1, ' ', 0)
	for i, r := range said.Rules {
		effect, result := "allow", "doesn't match"
		if r.Deny {
			effect = "deny"
		}
		switch {
		case r.Decides:
			result = "matches and decides"
		case r.Matches:
			result = "matches"
		}
		var conditions []string
		for _, condition := range r.Conditions {
			if r.Matches || !condition.Matches {
				conditions = append(conditions, condition.Text)
			}
		}
		if len(conditions) > 0 {
			result += ": " + strings.Join(conditions, "; ")
		}
		fmt.Fprintf(w, "%s\t(%s)\t%s\t%s\n", r.Name, c.Place(config.Entry("auth.rules", i)), effect, result)
	}
	_ = w.Flush() // a strings.Builder doesn't fail
}

package config

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// checkOriginExpression accepts a regular expression for whole origins with a
// fixed scheme. It refuses a dot that isn't escaped, because anyone could
// register the additional hosts that it matches. Package gate refuses
// expressions that match every origin.
func checkOriginExpression(s string) error {
	tree, err := syntax.Parse(s, syntax.Perl)
	switch wrong := (*syntax.Error)(nil); {
	case errors.As(err, &wrong):
		return fmt.Errorf("is not a regular expression: %s: `%s`", wrong.Code, wrong.Expr)
	case err != nil:
		return fmt.Errorf("is not a regular expression: %w", err)
	}
	_, _, err = rules.OriginExpression(s)
	switch {
	case errors.Is(err, rules.ErrNoScheme):
		return errors.New(`doesn't begin with a scheme: write "~https://pr-[0-9]+\.example\.com"`)
	case hasSingleDot(tree, false):
		return errors.New(`has a "." that matches any character: write "\."`)
	case err != nil:
		return fmt.Errorf("is not a regular expression: %w", err)
	}
	return nil
}

// hasSingleDot reports whether the expression has a dot that isn't repeated,
// which is usually a mistake.
func hasSingleDot(tree *syntax.Regexp, repeated bool) bool {
	switch tree.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return !repeated
	case syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		repeated = true
	default:
		repeated = false
	}
	return slices.ContainsFunc(tree.Sub, func(sub *syntax.Regexp) bool { return hasSingleDot(sub, repeated) })
}

// namesOrigin reports whether the entry matches a single origin.
func namesOrigin(s string) bool {
	return s != "null" && !strings.HasPrefix(s, "~") && !strings.Contains(s, "*")
}

type originList struct {
	key     string
	entries []string
}

// originLists returns allow_origins and those of the routes that have their own.
func (l *Loaded) originLists() []originList {
	lists := []originList{{"allow_origins", l.AllowOrigins}}
	for i, r := range l.Routes {
		if r.AllowOrigins != nil {
			lists = append(lists, originList{Entry("routes", i) + ".allow_origins", r.AllowOrigins})
		}
	}
	return lists
}

// checkOriginsOfCookies warns if cookies can't pass for some of the allowed
// origins. checkWildcardOrigin and checkRouteOrigins have an error for "*".
func checkOriginsOfCookies(l *Loaded) {
	for _, list := range l.originLists() {
		if slices.Contains(list.entries, "*") || !slices.ContainsFunc(list.entries, func(s string) bool { return !namesOrigin(s) }) {
			continue
		}
		for _, key := range l.cookieKeys() {
			l.warn(key, "cookies pass only for exact origins in "+list.key+", not for those that match a pattern: list the origins that need cookies")
		}
	}
}

// checkTriedOut warns of rules that refuse nothing yet.
func checkTriedOut(l *Loaded) {
	if !l.EnforceOrigins {
		l.warn("enforce_origins", "is false, so pages of every origin may call, without cookies: set it to true when the log shows no origin that is missing in allow_origins")
	}
	if !l.Methods.Enforce {
		l.warn("methods.enforce", "is false, so the patterns of methods refuse nothing: set it to true when the log shows no call that the patterns should allow")
	}
}

func checkWildcardOrigin(l *Loaded) {
	if !slices.Contains(l.AllowOrigins, "*") {
		return
	}
	l.warn("allow_origins", `"*" allows every page on the internet to call: list the origins, unless the backend is for everyone`)
	for _, key := range l.cookieKeys() {
		l.refuse(key, `cookies don't pass while allow_origins has "*": list the origins, or set this key to false`)
	}
}

func (l *Loaded) cookieKeys() (keys []string) {
	if l.Metadata.ForwardCookies {
		keys = append(keys, "metadata.forward_cookies")
	}
	if l.Metadata.ForwardSetCookies {
		keys = append(keys, "metadata.forward_set_cookies")
	}
	return keys
}

package routing

import (
	"path"
	"slices"
	"strings"
)

// Outgoing returns patterns of the methods that a backend can receive from the route: one
// for each of Match.Methods, after the rewrite. New must accept the route.
func (r *Route) Outgoing() []string {
	prefix := r.Match.PathPrefix
	if r.Rewrite != "" {
		prefix = r.Rewrite
	}
	set := strings.FieldsFunc(prefix, func(r rune) bool { return r == '/' })
	methods := orAny(r.Match.Methods, "*/*")
	out := make([]string, len(methods))
	for i, text := range methods {
		service, method, _ := strings.Cut(strings.TrimPrefix(text, "/"), "/")
		if len(set) > 0 {
			service = set[0]
		}
		if len(set) > 1 {
			method = set[1]
		}
		out[i] = service + "/" + method
	}
	return out
}

// covers reports whether a pattern of methods certainly matches all methods that another
// one matches.
func covers(pattern, other string) bool { return eachPart(pattern, other, coversPart) }

// disjoint reports whether there is certainly no method that both patterns match.
func disjoint(pattern, other string) bool {
	return !eachPart(pattern, other, func(a, b string) bool { return !disjointParts(a, b) })
}

// eachPart reports whether both is true for the services and for the methods of two
// patterns: no wildcard matches the slash.
func eachPart(pattern, other string, both func(a, b string) bool) bool {
	s1, m1, _ := strings.Cut(strings.TrimPrefix(pattern, "/"), "/")
	s2, m2, _ := strings.Cut(strings.TrimPrefix(other, "/"), "/")
	return both(s1, s2) && both(m1, m2)
}

func coversPart(a, b string) bool {
	// If a has no wildcard but "*", only a "*" of a matches the wildcards of b, which then
	// may stand for any text.
	plain := !strings.ContainsAny(a, `?[\`) && !strings.ContainsAny(b, `[\`)
	return a == b || a == "*" || (plain || isLiteral(b)) && matchesText(a, b)
}

func disjointParts(a, b string) bool {
	switch {
	case isLiteral(a):
		return !matchesText(b, a)
	case isLiteral(b):
		return !matchesText(a, b)
	}
	a, b = a[:strings.IndexAny(a, special)], b[:strings.IndexAny(b, special)]
	return !strings.HasPrefix(a, b) && !strings.HasPrefix(b, a)
}

func isLiteral(part string) bool { return !strings.ContainsAny(part, special) }

// matchesText is path.Match, for patterns that have no mistake or match nothing.
func matchesText(pattern, text string) bool {
	ok, err := path.Match(pattern, text)
	return ok && err == nil
}

// RefusedBy returns the keys that certainly refuse all methods that the patterns match, or
// none. allow and deny are the lists of a MethodPolicy, which may be only tried out.
func RefusedBy(patterns, allow, deny []string, tryOut bool) (keys []string) {
	for _, pattern := range patterns {
		coversIt := func(by string) bool { return covers(by, pattern) }
		meets := func(by string) bool { return !disjoint(by, pattern) }
		hidden := slices.ContainsFunc(deniedUnlessAllowed, coversIt) // also while the policy is only tried out
		key := ""
		switch {
		case tryOut && !hidden:
			return nil
		case slices.ContainsFunc(deny, coversIt):
			key = "methods.deny"
		case (len(allow) > 0 || hidden) && !slices.ContainsFunc(allow, meets):
			key = "methods.allow"
		default:
			return nil
		}
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

package routing

import (
	"path"
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

// Covers reports whether a pattern of methods certainly matches all methods that another
// one matches.
func Covers(pattern, other string) bool { return eachPart(pattern, other, coversPart) }

// Disjoint reports whether there is certainly no method that both patterns match.
func Disjoint(pattern, other string) bool {
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
	return a == b || a == "*" || (plain || isLiteral(b)) && matchesPart(a, b)
}

func disjointParts(a, b string) bool {
	switch {
	case isLiteral(a):
		return !matchesPart(b, a)
	case isLiteral(b):
		return !matchesPart(a, b)
	}
	a, b = a[:strings.IndexAny(a, special)], b[:strings.IndexAny(b, special)]
	return !strings.HasPrefix(a, b) && !strings.HasPrefix(b, a)
}

func isLiteral(part string) bool { return !strings.ContainsAny(part, special) }

func matchesPart(pattern, part string) bool {
	ok, err := path.Match(pattern, part)
	return ok && err == nil
}

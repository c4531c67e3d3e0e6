package headers

import (
	"net/http"
	"slices"
	"strings"
)

// A Rule decides what happens to a header on its way.
type Rule int

// The rules.
const (
	Pass    Rule = iota
	Drop         // never crosses
	Vouched      // crosses only from a trusted peer's outer request
	Cookie       // crosses only if a key allows it
)

var (
	toUpstream   = compile(requestRows)
	toDownstream = compile(responseRows)
)

// OfRequest returns the rule for a lower-case name in a request.
func OfRequest(name string) Rule { return toUpstream.of(name) }

// OfResponse returns the rule for a lower-case name in a response.
func OfResponse(name string) Rule { return toDownstream.of(name) }

// Crosses reports whether any client may send metadata of the name.
func Crosses(name string) bool { return OfRequest(name) == Pass }

// lowered has the names of the tables as net/http writes them: most requests have no
// other, and to look one up allocates nothing.
var lowered = func() map[string]string {
	names := make(map[string]string)
	for _, row := range requestRows {
		names[http.CanonicalHeaderKey(row.Name)] = row.Name
	}
	return names
}()

// lower returns a header's name in lower case.
func lower(name string) string {
	if known, ok := lowered[name]; ok {
		return known
	}
	return strings.ToLower(name)
}

// A ruleset is a table that is quick to look up.
type ruleset struct {
	exact    map[string]Rule
	prefixes []prefixRule

	// Names, and prefixes of names, that only culvert and trusted proxies may set.
	spoofable         map[string]bool
	spoofablePrefixes []string
}

type prefixRule struct {
	prefix string
	rule   Rule
}

func compile(table []Row) *ruleset {
	words := map[string]Rule{"drop": Drop, "vouched": Vouched, "cookie": Cookie}
	rs := &ruleset{exact: make(map[string]Rule, len(table)), spoofable: make(map[string]bool)}
	for _, row := range table {
		prefix, open := strings.CutSuffix(row.Name, "*")
		spoofable := row.Rule == "vouched" || row.Why == ofCulvert
		if !open {
			rs.exact[row.Name], rs.spoofable[row.Name] = words[row.Rule], spoofable
			continue
		}
		rs.prefixes = append(rs.prefixes, prefixRule{prefix, words[row.Rule]})
		if spoofable {
			rs.spoofablePrefixes = append(rs.spoofablePrefixes, prefix)
		}
	}
	return rs
}

// of returns the rule of a lower-case name.
func (rs *ruleset) of(name string) Rule {
	if r, ok := rs.exact[name]; ok {
		return r
	}
	if (strings.Contains(name, "_") || strings.Contains(name, ".")) && rs.imitated(hyphened(name)) {
		return Drop
	}
	for _, p := range rs.prefixes {
		if strings.HasPrefix(name, p.prefix) {
			return p.rule
		}
	}
	return Pass
}

// imitated reports whether name is reserved for culvert and its trusted proxies. name
// is the hyphenated form of a name with underscores or dots. Backends that turn headers
// into CGI variables read x_forwarded_for as HTTP_X_FORWARDED_FOR; PHP does the same
// with x.forwarded.for. Nobody may send such a name, not even a trusted proxy: a proxy
// itself writes hyphens, but may pass on its client's header.
func (rs *ruleset) imitated(name string) bool {
	return rs.spoofable[name] || slices.ContainsFunc(rs.spoofablePrefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

func hyphened(name string) string { return hyphens.Replace(name) }

var hyphens = strings.NewReplacer("_", "-", ".", "-")

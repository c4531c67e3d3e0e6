package routing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// twins returns a RouteMistake for each route that matches the same as an earlier one.
func twins(entries []entry, routes []Route) (mistakes []error) {
	type key struct {
		entry
		rest string // its conditions
	}
	seen, told := make(map[key]int32, len(entries)), make(map[int32]bool)
	for i := range entries {
		e := &entries[i]
		k := key{*e, fmt.Sprintf("%q", *e.conditions)}
		k.conditions, k.route, k.next = nil, 0, 0
		first, ok := seen[k]
		if !ok {
			seen[k] = e.route
			continue
		}
		if first != e.route && !told[e.route] {
			told[e.route] = true
			mistakes = append(mistakes, &report.RouteMistake{
				Route: int(e.route), Key: "match", Other: int(first),
				Text: fmt.Sprintf("matches the same requests as the route %q%s: remove one of them, or add a condition to one", routes[first].Name, e.shared(&routes[e.route].Match, &routes[first].Match)),
			})
		}
	}
	return mistakes
}

// Places returns a text for each route. Two routes have the same if they match the same
// hosts, paths, methods and listeners, so only metadata and transports tell them apart.
func (t *Table) Places() []string {
	of := make([][]string, t.routes)
	for i := range t.entries {
		e := &t.entries[i]
		of[e.route] = append(of[e.route], fmt.Sprintf("%v %q %q %d %s %q", e.wild, e.host, e.prefix, e.elements, e.method.String(), e.listener))
	}
	places := make([]string, len(of))
	for i, list := range of {
		slices.Sort(list)
		places[i] = strings.Join(slices.Compact(list), "\n") // an entry for each transport
	}
	return places
}

// shared returns what two routes have in common whose lists aren't the same: that of
// the entry, in words, or "".
func (e *entry) shared(a, b *report.Match) string {
	host := e.host
	if e.wild {
		host = "*." + host
	}
	var words []string
	for _, list := range []struct {
		of    string
		a, b  []string
		value string
	}{
		{"the host", a.Hosts, b.Hosts, host},
		{"the method", a.Methods, b.Methods, e.method.String()},
		{"the listener", a.Listeners, b.Listeners, e.listener},
		{"the transport", a.Transports, b.Transports, e.transport},
	} {
		if len(distinct(list.a)) > 1 || len(distinct(list.b)) > 1 {
			words = append(words, fmt.Sprintf("%s %q", list.of, cmp.Or(list.value, "*")))
		}
	}
	if words == nil {
		return ""
	}
	return " for " + strings.Join(words, " and ")
}

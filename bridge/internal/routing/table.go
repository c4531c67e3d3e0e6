package routing

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A Table selects routes. It never changes, so several goroutines may use it.
type Table struct {
	*index
	routes   int             // how many there are
	rewrites map[int]rewrite // of the routes that have one
	elements int32           // of the longest path that a route matches
	prefixes map[string]bool // that routes have

	needsMetadata bool
}

// A rewrite replaces so many first bytes of a path.
type rewrite struct {
	replaced int
	by       string
}

// An entry is a route with one of the values in each list of its Match. Each route
// has at least one.
type entry struct {
	host   string // without the "*" of a wildcard; anyName
	prefix string
	method pattern
	*conditions
	route    int32
	depth    int32 // elements of prefix
	elements int32 // of the path
	next     int32 // the entry after it in its list of the index, or none
	wild     bool
}

// conditions are those of an entry that a lookup checks, but doesn't look up.
type conditions struct {
	metadata            []report.Condition // sorted
	listener, transport string             // or anyName
}

// noConditions are those of all entries that have none.
var noConditions conditions

// maxEntries bounds the memory of a Table. A route with 100 hosts and 100 methods has
// 10,000 entries.
const maxEntries = 1 << 20

// New returns the table of the routes. If it returns an error, that is a *report.RouteMistake, or
// errors.Join of several.
func New(routes []Route) (*Table, error) {
	entries := make([]entry, 0, len(routes))
	var mistakes []error
	for i := range routes {
		more, found := expand(&routes[i], i)
		for _, m := range found {
			m.Route = i
			mistakes = append(mistakes, m)
		}
		if entries = append(entries, more...); len(entries) > maxEntries {
			return nil, &report.RouteMistake{Route: i, Key: "match", Text: fmt.Sprintf("makes more than %d combinations of hosts, methods, listeners and transports: use patterns", maxEntries), Other: -1}
		}
	}
	mistakes = append(mistakes, twins(entries, routes)...)
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	t := &Table{index: newIndex(sorted(entries)), routes: len(routes), rewrites: make(map[int]rewrite), prefixes: make(map[string]bool)}
	for i := range t.entries {
		e := &t.entries[i]
		t.elements = max(t.elements, e.elements)
		t.needsMetadata = t.needsMetadata || len(e.metadata) > 0
		t.prefixes[e.prefix] = true
	}
	for i := range routes {
		if r := &routes[i]; r.Rewrite != "" {
			t.rewrites[i] = rewrite{len(strings.TrimSuffix(r.Match.PathPrefix, "/")), strings.TrimSuffix(r.Rewrite, "/")}
		}
	}
	return t, nil
}

// NeedsMetadata reports whether a route has a condition for metadata.
func (t *Table) NeedsMetadata() bool { return t.needsMetadata }

// parse checks the Match of a route. It returns what all of its entries have, and its hosts
// and methods. A list that is empty has the value that matches any.
func (r *Route) parse() (e entry, hosts []string, methods []pattern, mistakes []*report.RouteMistake) {
	wrong := func(key string, err error) {
		mistakes = append(mistakes, newMistake(key, err.Error()))
	}
	depth, err := rules.PathElements(r.Match.PathPrefix)
	if err != nil {
		wrong("match.path_prefix", err)
		return e, nil, nil, mistakes
	}
	elements, mistake := r.pathElements(depth)
	if mistake != nil {
		return e, nil, nil, append(mistakes, mistake)
	}
	metadata, mistake := sortedConditions(r.Match.Metadata)
	if mistake != nil {
		return e, nil, nil, append(mistakes, mistake)
	}
	e = entry{prefix: strings.TrimSuffix(r.Match.PathPrefix, "/"), depth: int32(depth), elements: int32(elements), conditions: &conditions{metadata: metadata}}
	for i, text := range r.Match.Hosts {
		h, err := rules.RouteHost(text)
		if err != nil {
			wrong(fmt.Sprintf("match.hosts[%d]", i), err)
			continue
		}
		hosts = append(hosts, h)
	}
	for i, text := range r.Match.Methods {
		e.method, err = parsePattern(text)
		if err == nil && !e.fits() {
			err = errors.New("can match no call: match.path_prefix sets another service or method")
		}
		if err != nil {
			wrong(fmt.Sprintf("match.methods[%d]", i), err)
			continue
		}
		methods = append(methods, e.method)
	}
	return e, orAny(distinct(hosts), anyName), orAny(distinct(methods), pattern{kind: anyMethod}), mistakes
}

// expand returns the entries of a route. Of a route with too many it returns enough for
// New to refuse it.
func expand(r *Route, index int) (entries []entry, mistakes []*report.RouteMistake) {
	e, hosts, methods, mistakes := r.parse()
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	listeners, transports := orAny(distinct(r.Match.Listeners), anyName), orAny(distinct(r.Match.Transports), anyName)
	if len(hosts)*len(methods)*len(listeners)*len(transports) > maxEntries {
		return make([]entry, maxEntries+1), nil
	}
	checked := []*conditions{&noConditions}
	if len(r.Match.Metadata)+len(r.Match.Listeners)+len(r.Match.Transports) > 0 {
		checked = nil
		for _, l := range listeners {
			for _, tr := range transports {
				checked = append(checked, &conditions{e.metadata, l, tr})
			}
		}
	}
	e.route = int32(index)
	for _, h := range hosts {
		e.host, e.wild = strings.CutPrefix(h, ".")
		for _, e.method = range methods {
			for _, e.conditions = range checked {
				entries = append(entries, e)
			}
		}
	}
	return entries, nil
}

func distinct[T comparable](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(slices.Clone(list), func(v T) bool {
		again := seen[v]
		seen[v] = true
		return again
	})
}

func orAny[T any](list []T, matchesAny T) []T {
	if len(list) == 0 {
		return []T{matchesAny}
	}
	return list
}

// fits reports whether a path with the prefix can end with a method that the pattern
// matches. The prefix may contain the service, or the whole method.
func (e *entry) fits() bool {
	return e.depth <= e.elements-2 || e.method.matches(methodOf(e.samplePath()))
}

// samplePath returns a path with the prefix and that many elements which ends with a
// method that the pattern matches, if there is one.
func (e *entry) samplePath() string {
	service, method := e.method.sample()
	path, depth := e.prefix, e.depth
	for ; depth < e.elements-2; depth++ {
		path += "/" + unlike
	}
	if depth < e.elements-1 {
		path += "/" + service
		depth++
	}
	if depth < e.elements {
		path += "/" + method
	}
	return path
}

// A criterion is a key of Match. It judges requests, and compares entries that match the
// same request: the lesser is the more specific.
type criterion struct {
	key     string
	matches func(e *entry, f *Facts) bool
	compare func(a, b *entry) int
}

// criteria are all of them. The first that fails, or that tells two entries apart, decides.
var criteria = []criterion{
	{"match.hosts", (*entry).matchesHost, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.hostKind(), b.hostKind()), cmp.Compare(len(b.host), len(a.host)))
	}},
	{"match.path_prefix", (*entry).matchesPrefix, func(a, b *entry) int { return cmp.Compare(b.depth, a.depth) }},
	{"match.methods", func(e *entry, f *Facts) bool { return e.method.matches(methodOf(f.Path)) }, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.method.kind, b.method.kind), cmp.Compare(b.method.literals, a.method.literals))
	}},
	{"match.metadata", (*entry).matchesMetadata, func(a, b *entry) int { return cmp.Compare(len(b.metadata), len(a.metadata)) }},
	{"match.listeners", (*entry).matchesListener, func(a, b *entry) int { return named(a.listener, b.listener) }},
	{"match.transports", (*entry).matchesTransport, func(a, b *entry) int { return named(a.transport, b.transport) }},
	{report.OrderOfRoutes, func(*entry, *Facts) bool { return true }, func(a, b *entry) int { return cmp.Compare(a.route, b.route) }},
}

// sorted returns the entries by rank.
func sorted(entries []entry) []entry {
	order := make([]*entry, len(entries))
	for i := range entries {
		order[i] = &entries[i]
	}
	slices.SortStableFunc(order, func(a, b *entry) int {
		c, _ := decide(a, b)
		return c
	})
	ranked := make([]entry, len(entries))
	for i, e := range order {
		ranked[i] = *e
	}
	return ranked
}

// decide compares two entries, and returns the key that decided.
func decide(a, b *entry) (int, string) {
	for _, by := range criteria {
		if c := by.compare(a, b); c != 0 {
			return c, by.key
		}
	}
	return 0, ""
}

// A hostKind tells hosts apart by how specific they are. The lower is the more specific.
type hostKind int

const (
	exactHost hostKind = iota
	wildcardHost
	anyHost
)

func (e *entry) hostKind() hostKind {
	switch {
	case e.wild:
		return wildcardHost
	case e.host == anyName:
		return anyHost
	}
	return exactHost
}

// named puts a name before anyName.
func named(a, b string) int {
	if (a == anyName) == (b == anyName) {
		return 0
	}
	if b == anyName {
		return -1
	}
	return 1
}

// Find returns the index of the route for a request, or -1.
func (t *Table) Find(f *Facts) int {
	if e := t.find(f); e != none {
		return int(t.entries[e].route)
	}
	return none
}

// find returns the entry that wins, or none.
func (t *Table) find(f *Facts) int32 {
	elements := strings.Count(f.Path, "/")
	if elements < 2 || elements > int(t.elements) {
		return none
	}
	return t.index.find(f, int32(elements))
}

// Below reports whether a path, without its last two elements, has the prefix of some
// route. The route may be for other hosts, metadata or transports.
func (t *Table) Below(path string) bool {
	rest := strings.TrimSuffix(path, "/"+methodOf(path))
	for rest != "" && !t.prefixes[rest] {
		rest = rest[:strings.LastIndexByte(rest, '/')]
	}
	return rest != ""
}

// Rewrite returns the name of the method that the backend receives: the path with the
// route's rewrite. The route is one that Find returned for the path.
func (t *Table) Rewrite(route int, path string) string {
	if r, ok := t.rewrites[route]; ok {
		return r.by + path[r.replaced:]
	}
	return path
}

// methodOf returns the last two elements of a path, without the first slash.
func methodOf(path string) string {
	last := strings.LastIndexByte(path, '/')
	if last <= 0 {
		return ""
	}
	return path[strings.LastIndexByte(path[:last], '/')+1:]
}

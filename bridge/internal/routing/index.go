package routing

import (
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An index finds entries. It has a map for each of the first criteria: host, path
// prefix, method. A lookup asks the maps from the most to the least specific, and goes
// on to the next if no entry there matches the request. The number of questions depends
// on the labels of the host and the elements of the path, not on the number of routes.
//
// There may be thousands of routes, and the garbage collector looks at all of them
// again and again. So the index has a few large pieces, whose parts are numbers in
// place of pointers. Entries that a lookup tries one after the other are a list: the
// number of the first, and entry.next.
type index struct {
	entries []entry // by rank

	// The numbers of hosts.
	exact     map[string]int32
	wildcards map[string]int32 // by the host's part after the first dots: "example.com" for "*.example.com"
	any       int32            // or none

	depths   []int32 // of each host's longest prefix
	byPrefix map[prefixKey]int32
	prefixes []prefix
	byMethod map[methodKey]int32
	groups   []group
}

type prefixKey struct {
	text     string
	host     int32
	elements int32 // of the whole path
}

// A methodKey is a pattern of one method below a prefix, or of one service.
type methodKey struct {
	text    string
	prefix  int32
	service bool
}

// A prefix has the entries of one prefixKey.
type prefix struct {
	parts, globs    *globs // parts of services, and others; nil: none
	any             int32  // the group of all methods
	exact, services bool   // byMethod has some
}

// globs are entries with other patterns, by the pattern's first bytes that stand
// for themselves.
type globs struct {
	byStart map[string][]globGroup
	lengths []int // of the keys of byStart
}

type globGroup struct {
	pattern pattern
	group   int32
}

// A group has entries that differ only in metadata, listener and transport.
type group struct {
	named []nameGroup
	plain int32 // the list of those without conditions for metadata
}

// A nameGroup has the entries with a condition for one name of metadata. An entry
// with several conditions is in one nameGroup only.
type nameGroup struct {
	name    string
	values  map[string]valueList // by the value that they want
	present int32                // the list of those that want any value
}

type valueList struct{ first, length int32 }

// none is the number of no entry, host, prefix or group.
const none = -1

// newIndex returns the index of entries, which are sorted by rank.
func newIndex(entries []entry) *index {
	x := &index{
		entries: entries, any: none,
		exact: make(map[string]int32), wildcards: make(map[string]int32),
		byPrefix: make(map[prefixKey]int32), byMethod: make(map[methodKey]int32),
	}
	for i := len(entries) - 1; i >= 0; i-- { // each becomes the first of its list
		e := &entries[i]
		x.push(x.groupOf(x.prefixOf(x.hostOf(e), e), e), int32(i))
	}
	return x
}

// add appends to a slice, and returns the number of the new element.
func add[T any](to *[]T, v T) int32 {
	*to = append(*to, v)
	return int32(len(*to) - 1)
}

// numberOf returns the number under a key. If there is none yet, it is made.
func numberOf[K comparable](numbers map[K]int32, k K, make func() int32) int32 {
	n, ok := numbers[k]
	if !ok {
		n = make()
		numbers[k] = n
	}
	return n
}

func (x *index) hostOf(e *entry) (host int32) {
	newHost := func() int32 { return add(&x.depths, 0) }
	switch e.hostKind() {
	case exactHost:
		host = numberOf(x.exact, e.host, newHost)
	case wildcardHost:
		host = numberOf(x.wildcards, e.host, newHost)
	case anyHost:
		if x.any == none {
			x.any = newHost()
		}
		host = x.any
	}
	x.depths[host] = max(x.depths[host], e.depth)
	return host
}

func (x *index) prefixOf(host int32, e *entry) int32 {
	return numberOf(x.byPrefix, prefixKey{e.prefix, host, e.elements}, func() int32 { return add(&x.prefixes, prefix{any: none}) })
}

// groupOf returns the number of the entry's group below a prefix.
func (x *index) groupOf(of int32, e *entry) int32 {
	m := &x.prefixes[of]
	newGroup := func() int32 { return add(&x.groups, group{plain: none}) }
	switch e.method.kind {
	case exactMethod:
		m.exact = true
		return numberOf(x.byMethod, methodKey{e.method.text, of, false}, newGroup)
	case wholeService:
		m.services = true
		return numberOf(x.byMethod, methodKey{e.method.text, of, true}, newGroup)
	case partOfService:
		return groupOfGlob(&m.parts, &e.method, newGroup)
	case glob:
		return groupOfGlob(&m.globs, &e.method, newGroup)
	case anyMethod:
		if m.any == none {
			m.any = newGroup()
		}
	}
	return m.any
}

func groupOfGlob(at **globs, p *pattern, newGroup func() int32) int32 {
	if *at == nil {
		*at = &globs{byStart: make(map[string][]globGroup)}
	}
	gs, start := *at, p.text[:p.prefix]
	if !slices.Contains(gs.lengths, len(start)) {
		gs.lengths = append(gs.lengths, len(start))
	}
	same := func(g globGroup) bool { return g.pattern.text == p.text }
	i := slices.IndexFunc(gs.byStart[start], same)
	if i < 0 {
		i = len(gs.byStart[start])
		gs.byStart[start] = append(gs.byStart[start], globGroup{*p, newGroup()})
	}
	return gs.byStart[start][i].group
}

// push makes an entry the first of its list in a group.
func (x *index) push(to, rank int32) {
	e, g := &x.entries[rank], &x.groups[to]
	if len(e.metadata) == 0 {
		e.next, g.plain = g.plain, rank
		return
	}
	c := g.anchor(e)
	i := slices.IndexFunc(g.named, func(n nameGroup) bool { return n.name == c.Name })
	if i < 0 {
		i = len(g.named)
		g.named = append(g.named, nameGroup{name: c.Name, values: make(map[string]valueList), present: none})
	}
	n := &g.named[i]
	if c.Value == "" {
		e.next, n.present = n.present, rank
		return
	}
	e.next = none
	list, ok := n.values[c.Value]
	if ok {
		e.next = list.first
	}
	n.values[c.Value] = valueList{rank, list.length + 1}
}

// anchor returns the condition by which the group finds the entry: one with a value if
// there is one, and of those the one whose list is the shortest so far. So routes that
// share one condition, and differ in another, end in short lists.
func (g *group) anchor(e *entry) report.Condition {
	best, bestLength := e.metadata[0], int32(-1)
	for _, c := range e.metadata {
		if c.Value == "" {
			continue
		}
		length := int32(0)
		for i := range g.named {
			if g.named[i].name == c.Name {
				length = g.named[i].values[c.Value].length
			}
		}
		if bestLength < 0 || length < bestLength {
			best, bestLength = c, length
		}
	}
	return best
}

// find returns the entry that wins, or none. elements is how many the path has.
func (x *index) find(f *Facts, elements int32) int32 {
	if host, ok := x.exact[f.Host]; ok {
		if e := x.findPath(host, f, elements); e != none {
			return e
		}
	}
	if len(x.wildcards) > 0 {
		for _, rest, more := strings.Cut(f.Host, "."); more; _, rest, more = strings.Cut(rest, ".") {
			if host, ok := x.wildcards[rest]; ok {
				if e := x.findPath(host, f, elements); e != none {
					return e
				}
			}
		}
	}
	if x.any == none {
		return none
	}
	return x.findPath(x.any, f, elements)
}

func (x *index) findPath(host int32, f *Facts, elements int32) int32 {
	text := f.Path
	for depth := elements; depth >= 0; depth-- {
		if depth <= x.depths[host] {
			if m, ok := x.byPrefix[prefixKey{text, host, elements}]; ok {
				if e := x.findMethod(m, f); e != none {
					return e
				}
			}
		}
		text = text[:max(strings.LastIndexByte(text, '/'), 0)]
	}
	return none
}

func (x *index) findMethod(of int32, f *Facts) int32 {
	m, method := &x.prefixes[of], methodOf(f.Path)
	if m.exact {
		if g, ok := x.byMethod[methodKey{method, of, false}]; ok {
			if e := x.findIn(g, f); e != none {
				return e
			}
		}
	}
	if e := x.findGlob(m.parts, method, f); e != none {
		return e
	}
	if m.services {
		service, _, _ := strings.Cut(method, "/")
		if g, ok := x.byMethod[methodKey{service, of, true}]; ok {
			if e := x.findIn(g, f); e != none {
				return e
			}
		}
	}
	if e := x.findGlob(m.globs, method, f); e != none {
		return e
	}
	if m.any == none {
		return none
	}
	return x.findIn(m.any, f)
}

// findGlob asks all patterns that match: their first bytes don't order them. gs may be
// nil.
func (x *index) findGlob(gs *globs, method string, f *Facts) int32 {
	best := int32(none)
	if gs == nil {
		return best
	}
	for _, n := range gs.lengths {
		if n > len(method) {
			continue
		}
		for i := range gs.byStart[method[:n]] {
			if g := &gs.byStart[method[:n]][i]; g.pattern.matches(method) {
				best = better(best, x.findIn(g.group, f))
			}
		}
	}
	return best
}

// findIn returns the entry of a group that wins.
func (x *index) findIn(of int32, f *Facts) int32 {
	g, best := &x.groups[of], int32(none)
	for i := range g.named {
		n := &g.named[i]
		values := f.Metadata[n.name]
		if len(values) == 1 {
			if list, ok := n.values[values[0]]; ok {
				best = better(best, x.firstOf(list.first, f))
			}
		}
		if len(values) > 0 {
			best = better(best, x.firstOf(n.present, f))
		}
	}
	if best != none {
		return best
	}
	return x.firstOf(g.plain, f)
}

// better returns the entry with the lower rank. Either may be none.
func better(a, b int32) int32 {
	if a == none || b != none && b < a {
		return b
	}
	return a
}

// firstOf returns the first entry of a list whose metadata, listener and transport
// match.
func (x *index) firstOf(list int32, f *Facts) int32 {
	for list != none && !x.entries[list].matchesRest(f) {
		list = x.entries[list].next
	}
	return list
}

// matchesRest judges what the maps don't.
func (e *entry) matchesRest(f *Facts) bool {
	return e.matchesMetadata(f) && e.matchesListener(f) && e.matchesTransport(f)
}

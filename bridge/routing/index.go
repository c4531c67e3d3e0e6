package routing

import (
	"slices"
	"strings"
)

// The index has a map for each of the first criteria, one below the other: host, path
// prefix, method, metadata. A lookup asks the maps from the most to the least
// specific, and goes on to the next if no entry there matches the request. The number
// of maps depends on the labels of the host and the elements of the path, not on the
// number of routes.

// under returns the part of the index for the entry's host.
func (t *Table) under(e *entry) *paths {
	at := &t.any
	hosts := t.exact
	switch e.hostKind() {
	case 1:
		hosts = t.wildcards
	case 2:
		if *at == nil {
			*at = newPaths()
		}
		return *at
	}
	p := hosts[e.host]
	if p == nil {
		p = newPaths()
		hosts[e.host] = p
	}
	return p
}

// paths are the entries of one host.
type paths struct {
	byPrefix map[prefixKey]*methods
	depth    int // of the longest prefix
}

type prefixKey struct {
	prefix   string
	elements int // of the whole path
}

func newPaths() *paths { return &paths{byPrefix: make(map[prefixKey]*methods)} }

func (p *paths) add(e *entry) {
	p.depth = max(p.depth, e.depth)
	k := prefixKey{e.prefix, e.elements}
	m := p.byPrefix[k]
	if m == nil {
		m = &methods{exact: make(map[string]*group), services: make(map[string]*group), globs: make(map[string][]*globGroup)}
		p.byPrefix[k] = m
	}
	m.add(e)
}

// find returns the entry that wins. p may be nil.
func (p *paths) find(f *Facts, elements int) *entry {
	if p == nil {
		return nil
	}
	prefix := f.Path
	for depth := elements; depth >= 0; depth-- {
		if depth <= p.depth {
			if m := p.byPrefix[prefixKey{prefix, elements}]; m != nil {
				if e := m.find(f); e != nil {
					return e
				}
			}
		}
		prefix = prefix[:max(strings.LastIndexByte(prefix, '/'), 0)]
	}
	return nil
}

// methods are the entries of one prefix.
type methods struct {
	exact    map[string]*group       // by method
	services map[string]*group       // by service
	globs    map[string][]*globGroup // by the first bytes that stand for themselves
	lengths  []int                   // of the keys of globs
	any      *group
}

// A globGroup has the entries of one glob.
type globGroup struct {
	pattern pattern
	group
}

func (m *methods) add(e *entry) {
	switch e.method.kind {
	case exactMethod:
		groupAt(m.exact, e.method.text).add(e)
	case wholeService:
		groupAt(m.services, e.method.text).add(e)
	case glob:
		m.addGlob(e)
	case anyMethod:
		if m.any == nil {
			m.any = new(group)
		}
		m.any.add(e)
	}
}

func groupAt(groups map[string]*group, name string) *group {
	g := groups[name]
	if g == nil {
		g = new(group)
		groups[name] = g
	}
	return g
}

func (m *methods) addGlob(e *entry) {
	literal := e.method.text[:e.method.prefix]
	if !slices.Contains(m.lengths, len(literal)) {
		m.lengths = append(m.lengths, len(literal))
	}
	same := func(g *globGroup) bool { return g.pattern.text == e.method.text }
	i := slices.IndexFunc(m.globs[literal], same)
	if i < 0 {
		i = len(m.globs[literal])
		m.globs[literal] = append(m.globs[literal], &globGroup{pattern: e.method})
	}
	m.globs[literal][i].add(e)
}

func (m *methods) find(f *Facts) *entry {
	method := methodOf(f.Path)
	if e := m.exact[method].find(f); e != nil {
		return e
	}
	service, _, _ := strings.Cut(method, "/")
	if e := m.services[service].find(f); e != nil {
		return e
	}
	// Several globs may match, and their prefixes don't order them.
	var best *entry
	for _, n := range m.lengths {
		if n > len(method) {
			continue
		}
		for _, g := range m.globs[method[:n]] {
			if g.pattern.matches(method) {
				best = better(best, g.find(f))
			}
		}
	}
	if best != nil {
		return best
	}
	return m.any.find(f)
}

// better returns the entry with the lower rank. Either may be nil.
func better(a, b *entry) *entry {
	if a == nil || b != nil && b.rank < a.rank {
		return b
	}
	return a
}

// A group has entries that differ only in metadata, listener and transport.
type group struct {
	named []nameGroup
	plain []*entry // without conditions for metadata, by rank
}

// A nameGroup has the entries with a condition for one name of metadata. An entry
// with several conditions is in one nameGroup only.
type nameGroup struct {
	name    string
	values  map[string][]*entry // by the value that they want; by rank
	present []*entry            // want any value; by rank
}

func (g *group) add(e *entry) {
	if len(e.metadata) == 0 {
		g.plain = append(g.plain, e)
		return
	}
	c := g.anchor(e)
	i := slices.IndexFunc(g.named, func(n nameGroup) bool { return n.name == c.Name })
	if i < 0 {
		i = len(g.named)
		g.named = append(g.named, nameGroup{name: c.Name, values: make(map[string][]*entry)})
	}
	n := &g.named[i]
	if c.Value == "" {
		n.present = append(n.present, e)
	} else {
		n.values[c.Value] = append(n.values[c.Value], e)
	}
}

// anchor returns the condition by which the group finds the entry: one with a value if
// there is one, and of those the one whose list is the shortest so far. So routes that
// share one condition, and differ in another, end in short lists.
func (g *group) anchor(e *entry) Condition {
	best, bestLen := e.metadata[0], -1
	for _, c := range e.metadata {
		if c.Value == "" {
			continue
		}
		n := 0
		for i := range g.named {
			if g.named[i].name == c.Name {
				n = len(g.named[i].values[c.Value])
			}
		}
		if bestLen < 0 || n < bestLen {
			best, bestLen = c, n
		}
	}
	return best
}

// find returns the entry that wins. g may be nil.
func (g *group) find(f *Facts) *entry {
	if g == nil {
		return nil
	}
	var best *entry
	for i := range g.named {
		n := &g.named[i]
		values := f.Metadata[n.name]
		if len(values) == 1 {
			best = better(best, first(n.values[values[0]], f))
		}
		if len(values) > 0 {
			best = better(best, first(n.present, f))
		}
	}
	if best != nil {
		return best
	}
	return first(g.plain, f)
}

// first returns the first of the entries whose metadata, listener and transport match.
func first(entries []*entry, f *Facts) *entry {
	for _, e := range entries {
		if e.matchesRest(f) == "" {
			return e
		}
	}
	return nil
}

// matchesRest returns the key of the condition for metadata, listener or transport
// that fails, or "".
func (e *entry) matchesRest(f *Facts) string {
	switch {
	case !slices.ContainsFunc(e.metadata, func(c Condition) bool { return !c.holds(f.Metadata) }):
	default:
		return "match.metadata"
	}
	switch {
	case e.listener != anyName && e.listener != f.Listener:
		return "match.listeners"
	case e.transport != anyName && e.transport != f.Transport:
		return "match.transports"
	}
	return ""
}

package routing

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A Route is one row of a Table.
type Route struct {
	Name  string
	Match report.Match

	// Rewrite replaces Match.PathPrefix in the path, and thus makes the name of the
	// method that the backend receives. "/" removes the prefix. If empty, the path
	// stays as it is.
	Rewrite string
}

// Facts are what routes judge a request by.
type Facts struct {
	Host      string              // in lower case, without port, brackets and final dot
	Path      string              // "/package.Service/Method", perhaps with elements before
	Listener  string              // the listener's name
	Transport string              // the transport's name; empty for a browser's preflight, which has none yet
	Metadata  map[string][]string // by lower-case name; nil while it is unknown
}

// newMistake returns a RouteMistake of one route alone, which New sets.
func newMistake(key, text string) *report.RouteMistake {
	return &report.RouteMistake{Key: key, Text: text, Other: -1}
}

// anyName stands for a condition that a Match doesn't have.
const anyName = ""

// pathElements returns how many elements the paths that a route matches have: the
// rewritten path must be a method, which has two.
func (r *Route) pathElements(prefix int) (int, *report.RouteMistake) {
	rewritten, key := prefix, "match.path_prefix"
	if r.Rewrite != "" {
		var err error
		key = "rewrite.path_prefix"
		if rewritten, err = rules.PathElements(r.Rewrite); err != nil {
			return 0, newMistake(key, strings.Replace(err.Error(), "can match no path", "makes no path", 1))
		}
	}
	switch {
	case rewritten > 2 && r.Rewrite == "":
		return 0, newMistake(key, `can match no call: the backend would get more than "/package.Service/Method"; set rewrite.path_prefix to "/" to remove the prefix`)
	case rewritten > 2:
		return 0, newMistake(key, `makes no method: the backend would get more than "/package.Service/Method"; write "/" to remove match.path_prefix`)
	case rewritten > prefix:
		return 0, newMistake(key, "makes no method: it has more elements than match.path_prefix, which it replaces; write at most as many")
	}
	return prefix + 2 - rewritten, nil
}

// sortedConditions returns the conditions in lower case, sorted.
func sortedConditions(list []report.Condition) ([]report.Condition, *report.RouteMistake) {
	list = slices.Clone(list)
	for i := range list {
		list[i].Name = strings.ToLower(list[i].Name)
		key := fmt.Sprintf("match.metadata[%d].name", i)
		switch name := list[i].Name; {
		case name == "":
			return nil, newMistake(key, "is empty: write the name of metadata")
		case strings.HasSuffix(name, "-bin") && list[i].Value != "":
			return nil, newMistake(key, "can match no call: the value of binary metadata can't be matched; remove value")
		case slices.ContainsFunc(list[:i], func(c report.Condition) bool { return c.Name == name }):
			return nil, newMistake(key, "can match no call: another condition has this name, too; remove one of them")
		}
	}
	slices.SortFunc(list, func(a, b report.Condition) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func (e *entry) matchesHost(f *Facts) bool {
	if e.wild {
		before, found := strings.CutSuffix(f.Host, e.host)
		return found && strings.HasSuffix(before, ".")
	}
	return e.host == anyName || e.host == f.Host
}

func (e *entry) matchesPrefix(f *Facts) bool {
	rest, found := strings.CutPrefix(f.Path, e.prefix)
	return found && strings.Count(f.Path, "/") == int(e.elements) && (rest == "" || rest[0] == '/')
}

func (e *entry) matchesMetadata(f *Facts) bool {
	for _, c := range e.metadata {
		if values := f.Metadata[c.Name]; len(values) == 0 || c.Value != "" && (len(values) > 1 || values[0] != c.Value) {
			return false
		}
	}
	return true
}

func (e *entry) matchesListener(f *Facts) bool {
	return e.listener == anyName || e.listener == f.Listener
}

func (e *entry) matchesTransport(f *Facts) bool {
	return e.transport == anyName || e.transport == f.Transport
}

package routing

import (
	"cmp"
	"errors"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// oracle selects a route as the package's comment says, by looking at every route.
func oracle(routes []Route, f *Facts) int {
	best, bestOrder := -1, []int(nil)
	for i, r := range routes {
		order := oracleOrder(r, f)
		if order != nil && (bestOrder == nil || slices.Compare(order, bestOrder) < 0) {
			best, bestOrder = i, order
		}
	}
	return best
}

var wildcards = regexp.MustCompile(`\*|\?|\[[^]]*\]`)

// oracleOrder returns how specific a route is for a request: the lesser in each
// place, the more. nil: it doesn't match.
func oracleOrder(r Route, f *Facts) []int {
	order := make([]int, 8)

	hosts := r.Match.Hosts
	if len(hosts) == 0 {
		hosts = []string{"*"}
	}
	order[0] = least(hosts, func(h string) int {
		switch {
		case strings.EqualFold(h, f.Host):
			return 0
		case h == "*":
			return 2000
		case strings.HasPrefix(h, "*.") && strings.HasSuffix(f.Host, h[1:]):
			return 1000 - len(h)
		}
		return never
	})

	prefix, elements := split(r.Match.PathPrefix), split(f.Path)
	if len(elements) < len(prefix) || !slices.Equal(prefix, elements[:len(prefix)]) {
		return nil
	}
	rewritten := elements
	if r.Rewrite != "" {
		rewritten = append(split(r.Rewrite), elements[len(prefix):]...)
	}
	if len(rewritten) != 2 || len(elements) < 2 {
		return nil
	}
	order[1] = -len(prefix)

	method := strings.Join(elements[len(elements)-2:], "/")
	patterns := r.Match.Methods
	if len(patterns) == 0 {
		patterns = []string{"*/*"}
	}
	order[2] = least(patterns, func(p string) int {
		p = strings.TrimPrefix(p, "/")
		ok, _ := path.Match(p, method)
		service, name, _ := strings.Cut(p, "/")
		switch {
		case !ok:
			return never
		case !strings.ContainsAny(p, special):
			return 0
		case p == "*/*":
			return 3000
		case name == "*" && !strings.ContainsAny(service, special):
			return 1001
		case !strings.ContainsAny(service, special):
			return 1000 - len(wildcards.ReplaceAllString(name, ""))
		}
		return 2000 - len(wildcards.ReplaceAllString(p, ""))
	})

	for _, c := range r.Match.Metadata {
		values := f.Metadata[c.Name]
		if len(values) == 0 || c.Value != "" && !slices.Equal(values, []string{c.Value}) {
			return nil
		}
		order[3]--
	}
	oneOf := func(list []string, name string) int {
		switch {
		case len(list) == 0:
			return 1
		case slices.Contains(list, name):
			return 0
		}
		return never
	}
	order[4] = oneOf(r.Match.Listeners, f.Listener)
	order[5] = oneOf(r.Match.Transports, f.Transport)
	if slices.Max(order) == never {
		return nil
	}
	return order
}

const never = 1 << 30

func least(list []string, order func(string) int) int {
	best := never
	for _, v := range list {
		best = min(best, order(v))
	}
	return best
}

func split(p string) []string {
	return strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
}

// choices makes values of a fuzzer's bytes.
type choices []byte

func (c *choices) next(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

func (c *choices) of(words ...string) string { return words[c.next(len(words))] }

// some returns up to two of the words, each once.
func (c *choices) some(words ...string) []string {
	var list []string
	for range c.next(4) % 3 {
		list = append(list, c.of(words...))
	}
	return distinct(list)
}

func (c *choices) route() Route {
	r := Route{
		Match: report.Match{
			Hosts:      c.some("a.example", "b.a.example", "*.a.example", "*.example", "*", "A.example"),
			PathPrefix: c.of("", "", "/", "/t", "/t/u", "/s.S", "/s.S/M", "/t/s.S"),
			Methods:    c.some("s.S/M", "s.S/N", "s.S/*", "s.*/*", "s.*/M", "*/M", "*/*", "s.?/M", "s.[ST]/*", "s.?*/M", "t.T/*", "/s.S/M"),
			Listeners:  c.some("l", "m"),
			Transports: c.some("grpc", "grpc-web"),
		},
		Rewrite: c.of("", "/", "/s.S", "/s.S/N", ""),
	}
	for range c.next(3) {
		r.Match.Metadata = append(r.Match.Metadata, report.Condition{Name: c.of("x", "y", "z"), Value: c.of("", "1", "2")})
	}
	return r
}

func (c *choices) facts() *Facts {
	f := &Facts{
		Host:      c.of("a.example", "b.a.example", "c.b.a.example", "x.example", "example", ""),
		Path:      c.of("", "/t", "/t/u", "/s.S", "/v") + c.of("/s.S/M", "/s.S/N", "/s.T/M", "/s./M", "/t.T/M", "/t/M", "/s.S", "/M"),
		Listener:  c.of("l", "m", ""),
		Transport: c.of("grpc", "grpc-web", "", "h2ts"),
		Metadata:  map[string][]string{},
	}
	for range c.next(4) {
		name := c.of("x", "y", "z", "other")
		f.Metadata[name] = append(f.Metadata[name], c.of("1", "2", ""))
	}
	return f
}

// Every lookup gets the route that a look at every route gets, and routes that are
// reported as shadowed get no request.
func FuzzFind(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x02the routes of this table match by hosts and methods, and some by metadata"))
	for seed := range byte(40) {
		b := make([]byte, 400)
		x := uint64(seed) + 1
		for i := range b {
			x = mix(x + 0x9e3779b97f4a7c15)
			b[i] = byte(x >> 32)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := choices(in)
		routes := make([]Route, 1+c.next(12))
		for i := range routes {
			routes[i] = c.route()
		}
		table, err := New(routes)
		for err != nil {
			routes = without(routes, err)
			table, err = New(routes)
		}
		shadowed := map[int]bool{}
		var ways []report.Way
		for _, l := range []string{"l", "m", ""} {
			for _, tr := range []string{"grpc", "grpc-web", "h2ts", ""} {
				ways = append(ways, report.Way{Listener: l, Transport: tr})
			}
		}
		for _, s := range table.Shadowed(ways) {
			shadowed[s.Route] = true
		}
		for range 20 {
			facts := c.facts()
			got, want := table.Find(facts), oracle(routes, facts)
			if got != want {
				t.Fatalf("route %d, want %d, of\n%+v\nfor %+v", got, want, routes, *facts)
			}
			if shadowed[got] {
				t.Errorf("route %d is reported as shadowed, but gets %+v, of\n%+v", got, *facts, routes)
			}
			if got >= 0 {
				if name := table.Rewrite(got, facts.Path); len(split(name)) != 2 {
					t.Errorf("route %d makes %q of %q", got, name, facts.Path)
				}
			}
			explained := table.Explain(facts)
			if len(explained) != len(routes) || len(routes) > 0 && (got >= 0) != explained[0].Matches || got >= 0 && explained[0].Route != got {
				t.Errorf("Explain gave %+v for route %d", explained, got)
			}
		}
	})
}

// without returns the routes without those in the mistakes.
func without(routes []Route, err error) []Route {
	wrong := map[int]bool{}
	var all interface{ Unwrap() []error }
	if !errors.As(err, &all) {
		panic(err)
	}
	for _, e := range all.Unwrap() {
		var m *report.RouteMistake
		if errors.As(e, &m) {
			wrong[m.Route] = true
		}
	}
	var kept []Route
	for i, r := range routes {
		if !wrong[i] {
			kept = append(kept, r)
		}
	}
	return kept
}

// FuzzPattern checks that a sample matches its pattern, and that no pattern panics.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"s.v1.S/M", "s.v1.S/*", "s.*/Get*", "*/*", "[a-c]?/\\*", "[^a]/[]a]", "[x[/]y", "/a/b", "a", "a/b/c"} {
		f.Add(p, "s.v1.S/M")
	}
	f.Fuzz(func(t *testing.T, text, method string) {
		p, err := parsePattern(text)
		if err != nil {
			return
		}
		want, _ := path.Match(strings.TrimPrefix(text, "/"), method)
		if service, name, ok := strings.Cut(method, "/"); ok && service != "" && name != "" && !strings.Contains(name, "/") {
			if got := p.matches(method); got != want {
				t.Errorf("%q matches %q: %v, want %v", text, method, got, want)
			}
		}
		service, name := p.sample()
		if got := p.matches(cmp.Or(service+"/"+name, "/")); !got && !strings.ContainsAny(text, `[\`) {
			t.Errorf("the sample %q/%q doesn't match %q", service, name, text)
		}
	})
}

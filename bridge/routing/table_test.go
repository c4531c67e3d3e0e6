package routing

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
)

func newTable(t *testing.T, routes ...Route) *Table {
	t.Helper()
	table, err := New(routes)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// The criteria decide in the documented order. Each row's first route is more
// specific by one criterion, and less by all that follow.
func TestMostSpecificRouteWins(t *testing.T) {
	facts := &Facts{
		Host: "b.a.example", Path: "/t/s.S/Get", Listener: "l", Transport: "grpc",
		Metadata: map[string][]string{"x": {"1"}, "y": {"2"}},
	}
	strip := func(m report.Match) Route { return Route{Match: m, Rewrite: "/"} }
	all := report.Match{
		PathPrefix: "/t", Methods: []string{"s.S/Get"}, Metadata: []report.Condition{{Name: "x", Value: "1"}, {Name: "y", Value: "2"}},
		Listeners: []string{"l"}, Transports: []string{"grpc"},
	}
	with := func(change func(*report.Match)) report.Match {
		m := all
		change(&m)
		return m
	}
	for _, tt := range []struct {
		name           string
		winner, loser  report.Match
		rewrite        string // of the loser; empty: "/"
		loserIsShorter bool
	}{
		{name: "an exact host beats a wildcard", winner: report.Match{PathPrefix: "/t", Hosts: []string{"b.a.example"}}, loser: with(func(m *report.Match) { m.Hosts = []string{"*.a.example"} })},
		{name: "a longer wildcard beats a shorter one", winner: report.Match{PathPrefix: "/t", Hosts: []string{"*.a.example"}}, loser: with(func(m *report.Match) { m.Hosts = []string{"*.example"} })},
		{name: "a wildcard beats any host", winner: report.Match{PathPrefix: "/t", Hosts: []string{"*.example"}}, loser: all},
		{name: "a longer prefix beats a shorter one", winner: report.Match{PathPrefix: "/t/s.S"}, loser: all, loserIsShorter: true},
		{name: "an exact method beats a service", winner: report.Match{PathPrefix: "/t", Methods: []string{"s.S/Get"}}, loser: with(func(m *report.Match) { m.Methods = []string{"s.S/*"} })},
		{name: "an exact method beats a part of a service", winner: report.Match{PathPrefix: "/t", Methods: []string{"s.S/Get"}}, loser: with(func(m *report.Match) { m.Methods = []string{"s.S/Ge?"} })},
		{name: "a part of a service beats the service", winner: report.Match{PathPrefix: "/t", Methods: []string{"s.S/G*"}}, loser: with(func(m *report.Match) { m.Methods = []string{"s.S/*"} })},
		{name: "a smaller part beats a larger one", winner: report.Match{PathPrefix: "/t", Methods: []string{"s.S/Ge*"}}, loser: with(func(m *report.Match) { m.Methods = []string{"s.S/G*"} })},
		{name: "a service beats a pattern", winner: report.Match{PathPrefix: "/t", Methods: []string{"s.S/*"}}, loser: with(func(m *report.Match) { m.Methods = []string{"s.?/Get*"} })},
		{name: "a longer pattern beats a shorter one", winner: report.Match{PathPrefix: "/t", Methods: []string{"s.*/Get"}}, loser: with(func(m *report.Match) { m.Methods = []string{"s.*/G*"} })},
		{name: "a class doesn't count", winner: report.Match{PathPrefix: "/t", Methods: []string{"s.S/G*"}}, loser: with(func(m *report.Match) { m.Methods = []string{"s.[A-Z]/[EFGHIJKL]*"} })},
		{name: "a pattern beats any method", winner: report.Match{PathPrefix: "/t", Methods: []string{"*/G*"}}, loser: with(func(m *report.Match) { m.Methods = nil })},
		{name: "more conditions beat fewer", winner: report.Match{PathPrefix: "/t", Metadata: []report.Condition{{Name: "x", Value: ""}, {Name: "y", Value: ""}}}, loser: with(func(m *report.Match) { m.Methods, m.Metadata = nil, []report.Condition{{Name: "x", Value: "1"}} })},
		{name: "a listener beats any", winner: report.Match{PathPrefix: "/t", Listeners: []string{"l"}}, loser: report.Match{PathPrefix: "/t", Transports: []string{"grpc"}}},
		{name: "a transport beats any", winner: report.Match{PathPrefix: "/t", Transports: []string{"grpc"}}, loser: report.Match{PathPrefix: "/t"}},
		{name: "the first of two that differ in nothing that counts", winner: report.Match{PathPrefix: "/t", Methods: []string{"s.*/Get"}}, loser: report.Match{PathPrefix: "/t", Methods: []string{"*.S/Get"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			winner := strip(tt.winner)
			if tt.loserIsShorter {
				winner.Rewrite = "/s.S"
			}
			loser := strip(tt.loser)
			orders := [][]Route{{winner, loser}}
			if !strings.HasPrefix(tt.name, "the first") {
				orders = append(orders, []Route{loser, winner})
			}
			for i, routes := range orders {
				if got := newTable(t, routes...).Find(facts); got != i {
					t.Errorf("in order %d, route %d won, want %d", i, got, i)
				}
				if got := newTable(t, loser).Find(facts); got != 0 {
					t.Errorf("the loser doesn't match at all")
				}
			}
		})
	}
}

// A request that the more specific host has no route for falls to the next one.
func TestLookupFallsBackToLessSpecificRoutes(t *testing.T) {
	table := newTable(
		t,
		Route{Match: report.Match{Hosts: []string{"a.example"}, Methods: []string{"s.S/M"}, Metadata: []report.Condition{{Name: "x", Value: "1"}}}},
		Route{Match: report.Match{Hosts: []string{"*.example"}, Methods: []string{"s.S/*"}}},
		Route{Match: report.Match{PathPrefix: "/t"}, Rewrite: "/"},
		Route{},
	)
	for _, tt := range []struct {
		host, path string
		want       int
	}{
		{"a.example", "/s.S/M", 1},
		{"a.example", "/s.T/M", 3},
		{"b.a.example", "/s.S/M", 1},
		{"example", "/s.S/M", 3},
		{"a.example", "/t/s.S/M", 2},
		{"a.example", "/t/M", 3}, // without the prefix it would be no method
		{"a.example", "/tt/M", 3},
		{"a.example", "/u/s.S/M", -1},
		{"a.example", "/M", -1},
		{"", "", -1},
	} {
		if got := table.Find(&Facts{Host: tt.host, Path: tt.path}); got != tt.want {
			t.Errorf("%s%s has route %d, want %d", tt.host, tt.path, got, tt.want)
		}
	}
}

// A name that occurs twice has no one value: a client that adds a second value to the
// one that a proxy has set isn't taken for another.
func TestConditionWantsOneValue(t *testing.T) {
	table := newTable(
		t,
		Route{Match: report.Match{Metadata: []report.Condition{{Name: "X-Tenant", Value: "a"}}}},
		Route{Match: report.Match{Metadata: []report.Condition{{Name: "x-any", Value: ""}}}},
		Route{Match: report.Match{Metadata: []report.Condition{{Name: "x-tenant", Value: "a"}, {Name: "x-zone", Value: "z"}}}},
	)
	for _, tt := range []struct {
		md   map[string][]string
		want int
	}{
		{map[string][]string{"x-tenant": {"a"}}, 0},
		{map[string][]string{"x-tenant": {"a", "b"}}, -1},
		{map[string][]string{"x-tenant": {"A"}}, -1},
		{map[string][]string{"x-any": {"", ""}}, 1},
		{map[string][]string{"x-any": {}}, -1},
		{map[string][]string{"x-tenant": {"a"}, "x-any": {"1"}}, 0},
		{map[string][]string{"x-tenant": {"a"}, "x-any": {"1"}, "x-zone": {"z"}}, 2},
		{nil, -1},
	} {
		if got := table.Find(&Facts{Path: "/s.S/M", Metadata: tt.md}); got != tt.want {
			t.Errorf("%v has route %d, want %d", tt.md, got, tt.want)
		}
	}
	if !table.NeedsMetadata() || newTable(t, Route{}).NeedsMetadata() {
		t.Error("NeedsMetadata is wrong")
	}
}

func TestRewrite(t *testing.T) {
	for _, tt := range []struct{ prefix, rewrite, path, want string }{
		{"", "", "/s.S/M", "/s.S/M"},
		{"/s.S", "", "/s.S/M", "/s.S/M"},
		{"/t", "/", "/t/s.S/M", "/s.S/M"},
		{"/t/u", "/", "/t/u/s.S/M", "/s.S/M"},
		{"/old.S", "/new.S", "/old.S/M", "/new.S/M"},
		{"/t/old.S", "/new.S", "/t/old.S/M", "/new.S/M"},
		{"/old.S/M", "/new.S/N", "/old.S/M", "/new.S/N"},
		{"/", "/", "/s.S/M", "/s.S/M"},
	} {
		table := newTable(t, Route{Match: report.Match{PathPrefix: tt.prefix}, Rewrite: tt.rewrite})
		if got := table.Find(&Facts{Path: tt.path}); got != 0 {
			t.Fatalf("%+v: no route", tt)
		}
		if got := table.Rewrite(0, tt.path); got != tt.want {
			t.Errorf("%+v: got %q", tt, got)
		}
	}
}

func TestBelow(t *testing.T) {
	table := newTable(t, Route{}, Route{Match: report.Match{PathPrefix: "/t/u", Transports: []string{"grpc"}}, Rewrite: "/"}, Route{Match: report.Match{PathPrefix: "/s.S"}})
	for path, want := range map[string]bool{
		"/t/u/s.S/M": true, "/t/u/v/s.S/M": true, "/t/s.S/M": false, "/tt/u/s.S/M": false,
		"/s.S/M": false, "/t/u": false, "/t/u/M": false, "/s.S/s.S/M": true, "": false, "/": false, "/M": false,
	} {
		if got := table.Below(path); got != want {
			t.Errorf("%q is below a prefix: %v, want %v", path, got, want)
		}
	}
}

// Each mistake names its route and key, and what to write.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct {
		key, text string
		routes    []Route
	}{
		{"match", `matches the same requests as the route "one": remove one of them`, []Route{{Name: "one"}, {Name: "two", Match: report.Match{Hosts: []string{"*"}, Methods: []string{"*/*"}, PathPrefix: "/"}}}},
		{"match", `the route "one" for the host "b": remove`, []Route{
			{Name: "one", Match: report.Match{Hosts: []string{"a", "B."}, Metadata: []report.Condition{{Name: "x", Value: "1"}, {Name: "Y", Value: ""}}}},
			{Name: "two", Match: report.Match{Hosts: []string{"b", "c"}, Metadata: []report.Condition{{Name: "y", Value: ""}, {Name: "x", Value: "1"}}}},
		}},
		{"match", `the route "one" for the method "s.S/*" and the listener "b":`, []Route{{Name: "one", Match: report.Match{Methods: []string{"s.S/*", "s.S/M"}, Listeners: []string{"b"}}}, {Name: "two", Match: report.Match{Methods: []string{"s.S/*"}, Listeners: []string{"a", "b"}}}}},
		{"match", `the route "one" for the host "*.a" and the method "*/*": remove`, []Route{{Name: "one", Match: report.Match{Hosts: []string{"*.a", "*"}}}, {Name: "two", Match: report.Match{Hosts: []string{"*.a"}, Methods: []string{"*/*", "s.S/M"}}}}},
		{"match", `the route "one" for the listener "b"`, []Route{{Name: "one", Match: report.Match{Listeners: []string{"a", "b"}}}, {Name: "two", Match: report.Match{Listeners: []string{"b"}}}}},
		{"match.hosts[1]", "remove the port", []Route{{Match: report.Match{Hosts: []string{"ok", "a.example:8080"}}}}},
		{"match.hosts[0]", "must be the first label", []Route{{Match: report.Match{Hosts: []string{"a.*.example"}}}}},
		{"match.hosts[0]", "must be the first label", []Route{{Match: report.Match{Hosts: []string{"*a.example"}}}}},
		{"match.hosts[0]", "is empty", []Route{{Match: report.Match{Hosts: []string{""}}}}},
		{"match.hosts[0]", "can match no host", []Route{{Match: report.Match{Hosts: []string{"a/b"}}}}},
		{"match.path_prefix", `write "/t"`, []Route{{Match: report.Match{PathPrefix: "t"}}}},
		{"match.path_prefix", "whole elements", []Route{{Match: report.Match{PathPrefix: "/t/"}}}},
		{"match.path_prefix", "whole elements", []Route{{Match: report.Match{PathPrefix: "/t%20"}}}},
		{"match.path_prefix", `set rewrite.path_prefix to "/"`, []Route{{Match: report.Match{PathPrefix: "/a/b/c"}}}},
		{"rewrite.path_prefix", "makes no method", []Route{{Match: report.Match{PathPrefix: "/a/b/c"}, Rewrite: "/a/b/c"}}},
		{"rewrite.path_prefix", "makes no method", []Route{{Rewrite: "/s.S"}}},
		{"rewrite.path_prefix", "makes no path", []Route{{Match: report.Match{PathPrefix: "/a"}, Rewrite: "b"}}},
		{"match.methods[0]", "want \"package.Service/Method\"", []Route{{Match: report.Match{Methods: []string{"s.S"}}}}},
		{"match.methods[0]", "want \"package.Service/Method\"", []Route{{Match: report.Match{Methods: []string{"s.[S/M"}}}}},
		{"match.methods[0]", "can match no method", []Route{{Match: report.Match{Methods: []string{"s.S/"}}}}},
		{"match.methods[0]", "can match no method", []Route{{Match: report.Match{Methods: []string{"s S/M"}}}}},
		{"match.methods[0]", "can match no method", []Route{{Match: report.Match{Methods: []string{"s.^/M"}}}}},
		{"match.methods[0]", `the class "[^b-a]" has no characters from 'b' to 'a'`, []Route{{Match: report.Match{Methods: []string{"s.S/M[^b-a]"}}}}},
		{"match.methods[0]", "can match no method", []Route{{Match: report.Match{Methods: []string{`s.[a-c]/\^`}}}}},
		{"match.methods[0]", "a class can't have the slash", []Route{{Match: report.Match{Methods: []string{"s.S[/]M"}}}}},
		{"match.methods[0]", "sets another service", []Route{{Match: report.Match{PathPrefix: "/t.T", Methods: []string{"s.S/*"}}}}},
		{"match.metadata[1].name", "another condition", []Route{{Match: report.Match{Metadata: []report.Condition{{Name: "x", Value: "1"}, {Name: "X", Value: "2"}}}}}},
		{"match.metadata[0].name", "binary", []Route{{Match: report.Match{Metadata: []report.Condition{{Name: "x-bin", Value: "1"}}}}}},
		{"match.metadata[0].name", "is empty", []Route{{Match: report.Match{Metadata: []report.Condition{{Name: "", Value: "1"}}}}}},
	} {
		_, err := New(tt.routes)
		var m *report.RouteMistake
		if !errors.As(err, &m) || m.Key != tt.key || !strings.Contains(m.Text, tt.text) || m.Route != len(tt.routes)-1 || (m.Other >= 0) != (len(tt.routes) > 1) {
			t.Errorf("%+v gave %v (%+v), want %s … %s", tt.routes, err, m, tt.key, tt.text)
		}
	}
}

func TestTooManyCombinations(t *testing.T) {
	var names []string
	for i := range 2000 {
		names = append(names, fmt.Sprint("n", i))
	}
	_, err := New([]Route{{Match: report.Match{Hosts: names, Listeners: names}}})
	if err == nil || !strings.Contains(err.Error(), "combinations") {
		t.Errorf("4,000,000 combinations gave %v", err)
	}
}

func TestShadowedRoutes(t *testing.T) {
	ways := []report.Way{{Listener: "l", Transport: "grpc"}, {Listener: "l", Transport: "grpc-web"}, {Listener: "m", Transport: "grpc"}, {Listener: "m", Transport: "grpc-web"}, {Listener: "n", Transport: "grpc"}}
	for _, tt := range []struct {
		name   string
		routes []Route
		want   []report.Shadow
	}{
		{"none", []Route{{Match: report.Match{Methods: []string{"s.S/*"}}}, {}}, nil},
		{"a prefix has all methods of a service", []Route{{Match: report.Match{Methods: []string{"s.S/*"}}}, {Match: report.Match{PathPrefix: "/s.S"}}}, []report.Shadow{{Route: 0, By: 1}}},
		{"each listener has a route", []Route{{}, {Match: report.Match{Listeners: []string{"l"}}}, {Match: report.Match{Listeners: []string{"m", "n"}}}}, []report.Shadow{{Route: 0, By: 2}}},
		{"one listener has none", []Route{{}, {Match: report.Match{Listeners: []string{"l"}}}}, nil},
		{"an earlier pattern with as many characters", []Route{{Match: report.Match{Methods: []string{"s.*/Get*"}}}, {Match: report.Match{Methods: []string{"s.**/Get*"}}}}, []report.Shadow{{Route: 1, By: 0}}},
		{"only some of its methods", []Route{{Match: report.Match{Methods: []string{"s.S/M", "s.S/N"}}}, {Match: report.Match{PathPrefix: "/s.S/M"}}}, nil},
		{"a star matches nothing, too", []Route{{Match: report.Match{Methods: []string{"a?*/M"}}}, {Match: report.Match{Methods: []string{"a*/M"}}}}, nil},
		{"a listener doesn't accept the transport", []Route{{Match: report.Match{Listeners: []string{"n"}, Transports: []string{"grpc-web"}}}, {Match: report.Match{Listeners: []string{"m"}, Transports: []string{"grpc-web"}}}}, []report.Shadow{{Route: 0, By: -1}}},
		{"metadata is another request", []Route{{}, {Match: report.Match{Metadata: []report.Condition{{Name: "x", Value: ""}}}}}, nil},
	} {
		if got := newTable(t, tt.routes...).Shadowed(ways); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestExplain(t *testing.T) {
	table := newTable(
		t,
		Route{Match: report.Match{Hosts: []string{"other.example"}}},
		Route{Match: report.Match{Methods: []string{"s.S/*"}}},
		Route{Match: report.Match{Methods: []string{"s.S/M"}}},
		Route{Match: report.Match{Methods: []string{"s.S/M"}, Metadata: []report.Condition{{Name: "x", Value: "1"}}}},
		Route{},
	)
	got := table.Explain(&Facts{Host: "a.example", Path: "/s.S/M"})
	want := []report.Candidate{{Route: 2, Matches: true, Key: ""}, {Route: 1, Matches: true, Key: "match.methods"}, {Route: 4, Matches: true, Key: "match.methods"}, {Route: 3, Matches: false, Key: "match.metadata"}, {Route: 0, Matches: false, Key: "match.hosts"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// manyRoutes returns routes of all kinds, and a request for one in the middle.
func manyRoutes(n int) ([]Route, *Facts) {
	routes := make([]Route, n)
	for i := range routes {
		m := report.Match{Hosts: []string{fmt.Sprintf("h%d.example.com", i%10)}}
		switch i % 5 {
		case 0:
			m.Methods = []string{fmt.Sprintf("shop.v%d.Orders/Get", i)}
		case 1:
			m.Methods = []string{fmt.Sprintf("shop.v%d.Orders/*", i)}
		case 2:
			m.Methods = []string{fmt.Sprintf("shop.v%d.*/List*", i)}
		case 3:
			m.Metadata = []report.Condition{{Name: "x-tenant", Value: fmt.Sprint("t", i)}}
		case 4:
			m.Hosts = []string{fmt.Sprintf("*.t%d.example.com", i)}
		}
		routes[i] = Route{Name: fmt.Sprint("r", i), Match: m}
	}
	return routes, &Facts{Host: "h1.example.com", Path: fmt.Sprintf("/shop.v%d.Orders/Delete", n/2/10*10+1), Metadata: map[string][]string{"x-other": {"1"}}}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		routes, facts := manyRoutes(max(n, 2))
		table, err := New(routes[max(n, 2)-n:])
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if table.Find(facts) < 0 {
					b.Fatal("no route")
				}
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	routes, _ := manyRoutes(10_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := New(routes); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	routes, facts := manyRoutes(100)
	table := newTable(t, routes...)
	if n := testing.AllocsPerRun(100, func() { table.Find(facts) }); n != 0 {
		t.Errorf("a lookup makes %v allocations, want 0", n)
	}
}

package telemetry

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// routed is a call of a route to a backend.
func routed(route, backend string) report.CallInfo {
	c := aCall("/a.B/C")
	c.Route, c.Backend = route, backend
	return c
}

// refused is a call that culvert refuses before it has a backend.
func refused(route string) report.CallInfo {
	c := routed(route, "")
	c.Code, c.Origin, c.Reason, c.MessagesOut = codes.PermissionDenied, report.OriginCulvert, report.ReasonOriginDenied, 0
	return c
}

// routesOf returns the routes and backends that a metric has series of, as "route/backend".
func routesOf(t *testing.T, m *Metrics, name string) []string {
	t.Helper()
	var all []string
	for _, series := range gather(t, m)[name].GetMetric() {
		pair := map[string]string{}
		for _, l := range series.GetLabel() {
			pair[l.GetName()] = l.GetValue()
		}
		all = append(all, pair["route"]+"/"+pair["backend"])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestCallsCountByRouteAndBackend(t *testing.T) {
	m := NewMetrics("v1")
	m.SetRoutes([]Route{{}, {Name: "shop", Backends: []string{"orders", "canary"}}, {Name: "rest", Backends: []string{"orders"}}})
	told(m, routed("shop", "orders"))
	told(m, routed("shop", "orders"))
	told(m, routed("shop", "canary"))
	failed := routed("shop", "canary")
	failed.Code, failed.MessagesOut = codes.NotFound, 0
	told(m, failed)
	gone := routed("rest", "orders")
	gone.Code, gone.Origin, gone.Reason = codes.Canceled, report.OriginClient, report.ReasonClientGone
	told(m, gone)
	told(m, refused("shop"))
	told(m, refused(""))
	own := routed("culvert.v1.Path", "")
	own.Own = true
	told(m, own)
	for _, c := range []struct {
		name, route, backend string
		more                 []string
		want                 float64
	}{
		{"culvert_route_call_duration_seconds", "shop", "orders", nil, 2},
		{"culvert_route_call_duration_seconds", "shop", "canary", nil, 2},
		{"culvert_route_call_duration_seconds", "rest", "orders", nil, 1},
		{"culvert_route_first_message_seconds", "shop", "orders", nil, 2},
		{"culvert_route_first_message_seconds", "shop", "canary", nil, 1},
		{"culvert_route_calls_total", "shop", "orders", []string{"rpc_status_code=OK", "origin=upstream"}, 2},
		{"culvert_route_calls_total", "shop", "canary", []string{"rpc_status_code=NOT_FOUND", "origin=upstream"}, 1},
		{"culvert_route_calls_total", "rest", "orders", []string{"rpc_status_code=CANCELLED", "origin=client"}, 1},
		{"culvert_route_calls_total", "shop", "", []string{"rpc_status_code=PERMISSION_DENIED", "origin=culvert"}, 1},
		{"culvert_route_calls_total", "", "", []string{"rpc_status_code=PERMISSION_DENIED", "origin=culvert"}, 1},
	} {
		labels := append([]string{"route=" + c.route, "backend=" + c.backend}, c.more...)
		if got := value(t, m, c.name, labels...); got != c.want {
			t.Errorf("%s %q is %v, want %v", c.name, labels, got, c.want)
		}
	}
	if got, want := routesOf(t, m, "culvert_route_call_duration_seconds"), []string{"rest/orders", "shop/canary", "shop/orders"}; !slices.Equal(got, want) {
		t.Errorf("calls of %q have a duration, want %q", got, want)
	}
	if got, want := routesOf(t, m, "culvert_route_calls_total"), []string{"/", "rest/orders", "shop/", "shop/canary", "shop/orders"}; !slices.Equal(got, want) {
		t.Errorf("calls of %q are counted, want %q", got, want)
	}
}

// TestManyRoutesShareSeries: only the first routes have their own, and refused calls take no
// place of theirs.
func TestManyRoutesShareSeries(t *testing.T) {
	const many = 3 * bridge.MaxRoutes
	m := NewMetrics("v1")
	var routes []Route
	for i := range many {
		routes = append(routes, Route{fmt.Sprintf("r%d", i), []string{"b"}})
	}
	m.SetRoutes(routes)
	for i := range many {
		told(m, refused(fmt.Sprintf("r%d", i)))
	}
	for range 2 {
		for i := range many {
			told(m, routed(fmt.Sprintf("r%d", i), "b"))
		}
	}
	if got := len(routesOf(t, m, "culvert_route_call_duration_seconds")); got != bridge.MaxRoutes+1 {
		t.Errorf("%d routes have durations, want %d and %s", got, bridge.MaxRoutes, other)
	}
	if got := len(routesOf(t, m, "culvert_route_calls_total")); got != 2*(bridge.MaxRoutes+1) {
		t.Errorf("%d routes have counts, want %d with a backend, as many without one, and %s twice", got, bridge.MaxRoutes, other)
	}
	for name, want := range map[string]float64{"culvert_route_call_duration_seconds": 4 * bridge.MaxRoutes, "culvert_route_first_message_seconds": 4 * bridge.MaxRoutes} {
		if got := value(t, m, name, "route="+other, "backend="+other); got != want {
			t.Errorf("%s has %v calls of other routes, want %v", name, got, want)
		}
	}

	m.SetRoutes(routes[2*bridge.MaxRoutes:]) // these were others
	told(m, routed(routes[many-1].Name, "b"))
	if got, want := routesOf(t, m, "culvert_route_call_duration_seconds"), []string{other + "/" + other, routes[many-1].Name + "/b"}; !slices.Equal(got, want) {
		t.Errorf("after a reload that makes room, %q have series, want %q", got, want)
	}
}

// TestRefusedCallsOfOtherRoutesHaveNoBackend, so that nobody takes them for failures of backends.
func TestRefusedCallsOfOtherRoutesHaveNoBackend(t *testing.T) {
	m := NewMetrics("v1")
	m.SetRoutes([]Route{{"a", []string{"b"}}})
	told(m, refused("gone"))
	told(m, refused("gone"))
	told(m, routed("gone", "b"))
	for backend, want := range map[string]float64{"": 2, other: 1} {
		if got := value(t, m, "culvert_route_calls_total", "route="+other, "backend="+backend); got != want {
			t.Errorf("%q has %v calls, want %v", backend, got, want)
		}
	}
	if got, want := routesOf(t, m, "culvert_route_call_duration_seconds"), []string{other + "/" + other}; !slices.Equal(got, want) {
		t.Errorf("%q have durations, want %q", got, want)
	}
}

// TestRemovedRoutesHaveNoSeries: also if their calls go on.
func TestRemovedRoutesHaveNoSeries(t *testing.T) {
	m := NewMetrics("v1")
	both := []Route{{"a", []string{"b", "c"}}, {"z", []string{"b"}}}
	m.SetRoutes(both)
	told(m, routed("z", "b"))
	told(m, routed("a", "c"))
	told(m, refused("a"))
	info := routed("a", "b")
	o := m.CallBegan(nil, &info, nil) //nolint:staticcheck // Metrics needs no context
	o.Message(report.Response, 1)
	silent := routed("a", "b")
	p := m.CallBegan(nil, &silent, nil) //nolint:staticcheck // as above
	m.SetRoutes([]Route{{"a", []string{"c"}}, {"z", []string{"b"}}})
	o.Ended(&info)
	p.Ended(&silent)
	told(m, routed("z", "b"))
	want := []string{other + "/" + other, "a/c", "z/b"}
	if got := routesOf(t, m, "culvert_route_call_duration_seconds"); !slices.Equal(got, want) {
		t.Errorf("%q have durations, want %q", got, want)
	}
	if got, want := routesOf(t, m, "culvert_route_calls_total"), []string{other + "/" + other, "a/", "a/c", "z/b"}; !slices.Equal(got, want) {
		t.Errorf("%q have counts, want %q", got, want)
	}
	for route, want := range map[string]float64{other: 2, "a": 1, "z": 2} {
		if got := value(t, m, "culvert_route_call_duration_seconds", "route="+route); got != want {
			t.Errorf("%s has %v calls, want %v", route, got, want)
		}
	}
	m.SetRoutes(both)
	told(m, routed("a", "b"))
	if got := value(t, m, "culvert_route_calls_total", "route=a", "backend=b"); got != 1 {
		t.Errorf("a route that is back has %v calls, want 1", got)
	}
}

// TestReloadsLoseNoCall replaces the routes while calls begin and end.
func TestReloadsLoseNoCall(t *testing.T) {
	m := NewMetrics("v1")
	with, without := []Route{{"a", []string{"b"}}, {"z", []string{"b"}}}, []Route{{"z", []string{"b"}}}
	m.SetRoutes(with)
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			for n := range 500 {
				c := routed("z", "b")
				c.Code = codes.Code(n % 5)
				told(m, c)
				told(m, routed("a", "b"))
				told(m, refused([]string{"a", "z"}[i%2]))
			}
		})
	}
	for range 200 {
		m.SetRoutes(without)
		m.SetRoutes(with)
	}
	work.Wait()
	if got := value(t, m, "culvert_route_call_duration_seconds", "route=z"); got != 2000 {
		t.Errorf("a route that stays has %v calls, want 2000", got)
	}
	m.SetRoutes(without)
	if got, want := routesOf(t, m, "culvert_route_call_duration_seconds"), []string{"z/b"}; slices.Contains(got, "a/b") || !slices.Contains(got, want[0]) {
		t.Errorf("%q have series, want %q and at most %s", got, want, other)
	}
	if got := m.routes.own[0]; got != 1 {
		t.Errorf("%d places are taken, want 1", got)
	}
}

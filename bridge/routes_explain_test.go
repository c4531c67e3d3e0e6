package bridge

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// TestExplanationIsWhatHappens: a Server does with a call what ExplainRoute says.
func TestExplanationIsWhatHappens(t *testing.T) {
	canary := []report.Condition{{Name: "x-canary"}}
	cfg := Config{
		Backends:     []NamedBackend{startShowing(t, "a"), startShowing(t, "b")},
		AllowOrigins: []string{"https://other.example"},
		DenyMethods:  []string{"test.Denied/*"},
		MethodLimits: []MethodQuota{{Pattern: "test.C/*", Calls: 9}},
		Routes: []Route{
			{Name: "a", Match: report.Match{Methods: []string{"test.A/*"}}, Backend: "a", AllowOrigins: []string{"https://app.example"}},
			{Name: "a canary", Match: report.Match{Methods: []string{"test.A/*"}, Metadata: canary}, Backend: "b"},
			{Name: "renamed", Match: report.Match{PathPrefix: "/test.Renamed"}, Rewrite: "/test.Denied", Backend: "a"},
			{Name: "web", Match: report.Match{Methods: []string{"test.A/M"}, Metadata: canary}, Backend: "b"},
			{Name: "agent", Match: report.Match{Methods: []string{"test.D/*"}, Metadata: []report.Condition{{Name: "x-forwarded-user-agent", Value: "agent/1"}}}, Backend: "a"},
			{Name: "host", Match: report.Match{Methods: []string{"test.D/*"}, Metadata: []report.Condition{{Name: "x-forwarded-host", Value: "localhost"}, {Name: "x-forwarded-proto", Value: "http"}}}, Backend: "a"},
			{Name: "via", Match: report.Match{Methods: []string{"test.E/*"}, Metadata: []report.Condition{{Name: "via", Value: "1.1 culvert"}, {Name: "x-forwarded-for"}}}, Backend: "b"},
			{Name: "split", Match: report.Match{Methods: []string{"test.C/*"}}, Split: []report.Target{{Backend: "a", Weight: 1}, {Backend: "b", Weight: 1}}, Sticky: "x-user"},
		},
	}
	cfg.Words = rules.InFile
	s := newServer(t, cfg)
	for _, c := range []struct {
		method, origin, name, value string
		route, limits, origins      int
	}{
		{"/test.A/L", "https://app.example", "x-a", "1", 0, -1, 0},
		{"/test.A/L", "https://other.example", "x-a", "1", 0, -1, 0},
		{"/test.A/L", "https://app.example", "x-canary", "1", 1, -1, 0},
		{"/test.A/M", "https://app.example", "x-canary", "1", 3, -1, -1}, // allowed at its arrival, and refused then
		{"/test.A/M", "", "x-canary", "1", 3, -1, -1},
		{"/test.Renamed/M", "https://other.example", "x-a", "1", 2, -1, -1},
		{"/test.None/M", "https://other.example", "x-a", "1", -1, -1, -1},
		{"/test.C/M", "https://other.example", "x-user", "alice", 7, 0, -1},
		{"/test.C/M", "https://other.example", "x-user", "bob", 7, 0, -1},
		{"/test.D/M", "https://other.example", "User-Agent", "agent/1", 5, -1, -1}, // more conditions
		{"/test.E/M", "https://other.example", "x-a", "1", 6, -1, -1},
	} {
		r := webCall(t, c.name, c.value)
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		r.URL.Path = c.method
		a, err := ExplainRoute(&cfg, RouteRequest{URL: &url.URL{Scheme: "http", Host: "localhost", Path: c.method}, Header: r.Header.Clone(), Transport: "grpc-web"})
		if err != nil {
			t.Errorf("%s: %v", c.method, err)
			continue
		}
		if a.Route != c.route || a.MethodLimits != c.limits || a.Origins != c.origins || len(a.Candidates) != len(cfg.Routes) {
			t.Errorf("%s with %s from %s: got %+v", c.method, c.name, c.origin, a)
		}
		w := answerTo(s, r)
		want := a.Backend + " " + a.Method
		switch {
		case a.Route < 0:
			want = "no route matches"
		case a.Origin != nil:
			want = a.Origin.Error()
		case a.Denied != "":
			want = "is not exposed here"
		}
		if got := w.Body.String() + strings.Join(w.Header().Values("Grpc-Message"), ""); !strings.Contains(got, want) {
			t.Errorf("%s with %s from %q: the call got %d %q, explained as %q", c.method, c.name, c.origin, w.Code, got, want)
		}
	}
	for want, r := range map[string]RouteRequest{
		"is not a method's": {URL: &url.URL{Host: "localhost", Path: "/M"}},
		"is no host":        {URL: &url.URL{Host: "a..b", Path: "/a.B/C"}},
		"can't be read":     {URL: &url.URL{Host: "localhost", Path: "/a.B/C"}, Header: http.Header{"X-Bin": {"?"}}},
	} {
		if _, err := ExplainRoute(&cfg, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", r, err, want)
		}
	}
	without := Config{Backends: cfg.Backends[:1]}
	a, err := ExplainRoute(&without, RouteRequest{URL: &url.URL{Host: "localhost", Path: "/a.B/C"}, Transport: "grpc"})
	if err != nil || a.Route != -1 || a.Backend != "a" || a.Method != "/a.B/C" || a.Candidates != nil {
		t.Errorf("without routes: %+v, %v", a, err)
	}
}

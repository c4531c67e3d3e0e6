package recent

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// began is the time at which the calls in these tests begin.
var began = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ended(route string, after time.Duration, code codes.Code, origin string, why report.Reason) *report.CallInfo {
	return &report.CallInfo{
		ID: "id", Method: "/shop.v1.Orders/Watch", Route: route, Backend: "orders", Transport: "grpc", Listener: "near", Peer: "192.0.2.1:1", Client: "client", Identity: "alice",
		Begin: began, Duration: after, Code: code, Origin: origin, Reason: why, Limit: "limits.calls", Cause: "cause", Status: status.New(code, "message"),
	}
}

func TestFailuresAreKept(t *testing.T) {
	r := NewRecorder(began)
	r.CallEnded(ended("a", time.Second, codes.OK, report.OriginUpstream, ""))
	r.CallEnded(ended("a", 2*time.Second, codes.NotFound, report.OriginUpstream, ""))
	r.CallEnded(ended("a", 3*time.Second, codes.ResourceExhausted, report.OriginCulvert, report.ReasonLimitExceeded))
	r.CallEnded(ended("a", 4*time.Second, codes.Code(99), report.OriginUpstream, ""))
	r.WebEnded(&report.WebInfo{Reason: ""})
	r.WebEnded(&report.WebInfo{ID: "web", Request: "GET /", Peer: "p", Begin: began, Duration: 5 * time.Second, Status: 503, Origin: report.OriginCulvert, Reason: report.ReasonLimitExceeded})
	got := r.Failures(admin.FailureQuery{})
	codesOf := func(all []admin.Failure) (list []string) {
		for _, f := range all {
			list = append(list, string(f.Code))
		}
		return list
	}
	if got, want := codesOf(got.Failures), []string{"503", "99", "RESOURCE_EXHAUSTED", "NOT_FOUND"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	want := admin.Failure{
		At: began.Add(3 * time.Second), ID: "id", Method: "/shop.v1.Orders/Watch", Route: "a", Backend: "orders", Transport: "grpc", Listener: "near", Peer: "192.0.2.1:1", Client: "client", Identity: "alice",
		Origin: "culvert", Reason: "LIMIT_EXCEEDED", Limit: "limits.calls", Code: "RESOURCE_EXHAUSTED", Message: "message", Cause: "cause", DurationSeconds: 3,
	}
	if got := got.Failures[2]; got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := codesOf(r.Failures(admin.FailureQuery{Origin: "culvert", Reason: "LIMIT_EXCEEDED"}).Failures), []string{"503", "RESOURCE_EXHAUSTED"}; !slices.Equal(got, want) {
		t.Errorf("of culvert: got %v, want %v", got, want)
	}
	if n := len(got.Counts); n != 4 || got.Counts[0].Failed != 1 {
		t.Errorf("%d ways to fail: %+v", n, got.Counts)
	}
}

// TestOriginsDisplaceNoOthers: many clients that go away leave the failures of backends alone,
// and texts are bounded.
func TestOriginsDisplaceNoOthers(t *testing.T) {
	r := NewRecorder(began)
	long := ended("a", time.Second, codes.NotFound, report.OriginUpstream, "")
	long.Cause = strings.Repeat("x", 1<<20)
	r.CallEnded(long)
	for i := range 3 * kept {
		c := ended("a", time.Second, codes.Canceled, report.OriginClient, report.ReasonClientGone)
		c.ID = fmt.Sprint(i)
		r.CallEnded(c)
	}
	clients := r.Failures(admin.FailureQuery{Origin: report.OriginClient})
	if n := len(clients.Failures); n != kept || clients.Failures[0].ID != admin.Text(fmt.Sprint(3*kept-1)) || clients.Failures[kept-1].ID != admin.Text(fmt.Sprint(2*kept)) {
		t.Errorf("%d failures of clients, the newest %+v", n, clients.Failures[0])
	}
	if got := r.Failures(admin.FailureQuery{Origin: report.OriginUpstream}).Failures; len(got) != 1 || len(got[0].Cause) > 600 {
		t.Errorf("of the backend %d are left, want 1, with a short cause", len(got))
	}
	for i := range 3 * maxKeys {
		r.CallEnded(ended("a", 0, codes.Code(100+i), report.OriginUpstream, ""))
	}
	if n := len(r.Failures(admin.FailureQuery{}).Counts); n != maxKeys {
		t.Errorf("%d ways to fail are counted, want %d", n, maxKeys)
	}
}

func TestRefusalsAreKept(t *testing.T) {
	r := NewRecorder(began)
	for i := range kept + 3 {
		r.Refused(report.Refusal{Key: "limits.calls", Reason: report.ReasonLimitExceeded, Peer: fmt.Sprint(i), Detail: "/a/B", ReportOnly: i%2 == 0})
	}
	r.Refused(report.Refusal{Key: "allow_origins", Reason: report.ReasonOriginDenied})
	got := r.Limits()
	if len(got.Limits) != 2 || got.Limits[1].Key != "limits.calls" || got.Limits[1].Refused != 101 || got.Limits[1].ReportOnly != 102 || got.Limits[1].Last.IsZero() {
		t.Errorf("got %+v", got.Limits)
	}
	if len(got.Last) != kept || got.Last[0].Key != "allow_origins" || got.Last[1].Peer != admin.Text(fmt.Sprint(kept+2)) {
		t.Errorf("%d are kept, the newest %+v", len(got.Last), got.Last[:2])
	}
}

// TestRoutesOfTheLastMinute: rates are those of the window, and counts stay.
func TestRoutesOfTheLastMinute(t *testing.T) {
	rs := routes{by: make(map[routeKey]*routeCount)}
	for second := range 600 {
		rs.ended(ended("a", time.Duration(second)*time.Second, codes.OK, report.OriginUpstream, ""))
		if second%10 == 0 {
			rs.ended(ended("a", time.Duration(second)*time.Second, codes.NotFound, report.OriginUpstream, ""))
			rs.ended(ended("b", time.Duration(second)*time.Second, codes.Canceled, report.OriginClient, report.ReasonClientGone))
		}
	}
	all, window := rs.list(began.Add(599*time.Second), began)
	if window < 55 || window > 60 || len(all) != 2 {
		t.Fatalf("a window of %v s, %+v", window, all)
	}
	a, b := all[0], all[1]
	if a.Calls != 660 || a.Errors != 60 || a.Cancelled != 0 || b.Calls != 60 || b.Errors != 0 || b.Cancelled != 60 {
		t.Errorf("got %+v and %+v", a, b)
	}
	if a.CallsPerSecond < 1.05 || a.CallsPerSecond > 1.2 || a.ErrorsPerSecond < 0.09 || a.ErrorsPerSecond > 0.11 || a.MeanSeconds < 560 || a.MeanSeconds > 580 {
		t.Errorf("got %+v", a)
	}
	if all, _ := rs.list(began.Add(700*time.Second), began); all[0].CallsPerSecond != 0 || all[0].MeanSeconds != 0 {
		t.Errorf("after a quiet minute: %+v", all[0])
	}
	for i := range 2 * maxRoutes {
		rs.ended(ended(fmt.Sprint(i), 0, codes.OK, report.OriginUpstream, ""))
	}
	if len(rs.by) != maxRoutes || rs.left != maxRoutes+2 {
		t.Errorf("%d routes are counted, %d calls are left", len(rs.by), rs.left)
	}
}

// TestRoutesOfTheConfiguration: a reload forgets the pairs that it removes. Their last calls
// aren't counted apart.
func TestRoutesOfTheConfiguration(t *testing.T) {
	r := NewRecorder(began)
	end := func(route, backend string, own bool) {
		c := ended(route, time.Second, codes.OK, report.OriginUpstream, "")
		c.Backend, c.Own = backend, own
		r.CallEnded(c)
	}
	all := func() {
		end("a", "x", false)
		end("a", "y", false)
		end("a", "", false) // refused
		end("b", "x", false)
		end("", "", false) // no route
		end("culvert.v1.Path", "", true)
	}
	for _, step := range []struct {
		what       string
		configured map[string][]string
		want       []string // pairs with their calls, behind the reload and behind a call of each
		left       int64
	}{
		{"the start", map[string][]string{"": nil, "a": {"x", "y"}, "b": {"x"}}, []string{"", " /:1 a/:1 a/x:1 a/y:1 b/x:1 culvert.v1.Path/:1"}, 0},
		{"without a backend", map[string][]string{"": nil, "a": {"x"}, "b": {"x"}}, []string{" /:1 a/:1 a/x:1 b/x:1 culvert.v1.Path/:1", " /:2 a/:2 a/x:2 b/x:2 culvert.v1.Path/:2"}, 1},
		{"without a route", map[string][]string{"": nil, "b": {"x"}}, []string{" /:2 b/x:2 culvert.v1.Path/:2", " /:3 b/x:3 culvert.v1.Path/:3"}, 4},
		{"with both again", map[string][]string{"": nil, "a": {"x", "y"}, "b": {"x"}}, []string{" /:3 b/x:3 culvert.v1.Path/:3", " /:4 a/:1 a/x:1 a/y:1 b/x:4 culvert.v1.Path/:4"}, 4},
	} {
		r.SetRoutes(step.configured)
		for i, want := range step.want {
			if i > 0 {
				all()
			}
			now := r.Routes()
			var pairs []string
			for _, n := range now.Routes {
				pairs = append(pairs, fmt.Sprintf(" %s/%s:%d", n.Route, n.Backend, n.Calls))
			}
			slices.Sort(pairs)
			if got := strings.Join(pairs, ""); got != want {
				t.Errorf("%s: got %q, want %q", step.what, got, want)
			}
		}
		if got := r.Routes().Left; got != step.left {
			t.Errorf("%s: %d calls are left, want %d", step.what, got, step.left)
		}
	}
}

func TestCertificatesInUse(t *testing.T) {
	k := &Certificates{ACME: true}
	k.Certificate(report.CertificateInfo{File: "a.pem", Names: []string{"a"}, NotAfter: began.Add(-time.Hour), Ending: true})
	k.Certificate(report.CertificateInfo{File: "a.pem", Names: []string{"a"}, NotAfter: began.Add(time.Hour)})
	k.Certificate(report.CertificateInfo{Names: []string{"b", "c"}, NotAfter: began.Add(-time.Minute), OnDemand: true})
	got := k.List(began)
	if len(got) != 2 || got[0].Source != "acme" || got[0].ExpiresInSeconds != -60 || !got[0].OnDemand || got[1].Source != "file" || got[1].Ending || got[1].ExpiresInSeconds != 3600 {
		t.Errorf("got %+v", got)
	}
	k.Forget("a.pem")
	if got := k.List(began); len(got) != 1 || got[0].File != "" {
		t.Errorf("after its file is out of use: %+v", got)
	}
	for i := range 2 * maxCertificates {
		k.Certificate(report.CertificateInfo{Names: []string{fmt.Sprint(i)}})
	}
	if n := len(k.List(began)); n != maxCertificates {
		t.Errorf("%d certificates, want %d", n, maxCertificates)
	}
	if got := (&Certificates{}).List(began); len(got) != 0 {
		t.Errorf("none: %+v", got)
	}
	generated := &Certificates{}
	generated.Certificate(report.CertificateInfo{Names: []string{"localhost"}})
	if got := generated.List(began)[0].Source; got != "generated" {
		t.Errorf("got %q, want generated", got)
	}
}

// TestRecorderIsSafe for many goroutines; the race detector sees the rest.
func TestRecorderIsSafe(t *testing.T) {
	r := NewRecorder(time.Now())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				r.CallEnded(ended("a", time.Second, codes.NotFound, report.OriginUpstream, ""))
				r.Refused(report.Refusal{Key: "k"})
				r.Failures(admin.FailureQuery{})
				r.Limits()
				r.Routes()
			}
		})
	}
	all.Wait()
	if got := r.Routes().Routes[0].Calls; got != 400 {
		t.Errorf("%d calls, want 400", got)
	}
}

package bridge

import (
	"bytes"
	"log/slog"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/routing"
	"github.com/culvert-grpc/culvert/bridge/upstream"
)

func TestParseMethod(t *testing.T) {
	for _, c := range []struct {
		target, prefix, want string // want is empty where the target is refused
	}{
		{"/pkg.Service/Method", "", "/pkg.Service/Method"},
		{"/a/b", "", "/a/b"},
		{"/Service/Method", "", "/Service/Method"},
		{"/pkg.v1_beta-2.Service/Method_1", "", "/pkg.v1_beta-2.Service/Method_1"},
		{"/..a/b..", "", "/..a/b.."},
		{"/pkg.Service/Method?a=1", "", "/pkg.Service/Method"},
		{"/pkg.Service/Method?", "", "/pkg.Service/Method"},
		{"/pkg.Service/Method?/../x", "", "/pkg.Service/Method"},
		{"/" + strings.Repeat("a", 1000) + "/b", "", "/" + strings.Repeat("a", 1000) + "/b"},
		{"/grpc/pkg.Service/Method", "/grpc", "/pkg.Service/Method"},
		{"/a/b/pkg.Service/Method", "/a/b", "/pkg.Service/Method"},

		{"", "", ""},
		{"/", "", ""},
		{"//", "", ""},
		{"///", "", ""},
		{"*", "", ""},
		{"pkg.Service/Method", "", ""},
		{"/pkg.Service", "", ""},
		{"/pkg.Service/", "", ""},
		{"//Method", "", ""},
		{"/pkg.Service//Method", "", ""},
		{"//pkg.Service/Method", "", ""},
		{"/pkg.Service/Method/", "", ""},
		{"/pkg.Service/Method/x", "", ""},
		{"/?/pkg.Service/Method", "", ""},
		{"/pkg.Service?/Method", "", ""},
		{"/./Method", "", ""},
		{"/../Method", "", ""},
		{"/pkg.Service/.", "", ""},
		{"/pkg.Service/..", "", ""},
		{"/%61dmin.Admin/X", "", ""},
		{"/admin.Admin/%58", "", ""},
		{"/a%2FX", "", ""},
		{"/a%2fb/X", "", ""},
		{"/%2e%2e/X", "", ""},
		{"/admin.Admin;x/X", "", ""},
		{"/admin.Admin/X;jsessionid=1", "", ""},
		{"/admin.Admin\\X/Y", "", ""},
		{"/admin.Admin/X#y", "", ""},
		{"/admin.Admin/X y", "", ""},
		{"/admin.Admin/X\x00", "", ""},
		{"/admin.Admin/X\r\n", "", ""},
		{"/admin.Admin/caf\u00e9", "", ""},
		{"/\u212aey/Method", "", ""},
		{"/admin.Admin/X\"", "", ""},
		{"/admin.Admin/X<script>", "", ""},
		{"http://localhost/pkg.Service/Method", "", ""},
		{"/" + strings.Repeat("a", 1024) + "/b", "", ""},

		{"/pkg.Service/Method", "/grpc", ""},
		{"/grpcpkg.Service/Method", "/grpc", ""},
		{"/grpc/pkg.Service", "/grpc", ""},
		{"/grpc//pkg.Service/Method", "/grpc", ""},
		{"/GRPC/pkg.Service/Method", "/grpc", ""},
		{"/grpc/../pkg.Service/Method", "/grpc", ""},
		{"/%67rpc/pkg.Service/Method", "/grpc", ""},
		{"/grpc?/pkg.Service/Method", "/grpc", ""},
	} {
		got, ok := parseMethod(c.target, c.prefix)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("parseMethod(%.80q, %q) = %.80q, %v; want %.80q", c.target, c.prefix, got, ok, c.want)
		}
	}
}

func TestRefusedMethodIsNamed(t *testing.T) {
	p, err := routing.NewMethodPolicy(nil, []string{"acme.Admin/*"})
	if err != nil {
		t.Fatal(err)
	}
	only, err := upstream.New(nowhere, report.SizeLimit{}, 1<<10, memory.New(1<<20, 0))
	if err != nil {
		t.Fatal(err)
	}
	set := upstream.NewSet()
	defer set.Close()
	if err := set.Put(DefaultBackend, only); err != nil {
		t.Fatal(err)
	}
	obs := newObserver()
	rt := &router{policy: p, upstreams: set, refusals: report.NewRefusals(slog.New(slog.DiscardHandler), obs)}
	if err := rt.authorize("/acme.Admin/Drop", "192.0.2.1"); reasonOf(err) != report.ReasonNoRoute || !strings.Contains(err.Error(), "/acme.Admin/Drop") {
		t.Errorf("got %v, want %v that names the method", err, report.ReasonNoRoute)
	}
	if r := <-obs.refused; r.Reason != report.ReasonNoRoute || r.Detail != "/acme.Admin/Drop" {
		t.Errorf("the Observer is told of %+v", r)
	}
	if err := rt.authorize(testMethod, "192.0.2.1"); err != nil {
		t.Errorf("a method that no pattern denies: %v", err)
	}
	if got, err := rt.route(DefaultBackend, testMethod, "192.0.2.1"); err != nil || got != only {
		t.Errorf("got %p, %v; want the upstream", got, err)
	} else {
		got.Release()
	}
}

// FuzzParseMethod holds that what is accepted is the target's own bytes, and
// that no decoding or cleaning makes another path of them.
func FuzzParseMethod(f *testing.F) {
	for _, target := range []string{"/pkg.Service/Method", "/a/b?c", "/%61/b", "/a%2Fb", "/../b", "/a;b/c", "//a/b", "/a/b/", "", "*", "http://h/a/b"} {
		f.Add(target, "")
	}
	f.Add("/grpc/a/b", "/grpc")
	f.Add("/grpcx/a/b", "/grpc")
	f.Fuzz(func(t *testing.T, target, prefix string) {
		method, ok := parseMethod(target, prefix)
		if !ok {
			if method != "" {
				t.Errorf("%q is refused with %q", target, method)
			}
			return
		}
		if rest, ok := strings.CutPrefix(target, prefix+method); !ok || rest != "" && rest[0] != '?' {
			t.Errorf("%q with the prefix %q became %q", target, prefix, method)
		}
		if decoded, err := url.PathUnescape(method); err != nil || decoded != method {
			t.Errorf("%q decodes to %q, %v", method, decoded, err)
		}
		if cleaned := path.Clean(method); cleaned != method {
			t.Errorf("%q is cleaned to %q", method, cleaned)
		}
		if strings.Count(method, "/") != 2 || strings.ContainsAny(method, ";?#\\\"<>| \t\r\n\x00%") {
			t.Errorf("%q is no /service/method of plain bytes", method)
		}
		if u, err := url.ParseRequestURI(method); err != nil || u.Path != method {
			t.Errorf("%q is read as %+v, %v", method, u, err)
		}
	})
}

// TestHintForADeniedMethod: where there is no list of methods yet, a first
// pattern refuses everything else, and the hint says so.
func TestHintForADeniedMethod(t *testing.T) {
	for _, c := range []struct {
		allow []string
		want  bool
	}{{nil, true}, {[]string{"acme.Shop/*"}, false}} {
		var out bytes.Buffer
		s := newServer(t, Config{Backend: nowhere, AllowMethods: c.allow, Logger: slog.New(slog.NewTextHandler(&out, nil))})
		r := webCall(t)
		r.RequestURI, r.URL.Path = "/grpc.channelz.v1.Channelz/GetServers", "/grpc.channelz.v1.Channelz/GetServers"
		answerTo(s, r)
		if !strings.Contains(out.String(), "--allow-method grpc.channelz.v1.Channelz/GetServers") || strings.Contains(out.String(), "pattern") != c.want {
			t.Errorf("with %q allowed: %s", c.allow, &out)
		}
	}
}

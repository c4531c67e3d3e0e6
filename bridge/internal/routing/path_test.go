package routing

import (
	"net/url"
	"path"
	"strings"
	"testing"
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
		got, ok := ParseMethod(c.target, c.prefix)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("ParseMethod(%.80q, %q) = %.80q, %v; want %.80q", c.target, c.prefix, got, ok, c.want)
		}
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
		method, ok := ParseMethod(target, prefix)
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

// FuzzParsePath: a path of two elements is a method's if ParseMethod takes it, with
// the same bytes. The last two elements of a longer one are a method's, too.
func FuzzParsePath(f *testing.F) {
	for _, target := range []string{"/a.B/C", "/grpc/a.B/C?q", "/x/a.B/C", "//a.B/C", "/a.B/C/", "/a.B/..", "/%61.B/C", "/a", "", "/a b/C"} {
		f.Add(target, "")
		f.Add(target, "/grpc")
	}
	f.Fuzz(func(t *testing.T, target, prefix string) {
		path, ok := ParsePath(target, prefix)
		method, isMethod := ParseMethod(target, prefix)
		two := strings.Count(path, "/") == 2
		if isMethod != (ok && two) || isMethod && method != path {
			t.Errorf("%q below %q: a path %q %v, a method %q %v", target, prefix, path, ok, method, isMethod)
		}
		if !ok {
			return
		}
		if last, isMethod := ParseMethod(LastElements(path), ""); len(LastElements(path)) >= 4 && (!isMethod || !strings.HasSuffix(path, last)) {
			t.Errorf("%q ends with %q", path, LastElements(path))
		}
	})
}

// TestDidYouMean names the method with the prefix that is configured.
func TestDidYouMean(t *testing.T) {
	for _, c := range []struct {
		target, prefix string
		call           bool
		want           string
	}{
		{"/api/a.B/C", "", false, "/a.B/C"},
		{"/api/v1//a.B/C/?x=1", "", false, "/a.B/C"},
		{"/a.B/C", "/grpc", false, "/grpc/a.B/C"},
		{"//grpc/a.B/C", "/grpc", false, "/grpc/a.B/C"},
		{"/api/B/C", "", true, "/B/C"},
		{"/api/B/C", "", false, ""}, // a path like any other
		{"/js/app.js", "", true, ""},
		{"/a/b/../C", "", true, ""},
		{"/a/<b>.x/C", "", true, ""},
		{"/a%2f.B/C", "", true, ""},
		{"/", "", true, ""},
		{"", "", true, ""},
		{"*", "", true, ""},
		{"/x/a.B/" + strings.Repeat("C", 2000), "", true, ""},
	} {
		if got := DidYouMean(c.target, c.prefix, c.call); got != c.want {
			t.Errorf("%q below %q: %q, want %q", c.target, c.prefix, got, c.want)
		}
	}
}

func FuzzDidYouMean(f *testing.F) {
	f.Add("/api/a.B/C", "", true)
	f.Add("//a.B/C?x", "/grpc", false)
	f.Fuzz(func(t *testing.T, target, prefix string, call bool) {
		if prefix != "" && prefix != "/grpc" {
			return
		}
		if got := DidYouMean(target, prefix, call); got != "" {
			if _, ok := ParseMethod(got, prefix); !ok {
				t.Errorf("%q below %q: %q is no method", target, prefix, got)
			}
		}
	})
}

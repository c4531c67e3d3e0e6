package gate

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// crosses reports whether a name is an application's own.
func crosses(name string) bool {
	return name == "*" || strings.HasPrefix(name, "x-") && name != "x-real-ip"
}

func TestPreflight(t *testing.T) {
	listed := Access{Allowed: true, Credentials: true, Origin: "https://app.example.com"}
	for _, c := range []struct {
		name   string
		access Access
		asks   []string
		grants string // of Allow-Headers
		want   map[string]string
	}{
		{
			"what web clients send", listed,
			[]string{"authorization,content-type,grpc-timeout,x-grpc-web,x-user-agent"},
			"authorization, content-type, grpc-timeout, x-grpc-web, x-user-agent",
			map[string]string{
				"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Allow-Credentials": "true",
				"Access-Control-Allow-Methods": "POST", "Access-Control-Max-Age": "7200",
			},
		},
		{"an application's own, in any case and several lines", listed, []string{"X-Tenant , x-trace-bin", "X-B"}, "x-tenant, x-trace-bin, x-b", nil},
		{"what may not cross", listed, []string{"cookie, host, te, x-real-ip, culvert-identity"}, "", nil},
		{"what is no name", listed, []string{"x a, x\tb, (, , x-\u00e9, x:y"}, "", nil},
		{"every name, which a wildcard would be", Access{Allowed: true, Any: true, Origin: "https://a.example"}, []string{"*, x-a", "*"}, "x-a", nil},
		{"Connect's", listed, []string{"connect-protocol-version, connect-timeout-ms"}, "connect-protocol-version, connect-timeout-ms", nil},
		{
			"from anywhere",
			Access{Allowed: true, Any: true, Origin: "null"},
			[]string{"x-a"},
			"x-a",
			map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": ""},
		},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/a.B/C", http.NoBody)
		r.Header["Access-Control-Request-Headers"] = c.asks
		w := httptest.NewRecorder()
		Preflight(w, r, c.access, crosses)
		if w.Code != http.StatusNoContent || w.Body.Len() != 0 {
			t.Errorf("%s: got %d with %d bytes, want 204 with none", c.name, w.Code, w.Body.Len())
		}
		if got := w.Header().Get("Access-Control-Allow-Headers"); got != c.grants {
			t.Errorf("%s: grants %q, want %q", c.name, got, c.grants)
		}
		for name, want := range c.want {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", c.name, name, got, want)
			}
		}
	}
}

func TestPreflightGrantsNoMoreThanItReads(t *testing.T) {
	r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, "/a.B/C", http.NoBody)
	r.Header.Set("Access-Control-Request-Headers", strings.Repeat("x-a,", 100_000))
	w := httptest.NewRecorder()
	Preflight(w, r, Access{Allowed: true, Origin: "https://app.example.com"}, crosses)
	if got := len(w.Header().Get("Access-Control-Allow-Headers")); got > 1<<10 {
		t.Errorf("100000 names asked for are answered with %d bytes, want few", got)
	}
}

func TestAnswersNameTheOrigin(t *testing.T) {
	for _, c := range []struct {
		access Access
		want   http.Header
	}{
		{Access{Allowed: true}, http.Header{}},
		{Access{Allowed: true, Credentials: true}, http.Header{}}, // no browser
		{Access{Allowed: true, Any: true, Origin: "https://a.example"}, http.Header{"Access-Control-Allow-Origin": {"*"}}},
		{Access{Allowed: true, Origin: "https://a.example"}, http.Header{"Access-Control-Allow-Origin": {"https://a.example"}}},
		{
			Access{Allowed: true, Credentials: true, Origin: "https://a.example"},
			http.Header{"Access-Control-Allow-Origin": {"https://a.example"}, "Access-Control-Allow-Credentials": {"true"}},
		},
	} {
		got := http.Header{}
		CORSHeaders(got, c.access)
		if !maps.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%+v: got %v, want %v", c.access, got, c.want)
		}
	}
}

// TestVaryOfTheBackendStays beside culvert's own.
func TestVaryOfTheBackendStays(t *testing.T) {
	h := http.Header{"Vary": {"Accept-Encoding"}}
	VaryAnswer(h)
	if got := strings.Join(h["Vary"], ", "); got != "Accept-Encoding, Origin, Sec-Fetch-Site" {
		t.Errorf("Vary is %q", got)
	}
	VaryAnswer(http.Header{})
	if len(varies) != 1 {
		t.Errorf("what answers share became %q", varies)
	}
}

package bridge

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestPreflight(t *testing.T) {
	listed := Verdict{Allowed: true, Credentials: true, Origin: "https://app.example.com"}
	for _, c := range []struct {
		name    string
		verdict Verdict
		asks    []string
		grants  string // of Allow-Headers
		want    map[string]string
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
		{"what may not cross", listed, []string{"cookie, x-forwarded-for, host, origin, sec-fetch-mode, te, x-real-ip, grpc-status, culvert-identity"}, "", nil},
		{"what is no name", listed, []string{"x a, x\tb, (, , x-\u00e9, x:y"}, "", nil},
		{"Connect's", listed, []string{"connect-protocol-version, connect-timeout-ms"}, "connect-protocol-version, connect-timeout-ms", nil},
		{
			"from anywhere",
			Verdict{Allowed: true, Any: true, Origin: "null"},
			[]string{"x-a"},
			"x-a",
			map[string]string{"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": ""},
		},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, testMethod, http.NoBody)
		r.Header["Access-Control-Request-Headers"] = c.asks
		w := httptest.NewRecorder()
		preflight(w, r, c.verdict)
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
	r := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, testMethod, http.NoBody)
	r.Header.Set("Access-Control-Request-Headers", strings.Repeat("x-a,", 100_000))
	w := httptest.NewRecorder()
	preflight(w, r, Verdict{Allowed: true, Origin: "https://app.example.com"})
	if got := len(w.Header().Get("Access-Control-Allow-Headers")); got > 1<<10 {
		t.Errorf("100000 names asked for are answered with %d bytes, want few", got)
	}
}

func TestAnswersNameTheOrigin(t *testing.T) {
	for _, c := range []struct {
		verdict Verdict
		want    http.Header
	}{
		{Verdict{Allowed: true}, http.Header{}},
		{Verdict{Allowed: true, Credentials: true}, http.Header{}}, // no browser
		{Verdict{Allowed: true, Any: true, Origin: "https://a.example"}, http.Header{"Access-Control-Allow-Origin": {"*"}}},
		{Verdict{Allowed: true, Origin: "https://a.example"}, http.Header{"Access-Control-Allow-Origin": {"https://a.example"}}},
		{
			Verdict{Allowed: true, Credentials: true, Origin: "https://a.example"},
			http.Header{"Access-Control-Allow-Origin": {"https://a.example"}, "Access-Control-Allow-Credentials": {"true"}},
		},
	} {
		got := http.Header{}
		corsHeaders(got, c.verdict)
		if !maps.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%+v: got %v, want %v", c.verdict, got, c.want)
		}
	}
}

// TestPreflightOverTheWire is answered before anything else is known, also
// where no method is, and the connection goes on.
func TestPreflightOverTheWire(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere, AllowOrigins: []string{"https://app.example.com"}}))
	ask := "OPTIONS /any/where HTTP/1.1\r\nhost: localhost\r\norigin: https://app.example.com\r\naccess-control-request-method: POST\r\naccess-control-request-headers: x-grpc-web\r\n"
	answers := exchange(t, address, ask+"\r\n"+ask+"connection: close\r\n\r\n")
	if len(answers) != 2 {
		t.Fatalf("%d answers to two preflights", len(answers))
	}
	for _, a := range answers {
		if a.StatusCode != http.StatusNoContent || a.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" || a.Header.Get("Access-Control-Allow-Headers") != "x-grpc-web" {
			t.Errorf("got %s %v", a.Status, a.Header)
		}
	}
}

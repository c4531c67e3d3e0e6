package bridge

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestChallenge: a call that is refused with the HTTP status 401 says which credential it needs, and
// an allowed page can read that.
func TestChallenge(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	routes := []Route{
		{Name: "lines", Backend: DefaultBackend, Message: &MessageRoute{Path: "/lines", Method: "test.Service/Method", Framing: FramingNDJSON}},
		{Name: "json", Backend: DefaultBackend, Message: &MessageRoute{Path: "/json", Method: "test.Service/Method", Framing: FramingJSON}},
		{Name: "agents", Backend: DefaultBackend, Message: &MessageRoute{Path: "/agents", Method: "test.Service/Method", Framing: FramingOpAMP}},
		{Name: "all", Backend: DefaultBackend},
	}
	own := report.New(report.ReasonUnauthenticated, "log in")
	own.Header = []string{"WWW-Authenticate", `Bearer realm="own"`}
	for _, auth := range []struct {
		name  string
		by    Authenticator
		sent  string
		want  string
		calls bool // the call reaches the backend, which refuses it
	}{
		{"nothing", &doorman{}, "", "Bearer", false},
		{"an invalid token", &doorman{}, "Bearer junk", `Bearer error="invalid_token"`, false},
		{"an expired token", &doorman{}, "Bearer a@home#1", `Bearer error="invalid_token"`, false},
		{"a password", &doorman{}, "Basic junk", "Bearer", false},
		{"a challenge of its own", authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) { return nil, own }), "", `Bearer realm="own"`, false},
		{"the backend's refusal", nil, "", "", true},
	} {
		s := newServer(t, Config{
			Authenticator: auth.by, AllowOrigins: []string{"https://app.example"}, Routes: routes, ConnectGet: []string{"test.*/*"},
			Backend: Backend{Descriptors: describedChat(t), Target: startBackend(t, func(grpc.ServerStream) error { return status.Error(codes.Unauthenticated, "who?") })},
		})
		address := "http://" + serve(t, s)
		for _, c := range []struct{ name, method, path, contentType, body string }{
			{"connect", http.MethodPost, testMethod, "application/proto", ""},
			{"JSON", http.MethodPost, testMethod, "application/json", "{}"},
			{"GET", http.MethodGet, testMethod + "?connect=v1&encoding=proto&message=", "", ""},
			{"lines", http.MethodPost, "/lines", "application/json", "{}"},
			{"a message", http.MethodPost, "/json", "application/json", "{}"},
			{"a poll", http.MethodPost, "/agents", "application/x-protobuf", string(fromAgent(1, ""))},
		} {
			r := newRequest(t, c.method, address+c.path, c.body)
			r.Header.Set("Origin", "https://app.example")
			if c.contentType != "" {
				r.Header.Set("Content-Type", c.contentType)
			}
			if auth.sent != "" {
				r.Header.Set("Authorization", auth.sent)
			}
			res, body := send(t, http.DefaultClient, r)
			if c.name == "a poll" && auth.calls {
				continue // the session's call fails later
			}
			readable := strings.Contains(strings.ToLower(res.Header.Get("Access-Control-Expose-Headers")), "www-authenticate")
			if res.StatusCode != http.StatusUnauthorized || strings.Join(res.Header["Www-Authenticate"], "|") != auth.want || res.Header.Get("Access-Control-Allow-Origin") != "https://app.example" {
				t.Errorf("%s, %s: %d %v %s; want 401 with %q for the page", auth.name, c.name, res.StatusCode, res.Header, body, auth.want)
			}
			if c.name != "a poll" && readable != (auth.want != "") {
				t.Errorf("%s, %s: the page may read %q", auth.name, c.name, res.Header.Get("Access-Control-Expose-Headers"))
			}
		}
	}
}

// TestFieldsOfARefusal reach the clients of HTTP answers whatever the status is, and replace none of
// culvert's own.
func TestFieldsOfARefusal(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	denied := report.New(report.ReasonPermissionDenied, "not you")
	denied.Header = []string{"x-judged-by", "policy 7", "www-authenticate", `Bearer error="insufficient_scope"`, "cache-control", "public"}
	by := authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) { return nil, denied })
	routes := []Route{
		{Name: "lines", Backend: DefaultBackend, Message: &MessageRoute{Path: "/lines", Method: "test.Service/Method", Framing: FramingNDJSON}},
		{Name: "agents", Backend: DefaultBackend, Message: &MessageRoute{Path: "/agents", Method: "test.Service/Method", Framing: FramingOpAMP}},
		{Name: "all", Backend: DefaultBackend},
	}
	address := "http://" + serve(t, newServer(t, Config{Authenticator: by, Routes: routes, Backend: Backend{Descriptors: describedChat(t), Target: "127.0.0.1:1"}}))
	for _, c := range []struct{ path, contentType, body string }{
		{testMethod, "application/proto", ""}, {"/lines", "application/json", "{}"}, {"/agents", "application/x-protobuf", string(fromAgent(1, ""))},
	} {
		r := newRequest(t, http.MethodPost, address+c.path, c.body)
		r.Header.Set("Content-Type", c.contentType)
		res, body := send(t, http.DefaultClient, r)
		if res.StatusCode != http.StatusForbidden || res.Header.Get("X-Judged-By") != "policy 7" || res.Header.Get("WWW-Authenticate") != denied.Header[3] || !strings.HasPrefix(res.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("%s: %d %v %s", c.path, res.StatusCode, res.Header, body)
		}
	}
}

// TestAgentsChallenge comes before the upgrade, as OpAMP's specification wants it.
func TestAgentsChallenge(t *testing.T) {
	_, address := serveAgents(t, echo, func(c *Config) { c.Authenticator = &doorman{} })
	for token, want := range map[string]string{"": "Bearer", "junk": `Bearer error="invalid_token"`} {
		header := http.Header{}
		if token != "" {
			header = bearer(token)
		}
		got := upgrade(t, address, header)
		got.refusedAs(t, http.StatusUnauthorized, report.ReasonUnauthenticated)
		if told := got.header.Get("WWW-Authenticate"); told != want {
			t.Errorf("with %q the agent is told %q, want %q", token, told, want)
		}
	}
}

// TestNoCredentialNeeded by preflights and by what goes to the web server. The Authenticator isn't
// asked.
func TestNoCredentialNeeded(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	to := webServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	d := &doorman{calls: make(chan AuthRequest, 10)}
	address := "http://" + serve(t, newServer(t, Config{Backend: nowhere, Authenticator: d, FallbackURL: to, AllowOrigins: []string{"https://app.example"}}))
	preflight := newRequest(t, http.MethodOptions, address+testMethod, "")
	preflight.Header = http.Header{"Origin": {"https://app.example"}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization,content-type,x-grpc-web"}}
	if res, _ := send(t, http.DefaultClient, preflight); res.StatusCode != http.StatusNoContent || !strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "authorization") {
		t.Errorf("a preflight is answered %d %v", res.StatusCode, res.Header)
	}
	if res, _ := send(t, http.DefaultClient, newRequest(t, http.MethodGet, address+"/index.html", "")); res.StatusCode != http.StatusTeapot {
		t.Errorf("a page is answered %d, want the web server's answer", res.StatusCode)
	}
	if len(d.calls) > 0 || d.conns.Load() > 0 {
		t.Error("the Authenticator was asked")
	}
}

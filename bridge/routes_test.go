package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// startShowing starts a backend that answers each call, at its end, with its name, the
// method and the authority that it got, and the values of x-set. It holds calls that
// send nothing and don't half-close.
func startShowing(t testing.TB, name string) NamedBackend {
	return NamedBackend{Name: name, Backend: Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(ss)
		md, _ := metadata.FromIncomingContext(ss.Context())
		for ss.RecvMsg(new([]byte)) == nil {
		}
		return ss.SendMsg([]byte(fmt.Sprintf("%s %s %s %s", name, method, strings.Join(md[":authority"], ""), strings.Join(md["x-set"], "+"))))
	})}}
}

// asks makes a call and returns what the backend shows, or how the call failed.
func asks(ctx context.Context, cc *grpc.ClientConn, method string, md ...string) string {
	var out []byte
	if err := cc.Invoke(metadata.AppendToOutgoingContext(ctx, md...), method, []byte("?"), &out); err != nil {
		return status.Convert(err).Code().String() + " " + status.Convert(err).Message()
	}
	return string(out)
}

// asksBySocket is asks over a WebSocket, with the metadata in the first message.
func asksBySocket(t testing.TB, address, path string, header http.Header, block string) string {
	t.Helper()
	ctx := within(t, patience)
	ws, _, err := websocket.Dial(ctx, "ws://"+address+path, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}, HTTPHeader: header, Host: header.Get("Host")})
	if err != nil {
		return err.Error()
	}
	return asksOn(ctx, t, ws, block)
}

// asksOn is asksBySocket on a WebSocket that is open, and closes it.
func asksOn(ctx context.Context, t testing.TB, ws *websocket.Conn, block string) string {
	t.Helper()
	defer func() { _ = ws.CloseNow() }()
	for _, m := range []string{block, "\x00\x00\x00\x00\x00\x00", "\x01"} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	var all strings.Builder
	for {
		_, m, err := ws.Read(ctx)
		if err != nil {
			return all.String()
		}
		all.Write(m)
	}
}

// awaitRunning waits until a route has so many calls.
func awaitRunning(t testing.TB, s *Server, route string, want int) {
	t.Helper()
	poll(t, func() string {
		if n := s.routes[route].Running(); n != want {
			return fmt.Sprintf("%d calls of the route %s are running, want %d", n, route, want)
		}
		return ""
	})
}

func wantAnswer(t testing.TB, what, got, want string) {
	t.Helper()
	if !strings.Contains(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestRoutesSelectTheBackend by everything that a route can match, and say what the
// backend receives.
func TestRoutesSelectTheBackend(t *testing.T) {
	s := newServer(t, Config{
		Backends:   []NamedBackend{startShowing(t, "a"), startShowing(t, "b")},
		PathPrefix: "/grpc",
		Routes: []Route{
			{Name: "host", Match: report.Match{Hosts: []string{"*.example.com"}}, Backend: "b", Authority: "orders.internal"},
			{Name: "prefix", Match: report.Match{PathPrefix: "/team"}, Rewrite: "/", Backend: "b"},
			{Name: "renamed", Match: report.Match{PathPrefix: "/old.Service"}, Rewrite: "/new.Service", Backend: "b"},
			{Name: "method", Match: report.Match{Methods: []string{"test.B/*"}}, Backend: "b"},
			{Name: "metadata", Match: report.Match{Methods: []string{"test.A/*"}, Metadata: []report.Condition{{Name: "x-canary", Value: "1"}}}, Backend: "b", SetMetadata: []MetadataValue{{"X-Set", "1"}, {"x-set", "2"}}},
			{Name: "removed", Match: report.Match{Methods: []string{"test.R/*"}}, Backend: "a", RemoveMetadata: []string{"X-Set"}},
			{Name: "web", Match: report.Match{Methods: []string{"test.T/*"}, Transports: []string{"grpc-web"}}, Backend: "b"},
			{Name: "tunnel", Match: report.Match{Methods: []string{"test.T/*"}, Transports: []string{tunnelName}}, Backend: "b"},
			{Name: "native", Match: report.Match{Methods: []string{"test.T/*"}}, Backend: "a"},
			{Name: "rest", Match: report.Match{Methods: []string{"test.A/*"}}, Backend: "a"},
		},
	})
	address := serve(t, s)
	cc, named := dial(t, address), dial(t, address, grpc.WithAuthority("Shop.Example.com:8080"))
	tunnel := dialTunnel(t, address, http.Header{})
	ctx := within(t, patience)
	for _, c := range []struct {
		cc           *grpc.ClientConn
		method, want string
		md           []string
	}{
		{cc, "/grpc/test.A/M", "a /test.A/M ", nil},
		{named, "/grpc/test.A/M", "b /test.A/M orders.internal ", nil},
		{cc, "/grpc/team/test.A/M", "b /test.A/M ", nil},
		{cc, "/grpc/old.Service/M", "b /new.Service/M ", nil},
		{cc, "/grpc/test.B/M", "b /test.B/M ", nil},
		{cc, "/grpc/test.A/M", "b /test.A/M " + s.cfg.Backends[1].Target + " 1+2", []string{"x-canary", "1", "x-set", "forged"}},
		{cc, "/grpc/test.A/M", "a /test.A/M " + s.cfg.Backends[0].Target + " own", []string{"x-canary", "2", "x-set", "own"}},
		{cc, "/grpc/test.A/M", "a ", []string{"x-canary", "1", "x-canary", "1"}},
		{cc, "/grpc/test.R/M", "a /test.R/M " + s.cfg.Backends[0].Target + " ", []string{"x-set", "own"}},
		{cc, "/grpc/test.T/M", "a ", nil},
		{tunnel, "/grpc/test.T/M", "b ", nil},
		{cc, "/grpc/test.C/M", `Unimplemented no route matches the host "127.0.0.1" and the path "/test.C/M" (routes)`, nil},
		{tunnel, "/grpc/test.C/M", `Unimplemented no route matches`, nil},
		{cc, "/grpc/x/test.A/M", `did you mean /grpc/test.A/M?`, nil},
		{cc, "/grpc/team/x/test.A/M", `no route matches the host "127.0.0.1" and the path "/team/x/test.A/M"`, nil},
	} {
		wantAnswer(t, c.method+strings.Join(c.md, " "), asks(ctx, c.cc, c.method, c.md...), c.want)
	}
	for _, c := range []struct{ path, block, want string }{
		{"/grpc/test.A/M", "x-canary: 1\r\n", "b /test.A/M "},
		{"/grpc/test.A/M", "x-canary: 0\r\n", "a /test.A/M "},
		{"/grpc/team/test.A/M", "\r\n", "b /test.A/M "},
		{"/grpc/test.C/M", "\r\n", "no route matches"},
	} {
		wantAnswer(t, "by WebSocket "+c.path+" "+c.block, asksBySocket(t, address, c.path, nil, c.block), c.want)
	}
	w := answerTo(s, func() *http.Request {
		r := webCall(t)
		r.URL.Path = "/grpc/test.T/M"
		return r
	}())
	wantAnswer(t, "by grpc-web", w.Body.String(), "b /test.T/M ")
}

// TestRoutesStrikeImitations of the names that they set and remove: many backends take "_"
// and "." for "-".
func TestRoutesStrikeImitations(t *testing.T) {
	rs, err := newRoutes(&Config{Routes: []Route{{
		Name: "one", Backend: DefaultBackend, SetMetadata: []MetadataValue{{"x-tenant", "ours"}}, RemoveMetadata: []string{"x-debug"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	md := metadata.MD{"x-tenant": {"a"}, "x_tenant": {"b"}, "x.tenant": {"c"}, "x-debug": {"d"}, "x_debug": {"e"}, "x-tenants": {"f"}}
	rs.byIndex[0].edit(md)
	if want := (metadata.MD{"x-tenant": {"ours"}, "x-tenants": {"f"}}); !reflect.DeepEqual(md, want) {
		t.Errorf("the backend gets %v, want %v", md, want)
	}
}

// TestAuthorityOfARouteOverTLS: the backend sees the route's authority, and its
// certificate must have that name. SNI, and the name that the handshake verifies, stay
// the backend's.
func TestAuthorityOfARouteOverTLS(t *testing.T) {
	ca := parts.NewAuthority(t)
	certificate := ca.Server(t, "backend.test", "orders.internal")
	names := make(chan string, 4) // more connections than the test makes
	address := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		return ss.SendMsg([]byte("authority " + strings.Join(md[":authority"], "")))
	}, grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		names <- hello.ServerName
		return &certificate, nil
	}})))
	obs := newObserver()
	cc := dial(t, serve(t, newServer(t, Config{
		Observer: obs,
		Backend:  Backend{Target: address, TLS: &tls.Config{RootCAs: ca.Pool, MinVersion: tls.VersionTLS12, ServerName: "backend.test"}},
		Routes: []Route{
			{Name: "plain", Backend: DefaultBackend},
			{Name: "orders", Match: report.Match{Methods: []string{"test.Orders/*"}}, Backend: DefaultBackend, Authority: "orders.internal"},
			{Name: "other", Match: report.Match{Methods: []string{"test.Other/*"}}, Backend: DefaultBackend, Authority: "other.internal"},
		},
	})))
	for _, c := range []struct{ method, want, cause string }{
		{testMethod, "authority backend.test", ""},
		{"/test.Orders/M", "authority orders.internal", ""},
		{"/test.Other/M", "Unavailable the backend could not be reached", "certificate is valid for backend.test, orders.internal, not other.internal"},
		{"/test.Orders/M", "authority orders.internal", ""},
	} {
		wantAnswer(t, c.method, asks(within(t, patience), cc, c.method), c.want)
		info := await(t, "the end", obs.ended)
		wantAnswer(t, c.method+": the cause in the log", info.Cause, c.cause)
	}
	if got := await(t, "the handshake", names); got != "backend.test" || len(names) > 0 {
		t.Errorf("SNI is %q, and %d more handshakes followed", got, len(names))
	}
}

// TestRewriteOpensNoDeniedMethod: patterns and limits judge the name that the backend
// receives, also if only the metadata in a WebSocket's first message decides it.
func TestRewriteOpensNoDeniedMethod(t *testing.T) {
	canary := []report.Condition{{Name: "x-canary"}}
	obs := newObserver()
	s := newServer(t, Config{
		Backends:     []NamedBackend{startShowing(t, "a")},
		DenyMethods:  []string{"test.Admin/*"},
		MethodLimits: []MethodQuota{{Pattern: "test.Small/*", HeaderBytes: 400}},
		Observer:     obs,
		Routes: []Route{
			{Name: "all", Backend: "a"},
			{Name: "renamed", Match: report.Match{PathPrefix: "/test.User"}, Rewrite: "/test.Admin", Backend: "a"},
			{Name: "canary", Match: report.Match{PathPrefix: "/test.Some", Metadata: canary}, Rewrite: "/test.Admin", Backend: "a"},
			{Name: "small", Match: report.Match{PathPrefix: "/test.Big", Metadata: canary}, Rewrite: "/test.Small", Backend: "a"},
			{Name: "alone", Match: report.Match{PathPrefix: "/t", Metadata: canary}, Rewrite: "/", Backend: "a"},
		},
	})
	address := serve(t, s)
	cc := dial(t, address)
	big := strings.Repeat("x", 400)
	ctx := within(t, patience)
	for _, c := range []struct{ method, name, value, want string }{
		{"/test.User/M", "x-a", "1", "the method /test.Admin/M is not exposed here"},
		{"/test.Some/M", "x-a", "1", "a /test.Some/M"},
		{"/test.Some/M", "x-canary", "1", "the method /test.Admin/M is not exposed here"},
		{"/test.Big/M", "x-a", big, "a /test.Big/M"},
		{"/test.Big/M", "x-canary", big, report.KeyMethodHeaderBytes},
		{"/t/test.Admin/M", "x-canary", "1", "the method /test.Admin/M is not exposed here"},
		{"/t/test.Some/M", "x-canary", "1", "a /test.Some/M"},
		{"/t/test.Some/M", "x-a", "1", "no route matches"},
	} {
		wantAnswer(t, c.method+" with "+c.name, asks(ctx, cc, c.method, c.name, c.value), c.want)
		wantAnswer(t, c.method+" with "+c.name+" by WebSocket", asksBySocket(t, address, c.method, nil, c.name+": "+c.value+"\r\n"), c.want)
	}
	// The log has the name that the backend receives.
	for range 16 {
		if info := await(t, "an end", obs.ended); info.Route == "renamed" && info.Method != "/test.Admin/M" {
			t.Errorf("the Observer is told of the method %s", info.Method)
		}
	}
}

// TestLimitsOfARoute: they apply besides the others, also to a call that reaches the
// route by the first message of its WebSocket. The end of a call makes room again.
func TestLimitsOfARoute(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{
		Backends: []NamedBackend{startShowing(t, "a")},
		Observer: obs,
		Limits:   Limits{Calls: 10},
		Routes: []Route{
			{Name: "all", Backend: "a", Limits: Quota{Calls: 2}},
			{Name: "one", Match: report.Match{Metadata: []report.Condition{{Name: "x-one"}}}, Backend: "a", Limits: Quota{Calls: 1}, HeaderBytes: 1500, MessageBytes: 8},
		},
	})
	address := serve(t, s)
	cc := dial(t, address)
	ctx := within(t, patience)

	held := open(metadata.AppendToOutgoingContext(ctx, "x-one", "1"), t, cc, testMethod)
	awaitRunning(t, s, "one", 1)
	wantAnswer(t, "a call too many", asks(ctx, cc, testMethod, "x-one", "1"), "1 calls of this route are running, which is the limit (routes[].limits.calls)")
	wantAnswer(t, "a WebSocket too many", asksBySocket(t, address, testMethod, nil, "x-one: 1\r\n"), "routes[].limits.calls")
	wantAnswer(t, "a call of the other route", asks(ctx, cc, testMethod), "a /test")
	wantAnswer(t, "much metadata", asks(ctx, cc, testMethod, "x-one", strings.Repeat("x", 2000)), "routes[].limits.header_bytes")
	if err := held.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := held.RecvMsg(new([]byte)); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "routes[].limits.message_bytes") {
		t.Errorf("a large reply ended with %v", err)
	}
	if err := s.registry.wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	of := map[string]int{}
	for range 5 {
		of[await(t, "an end", obs.ended).Route]++
	}
	if of["one"] != 4 || of["all"] != 1 {
		t.Errorf("the Observer is told of calls of the routes %v, want 4 of one, refused ones too, and 1 of all", of)
	}
	for name, scope := range s.routes {
		if n := scope.Running(); n != 0 {
			t.Errorf("after the last call, %d calls of the route %s are counted", n, name)
		}
	}
}

// TestTimeoutOfARoute ends a call that its backend holds, and names its key.
func TestTimeoutOfARoute(t *testing.T) {
	deadlines, released := make(chan time.Duration, 32), make(chan struct{}) // more than the test makes
	address := startBackend(t, func(ss grpc.ServerStream) error {
		if at, ok := ss.Context().Deadline(); ok {
			deadlines <- time.Until(at)
		}
		<-released // or the backend's own end of the call might come first
		return nil
	})
	t.Cleanup(func() { close(released) })
	s := newServer(t, Config{Backend: Backend{Target: address}, Routes: []Route{{Name: "all", Backend: DefaultBackend, Timeout: 200 * time.Millisecond}}})
	at := serve(t, s)
	cc := dial(t, at)
	var calls sync.WaitGroup
	for range 20 { // some of which grpc-go ends, by its own clock
		calls.Go(func() {
			wantAnswer(t, "a held call", asks(within(t, patience), cc, testMethod), "DeadlineExceeded the call took longer than 200ms (routes[].timeout) (find the slow part, or raise routes[].timeout)")
		})
	}
	calls.Wait()
	wantAnswer(t, "by WebSocket", asksBySocket(t, at, testMethod, nil, "grpc-timeout: 1H\r\n"), "grpc-status: 4")
	for range 21 {
		if left := await(t, "the call", deadlines); left > 200*time.Millisecond {
			t.Errorf("the backend is given %v", left)
		}
	}
}

// TestTimesOfARoute replace the general ones, for the route that metadata selects in a
// WebSocket's first message, too.
func TestTimesOfARoute(t *testing.T) {
	t.Parallel() // it waits for the limits
	s := newServer(t, Config{
		Backend: Backend{Target: startBackend(t, hold)},
		Limits:  Limits{IdleTimeout: 50 * time.Millisecond},
		Routes: []Route{
			{Name: "all", Backend: DefaultBackend, IdleTimeout: -1},
			{Name: "general", Match: report.Match{Methods: []string{"test.G/*"}}, Backend: DefaultBackend},
			{Name: "old", Match: report.Match{Metadata: []report.Condition{{Name: "x-old"}}}, Backend: DefaultBackend, IdleTimeout: -1, MaxAge: 50 * time.Millisecond},
		},
	})
	at := serve(t, s)
	cc, ctx := dial(t, at), within(t, patience)
	held := open(ctx, t, cc, testMethod)
	var calls sync.WaitGroup
	for _, c := range []struct {
		what, want string
		call       func() string
	}{
		{"of the general time", "Unavailable no message passed for 50ms (limits.idle_timeout)", func() string { return asks(ctx, cc, "/test.G/M") }},
		{"of a route's own", "Unavailable the call reached the age limit of 50ms (routes[].max_age) (call again, or raise routes[].max_age)", func() string { return asks(ctx, cc, testMethod, "x-old", "1") }},
		{"by WebSocket", "routes[].max_age", func() string { return asksBySocket(t, at, testMethod, nil, "x-old: 1\r\n") }},
	} {
		calls.Go(func() { wantAnswer(t, c.what, c.call(), c.want) })
	}
	calls.Wait()
	if err := held.Context().Err(); err != nil {
		t.Errorf("a call of a route without an idle time ended: %v", err)
	}
}

// TestRetryOfARoute: over every transport, a call of a route that asks for it is sent
// again, and one of another route isn't.
func TestRetryOfARoute(t *testing.T) {
	var attempts atomic.Int64
	address := startBackend(t, func(ss grpc.ServerStream) error {
		if attempts.Add(1)%3 > 0 {
			return status.Error(codes.Unavailable, "not now")
		}
		return echo(ss)
	})
	s := newServer(t, Config{Backend: Backend{Target: address}, Routes: []Route{
		{Name: "again", Backend: DefaultBackend, Retry: Retry{Attempts: 3, Backoff: time.Millisecond}},
		{Name: "once", Match: report.Match{Methods: []string{"once.*/*"}}, Backend: DefaultBackend},
	}})
	at := serve(t, s)
	for _, c := range []struct {
		what string
		call func() string
		want string
		runs int64
	}{
		{"native", func() string { return asks(within(t, patience), dial(t, at), testMethod) }, "?", 3},
		{"by WebSocket", func() string { return asksBySocket(t, at, testMethod, nil, "") }, "grpc-status: 0", 3},
		{"of another route", func() string { return asks(within(t, patience), dial(t, at), "/once.S/M") }, "Unavailable", 1},
	} {
		before := attempts.Load()
		got := c.call()
		if !strings.Contains(got, c.want) || attempts.Load()-before != c.runs {
			t.Errorf("%s: %q after %d attempts, want %s after %d", c.what, got, attempts.Load()-before, c.want, c.runs)
		}
	}
}

// TestOriginsOfARoute replace the others, for calls, preflights, WebSockets and calls in
// tunnels. A route that matches metadata has the origins of the route beside it, else
// the general ones.
func TestOriginsOfARoute(t *testing.T) {
	canary := []report.Condition{{Name: "x-canary"}}
	const app, other = "https://app.example.com", "https://other.example.com"
	s := newServer(t, Config{
		Backends:     []NamedBackend{startShowing(t, "a")},
		AllowOrigins: []string{other},
		Routes: []Route{
			{Name: "app", Match: report.Match{Methods: []string{"test.App/*"}}, Backend: "a", AllowOrigins: []string{app}},
			{Name: "app canary", Match: report.Match{Methods: []string{"test.App/*"}, Metadata: canary}, Backend: "a"},
			{Name: "none", Match: report.Match{Methods: []string{"test.None/*"}}, Backend: "a", AllowOrigins: []string{}},
			{Name: "admin", Match: report.Match{Methods: []string{"test.App/Admin"}, Metadata: canary}, Backend: "a"},
			{Name: "rest", Backend: "a"},
		},
	})
	address := serve(t, s)
	for _, c := range []struct {
		origin, method string
		canary         bool
		preflight      bool // what it is told
		call           bool
	}{
		{app, "/test.App/M", false, true, true},
		{app, "/test.App/M", true, true, true},
		{app, "/test.App/Admin", false, true, true},
		{app, "/test.App/Admin", true, true, false}, // it is no route of app's
		{other, "/test.App/M", false, false, false},
		{other, "/test.App/Admin", true, false, false},
		{app, "/test.None/M", false, false, false},
		{other, "/test.None/M", false, false, false},
		{app, "/test.Rest/M", false, false, false},
		{other, "/test.Rest/M", false, true, true},
	} {
		name := fmt.Sprintf("%s from %s, canary %v", c.method, c.origin, c.canary)
		r := webCall(t, "Origin", c.origin)
		r.URL.Path = c.method
		block := "x-other: 1\r\n"
		if c.canary {
			r.Header.Set("X-Canary", "1")
			block = "x-canary: 1\r\n"
		}
		w := answerTo(s, r)
		got := w.Code == http.StatusOK && strings.Contains(w.Body.String(), "a "+c.method) && w.Header().Get("Access-Control-Allow-Origin") == c.origin
		if got != c.call {
			t.Errorf("%s: allowed %v: %d %s", name, got, w.Code, w.Body)
		}
		preflight := webCall(t, "Origin", c.origin, "Access-Control-Request-Method", "POST")
		preflight.Method, preflight.URL.Path = http.MethodOptions, c.method
		preflight.Header.Del("Content-Type")
		if got := answerTo(s, preflight).Header().Get("Access-Control-Allow-Methods") != ""; got != c.preflight {
			t.Errorf("%s: the preflight is allowed: %v", name, got)
		}
		answer := asksBySocket(t, address, c.method, http.Header{"Origin": {c.origin}}, block)
		if got := strings.Contains(answer, "a "+c.method); got != c.call {
			t.Errorf("%s: a WebSocket is allowed: %v: %q", name, got, answer)
		}
		ctx, md := within(t, patience), []string{"x-other", "1"}
		if c.canary {
			md = []string{"x-canary", "1"}
		}
		answer = asks(ctx, dialTunnel(t, address, http.Header{"Origin": {c.origin}}), c.method, md...)
		if got := strings.Contains(answer, "a "+c.method); got != c.call {
			t.Errorf("%s: a call in a tunnel is allowed: %v: %q", name, got, answer)
		}
	}
	if _, res, err := websocket.Dial(within(t, patience), "ws://"+address+"/", &websocket.DialOptions{Subprotocols: []string{tunnelName}, HTTPHeader: http.Header{"Origin": {"https://evil.example"}}}); err == nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("a page that no route allows opened a tunnel: %v", err)
	}
}

// TestOriginsGoByWhatRoutesMatch, not by the text of their keys: a route for WebSockets
// has no origins but those of its own route, however that is written.
func TestOriginsGoByWhatRoutesMatch(t *testing.T) {
	socket := []string{"grpc-websockets"}
	none := []string{}
	for _, c := range []struct {
		base, route report.Match
		rewrite     string // of the base
		inherits    bool
	}{
		{report.Match{Hosts: []string{"*"}}, report.Match{Transports: socket}, "", true},
		{report.Match{Methods: []string{"*/*"}}, report.Match{Hosts: []string{"*"}, Transports: socket}, "", true},
		{report.Match{Hosts: []string{"A.example."}}, report.Match{Hosts: []string{"a.example", "a.example"}, Transports: socket}, "", true},
		{report.Match{Hosts: []string{"a", "b"}, PathPrefix: "/s.S"}, report.Match{Hosts: []string{"b", "a"}, PathPrefix: "/s.S", Transports: socket}, "", true},
		{report.Match{Hosts: []string{"a", "b"}}, report.Match{Hosts: []string{"a"}, Transports: socket}, "", false},
		{report.Match{PathPrefix: "/shop"}, report.Match{PathPrefix: "/shop", Transports: socket}, "/", false},
		{report.Match{Listeners: []string{"l"}}, report.Match{Transports: socket}, "", false},
	} {
		cfg := Config{Backend: nowhere, AllowOrigins: []string{"https://general.example"}, Routes: []Route{
			{Name: "base", Match: c.base, Rewrite: c.rewrite, Backend: DefaultBackend, AllowOrigins: none},
			{Name: "route", Match: c.route, Backend: DefaultBackend},
		}}
		rs, err := newRoutes(&cfg)
		if err != nil {
			t.Errorf("%+v beside %+v: %v", c.route, c.base, err)
			continue
		}
		if got := rs.byIndex[1].origins != nil && rs.byIndex[1].origins == rs.byIndex[0].origins; got != c.inherits || !c.inherits && rs.byIndex[1].origins != nil {
			t.Errorf("%+v beside %+v: inherits its origins %v, want %v", c.route, c.base, got, c.inherits)
		}
	}
}

// TestApplyReplacesRoutes: running calls keep their route, new ones take the new, and
// both count with it.
func TestApplyReplacesRoutes(t *testing.T) {
	cfg := Config{Backends: []NamedBackend{startShowing(t, "a"), startShowing(t, "b")}}
	cfg.Routes = []Route{{Name: "all", Backend: "a"}}
	s := newServer(t, cfg)
	cc := dial(t, serve(t, s))
	ctx := within(t, patience)
	held := open(ctx, t, cc, testMethod)
	awaitRunning(t, s, "all", 1)

	next := cfg
	next.Routes = []Route{{Name: "all", Backend: "b", Limits: Quota{Calls: 1}}, {Name: "two", Match: report.Match{Methods: []string{"test.Two/*"}}, Backend: "b"}}
	apply(t, s, next)
	wantAnswer(t, "a call beside the running one", asks(ctx, cc, testMethod), "routes[].limits.calls")
	wantAnswer(t, "a call of a new route", asks(ctx, cc, "/test.Two/M"), "b /test.Two/M")
	wrong := next
	wrong.Routes = append([]Route{{Name: "twin", Match: report.Match{Methods: []string{"test.Two/*"}}, Backend: "gone"}}, next.Routes...)
	if err := s.Apply(wrong); err == nil || !strings.Contains(err.Error(), `there is no "gone"`) || !strings.Contains(err.Error(), `matches the same requests as the route "twin"`) {
		t.Errorf("Apply of wrong routes: %v", err)
	}
	wantAnswer(t, "after a wrong policy", asks(ctx, cc, "/test.Two/M"), "b /test.Two/M")
	if err := held.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var out []byte
	if err := held.RecvMsg(&out); err != nil || !strings.HasPrefix(string(out), "a ") {
		t.Errorf("the running call ended with %q, %v, want the backend a", out, err)
	}
	if err := s.registry.wait(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	wantAnswer(t, "after the running call", asks(ctx, cc, testMethod), "b /test.Service/Method")
	cfg.Routes, cfg.Backends = nil, nil
	cfg.Backends = next.Backends
	if err := s.Apply(cfg); err == nil || !errors.Is(err, errNoWayToRoute) {
		t.Errorf("Apply without routes: %v", err)
	}
	next.Routes = []Route{{Name: "other", Backend: "b"}}
	apply(t, s, next)
	apply(t, s, next)
	if len(s.routes) != 1 {
		t.Errorf("%d routes are counted, want those that a policy names: %v", len(s.routes), s.routes)
	}
}

// TestWrongRoutes are told with their key.
func TestWrongRoutes(t *testing.T) {
	with := func(change func(*Route)) Route {
		r := Route{Name: "r", Backend: DefaultBackend}
		change(&r)
		return r
	}
	for _, c := range []struct {
		route     Route
		key, text string
	}{
		{with(func(r *Route) { r.Backend = "" }), "backend", "must be set"},
		{with(func(r *Route) { r.Split = []report.Target{{Backend: DefaultBackend, Weight: 1}} }), "backend", "no effect beside split"},
		{with(func(r *Route) { r.Backend = "x" }), "backend", `there is no "x"; use one of default`},
		{with(func(r *Route) { r.Backend, r.Split = "", []report.Target{{Backend: "x", Weight: 1}} }), "split[0].backend", `there is no "x"`},
		{with(func(r *Route) { r.Backend, r.Split = "", []report.Target{{Backend: DefaultBackend}} }), "split", "sum to 0"},
		{with(func(r *Route) { r.Sticky = "x-user" }), "sticky", "no effect without split"},
		{with(func(r *Route) { r.Match.Metadata = []report.Condition{{Name: "User-Agent"}} }), "match.metadata[0].name", "can match no call"},
		{with(func(r *Route) { r.Match.Metadata = []report.Condition{{Name: "cookie"}} }), "match.metadata[0].name", "can match no call"},
		{with(func(r *Route) { r.Match.Metadata = []report.Condition{{Name: "x-a", Value: "ä"}} }), "match.metadata[0].value", "can match no call"},
		{with(func(r *Route) { r.Match.Metadata = []report.Condition{{Name: "x-a", Value: "a "}} }), "match.metadata[0].value", "no space at either end"},
		{with(func(r *Route) { r.Match.Metadata = []report.Condition{{Name: "X_Company_User"}} }), "match.metadata[0].name", "can match no call"},
		{with(func(r *Route) {
			r.Backend, r.Split, r.Sticky = "", []report.Target{{Backend: DefaultBackend, Weight: 1}}, "x.company-user"
		}), "sticky", "can't select a backend"},
		{with(func(r *Route) { r.SetMetadata = []MetadataValue{{"x-a", "1"}, {"grpc-timeout", "1S"}} }), "metadata.set[1].name", "is reserved"},
		{with(func(r *Route) { r.SetMetadata = []MetadataValue{{"Connection", "close"}} }), "metadata.set[0].name", "is reserved"},
		{with(func(r *Route) { r.SetMetadata = []MetadataValue{{":path", "/"}} }), "metadata.set[0].name", "is not a name"},
		{with(func(r *Route) { r.SetMetadata = []MetadataValue{{"x-forwarded-for", "1"}} }), "metadata.set[0].name", "only culvert and trusted proxies"},
		{with(func(r *Route) { r.SetMetadata = []MetadataValue{{"x_company_user", "1"}} }), "metadata.set[0].name", "only culvert and trusted proxies"},
		{with(func(r *Route) { r.SetMetadata = []MetadataValue{{"x-a-bin", "1"}} }), "metadata.set[0].name", "binary"},
		{with(func(r *Route) { r.SetMetadata = []MetadataValue{{"x-a", "ä"}} }), "metadata.set[0].value", "printable ASCII"},
		{with(func(r *Route) { r.SetMetadata = []MetadataValue{{"x-a", "1 "}} }), "metadata.set[0].value", "without a space at either end"},
		{with(func(r *Route) { r.RemoveMetadata = []string{"grpc-timeout"} }), "metadata.remove[0]", `"grpc-timeout" is no metadata`},
		{with(func(r *Route) {
			r.SetMetadata, r.RemoveMetadata = []MetadataValue{{"x-a", "1"}}, []string{"x-b", "X-A"}
		}), "metadata.remove[1]", `"x-a" is in metadata.set, too`},
		{with(func(r *Route) { r.AllowOrigins = []string{"example.com"} }), "allow_origins", "example.com"},
		{with(func(r *Route) { r.AllowOrigins, r.Match.Metadata = []string{"*"}, []report.Condition{{Name: "x"}} }), "allow_origins", "preflight"},
		{with(func(r *Route) { r.AllowOrigins, r.Match.Transports = []string{"*"}, []string{"grpc"} }), "allow_origins", "preflight"},
		{with(func(r *Route) { r.Retry.Attempts = 6 }), "retry.attempts", "write 2 to 5"},
		{with(func(r *Route) { r.Retry.Attempts = -1 }), "retry.attempts", "write 2 to 5"},
		{with(func(r *Route) { r.Retry.Codes = []codes.Code{codes.Unavailable} }), "retry", "no effect without retry.attempts"},
		{with(func(r *Route) { r.Retry = Retry{Attempts: 2, Codes: []codes.Code{codes.OK}} }), "retry.codes", "no failure"},
		{with(func(r *Route) { r.Match.Hosts = []string{"a:1"} }), "match.hosts[0]", "remove the port"},
	} {
		cfg := Config{Backend: nowhere, VouchedHeaders: []string{"x-company-user"}, Routes: []Route{c.route}}
		_, err := newRoutes(&cfg)
		var m *report.RouteMistake
		if !errors.As(err, &m) || m.Key != c.key || !strings.Contains(m.Text, c.text) {
			t.Errorf("%+v: got %v, want %s … %s", c.route, err, c.key, c.text)
		}
		if s, err := New(cfg); err == nil {
			_ = s.Close()
			t.Errorf("%+v: New takes it", c.route)
		}
	}
	twice := Config{Backend: nowhere, Routes: []Route{{Name: "r", Backend: DefaultBackend}, {Name: "r", Match: report.Match{Hosts: []string{"a"}}, Backend: DefaultBackend}}}
	if _, err := newRoutes(&twice); err == nil || !strings.Contains(err.Error(), "routes[1].name is the name of routes[0], too") {
		t.Errorf("two routes of one name: %v", err)
	}
}

// TestCallWithoutARouteIsACall: it is authenticated before it is told so, and counts
// with the limits of calls.
func TestCallWithoutARouteIsACall(t *testing.T) {
	for _, metadata := range [][]report.Condition{nil, {{Name: "x-canary"}}} {
		cfg := Config{Backends: []NamedBackend{startShowing(t, "a")}, Authenticator: authenticator(byToken)}
		cfg.Routes = []Route{{Name: "a", Match: report.Match{Methods: []string{"test.A/*"}, Metadata: metadata}, Backend: "a"}}
		address := serve(t, newServer(t, cfg))
		wantAnswer(t, "without a token", asks(within(t, patience), dial(t, address), "/test.None/M"), "Unauthenticated")

		cfg.Authenticator, cfg.Limits.CallsPerSecond = nil, 1
		cc := dial(t, serve(t, newServer(t, cfg)))
		wantAnswer(t, "a first call", asks(within(t, patience), cc, "/test.None/M"), "no route matches")
		counted := false
		for i := 0; i < 100 && !counted; i++ { // a machine that stands still for a second lets one more pass
			counted = strings.Contains(asks(within(t, patience), cc, "/test.None/M"), "limits.calls_per_second")
		}
		if !counted {
			t.Error("calls without a route don't count with limits.calls_per_second")
		}
	}
}

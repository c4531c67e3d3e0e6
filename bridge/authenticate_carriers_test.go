package bridge

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// An attempt is a call by one carrier: the header of its request, and the metadata that it can
// send in another place, if it has one.
type attempt struct {
	outer http.Header
	inner [][2]string
}

// carriers make a call, and return when the server has answered.
var carriers = map[string]func(t *testing.T, address string, a attempt){
	"native": func(t *testing.T, address string, a attempt) {
		_ = asks(metadata.NewOutgoingContext(within(t, patience), lowered(a.outer)), dial(t, address), testMethod)
	},
	"gRPC-Web":       posted(testMethod, "application/grpc-web", string(framed(0, nil))),
	"Connect":        posted(testMethod, "application/proto", ""),
	"Connect stream": posted(testMethod, "application/connect+proto", string(framed(0, nil))),
	"Connect GET": func(t *testing.T, address string, a attempt) {
		r := newRequest(t, http.MethodGet, "http://"+address+testMethod+"?connect=v1&encoding=proto&message=", "")
		maps.Copy(r.Header, a.outer)
		_, _ = send(t, http.DefaultClient, r)
	},
	"lines": func(t *testing.T, address string, a attempt) {
		query := ""
		for _, f := range a.inner {
			query += "&" + f[0] + "=" + strings.ReplaceAll(f[1], " ", "%20")
		}
		posted("/lines?"+query, "application/json", "{}")(t, address, a)
	},
	"a poll": posted("/agents", "application/x-protobuf", string(fromAgent(1, ""))),
	"grpc-websockets": func(t *testing.T, address string, a attempt) {
		block := "a: b\r\n"
		for _, f := range a.inner {
			block += f[0] + ": " + f[1] + "\r\n"
		}
		_ = asksBySocket(t, address, testMethod, a.outer, block)
	},
	"bare messages": func(t *testing.T, address string, a attempt) {
		ws := dialMessages(t, address, "/first", a.outer)
		first := "-"
		for _, f := range a.inner {
			first = f[1]
		}
		say(t, ws, coder.MessageText, first)
		_ = ws.Close(coder.StatusNormalClosure, "") // a half-close; any answer will do
	},
	"bare messages without a first": func(t *testing.T, address string, a attempt) {
		ws := dialMessages(t, address, "/bare", a.outer)
		_ = ws.Close(coder.StatusNormalClosure, "") // a half-close; any answer will do
	},
	"h2ts": func(t *testing.T, address string, a attempt) {
		ctx := within(t, patience)
		for _, f := range a.inner {
			ctx = metadata.AppendToOutgoingContext(ctx, f[0], f[1])
		}
		_ = asks(ctx, dialTunnel(t, address, a.outer), testMethod)
	},
}

func posted(path, contentType, body string) func(t *testing.T, address string, a attempt) {
	return func(t *testing.T, address string, a attempt) {
		r := newRequest(t, http.MethodPost, "http://"+address+path, body)
		maps.Copy(r.Header, a.outer)
		r.Header.Set("Content-Type", contentType)
		_, _ = send(t, http.DefaultClient, r)
	}
}

// carried has the routes of all carriers.
func carried(t *testing.T, cfg Config) Config {
	bare := func(name string, m MessageRoute) Route {
		m.Path, m.Method = "/"+name, testMethod[1:]
		return Route{Name: name, Backend: DefaultBackend, Message: &m}
	}
	cfg.Backend.Descriptors, cfg.ConnectGet = describedChat(t), []string{"test.*/*"}
	cfg.Routes = []Route{
		bare("lines", MessageRoute{Framing: FramingNDJSON, Query: []string{"authorization"}}), bare("agents", MessageRoute{Framing: FramingOpAMP}),
		bare("first", MessageRoute{Framing: FramingProtobuf, FirstMessage: "authorization"}), bare("bare", MessageRoute{Framing: FramingProtobuf}),
		{Name: "all", Backend: DefaultBackend},
	}
	return cfg
}

// TestCarriersOfCredentials: what comes with a call is its own, and what comes with its connection
// the connection's, by every protocol.
func TestCarriersOfCredentials(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	connection := map[string]bool{"grpc-websockets": true, "bare messages": true, "bare messages without a first": true, "h2ts": true}
	d := &doorman{calls: make(chan AuthRequest, 100)}
	address := serve(t, newServer(t, carried(t, Config{Authenticator: d, AuthCookies: true, Backend: startTelling(t, "x-culvert-subject")})))
	cookie := http.Header{"Origin": {"http://" + address}, "Cookie": {"token=a@c"}}
	for name, call := range carriers {
		for what, c := range map[string]struct {
			attempt
			own, conn string // names that are proved; "-": nobody's
		}{
			"nothing":           {attempt{}, "-", "-"},
			"the request's":     {attempt{outer: bearer("outer@a")}, "outer", "outer"},
			"the page's cookie": {attempt{outer: cookie}, "a", "a"},
			"its own":           {attempt{inner: [][2]string{{"authorization", "Bearer inner@a"}}}, "inner", "-"},
			"both":              {attempt{bearer("outer@a"), [][2]string{{"authorization", "Bearer inner@a"}}}, "inner", "outer"},
		} {
			call(t, address, c.attempt)
			r := await(t, name+", "+what+": the question", d.calls)
			own, conn := "-", "-"
			if id, err := d.find(&r.Own); err == nil {
				own = id.Name
			}
			if r.Conn != nil && r.Conn.Identity != nil {
				conn = r.Conn.Identity.Name
			}
			want := c.conn // of a connection
			wantOwn := "-"
			switch {
			case !connection[name] && c.outer != nil:
				want, wantOwn = "-", c.conn
			case !connection[name]:
				want = "-" // what is in the query is nobody's
			case c.inner != nil && name != "bare messages without a first":
				wantOwn = c.own
			}
			if (r.Conn != nil) != connection[name] || own != wantOwn || conn != want {
				t.Errorf("%s with %s: the call's own is %s's, want %s's; the connection's %s's, want %s's", name, what, own, wantOwn, conn, want)
			}
			if r.Peer.Identity != nil || r.ID == "" {
				t.Errorf("%s with %s: the peer has the identity %v already, or the call no id: %q", name, what, r.Peer.Identity, r.ID)
			}
		}
	}
}

// TestIdentityCantBeForged: the backend gets the names of report.IdentityMetadata from the
// Authenticator alone, in whatever spelling and place a client or a proxy sends others.
func TestIdentityCantBeForged(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	seen := make(chan metadata.MD, 100)
	target := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		seen <- md
		return status.Error(codes.Aborted, "seen")
	})
	var spellings [][2]string
	for _, name := range report.IdentityMetadata {
		for _, spelling := range []string{name, strings.ReplaceAll(name, "-", "_"), strings.ReplaceAll(name, "-", "."), strings.Replace(name, "-", "_", 1), strings.ToUpper(name), "x_culvert." + name[len("x-culvert-"):], name + "-bin"} {
			value := "root"
			if strings.HasSuffix(spelling, "-bin") {
				value = base64.StdEncoding.EncodeToString([]byte(value))
			}
			spellings = append(spellings, [2]string{spelling, value})
		}
	}
	for _, set := range []metadata.MD{nil, {report.IdentityMetadata[0]: {"alice"}, report.IdentityMetadata[1]: {"home"}, report.IdentityMetadata[2]: {"jwt"}, report.IdentityMetadata[3]: {"read write"}}} {
		for _, trusted := range []bool{false, true} {
			cfg := carried(t, Config{Backend: Backend{Target: target}, Authenticator: authenticator(func(_ context.Context, _ string, _ Peer, md metadata.MD) (*Identity, error) {
				for name := range md {
					if strings.Contains(name, "culvert") {
						t.Errorf("the Authenticator is given %q", name)
					}
				}
				maps.Copy(md, set)
				return nil, nil
			})})
			if trusted {
				cfg.TrustedProxies = prefixes(t, "127.0.0.0/8")
			}
			address := serve(t, newServer(t, cfg))
			for name, call := range carriers {
				if name == "bare messages" {
					continue // its first message is the value of another name
				}
				outer := http.Header{}
				for _, f := range spellings {
					outer[f[0]] = append(outer[f[0]], f[1])
					if name == "native" { // its client refuses upper case and dots in some places
						delete(outer, f[0])
						if f[0] == strings.ToLower(f[0]) {
							outer[f[0]] = []string{f[1]}
						}
					}
				}
				inner := slices.DeleteFunc(slices.Clone(spellings), func(f [2]string) bool { return f[0] != strings.ToLower(f[0]) })
				call(t, address, attempt{outer, inner})
				md := await(t, "the backend of "+name, seen)
				for key, values := range md {
					if strings.Contains(key, "culvert") && !slices.Equal(values, set[key]) {
						t.Errorf("%s, trusted %v: the backend gets %s: %q, want %q", name, trusted, key, values, set[key])
					}
					if strings.Contains(strings.Join(values, " "), "root") {
						t.Errorf("%s, trusted %v: the backend gets %s: %q", name, trusted, key, values)
					}
				}
				for key, want := range set {
					if !slices.Equal(md[key], want) {
						t.Errorf("%s, trusted %v: the backend gets %s: %q, want %q", name, trusted, key, md[key], want)
					}
				}
			}
		}
	}
}

// TestBackendOfTheAuthenticator: it may choose one that the call's route has. The call goes nowhere
// else.
func TestBackendOfTheAuthenticator(t *testing.T) {
	split := []report.Target{{Backend: "a", Weight: 1}, {Backend: "b", Weight: 0}}
	backends := []NamedBackend{startShowing(t, "a"), startShowing(t, "b"), startShowing(t, "c"), {Name: "down", Backend: nowhere}}
	routed := []Route{
		{Name: "split", Match: report.Match{Methods: []string{"split.*/*"}}, Split: split},
		{Name: "fails", Match: report.Match{Methods: []string{"fails.*/*"}}, Split: []report.Target{{Backend: "a", Weight: 1}, {Backend: "down", Weight: 1}}},
		{Name: "one", Backend: "c"},
	}
	for _, c := range []struct {
		routes         []Route
		method, chosen string
		want           string
		backend        string // of the log
	}{
		{routed, "/split.A/B", "", "a ", "a"},
		{routed, "/split.A/B", "b", "b ", "b"},
		{routed, "/split.A/B", "c", "Internal internal error", ""},
		{routed, "/split.A/B", "nobody", "Internal internal error", ""},
		{routed, "/fails.A/B", "down", "Unavailable ", "down"},
		{routed, "/one.A/B", "c", "c ", "c"},
		{routed, "/one.A/B", "a", "Internal internal error", ""},
		{routed, "/hidden.A/B", "nobody", "Unimplemented ", ""}, // authorize comes before route
		{nil, testMethod, DefaultBackend, "default ", DefaultBackend},
		{nil, testMethod, "a", "Internal internal error", ""},
	} {
		obs := newObserver()
		cfg := Config{Backends: backends, Routes: c.routes, DenyMethods: []string{"hidden.*/*"}, Observer: obs, Authenticator: &doorman{nobody: true, choose: func(r *AuthRequest) { r.Backend, r.Rule = c.chosen, "chosen" }}}
		if c.routes == nil {
			cfg.Backends = append(slices.Clone(backends), startShowing(t, DefaultBackend))
		}
		got := asks(within(t, patience), dial(t, serve(t, newServer(t, cfg))), c.method)
		info := await(t, "the end", obs.ended)
		if !strings.HasPrefix(got, c.want) || info.Backend != c.backend && c.want[0] != 'I' || info.Rule != "chosen" {
			t.Errorf("%s with the backend %q: %q of %q by the rule %q, want %q of %q", c.method, c.chosen, got, info.Backend, info.Rule, c.want, c.backend)
		}
		if c.want[0] == 'I' && strings.Contains(got, strconv.Quote(c.chosen)) {
			t.Errorf("the client learns of %q: %q", c.chosen, got)
		}
	}
}

// TestTriedOutBackend: a choice that would end the call INTERNAL is told, and the call goes where its
// route says. So does one that passes although the Authenticator, having chosen, refuses it.
func TestTriedOutBackend(t *testing.T) {
	chosen := func(r *AuthRequest) { r.Backend = "b" }
	for name, c := range map[string]struct {
		judges Authenticator
		told   []report.Reason
	}{
		"permitted": {&doorman{nobody: true, choose: chosen}, []report.Reason{report.ReasonInternal}},
		"refused":   {choosyRefuser{refuser{status.Error(codes.PermissionDenied, "not you")}, chosen}, []report.Reason{report.ReasonPermissionDenied, report.ReasonInternal}},
	} {
		obs := newObserver()
		cfg := Config{
			Backends: []NamedBackend{startShowing(t, "a"), startShowing(t, "b")}, Observer: obs, TryAuthenticator: true,
			Routes: []Route{{Name: "one", Backend: "a"}}, Authenticator: c.judges,
		}
		if got := asks(within(t, patience), dial(t, serve(t, newServer(t, cfg))), testMethod); !strings.HasPrefix(got, "a ") {
			t.Errorf("%s: got %q of another backend than a", name, got)
		}
		for _, reason := range c.told {
			if r := await(t, "the refusal", obs.refused); r.Reason != reason || !r.ReportOnly {
				t.Errorf("%s: the Observer is told of %+v, want %s that is only reported", name, r, reason)
			}
		}
		if info := await(t, "the end", obs.ended); info.Backend != "a" {
			t.Errorf("%s: the log has the backend %q", name, info.Backend)
		}
	}
}

// A choosyRefuser says something of a call, and then refuses it.
type choosyRefuser struct {
	refuser
	choose func(r *AuthRequest)
}

func (a choosyRefuser) Authenticate(ctx context.Context, r *AuthRequest) (*Identity, error) {
	a.choose(r)
	return a.refuser.Authenticate(ctx, r)
}

// TestTriedOutWithoutAConnection: the Authenticator clears the metadata that it alone sets also if
// nobody can judge the connection's credential, and the call passes since auth is only tried out.
func TestTriedOutWithoutAConnection(t *testing.T) {
	obs := newObserver()
	d := &doorman{nobody: true, choose: func(r *AuthRequest) { r.Delete("x-user") }}
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		return ss.SendMsg([]byte("the user " + strings.Join(md["x-user"], ",")))
	})
	s := newServer(t, Config{Backend: Backend{Target: backend}, Authenticator: d, Observer: obs, TryAuthenticator: true, BearerSubprotocol: true})
	cc := dial(t, serve(t, s), grpc.WithContextDialer(tunnelDialer(nil, tunnelName, bearerPrefix+"a+b/")))
	if got := asks(metadata.AppendToOutgoingContext(within(t, patience), "x-user", "root"), cc, testMethod); got != "the user " {
		t.Errorf("got %q, want no user", got)
	}
	if r := await(t, "the refusal", obs.refused); r.Reason != report.ReasonUnauthenticated || !r.ReportOnly {
		t.Errorf("the Observer is told of %+v", r)
	}
}

// TestTriedOutMetadata: what the Authenticator makes of the metadata keeps to the bounds, also of a
// call that passes although it is refused.
func TestTriedOutMetadata(t *testing.T) {
	refuse := refuser{status.Error(codes.PermissionDenied, "not you")}
	for name, c := range map[string]struct {
		choose func(r *AuthRequest)
		want   codes.Code
	}{
		"too large":    {func(r *AuthRequest) { r.Set("x-user", strings.Repeat("a", 64<<10)) }, codes.ResourceExhausted},
		"not sendable": {func(r *AuthRequest) { r.Set("connection", "close") }, codes.Internal},
		"neither":      {func(r *AuthRequest) { r.Set("x-user", "alice") }, codes.OK},
	} {
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, TryAuthenticator: true, Authenticator: choosyRefuser{refuse, c.choose}})
		if err := unary(within(t, patience), dial(t, serve(t, s)), testMethod); status.Code(err) != c.want {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

// TestHeaderOfTheAuthenticator: it may change the backend's header, within what may reach a client.
func TestHeaderOfTheAuthenticator(t *testing.T) {
	d := &doorman{nobody: true, choose: func(r *AuthRequest) {
		r.EditHeader = func(md metadata.MD) {
			md.Set("x-added", "1")
			md.Delete("x-removed")
			md.Set("connection", "close")
			md.Set("x-culvert-subject", "root")
		}
	}}
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		if err := ss.SendHeader(metadata.Pairs("x-removed", "1", "x-kept", "1")); err != nil {
			return err
		}
		return ss.SendMsg([]byte("hello"))
	})
	var header metadata.MD
	err := unary(within(t, patience), dial(t, serve(t, newServer(t, Config{Backend: Backend{Target: backend}, Authenticator: d}))), testMethod, grpc.Header(&header))
	if err != nil || len(header["x-added"]) != 1 || len(header["x-kept"]) != 1 || len(header["x-removed"])+len(header["connection"])+len(header["x-culvert-subject"]) > 0 {
		t.Errorf("the client gets %v, %v", header, err)
	}
}

// TestTrailersOnlyOfTheAuthenticator: an answer without a header has the Authenticator's metadata in
// its trailer, and any other has it once.
func TestTrailersOnlyOfTheAuthenticator(t *testing.T) {
	d := &doorman{nobody: true, choose: func(r *AuthRequest) {
		r.EditHeader = func(md metadata.MD) {
			md.Append("x-added", "1")
			md.Set("x-culvert-subject", "root")
		}
	}}
	for name, row := range map[string]struct {
		header          metadata.MD
		inHeader, ofEnd int
	}{"trailers-only": {nil, 0, 1}, "a header": {metadata.Pairs("x-kept", "1"), 1, 0}} {
		backend := startBackend(t, func(ss grpc.ServerStream) error {
			if row.header != nil {
				if err := ss.SendHeader(row.header); err != nil {
					return err
				}
			}
			return status.Error(codes.NotFound, "nothing")
		})
		var header, trailer metadata.MD
		conn := dial(t, serve(t, newServer(t, Config{Backend: Backend{Target: backend}, Authenticator: d})))
		err := unary(within(t, patience), conn, testMethod, grpc.Header(&header), grpc.Trailer(&trailer))
		if status.Code(err) != codes.NotFound || len(header["x-added"]) != row.inHeader || len(trailer["x-added"]) != row.ofEnd || len(trailer["x-culvert-subject"]) > 0 {
			t.Errorf("%s: the client gets %v, %v, %v", name, header, trailer, err)
		}
	}
}

// A refuser names whom it refuses.
type refuser struct{ err error }

func (a refuser) Authenticate(_ context.Context, r *AuthRequest) (*Identity, error) {
	r.Rule, r.Refused = "no guests", &Identity{Name: "guest", Issuer: "home"}
	return nil, a.err
}

// TestRefusedIdentity is in the log with the rule, and not at the client. An Authenticator that is
// tried out lets the call pass, but for errors that aren't about its caller.
func TestRefusedIdentity(t *testing.T) {
	for _, c := range []struct {
		err     error
		try     bool
		code    codes.Code
		refused report.Reason // that is only reported
	}{
		{status.Error(codes.PermissionDenied, "not you"), false, codes.PermissionDenied, ""},
		{status.Error(codes.PermissionDenied, "not you"), true, codes.OK, report.ReasonPermissionDenied},
		{errors.New("no"), true, codes.OK, report.ReasonUnauthenticated},
		{status.Error(codes.Unavailable, "nobody knows"), true, codes.OK, report.ReasonAuthUnavailable},
		{report.OverLimit(report.KeyCalls, 0, "too many"), true, codes.ResourceExhausted, ""},
		{report.OverLimit(report.KeyAuthRateLimit, 0, "too many"), true, codes.OK, report.ReasonLimitExceeded},
		{report.New(report.ReasonInternal, "broken"), true, codes.Internal, ""},
	} {
		obs := newObserver()
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: obs, Authenticator: refuser{c.err}, TryAuthenticator: c.try})
		err := unary(within(t, patience), dial(t, serve(t, s)), testMethod)
		info := await(t, "the end", obs.ended)
		if status.Code(err) != c.code || info.Identity != "guest" || info.Rule != "no guests" {
			t.Errorf("%v, tried %v: %v for %q by %q, want %v for guest", c.err, c.try, err, info.Identity, info.Rule, c.code)
		}
		if err != nil && strings.Contains(err.Error(), "guest") {
			t.Errorf("the client learns of the identity or the rule: %v", err)
		}
		if c.refused == "" {
			continue
		}
		if r := await(t, "the refusal", obs.refused); r.Reason != c.refused || !r.ReportOnly {
			t.Errorf("%v: the Observer is told of %+v, want %s that is only reported", c.err, r, c.refused)
		}
	}
}

// TestRefusalOverHTTP: a Connect stream says the code in its last frame, since its clients take HTTP's 429
// for UNAVAILABLE. The header of a refusal doesn't change culvert's own.
func TestRefusalOverHTTP(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	f := report.New(report.ReasonLimitExceeded, "too many")
	f.Key, f.HTTP, f.Retry = report.KeyAuthRateLimit, http.StatusTooManyRequests, time.Second
	f.Header = []string{"cache-control", "public", "x-content-type-options", "none", "x-limit", "1"}
	address := serveJSON(t, FramingNDJSON, "Pure", echo, func(c *Config, _ *MessageRoute) { c.Authenticator = refuser{f} })
	for _, c := range []struct{ method, path, contentType, body, limit, want string }{
		{http.MethodPost, "/test.Service/Pure", "application/connect+proto", "\x00\x00\x00\x00\x00", "", "200 \x02"},
		{http.MethodPost, "/test.Service/Pure", "application/proto", "", "1", "429 {"},
		{http.MethodGet, "/ws/chat", "", "", "1", "429 {"},
	} {
		res, body := request(t, c.method, "http://"+address+c.path, c.body, "Content-Type", c.contentType)
		got := strconv.Itoa(res.StatusCode) + " " + body
		if !strings.HasPrefix(got, c.want) || !strings.Contains(got, "resource_exhausted") && !strings.Contains(got, "RESOURCE_EXHAUSTED") || !strings.Contains(got, "too many") {
			t.Errorf("%s %s: answered %q, want %q, the code and the text", c.path, c.contentType, got, c.want)
		}
		if h := res.Header; !strings.HasPrefix(h.Get("Cache-Control"), "no-store") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Limit") != c.limit {
			t.Errorf("%s %s: the header is %v", c.path, c.contentType, h)
		}
	}
}

// TestThousandExpiries in one second end within about a second, and other calls go on meanwhile.
func TestThousandExpiries(t *testing.T) {
	const calls = 1000
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}, Observer: obs, Authenticator: &doorman{}, Limits: Limits{CallsPerConnection: calls + 10, Address: Quota{Calls: -1, CallsPerSecond: -1}}})
	address := serve(t, s)
	at := time.Now().Add(3 * time.Second)
	token := fmt.Sprintf("Bearer crowd@home#%d", at.UnixMilli())
	native, tunnel := dial(t, address), dialTunnel(t, address, http.Header{"Authorization": {token}})
	var streams []grpc.ClientStream
	ctx := within(t, patience)
	for i := range calls {
		if i%2 == 0 {
			streams = append(streams, open(metadata.AppendToOutgoingContext(ctx, "authorization", token), t, native, testMethod))
		} else {
			streams = append(streams, open(ctx, t, tunnel, testMethod))
		}
	}
	other := open(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer alice@home"), t, native, testMethod)
	var ends sync.WaitGroup
	var mu sync.Mutex
	reasons := make(map[report.Reason]int)
	for _, stream := range streams {
		ends.Go(func() {
			reason := reasonFor(stream.RecvMsg(new([]byte)))
			mu.Lock()
			defer mu.Unlock()
			reasons[reason]++
		})
	}
	ends.Wait()
	took := time.Since(at)
	if early := reasons[report.ReasonUnauthenticated]; reasons[report.ReasonTokenExpired]+early != calls || early == calls {
		t.Errorf("the calls ended with %v, want %s", reasons, report.ReasonTokenExpired)
	}
	t.Logf("the last of %d calls ended %v after the expiry", calls, took)
	if err := other.SendMsg([]byte("still here")); err != nil {
		t.Errorf("another call: %v", err)
	}
	if n := s.RunningCalls(); n != 1 {
		poll(t, func() string {
			if n := s.RunningCalls(); n != 1 {
				return fmt.Sprintf("%d calls are running, want 1", n)
			}
			return ""
		})
	}
}

// TestTriedOutEndsNoCall: the credential of a call expires without its end while the Authenticator
// is only tried out.
func TestTriedOutEndsNoCall(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Authenticator: &doorman{}, TryAuthenticator: true})
	address := serve(t, s)
	first, second := expiring("alice@home", time.Second), expiring("alice@home", 2*time.Second)
	own := open(metadata.AppendToOutgoingContext(within(t, patience), "authorization", "Bearer "+first), t, dial(t, address), testMethod)
	cc := dialTunnel(t, address, bearer(first))
	ofTunnel := open(within(t, patience), t, cc, testMethod)
	inTunnel := open(metadata.AppendToOutgoingContext(within(t, patience), "authorization", "Bearer "+first), t, cc, testMethod)
	echoes(t, own, "the call with its own token")
	echoes(t, ofTunnel, "the call of the tunnel")
	echoes(t, inTunnel, "the call with its own token in the tunnel")
	if code, reason := refreshes(t, cc, second); code != codes.OK {
		t.Fatalf("a refresh: %v %s", code, reason)
	}
	// The end of a call on another server tells that the registries have looked.
	enforcing := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Authenticator: &doorman{}})
	late := "Bearer " + expiring("alice@home", 3500*time.Millisecond)
	other := open(metadata.AppendToOutgoingContext(within(t, patience), "authorization", late), t, dial(t, serve(t, enforcing)), testMethod)
	if reason := ended(t, other); reason != report.ReasonTokenExpired {
		t.Fatalf("the other call ended with %s, want %s", reason, report.ReasonTokenExpired)
	}
	echoes(t, own, "the call with its own token, which has expired,")
	echoes(t, ofTunnel, "the call of the tunnel, whose token has expired,")
	echoes(t, inTunnel, "the call with its own token in the tunnel, which has expired,")
}

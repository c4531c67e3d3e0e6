package bridge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A doorman is a ConnAuthenticator whose tokens are "NAME@ISSUER", and "NAME@ISSUER#TIME" for
// those that expire. It takes them from authorization, from the cookie "token" and from a
// subprotocol. Its own error tells a token that is none.
type doorman struct {
	conns   atomic.Int64          // questions about connections
	calls   chan AuthRequest      // asked about, unless it is nil
	hold    func(context.Context) // runs in each question about a connection; nil: nothing does
	until   time.Time             // of what it finds of connections
	fails   atomic.Bool           // questions about connections
	nobody  bool                  // calls without a credential pass
	choose  func(r *AuthRequest)  // what to say of a call that passes; nil: nothing
	retired chan struct{}         // told once it is retired; nil: nobody is
}

var errNoToken = errors.New("no credential")

func (*doorman) judge(token string) (*Identity, error) {
	token, expires, expiring := strings.Cut(token, "#")
	name, issuer, ok := strings.Cut(token, "@")
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "that is no token")
	}
	id := &Identity{Name: name, Issuer: issuer}
	if expiring {
		ms, _ := strconv.ParseInt(expires, 10, 64) // a test's own
		id.Expires = time.UnixMilli(ms)
	}
	return id, nil
}

func (d *doorman) find(c *Credentials) (*Identity, error) {
	if len(c.Authorization) > 0 {
		return d.judge(strings.TrimPrefix(c.Authorization[0], "Bearer "))
	}
	for _, line := range c.Cookie {
		if token, ok := strings.CutPrefix(line, "token="); ok {
			return d.judge(token)
		}
	}
	if c.Bearer != "" {
		return d.judge(c.Bearer)
	}
	return nil, errNoToken
}

func (d *doorman) AuthenticateConn(ctx context.Context, r *ConnRequest) (*ConnIdentity, error) {
	d.conns.Add(1)
	if d.hold != nil {
		d.hold(ctx)
	}
	if d.fails.Load() {
		return nil, status.Error(codes.Unavailable, "nobody knows")
	}
	id, err := d.find(&r.Credentials)
	if err != nil {
		return &ConnIdentity{Value: err, Until: d.until}, nil //nolint:nilerr // a connection that proves nothing
	}
	return &ConnIdentity{Identity: id, Until: d.until}, nil
}

func (d *doorman) Authenticate(_ context.Context, r *AuthRequest) (*Identity, error) {
	if d.calls != nil {
		asked := *r
		asked.Metadata = r.Metadata.Copy()
		d.calls <- asked
	}
	id, err := d.find(&r.Own)
	if errors.Is(err, errNoToken) && r.Conn != nil {
		id, err = r.Conn.Identity, nil
		if id == nil {
			err, _ = r.Conn.Value.(error)
		}
	}
	switch {
	case errors.Is(err, errNoToken) && d.nobody:
		err = nil
	case errors.Is(err, errNoToken):
		return nil, status.Error(codes.Unauthenticated, "send a token")
	}
	if err == nil && id != nil {
		r.Set("x-culvert-subject", id.Name)
	}
	if err == nil && d.choose != nil {
		d.choose(r)
	}
	return id, err
}

func (d *doorman) Retire() {
	if d.retired != nil {
		close(d.retired)
	}
}

// startTelling starts a backend that answers with the values of metadata.
func startTelling(t testing.TB, names ...string) Backend {
	t.Helper()
	return Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		for ss.RecvMsg(new([]byte)) == nil {
		}
		var told []string
		for _, name := range names {
			told = append(told, strings.Join(md[name], "+"))
		}
		return ss.SendMsg([]byte(strings.Join(told, " ")))
	})}
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func expiring(name string, in time.Duration) string {
	return fmt.Sprintf("%s#%d", name, time.Now().Add(in).UnixMilli())
}

// TestConnectionIsAskedAboutOnce, whatever number of calls it carries at once.
func TestConnectionIsAskedAboutOnce(t *testing.T) {
	d := &doorman{}
	s := newServer(t, Config{Backend: startTelling(t, "x-culvert-subject"), Authenticator: d})
	cc := dialTunnel(t, serve(t, s), bearer("alice@home"))
	var calling sync.WaitGroup
	for range 50 {
		calling.Go(func() {
			if got := asks(within(t, patience), cc, testMethod); got != "alice" {
				t.Errorf("the backend is called by %q, want alice", got)
			}
		})
	}
	calling.Wait()
	if n := d.conns.Load(); n != 1 {
		t.Errorf("it was asked about the connection %d times, want once", n)
	}
	if got := asks(within(t, patience), cc, testMethod, "authorization", "Bearer bob@work"); got != "bob" {
		t.Errorf("a call with a token of its own is %q's, want bob's", got)
	}
	if got := asks(within(t, patience), cc, testMethod, "authorization", "Bearer junk"); got != "Unauthenticated that is no token (send valid credentials; the message says what is wrong with them)" {
		t.Errorf("a call with an invalid token of its own: %q, want it refused", got)
	}
}

// TestFirstCallThatEnds while it asks about the connection leaves the question to the next one.
func TestFirstCallThatEnds(t *testing.T) {
	asked := make(chan struct{}, 2)
	var first atomic.Bool
	d := &doorman{}
	d.hold = func(ctx context.Context) {
		asked <- struct{}{}
		if first.CompareAndSwap(false, true) {
			<-ctx.Done()
		}
	}
	s := newServer(t, Config{Backend: startTelling(t, "x-culvert-subject"), Authenticator: d})
	cc := dialTunnel(t, serve(t, s), bearer("alice@home"))
	ctx, cancel := context.WithCancel(within(t, patience))
	var calling sync.WaitGroup
	calling.Go(func() { _ = asks(ctx, cc, testMethod) })
	await(t, "the first question", asked)
	calling.Go(func() {
		if got := asks(within(t, patience), cc, testMethod); got != "alice" {
			t.Errorf("the call behind one that ended: %q, want alice", got)
		}
	})
	cancel()
	calling.Wait()
}

// TestConnectionIsAskedAboutAgain after an error, after Until, and for another Authenticator.
func TestConnectionIsAskedAboutAgain(t *testing.T) {
	d := &doorman{retired: make(chan struct{})}
	d.fails.Store(true)
	cfg := Config{Backend: startTelling(t, "x-culvert-subject"), Authenticator: d}
	s := newServer(t, cfg)
	cc := dialTunnel(t, serve(t, s), bearer("alice@home"))
	ask := func(what, want string, by *doorman, questions int64) {
		t.Helper()
		if got := asks(within(t, patience), cc, testMethod); !strings.HasPrefix(got, want) || by.conns.Load() != questions {
			t.Errorf("%s: %q after %d questions, want %q after %d", what, got, by.conns.Load(), want, questions)
		}
	}
	ask("nobody knows", "Unavailable nobody knows", d, 1)
	ask("nobody knows", "Unavailable nobody knows", d, 2)
	d.fails.Store(false)
	ask("after errors", "alice", d, 3)
	ask("after an answer", "alice", d, 3)
	apply(t, s, cfg)
	ask("after Apply with the same one", "alice", d, 3)

	another := &doorman{until: time.Now().Add(-time.Second)}
	cfg.Authenticator = another
	apply(t, s, cfg)
	await(t, "the retirement", d.retired)
	ask("after Apply", "alice", another, 1)
	ask("after Until", "alice", another, 2)
	if d.conns.Load() != 3 {
		t.Error("the one that Apply has replaced was asked")
	}
	cfg.Authenticator = nil
	apply(t, s, cfg)
	ask("without one", "", another, 2)
}

// TestTunnelOpenedBeforeTheAuthenticator: its request's credentials count for the Authenticator
// that comes later.
func TestTunnelOpenedBeforeTheAuthenticator(t *testing.T) {
	cfg := Config{Backend: startTelling(t, "x-culvert-subject")}
	s := newServer(t, cfg)
	cc := dialTunnel(t, serve(t, s), bearer("alice@home"))
	if got := asks(within(t, patience), cc, testMethod); got != "" {
		t.Errorf("without an Authenticator the call is %q's", got)
	}
	d := &doorman{calls: make(chan AuthRequest, 10)}
	cfg.Authenticator = d
	apply(t, s, cfg)
	for range 3 {
		if got := asks(within(t, patience), cc, testMethod); got != "alice" {
			t.Errorf("the call is %q's, want alice's", got)
		}
		if r := await(t, "the question", d.calls); r.Own.Authorization != nil || r.Conn == nil {
			t.Errorf("its own are %q, and %v the connection's", r.Own.Authorization, r.Conn)
		}
	}
	if n := d.conns.Load(); n != 1 {
		t.Errorf("it was asked about the connection %d times, want once", n)
	}
}

// TestRetirement comes once, when no call can ask any more.
func TestRetirement(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	var held atomic.Bool
	d := &doorman{retired: make(chan struct{})} // closed twice, it would panic
	d.choose = func(*AuthRequest) {
		if held.CompareAndSwap(false, true) {
			close(asked)
			<-answer
		}
	}
	cfg := Config{Backend: startTelling(t, "x-culvert-subject"), Authenticator: d}
	s := newServer(t, cfg)
	cc := dial(t, serve(t, s))
	var calling sync.WaitGroup
	calling.Go(func() {
		if got := asks(within(t, patience), cc, testMethod, "authorization", "alice@home"); got != "alice" {
			t.Errorf("the call that was asking: %q", got)
		}
	})
	await(t, "the question", asked)
	cfg.Authenticator = nil
	apply(t, s, cfg)
	apply(t, s, cfg)
	select {
	case <-d.retired:
		t.Error("it is retired while it is asked")
	default:
	}
	close(answer)
	calling.Wait()
	await(t, "the retirement", d.retired)
}

// TestCookiesOfARoute count for the calls of a route that lets the page send them, and for no
// other one of the same tunnel.
func TestCookiesOfARoute(t *testing.T) {
	d := &doorman{calls: make(chan AuthRequest, 10)}
	s := newServer(t, Config{
		Backend: startTelling(t, "x-culvert-subject"), Authenticator: d, AuthCookies: true,
		Routes: []Route{
			{Name: "own", Match: report.Match{Methods: []string{"own.v1.*/*"}}, Backend: DefaultBackend, AllowOrigins: []string{"https://app.example"}},
			{Name: "any", Backend: DefaultBackend, AllowOrigins: []string{"https://*.example", "~https://app.example"}},
		},
	})
	cc := dialTunnel(t, serve(t, s), http.Header{"Origin": {"https://app.example"}, "Cookie": {"token=alice@home"}})
	for range 2 {
		if got := asks(within(t, patience), cc, "/own.v1.A/B"); got != "alice" {
			t.Errorf("where the page may send cookies: %q, want alice", got)
		}
		if got := asks(within(t, patience), cc, "/any.v1.A/B"); !strings.HasPrefix(got, "Unauthenticated send a token") {
			t.Errorf("where it may not: %q, want it refused", got)
		}
	}
	if n := d.conns.Load(); n != 2 {
		t.Errorf("it was asked about the connection %d times, want once with cookies and once without", n)
	}
	for range 4 {
		if r := <-d.calls; len(r.Metadata["cookie"]) > 0 {
			t.Errorf("the backend gets the cookies %q", r.Metadata["cookie"])
		}
	}
}

// TestCookiesForTheAuthenticator are taken only if the configuration says so, and need an origin.
func TestCookiesForTheAuthenticator(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		origin string
		want   string // beginning of the answer
	}{
		"not asked for":             {func(*Config) {}, "https://app.example", "Unauthenticated"},
		"asked for":                 {func(c *Config) { c.AuthCookies = true }, "https://app.example", "alice"},
		"for the backend":           {func(c *Config) { c.ForwardCookies = true }, "https://app.example", "alice"},
		"of a pattern's page":       {func(c *Config) { c.AuthCookies = true }, "https://other.example", "Unauthenticated"},
		"of no page":                {func(c *Config) { c.AuthCookies = true }, "", "403 auth.cookie"},
		"of no page, not asked for": {func(*Config) {}, "", "Unauthenticated"},
	} {
		obs := newObserver()
		cfg := Config{Backend: startTelling(t, "x-culvert-subject"), Authenticator: &doorman{}, Observer: obs, AllowOrigins: []string{"https://app.example", "https://*.example"}}
		c.change(&cfg)
		header := http.Header{"Cookie": {"token=alice@home"}}
		if c.origin != "" {
			header.Set("Origin", c.origin)
		}
		address := serve(t, newServer(t, cfg))
		for carrier, ask := range map[string]func() string{
			"native": func() string {
				return asks(metadata.NewOutgoingContext(within(t, patience), lowered(header)), dial(t, address), testMethod)
			},
			"grpc-websockets": func() string { return asksBySocket(t, address, testMethod, header, "a: b\r\n") },
		} {
			got := ask()
			if strings.HasSuffix(got, "but got 403") || strings.HasPrefix(got, "PermissionDenied") {
				got = "403 " + await(t, "the refusal", obs.refused).Key
			}
			if got = shown(got); !strings.HasPrefix(got, c.want) {
				t.Errorf("%s, %s: %q, want %q", name, carrier, got, c.want)
			}
		}
	}
}

// lowered returns a header as metadata.
func lowered(h http.Header) metadata.MD {
	md := metadata.MD{}
	for name, values := range h {
		md.Append(strings.ToLower(name), values...)
	}
	return md
}

// shown returns the reply in an answer of grpc-websockets or gRPC-Web, or the code of its status
// if that isn't OK.
func shown(answer string) string {
	if _, code, ok := strings.Cut(answer, "grpc-status: "); ok {
		if code, _, _ = strings.Cut(code, "\r"); code != "0" {
			n, _ := strconv.Atoi(code) // culvert's own
			return codes.Code(n).String()
		}
		_, reply, _ := strings.Cut(answer, "\x00\x00\x00\x00")
		reply, _, _ = strings.Cut(reply[1:], "\x80")
		return reply
	}
	return answer
}

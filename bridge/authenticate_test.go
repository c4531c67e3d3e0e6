package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// An authenticator is an Authenticator that is one function.
type authenticator func(ctx context.Context, method string, p Peer, md metadata.MD) (*Identity, error)

// Authenticate implements Authenticator. The function may change the metadata.
func (a authenticator) Authenticate(ctx context.Context, r *AuthRequest) (*Identity, error) {
	md := r.Metadata.Copy()
	id, err := a(ctx, r.Method, r.Peer, md)
	for name := range r.Metadata {
		if _, stays := md[name]; !stays {
			r.Delete(name)
		}
	}
	for name, values := range md {
		if !slices.Equal(values, r.Metadata[name]) {
			r.Set(name, values...)
		}
	}
	return id, err
}

// byToken knows the clients whose bearer token is "token-" and a name. It gives
// the backend the name in place of the token.
func byToken(_ context.Context, method string, p Peer, md metadata.MD) (*Identity, error) {
	name, ok := strings.CutPrefix(strings.Join(md["authorization"], ","), "Bearer token-")
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "want a bearer token")
	}
	if name == "mallory" {
		return nil, status.Errorf(codes.PermissionDenied, "%s may not call %s by %s", name, method, p.Transport)
	}
	delete(md, "authorization")
	md["x-user"] = []string{name}
	return &Identity{Name: name}, nil
}

// TestAuthenticatorSaysWhoCalls over each client protocol. The Observer gets the
// name. The backend gets the metadata as the Authenticator leaves it.
func TestAuthenticatorSaysWhoCalls(t *testing.T) {
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		return status.Errorf(codes.DataLoss, "user %q, token %q", md["x-user"], md["authorization"])
	})
	obs := newObserver()
	address := serve(t, newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, Authenticator: authenticator(byToken)}))
	inFirstMessage := "grpc-websockets, its first message"
	calls := maps.Clone(callers)
	delete(calls, "h2ts+grpc") // its calls have a header of their own
	calls[inFirstMessage] = func(t *testing.T, w way, address string, header http.Header) {
		ctx := within(t, patience)
		ws := w.socket(ctx, t, address, "grpc-websockets", nil)
		for _, m := range []string{"authorization: " + header.Get("Authorization") + "\r\n", "\x01"} {
			if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		for {
			if _, _, err := ws.Read(ctx); err != nil { // at the end the close is answered
				return
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(calls)) {
		for user, want := range map[string]struct {
			identity string
			origin   string
			code     codes.Code
			reason   report.Reason
			text     string
		}{
			"Bearer token-alice":   {"alice", report.OriginUpstream, codes.DataLoss, "", `user ["alice"], token []`},
			"Bearer token-mallory": {"", report.OriginCulvert, codes.PermissionDenied, report.ReasonPermissionDenied, "mallory may not call " + testMethod + " by " + strings.TrimSuffix(name, ", its first message")},
			"Basic YTpi":           {"", report.OriginCulvert, codes.Unauthenticated, report.ReasonUnauthenticated, "want a bearer token"},
		} {
			calls[name](t, way{}, address, http.Header{"Authorization": {user}})
			info := await(t, "the end of a call by "+name, obs.ended)
			if info.Identity != want.identity || info.Origin != want.origin || info.Code != want.code || info.Reason != want.reason || !strings.HasPrefix(info.Status.Message(), want.text) {
				t.Errorf("%s, %s: the call by %q ended with %v of %s (%s), want %q, %v of %s (%s) and %q",
					name, user, info.Identity, info.Status, info.Origin, info.Reason, want.identity, want.code, want.origin, want.reason, want.text)
			}
		}
	}
}

// TestRefusalsOfAnAuthenticator: the client gets code and message of a status,
// with culvert's domain and a reason, and nothing of any other error. The backend
// never sees the call.
func TestRefusalsOfAnAuthenticator(t *testing.T) {
	const unsaid = "authenticated" // in a text of culvert's own
	detailed, err := status.New(codes.Unauthenticated, "expired").WithDetails(&errdetails.ErrorInfo{Reason: "ITS_OWN", Domain: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		err    error
		code   codes.Code
		reason report.Reason
		text   string
		sent   string
	}{
		"a status":                   {status.Error(codes.Unauthenticated, "expired"), codes.Unauthenticated, report.ReasonUnauthenticated, "expired", ""},
		"a status with details":      {detailed.Err(), codes.Unauthenticated, report.ReasonUnauthenticated, "expired", ""},
		"a wrapped status":           {fmt.Errorf("secret: %w", status.Error(codes.PermissionDenied, "not you")), codes.PermissionDenied, report.ReasonPermissionDenied, "not you", ""},
		"a status of a key server":   {status.Error(codes.Unavailable, "the key server is away"), codes.Unavailable, report.ReasonAuthUnavailable, "the key server is away", "no"},
		"a status without a message": {status.Error(codes.PermissionDenied, ""), codes.PermissionDenied, report.ReasonPermissionDenied, unsaid, ""},
		"a status that is OK":        {okError{}, codes.Unauthenticated, report.ReasonUnauthenticated, unsaid, ""},
		"any error":                  {errors.New("dial 10.0.0.7:443: secret"), codes.Unauthenticated, report.ReasonUnauthenticated, unsaid, ""},
		"a context's error":          {context.DeadlineExceeded, codes.Unauthenticated, report.ReasonUnauthenticated, unsaid, ""},
	} {
		obs := newObserver()
		backend := startBackend(t, func(grpc.ServerStream) error {
			t.Errorf("%s: the call reached the backend", name)
			return nil
		})
		s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, Authenticator: authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) {
			return &Identity{Name: "nobody"}, c.err
		})})
		st := status.Convert(unary(within(t, patience), dial(t, serve(t, s)), testMethod))
		info := errorInfo(t, st)
		if said, _, _ := strings.Cut(st.Message(), " ("); st.Code() != c.code || said != c.text && (c.text != unsaid || !strings.Contains(said, unsaid)) || strings.Contains(st.Message(), "secret") {
			t.Errorf("%s: the client got %v, want %v and %q", name, st, c.code, c.text)
		}
		if info.GetReason() != string(c.reason) || info.GetDomain() != report.ErrorDomain || info.GetMetadata()["sent"] != c.sent {
			t.Errorf("%s: the status has %v, want %s of %s, sent=%s", name, info, c.reason, report.ErrorDomain, c.sent)
		}
		if end := await(t, "the call's end", obs.ended); end.Origin != report.OriginCulvert || end.Cause != c.err.Error() || end.Identity != "" {
			t.Errorf("%s: the Observer is told of %s, %q, %q, want the error", name, end.Origin, end.Cause, end.Identity)
		}
	}
}

// An okError is an error whose status is none.
type okError struct{}

func (okError) Error() string              { return "no error" }
func (okError) GRPCStatus() *status.Status { return nil }

// TestAuthenticatorEndsWithTheCall: what ends the call ends the Authenticator's
// context, and is what the client gets, whatever the Authenticator returns.
func TestAuthenticatorEndsWithTheCall(t *testing.T) {
	for name, c := range map[string]struct {
		timeout time.Duration
		end     func(s *Server, gone func())
		want    report.Reason
	}{
		"its deadline":         {time.Second, func(*Server, func()) {}, report.ReasonDeadlineExceeded},
		"a client that leaves": {0, func(_ *Server, gone func()) { gone() }, report.ReasonClientGone},
		"a shutdown":           {0, func(s *Server, _ func()) { s.registry.cancelAll(errDraining) }, report.ReasonDraining},
	} {
		for returns, err := range map[string]error{"nothing": nil, "an error": status.Error(codes.PermissionDenied, "too late")} {
			synctest.Test(t, func(t *testing.T) {
				obs := newObserver()
				asked := make(chan struct{})
				s := newServer(t, Config{Backend: nowhere, Observer: obs, Authenticator: authenticator(func(ctx context.Context, _ string, _ Peer, _ metadata.MD) (*Identity, error) {
					close(asked)
					<-ctx.Done()
					return &Identity{Name: "late"}, err
				})})
				d := newChannelDown(t)
				call := newCallOf(s)
				call.Timeout = c.timeout
				client, gone := context.WithCancel(t.Context())
				defer gone()
				handled := make(chan struct{})
				go func() { // ends with the call, which the test waits for
					defer close(handled)
					call.handle(client, d, nil, nil)
				}()
				<-asked
				c.end(s, gone)
				<-handled
				if info := <-obs.ended; info.Reason != c.want || info.Identity != "" {
					t.Errorf("%s, the Authenticator returns %s: the call of %q ended with %s, want %s", name, returns, info.Identity, info.Reason, c.want)
				}
			})
		}
	}
}

// TestMetadataOfAnAuthenticator: what it may not set ends the call here. The backend
// never sees the call, and the client learns nothing of it.
func TestMetadataOfAnAuthenticator(t *testing.T) {
	large := strings.Repeat("x", 40<<10)
	for name, c := range map[string]struct {
		sent   string // by the client, of x-large
		set    metadata.MD
		reason report.Reason // empty: the call passes
		cause  string
	}{
		"a name":                          {"", metadata.Pairs("x-user", "alice", "x-user", "bob", "x-auth-request-user", "alice", "x-a-bin", "\x00\xff"), "", ""},
		"a name of a connection":          {"", metadata.Pairs("connection", "close"), report.ReasonInternal, `"connection"`},
		"a name of gRPC":                  {"", metadata.Pairs("grpc-accept-encoding", "br"), report.ReasonInternal, `"grpc-accept-encoding"`},
		"a pseudo-header":                 {"", metadata.MD{":path": {"/"}}, report.ReasonInternal, `":path"`},
		"a name in upper case":            {"", metadata.MD{"X-User": {"alice"}}, report.ReasonInternal, `"X-User"`},
		"a name that is none":             {"", metadata.MD{"x user": {"alice"}}, report.ReasonInternal, `"x user"`},
		"a value with a line end":         {"", metadata.Pairs("x-user", "alice\r\nx-admin: 1"), report.ReasonInternal, `"x-user"`},
		"a value in UTF-8":                {"", metadata.Pairs("x-user", "zoë"), report.ReasonInternal, `"x-user"`},
		"too much":                        {"", metadata.Pairs("x-a", large, "x-b", large), report.ReasonMetadataTooLarge, ""},
		"too much for a client's":         {large, metadata.Pairs("x-a", large), report.ReasonMetadataTooLarge, ""},
		"as much, in place of a client's": {large, metadata.Pairs("x-large", large), "", ""},
	} {
		obs, called := newObserver(), make(chan metadata.MD, 1)
		backend := startBackend(t, func(ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			called <- md
			return echo(ss)
		})
		s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, Authenticator: authenticator(func(_ context.Context, _ string, _ Peer, md metadata.MD) (*Identity, error) {
			maps.Copy(md, c.set)
			return &Identity{Name: "alice"}, nil
		})})
		err := unary(metadata.AppendToOutgoingContext(within(t, patience), "x-large", c.sent), dial(t, serve(t, s)), testMethod)
		info := await(t, name+": the call's end", obs.ended)
		if reasonFor(err) != c.reason || info.Reason != c.reason || !strings.Contains(info.Cause, c.cause) || strings.Contains(fmt.Sprint(err), "x-user") {
			t.Errorf("%s: the client got %v; the Observer %s because of %q; want %q and %s", name, err, info.Reason, info.Cause, c.reason, c.cause)
		}
		select {
		case md := <-called:
			if c.reason != "" {
				t.Errorf("%s: the call reached the backend", name)
			}
			for key, want := range c.set {
				if !slices.Equal(md[key], want) {
					t.Errorf("%s: the backend got %s: %.40q, want %.40q", name, key, md[key], want)
				}
			}
		default:
			if c.reason == "" {
				t.Errorf("%s: the call didn't reach the backend", name)
			}
		}
	}
}

// TestAuthenticatorOfASocketsClient that closes: the close frame ends the context,
// behind a message and the half-close, too.
func TestAuthenticatorOfASocketsClient(t *testing.T) {
	message := "\x00\x00\x00\x00\x00\x05hello"
	for name, sent := range map[string][]string{
		"with nothing sent":              nil,
		"behind a message":               {message},
		"behind its request":             {message, "\x01"},
		"behind a request of no message": {"\x01"},
	} {
		obs, asked := newObserver(), make(chan struct{})
		s := newServer(t, Config{Backend: nowhere, Observer: obs, Authenticator: authenticator(func(ctx context.Context, _ string, _ Peer, _ metadata.MD) (*Identity, error) {
			close(asked)
			<-ctx.Done()
			return nil, nil
		})})
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", serve(t, s))
		if err != nil {
			t.Fatal(err)
		}
		c := wstest.Open(t, conn, testMethod, "grpc-websockets")
		c.Send(t, wstest.Binary, []byte("x-a: b\r\n"))
		await(t, "the question", asked)
		for _, m := range sent {
			c.Send(t, wstest.Binary, []byte(m))
		}
		c.Send(t, wstest.Close, []byte{3, 232}) // and the client keeps its socket open
		if info := await(t, name+": the call's end", obs.ended); info.Reason != report.ReasonClientGone {
			t.Errorf("%s: the call ended with %s (%s), want %s", name, info.Reason, info.Cause, report.ReasonClientGone)
		}
		c.WantClose(t, websocket.StatusNormalClosure)
	}
}

// TestMessagesReadEarly reach the backend in order, once it is known who calls, and
// none of a call that is refused is kept.
func TestMessagesReadEarly(t *testing.T) {
	for _, messages := range []int{0, 1, 2, 3, 10} {
		for _, late := range []bool{false, true} { // the answer comes when all is sent
			for _, refusal := range []error{nil, status.Error(codes.PermissionDenied, "not you")} {
				name := fmt.Sprintf("%d messages, late: %v, refusal: %v", messages, late, refusal)
				obs, sent := newObserver(), make(chan struct{})
				came := make(chan string, messages)
				backend := startBackend(t, func(ss grpc.ServerStream) error {
					var m []byte
					for ss.RecvMsg(&m) == nil {
						came <- string(m[:1])
					}
					close(came)
					return nil
				})
				s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs, Authenticator: authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) {
					if late {
						<-sent
					}
					return nil, refusal
				})})
				pool := &parts.CountingPool{BufferPool: s.account.Pool}
				s.account.Pool = pool
				conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", serve(t, s))
				if err != nil {
					t.Fatal(err)
				}
				c := wstest.Open(t, conn, testMethod, "grpc-websockets")
				c.Send(t, wstest.Binary, nil)
				const size = 8 << 10
				for i := range messages {
					m := append([]byte{0, 0, 0, 0, size >> 8, 0}, make([]byte, size)...)
					m[6] = '0' + byte(i)
					c.Send(t, wstest.Binary, m)
				}
				c.Send(t, wstest.Binary, []byte{1})
				close(sent)
				c.WantClose(t, websocket.StatusNormalClosure)
				c.Send(t, wstest.Close, []byte{3, 232})
				info := await(t, name+": the call's end", obs.ended)
				if refusal != nil {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
					if n := pool.Out.Load(); n != 0 {
						t.Errorf("%s: %d buffers are kept, want 0", name, n)
					}
				}
				if want := status.Code(refusal); info.Code != want {
					t.Errorf("%s: the call ended with %v (%s), want %v", name, info.Code, info.Cause, want)
				}
				if refusal != nil {
					continue
				}
				got := ""
				for m := range came {
					got += m
				}
				if want := "0123456789"[:messages]; got != want {
					t.Errorf("%s: the backend got %q, want %q", name, got, want)
				}
			}
		}
	}
}

// TestAuthenticatorThatPanics costs its own call: the client learns nothing of
// the panic, the log does, and the next call passes.
func TestAuthenticatorThatPanics(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: obs, Authenticator: authenticator(func(_ context.Context, _ string, _ Peer, md metadata.MD) (*Identity, error) {
		if len(md["x-panic"]) > 0 {
			panic("out of tokens")
		}
		return nil, nil
	})})
	cc := dial(t, serve(t, s))
	st := status.Convert(unary(metadata.AppendToOutgoingContext(within(t, patience), "x-panic", "1"), cc, testMethod))
	if info := errorInfo(t, st); info.GetReason() != string(report.ReasonInternal) || strings.Contains(st.Message(), "tokens") {
		t.Errorf("the client got %v, want INTERNAL and nothing of the panic", st)
	}
	if end := await(t, "the call's end", obs.ended); !strings.Contains(end.Cause, "out of tokens") {
		t.Errorf("the cause is %q, want the panic", end.Cause)
	}
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

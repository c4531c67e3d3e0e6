package call

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// startEdge serves health behind a culvert with TLS.
func startEdge(t testing.TB, options ...grpc.ServerOption) Config {
	t.Helper()
	return startBridge(t, bridge.Config{Backend: bridge.Backend{Target: startService(t, options...)}})
}

func startBridge(t testing.TB, config bridge.Config, changes ...func(*http.Server)) Config {
	t.Helper()
	b, err := bridge.New(config)
	if err != nil {
		t.Fatal(err)
	}
	a := parts.NewAuthority(t)
	ln := parts.Listen(t, "127.0.0.1:0")
	server := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{a.Server(t, "edge.test")}, MinVersion: tls.VersionTLS12}}
	b.ConfigureHTTP(server)
	for _, change := range changes {
		change(server)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServeTLS(ln, "", "") }) // it always returns the error of a closed server
	t.Cleanup(func() {
		_ = b.Close()
		_ = server.Close()
		serving.Wait()
	})
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return Config{URL: "https://edge.test:" + port, ConnectTo: ln.Addr().String(), TLS: &tls.Config{RootCAs: a.Pool, MinVersion: tls.VersionTLS12}}
}

// overTLS are the ways that need no route of their own.
var overTLS = []string{viaAuto, viaGRPC, viaGRPCWeb, viaGRPCWebText, viaConnect, viaConnectJSON, viaWebSocket, viaH2TS}

func TestWaysOverTLS(t *testing.T) {
	cfg := startEdge(t)
	for _, via := range overTLS {
		cfg.Via, cfg.Verbose = via, true
		r := run(t, cfg, check)
		if r.err != nil || r.stdout != "{\n  \"status\": \"SERVING\"\n}\n" {
			t.Errorf("%s: %q, %v\n%s", via, r.stdout, r.err, r.stderr)
		}
		if !contains(r.stderr, "TLS 1.3, ALPN", "certificate of ") {
			t.Errorf("%s tells nothing of TLS:\n%s", via, r.stderr)
		}
		cfg.Data = text(`{"service": "none"}`)
		var told *StatusError
		if r := run(t, cfg, check); !errors.As(r.err, &told) || told.Status.Code() != codes.NotFound || r.stdout != "" {
			t.Errorf("%s: %q, %v, want NOT_FOUND", via, r.stdout, r.err)
		}
		cfg.Data = nil
	}
}

// TestAutoFindsAWay that the boxes on the way leave. While the call runs, nothing looks for a
// better one: it would end the connection.
func TestAutoFindsAWay(t *testing.T) {
	backend := startService(t, grpc.UnaryInterceptor(func(ctx context.Context, q any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		stacks := make([]byte, 1<<20)
		if stacks = stacks[:runtime.Stack(stacks, true)]; bytes.Contains(stacks, []byte("client.(*Dialer)")) {
			t.Errorf("a Dialer works during a call\n%s", stacks)
		}
		return handle(ctx, q)
	}))
	onlyHTTP1 := func(s *http.Server) {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
		s.TLSConfig.NextProtos = []string{"http/1.1"}
	}
	noUpgrade := func(s *http.Server) {
		inner := s.Handler
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Upgrade")
			inner.ServeHTTP(w, r)
		})
	}
	onlyHTTP2 := func(s *http.Server) { // beside which no other way can be faster
		inner := s.Handler
		s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor == 1 {
				http.Error(w, "HTTP/2 only", http.StatusForbidden)
				return
			}
			inner.ServeHTTP(w, r)
		})
	}
	for want, changes := range map[string][]func(*http.Server){"grpc": {onlyHTTP2}, "h2ts": {onlyHTTP1}, "grpc-web": {onlyHTTP1, noUpgrade}} {
		cfg := startBridge(t, bridge.Config{Backend: bridge.Backend{Target: backend}}, changes...)
		cfg.Verbose = true
		r := run(t, cfg, check)
		if r.err != nil || !strings.Contains(r.stderr, "the way is "+want+"\n") || !strings.Contains(r.stdout, "SERVING") {
			t.Errorf("want %s: %v\n%s", want, r.err, r.stderr)
		}
	}
}

// TestPathPrefix is before the path of each call, by every way.
func TestPathPrefix(t *testing.T) {
	cfg := startBridge(t, bridge.Config{Backend: bridge.Backend{Target: startService(t)}, PathPrefix: "/a/b"})
	cfg.URL += "/a/b/"
	for _, via := range overTLS {
		cfg.Via = via
		if r := run(t, cfg, check); r.err != nil {
			t.Errorf("%s: %v", via, r.err)
		}
	}
}

// TestCookies go where servers look for them: in the request that opens a WebSocket.
func TestCookies(t *testing.T) {
	for _, via := range []string{viaGRPCWeb, viaConnect, viaWebSocket, viaH2TS, viaMessageJSON, viaSSE} {
		seen := make(chan string, 1)
		cfg := Config{Via: via, Headers: []string{"cookie: a=b"}, ProtoSets: []string{healthSet(t)}, URL: serveScript(t, func(r *http.Request, _ net.Conn, _ *bufio.Reader) {
			seen <- r.Header.Get("Cookie")
		})}
		if bare(via) {
			cfg.URL, cfg.ProtoSets = cfg.URL+"/route", nil
		}
		if r := run(t, cfg, check); r.err == nil {
			t.Errorf("%s: no error", via)
		}
		if got := <-seen; got != "a=b" {
			t.Errorf("%s: the cookie is %q", via, got)
		}
	}
}

func TestUntrustedCertificates(t *testing.T) {
	cfg := startEdge(t)
	cfg.TLS = nil
	for _, via := range overTLS {
		cfg.Via = via
		r := run(t, cfg, check)
		e := new(network.Error)
		if !errors.As(r.err, &e) || e.Stage != network.TLS {
			t.Errorf("%s: %v, want an error of TLS", via, r.err)
		}
	}
	cfg.Via, cfg.TLS = viaGRPC, &tls.Config{InsecureSkipVerify: true}
	if r := run(t, cfg, check); r.err != nil {
		t.Errorf("without verification: %v", r.err)
	}
}

// TestClientCertificate: an edge that wants one gets it by every way, and refuses who has none.
func TestClientCertificate(t *testing.T) {
	clients := parts.NewAuthority(t)
	cfg := startBridge(t, bridge.Config{Backend: bridge.Backend{Target: startService(t)}}, func(s *http.Server) {
		s.TLSConfig.ClientAuth, s.TLSConfig.ClientCAs = tls.RequireAndVerifyClientCert, clients.Pool
	})
	with := cfg.TLS.Clone()
	with.Certificates = []tls.Certificate{clients.Client(t)}
	for _, via := range overTLS {
		cfg.Via = via
		if r := run(t, cfg, check); r.err == nil {
			t.Errorf("%s without a certificate: %q", via, r.stdout)
		}
		own := cfg
		own.TLS = with
		if r := run(t, own, check); r.err != nil {
			t.Errorf("%s: %v", via, r.err)
		}
	}
}

// TestCancelledCallsEndAtTheService, by every way.
func TestCancelledCallsEndAtTheService(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	cfg := startEdge(t, grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		if info.FullMethod == healthpb.Health_Watch_FullMethodName {
			began <- struct{}{}
			defer func() { ended <- struct{}{} }()
		}
		return handle(srv, ss)
	}))
	for _, via := range overTLS {
		cfg.Via = via
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupted := errors.New("interrupted")
		var r result
		var running sync.WaitGroup
		running.Go(func() { r = runUntil(ctx, cfg, "grpc.health.v1.Health.Watch") })
		within(t, via+" begins", began)
		cancel(interrupted)
		within(t, via+" ends at the service", ended)
		running.Wait()
		if !errors.Is(r.err, interrupted) {
			t.Errorf("%s: %v, want the cause", via, r.err)
		}
	}
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not within %s", what, patience)
	}
}

func TestDeadlines(t *testing.T) {
	for _, via := range overTLS {
		t.Run(via, func(t *testing.T) {
			t.Parallel()
			left := make(chan time.Duration, 1)
			cfg := startEdge(t, grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
				deadline, _ := ctx.Deadline()
				left <- time.Until(deadline)
				<-ctx.Done()
				return nil, status.FromContextError(ctx.Err()).Err()
			}))
			cfg.Via, cfg.MaxTime = via, 4*time.Second
			r := run(t, cfg, check)
			var told *StatusError
			if !errors.As(r.err, &told) || told.Status.Code() != codes.DeadlineExceeded {
				t.Errorf("%v, want DEADLINE_EXCEEDED", r.err)
			}
			select {
			case d := <-left:
				if d <= 0 || d > cfg.MaxTime {
					t.Errorf("the service had %s, want at most %s", d, cfg.MaxTime)
				}
			default:
				t.Error("the service was not called")
			}
		})
	}
}

// TestMetadata crosses, in both directions, and secrets aren't shown.
func TestMetadata(t *testing.T) {
	cfg := startEdge(t, grpc.UnaryInterceptor(func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		in, _ := metadata.FromIncomingContext(ctx)
		_ = grpc.SendHeader(ctx, metadata.MD{"x-h": {"1", "2"}, "x-h-bin": {"\x00\xff"}, "x-token": {"hunter2"}})
		_ = grpc.SetTrailer(ctx, metadata.MD{"x-t": in["x-user"], "x-t-bin": in["x-user-bin"], "x-session": {"hunter2"}})
		if in["authorization"][0] != "Bearer hunter2" {
			return nil, status.Error(codes.Unauthenticated, "no")
		}
		return &healthpb.HealthCheckResponse{}, nil
	}))
	cfg.Headers = []string{"x-user: alice", "X-User: bob", "x-user-bin: AAE", "authorization: Bearer hunter2"}
	cfg.JSON, cfg.Verbose = true, true
	for _, via := range overTLS {
		cfg.Via = via
		r := run(t, cfg, check)
		if r.err != nil || !contains(r.stdout, `"x-h":["1","2"]`, `"x-h-bin":["AP8"]`, `"x-t":["alice","bob"]`, `"x-t-bin":["AAE"]`, `"x-token":["(hidden)"]`) {
			t.Errorf("%s: %v\n%s", via, r.err, r.stdout)
		}
		if strings.Contains(r.stdout+r.stderr, "hunter2") {
			t.Errorf("%s shows a secret:\n%s%s", via, r.stdout, r.stderr)
		}
	}
}

// init registers a file that reflection knows, and that the program has no code for.
func init() {
	of, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("a.proto"), Package: proto.String("a"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Seats"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("free"), Number: proto.Int32(1),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum(),
		}}}},
	}, nil)
	if err == nil {
		err = protoregistry.GlobalFiles.RegisterFile(of)
	}
	if err != nil {
		panic(err)
	}
}

// TestDetails: of known types, and of those that reflection describes, as JSON, of others in base64.
func TestDetails(t *testing.T) {
	cfg := startEdge(t, grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		st := status.New(codes.Aborted, "a\x1b[31mb").Proto()
		known, _ := anypb.New(&healthpb.HealthCheckRequest{Service: "s"})
		st.Details = []*anypb.Any{
			known,
			{TypeUrl: "type.googleapis.com/a.Secret", Value: []byte{1, 2}},
			{TypeUrl: "type.googleapis.com/a.Seats", Value: []byte{8, 2}},
			{TypeUrl: "type.googleapis.com/a.Seats"},
		}
		return nil, status.FromProto(st).Err()
	}))
	cfg.Via = viaGRPC
	r := run(t, cfg, check)
	want := `culvert: the call ended with ABORTED (10): a?[31mb
culvert:   detail: {"@type":"type.googleapis.com/grpc.health.v1.HealthCheckRequest","service":"s"}
culvert:   detail: {"@type":"type.googleapis.com/a.Secret","value":"AQI="}
culvert:   detail: {"@type":"type.googleapis.com/a.Seats","free":2}
culvert:   detail: {"@type":"type.googleapis.com/a.Seats"}
`
	if r.stderr != want {
		t.Errorf("%s\nwant\n%s", r.stderr, want)
	}
}

// TestInputIsSentAsItComes, by every way that streams.
func TestInputIsSentAsItComes(t *testing.T) {
	cfg := startEdge(t)
	for _, via := range overTLS {
		from, to := io.Pipe()
		replies, printed := io.Pipe()
		cfg.Via, cfg.Data, cfg.Stdin = via, text("@-"), from
		cfg.Words, cfg.Stdout, cfg.Stderr, cfg.Proxy, cfg.JSON = []string{"grpc.reflection.v1.ServerReflection/ServerReflectionInfo"}, printed, io.Discard, "none", true
		var running sync.WaitGroup
		running.Go(func() {
			if err := Run(t.Context(), cfg); err != nil {
				t.Errorf("%s: %v", via, err)
			}
			_ = printed.Close() // never fails
		})
		lines := make(chan string)
		running.Go(func() { scan(replies, lines) })
		for _, name := range []string{"a", "b", "c"} {
			if _, err := io.WriteString(to, `{"fileByFilename": "`+name+`"}`); err != nil {
				t.Fatal(err)
			}
			for got := ""; !strings.Contains(got, `"fileByFilename":"`+name+`"`); {
				select {
				case got = <-lines:
				case <-time.After(patience):
					t.Fatalf("%s: no reply to %s", via, name)
				}
			}
		}
		_ = to.Close() // never fails
		for range lines {
		}
		running.Wait()
	}
}

// TestQuietCallsSaySo: a wait has a word after 10 s, again and again on a terminal, and streams
// may be quiet.
func TestQuietCallsSaySo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := func(verbose, stream, terminal bool, during time.Duration) string {
			said := new(sharedText)
			c := &caller{cfg: Config{Stderr: said, StderrIsTerminal: terminal}, target: network.Target{Host: "edge", Port: "1"}}
			c.out = &printer{cfg: c.cfg}
			if verbose {
				c.trace = newTrace(said)
			}
			w := newWatch(c)
			defer w.end()
			if stream {
				w.wait("the next message", true)
			}
			time.Sleep(during)
			synctest.Wait()
			return said.String()
		}
		if got := quiet(false, false, true, quietTime-1); got != "" {
			t.Errorf("too early: %q", got)
		}
		if got, want := quiet(false, false, true, quietTime), "culvert: waiting for a connection to edge:1 for 10s (Ctrl-C ends the call)\n"; got != want {
			t.Errorf("said %q, want %q", got, want)
		}
		if got, want := quiet(false, false, false, time.Hour), "culvert: waiting for a connection to edge:1 for 10s (Ctrl-C ends the call)\n"; got != want {
			t.Errorf("without a terminal: %q, want %q", got, want)
		}
		if got := quiet(false, true, true, time.Hour); got != "" {
			t.Errorf("a quiet stream: %q", got)
		}
		if got, want := quiet(true, true, true, 2*quietTime), "   10.000s · 10s without a word: waiting for the next message\n   20.000s · 20s without a word: waiting for the next message\n"; got != want {
			t.Errorf("with -v: %q, want %q", got, want)
		}
	})
}

// A sharedText is what was printed, for several goroutines.
type sharedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *sharedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *sharedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestMethodOfArgument(t *testing.T) {
	for name, want := range map[string]string{
		"a.B/C": "/a.B/C", "/a.B/C": "/a.B/C", "a.B.C": "/a.B/C", "B/C": "/B/C", "B.C": "/B/C",
		"": "", "a": "", "/": "", "a/": "", "/a": "", "a.B/C/D": "", "a b/C": "", "a.B/C?x": "", "a%2FB/C": "", ".a": "",
	} {
		if got, err := parseMethod(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestSecretsAreHidden(t *testing.T) {
	for name, values := range map[string][2]string{
		"Authorization": {"Bearer x", hidden}, "cookie": {"x", hidden}, "set-cookie": {"x", hidden}, "proxy-authorization": {"x", hidden},
		"x-api-key": {"x", hidden}, "X-Auth-Token": {"x", hidden}, ":authority": {"edge", "edge"}, "x-user": {"alice", "alice"},
		"x-jwt-assertion": {"x", hidden}, "x-passwd": {"x", hidden}, "x-access-key": {"x", hidden}, "x-custom": {"bearer x", hidden}, "x-other": {"Basic x", hidden},
		"access-control-allow-credentials": {"true", "true"}, "www-authenticate": {"Basic", "Basic"},
		"sec-websocket-protocol": {"h2ts, culvert.bearer.dG9r", "h2ts, culvert.bearer." + hidden},
	} {
		if got := shown(name, values[0]); got != values[1] {
			t.Errorf("%s: %q is shown as %q, want %q", name, values[0], got, values[1])
		}
	}
}

// TestBearerSubprotocolIsHidden in the trace, and in the error of a server that chooses another one.
func TestBearerSubprotocolIsHidden(t *testing.T) {
	for _, chosen := range []string{"", "p.bearer.HUNTER2"} {
		r := run(t, Config{URL: serveScript(t, hushed(chosen)) + "/route", Via: viaMessageJSON, Subprotocol: "p, p.bearer.HUNTER2", Verbose: true})
		if text := fmt.Sprint(r.stderr, r.err); r.err == nil || strings.Contains(text, "HUNTER2") || strings.Count(text, "p.bearer."+hidden) < 2 {
			t.Errorf("%q: %s", chosen, text)
		}
	}
}

// TestCredentialsStayPrivate: they cross neither the network in plaintext nor TLS that nobody
// verifies. Other headers do.
func TestCredentialsStayPrivate(t *testing.T) {
	for _, c := range []Config{
		{URL: "http://localhost", ConnectTo: "192.0.2.2:80"},
		{URL: "http://192.0.2.2"},
		{URL: "https://127.0.0.1:1", TLS: &tls.Config{InsecureSkipVerify: true}},
	} {
		c.Headers = []string{"x-author: a"}
		for where, with := range map[string]func(*Config){
			"-H: authorization: ": func(c *Config) { c.Headers = append(c.Headers[:1:1], "authorization: hunter2") },
			"-H: x-foo: ":         func(c *Config) { c.Headers = append(c.Headers[:1:1], "x-foo: bearer hunter2") },
			"--first-message: ":   func(c *Config) { c.FirstMessage = "hunter2" },
			"--subprotocol: ":     func(c *Config) { c.Subprotocol = "p, p.bearer.hunter2" },
		} {
			secret := c
			with(&secret)
			var wrong *Misuse
			if r := run(t, secret, check); !errors.As(r.err, &wrong) || !strings.Contains(r.err.Error(), where) || strings.Contains(r.err.Error(), "hunter2") {
				t.Errorf("%s at %s: %v", where, c.URL, r.err)
			}
		}
		c.Subprotocol, c.Proxy, c.Stderr = "p,q", "none", io.Discard
		if _, err := newCaller(c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

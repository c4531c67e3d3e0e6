package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// subjects answers each call with what the backend learns of its caller, after which the call
// goes on until its client ends it.
func subjects(ss grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(ss.Context())
	var who []string
	for _, name := range append(slices.Clone(report.IdentityMetadata[:3]), "x-role", "x-user") {
		who = append(who, strings.Join(md[name], ","))
	}
	if err := ss.SendMsg([]byte(strings.Join(who, "|"))); err != nil {
		return err
	}
	for {
		if err := ss.RecvMsg(new([]byte)); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// startBridge runs a bridge with an Authenticator in front of backends, by name, until the
// test's end.
func startBridge(t testing.TB, cfg bridge.Config) (*bridge.Server, string) {
	t.Helper()
	s, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s, parts.Serve(t, s)
}

func configOf(a *Authenticator, backend string) bridge.Config {
	return bridge.Config{Backend: bridge.Backend{Target: backend}, Authenticator: a, VouchedHeaders: a.Vouched(), CredentialHeaders: a.CredentialHeaders()}
}

// dial returns a grpc-go client, in a tunnel whose request has the header if that isn't nil.
func dial(t testing.TB, address string, tunnel http.Header) *grpc.ClientConn {
	t.Helper()
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{})),
	}
	if tunnel != nil {
		opts = append(opts, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			ws, err := openSocket(ctx, "ws://"+address, "h2ts", tunnel)
			if err != nil {
				return nil, err
			}
			return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
		}))
	}
	cc, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func openSocket(ctx context.Context, url, subprotocol string, header http.Header) (*websocket.Conn, error) {
	ws, res, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: []string{subprotocol}, HTTPHeader: header})
	if res != nil && res.Body != nil {
		_ = res.Body.Close() // it has none
	}
	return ws, err
}

// An answer is what a client of any protocol gets.
type answer struct {
	code codes.Code
	text string // of the status
	who  string // as subjects says it
}

// callGRPC makes a unary call with metadata, names and values in turn.
func callGRPC(t testing.TB, cc *grpc.ClientConn, pairs ...string) answer {
	t.Helper()
	ctx := metadata.NewOutgoingContext(parts.Within(t, parts.Patience), metadata.Pairs(pairs...))
	var who []byte
	err := cc.Invoke(ctx, method, []byte{}, &who)
	return answer{status.Code(err), status.Convert(err).Message(), string(who)}
}

// post makes a call by HTTP, and returns its answer with its body.
func post(t testing.TB, address, contentType string, body []byte, pairs []string) (*http.Response, []byte) {
	t.Helper()
	return postBy(t, http.DefaultClient, address, contentType, body, pairs)
}

func postBy(t testing.TB, client *http.Client, address, contentType string, body []byte, pairs []string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(parts.Within(t, parts.Patience), http.MethodPost, "http://"+address+method, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		r.Header.Add(pairs[i], pairs[i+1])
	}
	r.Header.Set("Content-Type", contentType)
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res, must(io.ReadAll(res.Body))
}

// webFrames reads the frames of a gRPC-Web answer.
func webFrames(t testing.TB, header http.Header, body []byte) (a answer) {
	t.Helper()
	said := header.Get("Grpc-Status")
	a.text = header.Get("Grpc-Message")
	for len(body) >= 5 {
		n := int(body[3])<<8 + int(body[4])
		frame := body[5 : 5+n]
		if body[0] == 0 {
			a.who = string(frame)
		}
		if body[0] == 0x80 {
			for line := range strings.SplitSeq(string(frame), "\r\n") {
				name, value, _ := strings.Cut(line, ":")
				switch strings.ToLower(name) {
				case "grpc-status":
					said = strings.TrimSpace(value)
				case "grpc-message":
					a.text = strings.TrimSpace(value)
				}
			}
		}
		body = body[5+n:]
	}
	code, err := strconv.Atoi(said)
	if err != nil {
		t.Errorf("the status is %q", said)
	}
	a.code = codes.Code(code)
	return a
}

// postWeb makes a call by gRPC-Web.
func postWeb(t testing.TB, client *http.Client, address string, pairs []string) answer {
	t.Helper()
	res, body := postBy(t, client, address, "application/grpc-web+proto", make([]byte, 5), pairs)
	return webFrames(t, res.Header, body)
}

// callers make a call with metadata over each protocol.
var callers = map[string]func(t testing.TB, address string, pairs ...string) answer{
	"grpc": func(t testing.TB, address string, pairs ...string) answer {
		return callGRPC(t, dial(t, address, nil), pairs...)
	},
	"h2ts, of the call": func(t testing.TB, address string, pairs ...string) answer {
		return callGRPC(t, dial(t, address, http.Header{}), pairs...)
	},
	"h2ts, of the tunnel": func(t testing.TB, address string, pairs ...string) answer {
		header := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			header.Add(pairs[i], pairs[i+1])
		}
		return callGRPC(t, dial(t, address, header))
	},
	"grpc-web": func(t testing.TB, address string, pairs ...string) answer {
		return postWeb(t, http.DefaultClient, address, pairs)
	},
	"connect": func(t testing.TB, address string, pairs ...string) answer {
		res, body := post(t, address, "application/proto", nil, append(pairs, "Connect-Protocol-Version", "1"))
		if res.StatusCode == http.StatusOK {
			return answer{who: string(body)}
		}
		var failed struct{ Code, Message string }
		if err := json.Unmarshal(body, &failed); err != nil {
			t.Fatal(err)
		}
		a := answer{text: failed.Message}
		if err := a.code.UnmarshalJSON([]byte(strconv.Quote(strings.ToUpper(failed.Code)))); err != nil {
			t.Error(err)
		}
		return a
	},
	"grpc-websockets, its first message": func(t testing.TB, address string, pairs ...string) answer {
		return callWebSocket(t, address, nil, pairs...)
	},
	"grpc-websockets, its upgrade": func(t testing.TB, address string, pairs ...string) answer {
		header := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			header.Add(pairs[i], pairs[i+1])
		}
		return callWebSocket(t, address, header)
	},
}

func callWebSocket(t testing.TB, address string, header http.Header, pairs ...string) answer {
	t.Helper()
	ctx := parts.Within(t, parts.Patience)
	ws, err := openSocket(ctx, "ws://"+address+method, "grpc-websockets", header)
	if err != nil {
		t.Fatal(err)
	}
	return callOn(ctx, t, ws, pairs...)
}

// callOn makes a call of grpc-websockets.
func callOn(ctx context.Context, t testing.TB, ws *websocket.Conn, pairs ...string) answer {
	t.Helper()
	defer ws.CloseNow() //nolint:errcheck // culvert has closed it
	first := "content-type: application/grpc-web+proto\r\n"
	for i := 0; i < len(pairs); i += 2 {
		first += pairs[i] + ": " + pairs[i+1] + "\r\n"
	}
	for _, m := range []string{first, "\x00\x00\x00\x00\x00\x00", "\x01"} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	var all []byte
	for {
		_, m, err := ws.Read(ctx)
		if err != nil { // at the end the close is answered
			return webFrames(t, http.Header{}, all)
		}
		if len(m) > 5 && m[0] == 0x80 || len(m) >= 5 && m[0] == 0 {
			all = append(all, m...)
		}
	}
}

// TestCallsThroughABridge, over each protocol: the backend learns who calls, and from nobody
// else; refusals arrive as statuses that the client reads, and no token is in them.
func TestCallsThroughABridge(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	a := newAuth(t, Config{
		Issuers: []Issuer{staff(t)}, APIKeys: keys,
		Rules: []Rule{{Name: "no-eve", Deny: true, Identities: []string{"eve"}}},
	})
	_, address := startBridge(t, configOf(a, parts.StartBackend(t, subjects)))
	forged := []string{"x-culvert-subject", "root", "X_Culvert_Subject", "root", "x-culvert-kind", "mtls", "x-role", "admin", "x_role", "admin"}
	bearer := func(token string) []string { return append([]string{"authorization", "Bearer " + token}, forged...) }
	token, expired := staffToken(claims{"role": "reader"}), staffToken(claims{"exp": time.Now().Unix() - 3600})
	hostile := sign(strangeKey(), `{"alg":"ES256","kid":"staff"}`, usualClaims(staffIssuer, "root"))
	for name, call := range callers {
		for what, row := range map[string]struct {
			pairs  []string
			secret string
			code   codes.Code
			want   string
		}{
			"a token":             {bearer(token), token, codes.OK, "alice|" + staffIssuer + "|jwt|reader|"},
			"an API key":          {bearer(key["ci"]), key["ci"], codes.OK, "ci||api-key||"},
			"a key in its header": {append([]string{"x-api-key", key["ci"]}, forged...), key["ci"], codes.OK, "ci||api-key||"},
			"nothing":             {forged, "", codes.Unauthenticated, "no credential"},
			"an expired token":    {bearer(expired), expired, codes.Unauthenticated, "expired"},
			"a forged token":      {bearer(hostile), hostile, codes.Unauthenticated, "signature"},
			"an opaque token":     {bearer("hush-hush-hush"), "hush", codes.Unauthenticated, "isn't one that this server accepts"},
			"another scheme":      {append([]string{"authorization", "Basic aHVzaDpodXNo"}, forged...), "aHVzaDpodXNo", codes.Unauthenticated, "isn't one that this server accepts"},
			"somebody who mayn't": {bearer(staffToken(claims{"sub": "eve"})), "", codes.PermissionDenied, "isn't permitted"},
		} {
			if what == "a key in its header" && name == "h2ts, of the tunnel" { // its request has keys as authorization alone
				row.code, row.want = codes.Unauthenticated, "no credential"
			}
			got := call(t, address, row.pairs...)
			if got.code != row.code || !strings.Contains(strings.ReplaceAll(got.text, "%27", "'")+got.who, row.want) || row.code == codes.OK && got.who != row.want {
				t.Errorf("%s, %s: got %v %q %q, want %v %q", name, what, got.code, got.text, got.who, row.code, row.want)
			}
			if row.secret != "" && strings.Contains(got.text, row.secret) {
				t.Errorf("%s, %s: the client reads the credential: %s", name, what, got.text)
			}
		}
	}
}

// TestServicesAboutTheServer need a credential as all others do, unless a pattern makes them public:
// health, reflection, and culvert's own.
func TestServicesAboutTheServer(t *testing.T) {
	cfg := Config{Issuers: []Issuer{staff(t)}}
	const health, reflection, path = "/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/culvert.v1.Path/Echo"
	for public, open := range map[string][]string{"": nil, "grpc.health.v1.Health/*": {health}, "grpc.reflection.*/*": {reflection}, "culvert.v1.Path/Echo": {path}} {
		if cfg.PublicMethods = nil; public != "" {
			cfg.PublicMethods = []string{public}
		}
		_, address := startBridge(t, configOf(newAuth(t, cfg), parts.StartBackend(t, subjects)))
		for transport, header := range map[string]http.Header{"grpc": nil, "h2ts": {}} {
			cc := dial(t, address, header)
			for _, name := range []string{health, reflection, path} {
				for token, want := range map[string]codes.Code{"": codes.Unauthenticated, "Bearer bad": codes.Unauthenticated, "Bearer " + staffToken(nil): codes.OK} {
					if token == "" && slices.Contains(open, name) {
						want = codes.OK
					}
					ctx := parts.Within(t, parts.Patience)
					if token != "" {
						ctx = metadata.AppendToOutgoingContext(ctx, "authorization", token)
					}
					if err := cc.Invoke(ctx, name, []byte{}, new([]byte)); status.Code(err) != want {
						t.Errorf("%s by %s with %.10q, public %q: %v, want %v", name, transport, token, public, err, want)
					}
				}
			}
		}
	}
}

// TestBoundTokenOverTLS: the client's certificate counts that its own connection proved, also for
// calls in a tunnel and in a WebSocket, and whatever place the token has.
func TestBoundTokenOverTLS(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	ca := parts.NewAuthority(t)
	mine, others := ca.Client(t), ca.Client(t)
	s, err := bridge.New(configOf(newAuth(t, Config{Issuers: []Issuer{staff(t)}}), parts.StartBackend(t, subjects)))
	if err != nil {
		t.Fatal(err)
	}
	ln := parts.Listen(t, "127.0.0.1:0")
	config := &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, ClientCAs: ca.Pool, ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: []string{"h2", "http/1.1"}}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.ServeListener(ln, bridge.Listener{TLS: config}) }) // it always returns the error of a closed server
	defer serving.Wait()
	defer s.Close()
	address := ln.Addr().String()
	token := "Bearer " + staffToken(claims{"cnf": map[string]any{"x5t#S256": thumbprintText(mine.Leaf)}})
	for name, c := range map[string]struct {
		with []tls.Certificate
		want codes.Code
	}{"its certificate": {[]tls.Certificate{mine}, codes.OK}, "another certificate": {[]tls.Certificate{others}, codes.Unauthenticated}, "no certificate": {nil, codes.Unauthenticated}} {
		client := &tls.Config{RootCAs: ca.Pool, ServerName: "127.0.0.1", Certificates: c.with}
		native := func(more ...grpc.DialOption) *grpc.ClientConn {
			opts := []grpc.DialOption{grpc.WithNoProxy(), grpc.WithDisableRetry(), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))}
			cc, err := grpc.NewClient("passthrough:///"+address, append(opts, more...)...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cc.Close() })
			return cc
		}
		transport := &http.Transport{TLSClientConfig: client.Clone()}
		t.Cleanup(transport.CloseIdleConnections)
		socket := func(ctx context.Context, path, subprotocol string, header http.Header) (*websocket.Conn, error) {
			ws, _, err := websocket.Dial(ctx, "wss://"+address+path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, Subprotocols: []string{subprotocol}, HTTPHeader: header})
			return ws, err
		}
		tunnel := func(header http.Header) *grpc.ClientConn {
			return native(grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				ws, err := socket(ctx, "", "h2ts", header)
				if err != nil {
					return nil, err
				}
				return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
			}))
		}
		got := map[string]answer{
			"grpc":                callGRPC(t, native(grpc.WithTransportCredentials(credentials.NewTLS(client))), "authorization", token),
			"h2ts, of the call":   callGRPC(t, tunnel(nil), "authorization", token),
			"h2ts, of the tunnel": callGRPC(t, tunnel(http.Header{"Authorization": {token}})),
		}
		for _, way := range []string{"its first message", "its upgrade"} {
			var header http.Header
			pairs := []string{"authorization", token}
			if way == "its upgrade" {
				header, pairs = http.Header{"Authorization": {token}}, nil
			}
			ctx := parts.Within(t, parts.Patience)
			ws, err := socket(ctx, method, "grpc-websockets", header)
			if err != nil {
				t.Fatal(err)
			}
			got["grpc-websockets, "+way] = callOn(ctx, t, ws, pairs...)
		}
		for way, a := range got {
			if a.code != c.want {
				t.Errorf("%s with %s: %+v, want %v", way, name, a, c.want)
			}
		}
	}
}

// TestTunnelOfSeveral: a call's own token counts before the tunnel's, and a bad one doesn't
// give way to it.
func TestTunnelOfSeveral(t *testing.T) {
	a := newAuth(t, Config{Issuers: []Issuer{staff(t), shop(t)}})
	_, address := startBridge(t, configOf(a, parts.StartBackend(t, subjects)))
	cc := dial(t, address, http.Header{"Authorization": {"Bearer " + staffToken(nil)}})
	var calls sync.WaitGroup
	for own, want := range map[string]string{"": "alice", "Bearer " + shopToken(nil): "bob", "Bearer " + staffToken(claims{"sub": "carol"}): "carol", "Bearer bad": "", "Basic YTpi": ""} {
		for range 10 {
			calls.Go(func() {
				var pairs []string
				if own != "" {
					pairs = []string{"authorization", own}
				}
				got := callGRPC(t, cc, pairs...)
				if who, _, _ := strings.Cut(got.who, "|"); who != want || (got.code == codes.Unauthenticated) != (want == "") {
					t.Errorf("got %v %q, want %q", got.code, got.who, want)
				}
			})
		}
	}
	calls.Wait()
}

// TestDamagedCredentials: a credential of a call that gRPC can't carry doesn't count as none. It
// gives way to no other one, and a public method doesn't take it.
func TestDamagedCredentials(t *testing.T) {
	keys, key := keysOf(t, time.Time{}, "ci")
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, APIKeys: keys, PublicMethods: []string{"*/*"}})
	_, address := startBridge(t, configOf(a, parts.StartBackend(t, subjects)))
	alice := "Bearer " + staffToken(nil)
	outer := http.Header{"Authorization": {alice}}
	inTunnel := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
		ws, err := openSocket(ctx, "ws://"+address, "h2ts", outer)
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}}
	inTunnel.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(inTunnel.CloseIdleConnections)
	if got := callGRPC(t, dial(t, address, outer)); !strings.HasPrefix(got.who, "alice|") {
		t.Errorf("the tunnel's token: got %+v", got) // so the calls below have something to fall back to
	}
	for _, own := range [][]string{
		{"authorization", alice + "\x80"},
		{"authorization", "Bearer\t" + staffToken(nil)},
		{"authorization", "Bearer \u00e9"},
		{"authorization", alice, "authorization", "Bearer \u00e9"},
		{"x-api-key", key["ci"] + "\x80"},
		{"x-api-key", "\u00e9"},
		{"x-api-key", key["ci"], "x-api-key", "\u00e9"},
	} {
		for name, got := range map[string]answer{
			"alone":                         callers["grpc-web"](t, address, own...),
			"in a tunnel":                   postWeb(t, &http.Client{Transport: inTunnel}, address, own),
			"in a WebSocket":                callWebSocket(t, address, outer, own...),
			"in a WebSocket without others": callWebSocket(t, address, nil, own...),
		} {
			if got.code != codes.Unauthenticated {
				t.Errorf("%.12q %s: got %+v", own[1], name, got)
			}
		}
	}
}

// TestExternalChoosesTheBackend, among those of the route.
func TestExternalChoosesTheBackend(t *testing.T) {
	var j judge
	named := func(name string) bridge.NamedBackend {
		return bridge.NamedBackend{Name: name, Backend: bridge.Backend{Target: parts.StartBackend(t, func(ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			return ss.SendMsg([]byte(name + " " + strings.Join(md["x-user"], ",")))
		})}}
	}
	for _, backends := range [][]report.Target{{{Backend: "green", Weight: 1}, {Backend: "blue"}}, {{Backend: "green", Weight: 1}, {Backend: "red", Weight: 1}}} {
		a := newAuth(t, Config{External: j.serveGRPC(t), Routes: []string{"shop"}})
		cfg := configOf(a, "")
		cfg.Backend = bridge.Backend{}
		cfg.Backends = []bridge.NamedBackend{named("green"), named("blue"), named("red")}
		cfg.Routes = []bridge.Route{{Name: "shop", Split: backends}}
		_, address := startBridge(t, cfg)
		cc := dial(t, address, nil)
		for range 10 {
			got := callGRPC(t, cc, "authorization", "Bearer secret-alice", "x-user", "root")
			if ok := got.code == codes.OK && got.who == "blue alice"; ok != (backends[1].Backend == "blue") {
				t.Fatalf("of %v: got %+v", backends, got)
			}
		}
		if got := callGRPC(t, cc, "authorization", "Bearer secret-mallory"); got.code != codes.FailedPrecondition || !strings.Contains(got.text, "not you") {
			t.Errorf("refused with %+v", got)
		}
	}
}

// TestReloadUnderRunningStreams: a reload that changes issuer, rules and the claims that they ask
// for leaves running calls alone. The next call of the same tunnel is judged anew.
func TestReloadUnderRunningStreams(t *testing.T) {
	first := newAuth(t, Config{Issuers: []Issuer{staff(t)}})
	backend := parts.StartBackend(t, subjects)
	s, address := startBridge(t, configOf(first, backend))
	cc := dial(t, address, http.Header{"Authorization": {"Bearer " + staffToken(claims{"role": "admin"})}})
	stream, err := cc.NewStream(parts.Within(t, parts.Patience), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	var who []byte
	if err := stream.RecvMsg(&who); err != nil || !strings.HasPrefix(string(who), "alice|") {
		t.Fatalf("%s, %v", who, err)
	}
	issuer := staff(t)
	step := func(cfg Config, want codes.Code) {
		t.Helper()
		next := newAfter(t, cfg, first)
		if err := s.Apply(configOf(next, backend)); err != nil {
			t.Fatal(err)
		}
		if got := callGRPC(t, cc); got.code != want {
			t.Errorf("the next call ends with %+v, want %v", got, want)
		}
		first = next
	}
	step(Config{Issuers: []Issuer{staff(t)}, Rules: []Rule{{Name: "no", Deny: true, Identities: []string{"alice"}}}}, codes.PermissionDenied)
	step(Config{Issuers: []Issuer{shop(t)}}, codes.Unauthenticated)
	step(Config{Issuers: []Issuer{staff(t)}}, codes.OK)
	// Each of these asks another claim of the tunnel's token.
	byClaim := func(name string, values ...string) Config {
		return Config{Issuers: []Issuer{issuer}, Rules: []Rule{{Name: "yes", Claims: []Requirement{{name, values}}, Methods: []string{"shop.v1.Orders/*"}}}}
	}
	step(byClaim("tenant"), codes.PermissionDenied)
	step(byClaim("role", "user", "admin"), codes.OK)
	step(byClaim("role", "user"), codes.PermissionDenied)
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if err := stream.RecvMsg(&who); !errors.Is(err, io.EOF) {
		t.Errorf("the running call ended with %v", err)
	}
}

// TestExpiryOfRunningStreams: many calls of several tokens end when these do, and only they.
func TestExpiryOfRunningStreams(t *testing.T) {
	t.Parallel() // it waits most of the time
	issuer := staff(t)
	issuer.Skew = -1
	a := newAuth(t, Config{Issuers: []Issuer{issuer}})
	_, address := startBridge(t, configOf(a, parts.StartBackend(t, subjects)))
	ctx := parts.Within(t, parts.Patience)
	type running struct {
		grpc.ClientStream
		ends int64
	}
	var streams []running
	for _, cc := range []*grpc.ClientConn{dial(t, address, nil), dial(t, address, http.Header{})} {
		for i := range 100 {
			ends := time.Now().Add(5 * time.Second).Unix() // long enough for a slow machine to begin the call
			with := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+staffToken(claims{"sub": fmt.Sprint(i), "exp": ends}))
			stream, err := cc.NewStream(with, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.RecvMsg(new([]byte)); err != nil {
				t.Fatal(err)
			}
			streams = append(streams, running{stream, ends})
		}
	}
	lasting := dial(t, address, http.Header{"Authorization": {"Bearer " + staffToken(nil)}})
	stays, err := lasting.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	for _, stream := range streams {
		err := stream.RecvMsg(new([]byte))
		if st := status.Convert(err); st.Code() != codes.Unauthenticated || parts.ErrorInfo(t, st).GetReason() != string(report.ReasonTokenExpired) {
			t.Fatalf("it ended with %v", err)
		}
		if time.Now().Unix() < stream.ends {
			t.Error("it ended too early")
		}
	}
	if err := errors.Join(stays.RecvMsg(new([]byte)), stays.CloseSend()); err != nil {
		t.Errorf("a call whose token lasts: %v", err)
	}
	if err := stays.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("a call whose token lasts ended with %v", err)
	}
}

// TestRefreshOfATunnel: a newer token of the same subject lets its calls go on behind the end of
// the first one. No other one does, and a tunnel's later judgements keep to the newer one.
func TestRefreshOfATunnel(t *testing.T) {
	t.Parallel() // it waits most of the time
	issuer := staff(t)
	issuer.Skew = -1
	issuer.RouteAudiences = map[string][]string{"orders": {"orders"}}
	a := newAuth(t, Config{Issuers: []Issuer{issuer, shop(t)}, Routes: []string{"orders"}})
	_, address := startBridge(t, configOf(a, parts.StartBackend(t, subjects)))
	ends := time.Now().Add(5 * time.Second).Unix()
	cc := dial(t, address, http.Header{"Authorization": {"Bearer " + staffToken(claims{"exp": ends})}})
	ctx := parts.Within(t, parts.Patience)
	begin := func(own ...string) grpc.ClientStream {
		stream, err := cc.NewStream(metadata.AppendToOutgoingContext(ctx, own...), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); err != nil {
			t.Fatal(err)
		}
		return stream
	}
	goesOn, goesOnToo := begin(), begin("authorization", "Bearer "+staffToken(claims{"exp": ends, "jti": "2"}))
	endsEarly := begin("authorization", "Bearer "+staffToken(claims{"exp": ends, "sub": "carol"}))
	refresh := func(token string) error {
		return cc.Invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), "/culvert.v1.Session/Refresh", []byte{}, new([]byte))
	}
	for token, want := range map[string]codes.Code{
		staffToken(claims{"sub": "dave"}):                            codes.PermissionDenied,
		shopToken(claims{"sub": "alice"}):                            codes.PermissionDenied,
		staffToken(claims{"exp": 1}):                                 codes.Unauthenticated,
		staffToken(claims{"aud": "elsewhere"}):                       codes.Unauthenticated,
		sign(strangeKey(), es256, usualClaims(staffIssuer, "alice")): codes.Unauthenticated,
	} {
		if err := refresh(token); status.Code(err) != want {
			t.Errorf("a refresh ended with %v, want %v", err, want)
		}
	}
	if err := refresh(staffToken(nil)); err != nil {
		t.Fatal(err)
	}
	if st := status.Convert(endsEarly.RecvMsg(new([]byte))); parts.ErrorInfo(t, st).GetReason() != string(report.ReasonTokenExpired) {
		t.Errorf("carol's call ended with %v", st)
	}
	parts.Poll(t, func() string { // until the connection is judged anew
		if got := callGRPC(t, cc); got.code != codes.OK {
			t.Fatalf("a later call ended with %+v", got)
		}
		if time.Now().Unix() < ends+int64(goodConn/time.Second) {
			return "not long enough"
		}
		return ""
	})
	for _, stream := range []grpc.ClientStream{goesOn, goesOnToo} {
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
		if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
			t.Errorf("a running call ended with %v", err)
		}
	}
}

// TestRefreshBesideAService: calls that a service judges, too, go on with a newer token of the same
// subject.
func TestRefreshBesideAService(t *testing.T) {
	t.Parallel() // it waits most of the time
	issuer := staff(t)
	issuer.Skew = -1
	a := newAuth(t, Config{Issuers: []Issuer{issuer}, External: serveCheck(t, new(editor)), AllOf: []string{issuer.Name, WayExternal}})
	_, address := startBridge(t, configOf(a, parts.StartBackend(t, subjects)))
	ends := time.Now().Add(5 * time.Second).Unix() // long enough for a slow machine to begin the calls
	first := "Bearer " + staffToken(claims{"exp": ends})
	ctx := parts.Within(t, parts.Patience)
	var streams []grpc.ClientStream
	for name, c := range map[string]struct {
		tunnel http.Header
		own    []string
	}{
		"the tunnel's token": {http.Header{"Authorization": {first}}, nil},
		"the call's token":   {http.Header{}, []string{"authorization", first}},
	} {
		cc := dial(t, address, c.tunnel)
		stream, err := cc.NewStream(metadata.AppendToOutgoingContext(ctx, c.own...), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(new([]byte)); err != nil {
			t.Fatal(err)
		}
		for token, want := range map[string]codes.Code{staffToken(claims{"sub": "dave"}): codes.PermissionDenied, staffToken(nil): codes.OK} {
			err := cc.Invoke(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), "/culvert.v1.Session/Refresh", []byte{}, new([]byte))
			if status.Code(err) != want {
				t.Errorf("%s: a refresh ended with %v, want %v", name, err, want)
			}
		}
		streams = append(streams, stream)
	}
	plain := dial(t, address, nil)
	unrenewed, err := plain.NewStream(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+staffToken(claims{"exp": ends + 2})), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	if err := unrenewed.RecvMsg(new([]byte)); err != nil {
		t.Fatal(err)
	}
	if st := status.Convert(unrenewed.RecvMsg(new([]byte))); parts.ErrorInfo(t, st).GetReason() != string(report.ReasonTokenExpired) { // calls were looked at meanwhile
		t.Errorf("a call without a newer token ended with %v", st)
	}
	for _, stream := range streams {
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
		if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
			t.Errorf("a running call ended with %v", err)
		}
	}
}

// TestTryAuthenticator: what would be refused is told and passes, whoever would refuse it.
func TestTryAuthenticator(t *testing.T) {
	c, limit := serveCounter(t)
	limit.Descriptors = [][]DescriptorEntry{{{Key: "subject", From: "subject"}}}
	a := newAuth(t, Config{Issuers: []Issuer{staff(t)}, RateLimit: limit})
	cfg := configOf(a, parts.StartBackend(t, subjects))
	cfg.TryAuthenticator = true
	log := make(lines, 100)
	cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	_, address := startBridge(t, cfg)
	cc := dial(t, address, nil)
	alice := "Bearer " + staffToken(nil)
	for _, row := range []struct{ own, want string }{{"Bearer bad", "||||"}, {alice, "alice|" + staffIssuer + "|jwt||"}, {alice, "alice|" + staffIssuer + "|jwt||"}} {
		if got := callGRPC(t, cc, "authorization", row.own, "x-culvert-subject", "root"); got.code != codes.OK || got.who != row.want {
			t.Errorf("got %+v, want %s", got, row.want)
		}
	}
	if n := len(c.asked); n != 2 {
		t.Errorf("%d calls were counted, want 2", n)
	}
	for line := range log {
		if strings.Contains(line, "would be refused") && strings.Contains(line, "LIMIT_EXCEEDED") {
			if !strings.Contains(line, "the rate limit service answered with the code OVER_LIMIT") {
				t.Errorf("the log doesn't say why: %s", line)
			}
			break
		}
	}
}

// lines gets the lines of a log, one in each Write.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

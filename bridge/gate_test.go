package bridge

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func prefixes(t testing.TB, texts ...string) (list []netip.Prefix) {
	t.Helper()
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// nowhere is a backend that no test calls.
var nowhere = Backend{Target: "passthrough:///nowhere", Dial: func(ctx context.Context, _ string) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}}

// TestWhoCalls: a proxy's word counts only if the proxy is trusted, and then
// the nearest hop that isn't is the client.
func TestWhoCalls(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, TrustedProxies: prefixes(t, "10.0.0.0/8", "fd00::/8", "192.0.2.7/32")})
	for _, c := range []struct {
		name, remote string
		tls          bool
		header       http.Header
		peer         string
		trusted      bool
		want         forwarding
	}{
		{"a client", "198.51.100.1:555", false, nil, "198.51.100.1:555", false, forwarding{"198.51.100.1", "http", "culvert.example", "1.1 culvert"}},
		{"a client over TLS", "[2001:db8::1]:555", true, nil, "[2001:db8::1]:555", false, forwarding{"2001:db8::1", "https", "culvert.example", "1.1 culvert"}},
		{"a liar", "198.51.100.1:555", false, http.Header{
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"admin"}, "Via": {"1.1 liar"},
		}, "198.51.100.1:555", false, forwarding{"198.51.100.1", "http", "culvert.example", "1.1 culvert"}},
		{"a proxy that says nothing", "10.1.2.3:555", false, nil, "10.1.2.3:555", true, forwarding{"10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"a proxy", "10.1.2.3:555", false, http.Header{
			"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"app.example"}, "Via": {"2 edge"},
		}, "203.0.113.9", true, forwarding{"203.0.113.9, 10.1.2.3", "https", "app.example", "2 edge, 1.1 culvert"}},
		{"a chain of proxies", "10.1.2.3:555", false, http.Header{
			"X-Forwarded-For": {"203.0.113.9, 10.9.9.9", "192.0.2.7"},
		}, "203.0.113.9", true, forwarding{"203.0.113.9, 10.9.9.9, 192.0.2.7, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"a liar behind a proxy", "10.1.2.3:555", false, http.Header{
			"X-Forwarded-For": {"127.0.0.1, 203.0.113.9"},
		}, "203.0.113.9", true, forwarding{"127.0.0.1, 203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"proxies alone", "10.1.2.3:555", false, http.Header{"X-Forwarded-For": {"10.0.0.1, 10.0.0.2"}}, "10.0.0.1", true, forwarding{"10.0.0.1, 10.0.0.2, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"an address that is none", "10.1.2.3:555", false, http.Header{"X-Forwarded-For": {"203.0.113.9, unknown, 10.0.0.2"}}, "10.0.0.2", true, forwarding{"203.0.113.9, unknown, 10.0.0.2, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"addresses with ports", "10.1.2.3:555", false, http.Header{"X-Forwarded-For": {"[2001:db8::9]:77 , 192.0.2.7:80"}}, "2001:db8::9", true, forwarding{"[2001:db8::9]:77 , 192.0.2.7:80, 10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"a proxy on IPv6", "[fd00::1]:555", false, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "203.0.113.9", true, forwarding{"203.0.113.9, fd00::1", "http", "culvert.example", "1.1 culvert"}},
		{"a proxy on IPv4 in IPv6", "[::ffff:10.1.2.3]:555", false, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "203.0.113.9", true, forwarding{"203.0.113.9, ::ffff:10.1.2.3", "http", "culvert.example", "1.1 culvert"}},
		{"a neighbour of a proxy", "192.0.2.8:555", false, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "192.0.2.8:555", false, forwarding{"192.0.2.8", "http", "culvert.example", "1.1 culvert"}},
		{"no address at all", "@", false, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "@", false, forwarding{"@", "http", "culvert.example", "1.1 culvert"}},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
		r.Host, r.RemoteAddr = "culvert.example", c.remote
		if c.header != nil {
			r.Header = c.header
		}
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		a := s.arrive(r)
		if a.peer.Addr != c.peer || a.trusted != c.trusted || a.forward != c.want || (a.peer.TLS != nil) != c.tls {
			t.Errorf("%s: got %q, trusted %v, %+v; want %q, %v, %+v", c.name, a.peer.Addr, a.trusted, a.forward, c.peer, c.trusted, c.want)
		}
	}
}

func TestViaNamesTheProtocol(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	for major, want := range map[int]string{1: "1.1 culvert", 2: "2 culvert"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
		r.ProtoMajor = major
		if got := s.arrive(r).forward.via; got != want {
			t.Errorf("HTTP/%d: via %q, want %q", major, got, want)
		}
	}
}

// seen is a backend that passes each call's metadata on and answers nothing.
func seenBy(t testing.TB, opts ...grpc.ServerOption) (address string, seen chan metadata.MD) {
	t.Helper()
	seen = make(chan metadata.MD, 64) // more than a test makes
	return startBackend(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		seen <- md
		return nil
	}, opts...), seen
}

func wantMetadata(t testing.TB, got metadata.MD, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if v := strings.Join(got[name], " | "); v != value {
			t.Errorf("%s reached the backend as %q, want %q", name, v, value)
		}
	}
}

// TestBackendIsToldWhoCalls, by culvert and not by the client.
func TestBackendIsToldWhoCalls(t *testing.T) {
	address, seen := seenBy(t)
	forged := metadata.Pairs(
		"x-forwarded-for", "1.2.3.4", "x-forwarded-proto", "https", "x-forwarded-host", "admin", "via", "1.1 liar", "forwarded", "for=1.2.3.4",
		"x-real-ip", "1.2.3.4", "x-auth-request-user", "root", "x-company-user", "root", "x-request-id", "call-0001", "cookie", "a=1", "x-a", "1")
	for _, c := range []struct {
		name string
		cfg  Config
		want map[string]string
	}{
		{"of anybody", Config{VouchedHeaders: []string{"X-Company-User"}}, map[string]string{
			"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "via": "2 culvert", "forwarded": "", "x-real-ip": "",
			"x-auth-request-user": "", "x-company-user": "", "x-request-id": "call-0001", "cookie": "", "x-a": "1",
		}},
		{"of a trusted proxy", Config{VouchedHeaders: []string{"X-Company-User"}, TrustedProxies: prefixes(t, "127.0.0.0/8"), ForwardCookies: true}, map[string]string{
			"x-forwarded-for": "1.2.3.4, 127.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "admin", "via": "1.1 liar, 2 culvert",
			"forwarded": "for=1.2.3.4", "x-real-ip": "1.2.3.4", "x-auth-request-user": "root", "x-company-user": "root", "cookie": "a=1", "x-a": "1",
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			c.cfg.Backend = Backend{Target: address}
			cc := dial(t, serve(t, newServer(t, c.cfg)))
			stream := open(metadata.NewOutgoingContext(within(t, patience), forged), t, cc, testMethod)
			if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
				t.Errorf("the call ended with %v", err)
			}
			md := await(t, "the call at the backend", seen)
			wantMetadata(t, md, c.want)
			if ua := md["x-forwarded-user-agent"]; len(ua) != 1 || !strings.HasPrefix(ua[0], "grpc-go/") {
				t.Errorf("x-forwarded-user-agent %q, want the client's", ua)
			}
		})
	}
}

// dialTunnel returns a grpc-go client inside of a WebSocket, as its users
// write it. The header is the outer request's.
func dialTunnel(t testing.TB, address string, header http.Header, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	return dial(t, address, append(opts, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		ws, res, err := websocket.Dial(ctx, "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}, HTTPHeader: header})
		if res != nil && res.Body != nil {
			_ = res.Body.Close() // it has none
		}
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}))...)
}

// TestInsideATunnelTheOuterRequestSpeaks: what an inner call says of its
// origin, its peer, its host or its cookies counts for nothing.
func TestInsideATunnelTheOuterRequestSpeaks(t *testing.T) {
	address, seen := seenBy(t)
	obs := newObserver()
	s := newServer(t, Config{
		Backend: Backend{Target: address}, Observer: obs, ForwardCookies: true,
		AllowOrigins: []string{"https://app.example.com"}, TrustedProxies: prefixes(t, "127.0.0.0/8"), DenyMethods: []string{"acme.Admin/*"},
	})
	outer := http.Header{
		"Origin": {"https://app.example.com"}, "Cookie": {"outer=1"}, "Authorization": {"Bearer outer"},
		"X-Forwarded-For": {"203.0.113.9"}, "X-Real-Ip": {"203.0.113.9"}, "X-A": {"outer"},
	}
	forged := []string{
		"origin", "https://evil.example", "cookie", "inner=1", "x-forwarded-for", "1.2.3.4", "x-forwarded-proto", "https",
		"x-forwarded-host", "admin", "via", "1.1 liar", "x-real-ip", "1.2.3.4", "x-auth-request-user", "root", "x-a", "inner",
	}
	cc := dialTunnel(t, serve(t, s), outer, grpc.WithAuthority("admin.internal"))
	for _, c := range []struct {
		inner []string
		want  map[string]string
	}{
		{forged, map[string]string{
			"cookie": "outer=1", "authorization": "Bearer outer", "x-forwarded-for": "203.0.113.9, 127.0.0.1", "x-forwarded-proto": "http",
			"x-real-ip": "203.0.113.9", "x-auth-request-user": "", "x-a": "inner", "via": "2 culvert",
		}},
		{append(forged, "authorization", "Bearer inner"), map[string]string{"authorization": "Bearer inner", "cookie": "outer=1"}},
	} {
		ctx := metadata.NewOutgoingContext(within(t, patience), metadata.Pairs(c.inner...))
		if err := open(ctx, t, cc, testMethod).RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
			t.Errorf("the call ended with %v", err)
		}
		md := await(t, "the call at the backend", seen)
		wantMetadata(t, md, c.want)
		if host := md["x-forwarded-host"]; len(host) != 1 || strings.Contains(host[0], "admin") {
			t.Errorf("x-forwarded-host %q, want the outer request's", host)
		}
		info := await(t, "the call's end", obs.ended)
		if info.Peer != "203.0.113.9" || info.Transport != "h2ts+grpc" || strings.Contains(info.Authority, "admin") {
			t.Errorf("the call is said to be of %q over %q to %q", info.Peer, info.Transport, info.Authority)
		}
	}
	// Each inner call passes the gate.
	err := open(within(t, patience), t, cc, "/acme.Admin/Drop").RecvMsg(new([]byte))
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("a denied method inside a tunnel: %v", err)
	}
}

// TestTunnelFromAnotherOriginIsRefused before there is any.
func TestTunnelFromAnotherOriginIsRefused(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere}))
	for _, subprotocol := range []string{tunnelName, "grpc-websockets"} {
		_, res, err := websocket.Dial(within(t, patience), "ws://"+address+testMethod, &websocket.DialOptions{
			Subprotocols: []string{subprotocol}, HTTPHeader: http.Header{"Origin": {"https://evil.example"}},
		})
		if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
			t.Errorf("%s: got %v and %v, want 403", subprotocol, res, err)
		}
	}
}

// TestRefusedRequestsCloseTheirConnection: what follows one on its connection
// is never served, since another hop may have read it as a part of it.
func TestRefusedRequestsCloseTheirConnection(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs, LoopbackOnly: true, Hosts: []string{"known.example"}, PathPrefix: "/grpc"})
	address := serve(t, s)
	const upgrade = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, c := range []struct {
		name, request string
		want          int
		header        string // that the answer has
		says          string
	}{
		{"CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n", 405, "Allow", ""},
		{"OPTIONS *", "OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", 405, "Allow", ""},
		{"an absolute target", "POST http://localhost/grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 400, "", ""},
		{"an absolute target of another host", "GET http://localhost/ HTTP/1.1\r\nhost: evil.example\r\n\r\n", 400, "", ""},
		{"a foreign Host", "GET / HTTP/1.1\r\nhost: evil.example\r\n\r\n", 403, "", "hosts"},
		{"a foreign Host and Origin", "POST /grpc/a.B/C HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 403, "", "hosts"},
		{"a foreign Origin", "POST /grpc/a.B/C HTTP/1.1\r\nhost: known.example\r\norigin: https://evil.example\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 403, "Vary", "origin"},
		{"a foreign Origin's preflight", "OPTIONS /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\naccess-control-request-method: POST\r\n\r\n", 403, "Vary", "origin"},
		{"nothing here", "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", 404, "", "/grpc/package.Service/Method"},
		{"without the prefix", "POST /a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 404, "", "/grpc/"},
		{"an escaped method", "POST /grpc/a.B/%43 HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n\r\n", 404, "", ""},
		{"PUT of a method", "PUT /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n", 405, "Allow", ""},
		{"another content type", "POST /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}", 415, "Accept-Post", ""},
		{"another content type of the family", "POST /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-webx\r\ncontent-length: 0\r\n\r\n", 415, "Accept-Post", ""},
		{"native over HTTP/1.1", "POST /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n", 505, "", "HTTP/2"},
		{"GET of a method", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\n\r\n", 426, "Upgrade", "Upgrade header"},
		{"a stripped upgrade", "GET / HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: h2ts\r\nsec-websocket-version: 13\r\n\r\n", 426, "Upgrade", "Upgrade header"},
		{"an unknown subprotocol", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: soap\r\n" + upgrade + "\r\n", 400, "", "h2ts"},
		{"no subprotocol", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\n" + upgrade + "\r\n", 400, "", "h2ts"},
		{"a socket for no method", "GET /x HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: grpc-websockets\r\n" + upgrade + "\r\n", 404, "", ""},
		{"a socket from a foreign Origin", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\nsec-websocket-protocol: grpc-websockets\r\n" + upgrade + "\r\n", 403, "", ""},
		{"a socket without a key", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: grpc-websockets\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n", 400, "", ""},
		{"a socket of another version", "GET /grpc/a.B/C HTTP/1.1\r\nhost: localhost\r\nsec-websocket-protocol: grpc-websockets\r\n" + strings.Replace(upgrade, "13", "8", 1) + "\r\n", 400, "", ""},
	} {
		answers := exchange(t, address, c.request+"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n")
		if len(answers) != 1 {
			t.Errorf("%s: %d answers, want one and the connection closed", c.name, len(answers))
			continue
		}
		got := answers[0]
		if got.StatusCode != c.want || !got.Close || c.header != "" && got.Header.Get(c.header) == "" {
			t.Errorf("%s: got %s, close %v, %v; want %d that closes, with %s", c.name, got.Status, got.Close, got.Header, c.want, c.header)
		}
		body, _ := io.ReadAll(got.Body) // it was read whole before
		if !strings.Contains(string(body), c.says) {
			t.Errorf("%s: the answer %q lacks %q", c.name, body, c.says)
		}
		if got.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: a page may read the refusal", c.name)
		}
	}
	for len(obs.refused) > 0 {
		if r := <-obs.refused; r.Reason != ReasonOriginDenied || r.Key == "" {
			t.Errorf("the Observer is told of %+v", r)
		}
	}
}

// exchange writes bytes on one connection and reads the answers to its end.
func exchange(t testing.TB, address, request string) (answers []*http.Response) {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(within(t, patience), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	r := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: strings.Replace(method, "CONNECT", "GET", 1)})
		if err != nil {
			if rest, _ := io.ReadAll(r); len(rest) > 0 {
				t.Errorf("after %d answers comes %q", len(answers), rest)
			}
			return answers
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Errorf("the body of answer %d: %v", len(answers), err)
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		answers = append(answers, res)
		if res.Close {
			if rest, _ := io.ReadAll(r); len(rest) > 0 { // also an error is the end
				t.Errorf("after the closing answer comes %q", rest)
			}
			return answers
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

func TestFallbackServesWhatIsNoCall(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, LoopbackOnly: true, Fallback: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "page %s", r.URL.Path) // to a recorder
	})})
	for _, c := range []struct {
		method, target, host, want string
	}{
		{http.MethodGet, "/", "localhost", "page /"},
		{http.MethodGet, "/a.B/C", "localhost", "page /a.B/C"},
		{http.MethodPut, "/a.B/C", "localhost", "page /a.B/C"},
		{http.MethodGet, "/", "evil.example", ""},
	} {
		r := httptest.NewRequestWithContext(t.Context(), c.method, c.target, http.NoBody)
		r.Host = c.host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if got := w.Body.String(); got != c.want && (c.want != "" || w.Code != http.StatusForbidden) {
			t.Errorf("%s %s at %s: got %d %q, want %q", c.method, c.target, c.host, w.Code, got, c.want)
		}
	}
}

// TestRefusalsAreLoggedNowAndThen: the Observer hears of each, a person of
// some, and of how many were left out.
func TestRefusalsAreLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		obs := newObserver()
		l := newRefusalLog(slog.New(slog.NewTextHandler(&out, nil)), obs)
		for range 100 {
			l.note(Refusal{ReasonOriginDenied, "allow_origins", "peer", "https://evil.example"}, "to allow it: --allow-origin https://evil.example")
		}
		lines := strings.Count(out.String(), "\n")
		if lines == 0 || lines > 10 {
			t.Errorf("100 refusals at once are %d lines", lines)
		}
		for _, want := range []string{"reason=ORIGIN_DENIED", "key=allow_origins", "peer=peer", "https://evil.example", "--allow-origin"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the log %q lacks %q", out.String(), want)
			}
		}
		out.Reset()
		elapse(time.Minute)
		l.note(Refusal{ReasonOriginDenied, "allow_origins", "peer", ""}, "")
		if want := fmt.Sprintf("not_logged=%d\n", 100-lines); !strings.HasSuffix(out.String(), want) {
			t.Errorf("a minute later the log says %q, want %q at its end", out.String(), want)
		}
		if len(obs.refused) != 101 {
			t.Errorf("the Observer heard of %d of 101", len(obs.refused))
		}
	})
}

// TestHostileTextStaysOnItsLine of the log.
func TestHostileTextStaysOnItsLine(t *testing.T) {
	var out bytes.Buffer
	l := newRefusalLog(slog.New(slog.NewTextHandler(&out, nil)), silent{})
	l.note(Refusal{ReasonOriginDenied, "hosts", "peer", "a\r\nlevel=INFO msg=\"all is well\"\x1b[2J"}, "h")
	if got := strings.Count(out.String(), "\n"); got != 1 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("the log has %d lines: %q", got, out.String())
	}
}

func TestCallsOwnIDIsUsedIfSane(t *testing.T) {
	for id, want := range map[string]bool{
		"call-0001": true, "0123456789abcdef": true, "A.b_c-d.e": true, strings.Repeat("a", 64): true,
		"a": true, "": false, strings.Repeat("a", 65): false, "call 0001": false, "call\n0001": false, "call-0001\x00": false, "c\u00e1ll-0001": false, "<script>": false,
	} {
		if got := saneID(id); got != want {
			t.Errorf("%q is sane: %v, want %v", id, got, want)
		}
	}
	ids := make([]string, 1000)
	for i := range ids {
		if ids[i] = newID(); !saneID(ids[i]) {
			t.Fatalf("the id %q isn't sane", ids[i])
		}
	}
	slices.Sort(ids)
	if len(slices.Compact(ids)) != 1000 {
		t.Error("two calls of 1000 have one id")
	}
}

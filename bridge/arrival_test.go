package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
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

// refusing is a backend that refuses each connection at once.
var refusing = Backend{Target: "passthrough:///refusing", Dial: func(context.Context, string) (net.Conn, error) {
	return nil, errors.New("refused by the test")
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
		want         gate.Forwarding
	}{
		{"a client", "198.51.100.1:555", false, nil, "198.51.100.1:555", false, forwards("198.51.100.1", "http", "culvert.example", "1.1 culvert")},
		{"a client over TLS", "[2001:db8::1]:555", true, nil, "[2001:db8::1]:555", false, forwards("2001:db8::1", "https", "culvert.example", "1.1 culvert")},
		{"a liar", "198.51.100.1:555", false, http.Header{
			"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"admin"}, "Via": {"1.1 liar"},
		}, "198.51.100.1:555", false, forwards("198.51.100.1", "http", "culvert.example", "1.1 culvert")},
		{"a proxy that says nothing", "10.1.2.3:555", false, nil, "10.1.2.3:555", true, forwards("10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"a proxy", "10.1.2.3:555", false, http.Header{
			"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"app.example"}, "Via": {"2 edge"},
		}, "203.0.113.9", true, forwards("203.0.113.9, 10.1.2.3", "https", "app.example", "2 edge, 1.1 culvert")},
		{"a chain of proxies", "10.1.2.3:555", false, http.Header{
			"X-Forwarded-For": {"203.0.113.9, 10.9.9.9", "192.0.2.7"},
		}, "203.0.113.9", true, forwards("203.0.113.9, 10.9.9.9, 192.0.2.7, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"a liar behind a proxy", "10.1.2.3:555", false, http.Header{
			"X-Forwarded-For": {"127.0.0.1, 203.0.113.9"},
		}, "203.0.113.9", true, forwards("127.0.0.1, 203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"proxies alone", "10.1.2.3:555", false, http.Header{"X-Forwarded-For": {"10.0.0.1, 10.0.0.2"}}, "10.0.0.1", true, forwards("10.0.0.1, 10.0.0.2, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"an address that is none", "10.1.2.3:555", false, http.Header{"X-Forwarded-For": {"203.0.113.9, unknown, 10.0.0.2"}}, "10.0.0.2", true, forwards("203.0.113.9, unknown, 10.0.0.2, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"addresses with ports", "10.1.2.3:555", false, http.Header{"X-Forwarded-For": {"[2001:db8::9]:77 , 192.0.2.7:80"}}, "2001:db8::9", true, forwards("[2001:db8::9]:77 , 192.0.2.7:80, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"a proxy on IPv6", "[fd00::1]:555", false, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "203.0.113.9", true, forwards("203.0.113.9, fd00::1", "http", "culvert.example", "1.1 culvert")},
		{"a proxy on IPv4 in IPv6", "[::ffff:10.1.2.3]:555", false, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "203.0.113.9", true, forwards("203.0.113.9, 10.1.2.3", "http", "culvert.example", "1.1 culvert")},
		{"a neighbour of a proxy", "192.0.2.8:555", false, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "192.0.2.8:555", false, forwards("192.0.2.8", "http", "culvert.example", "1.1 culvert")},
		{"no address at all", "@", false, http.Header{"X-Forwarded-For": {"203.0.113.9"}}, "@", false, forwards("@", "http", "culvert.example", "1.1 culvert")},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
		r.Host, r.RemoteAddr = "culvert.example", c.remote
		if c.header != nil {
			r.Header = c.header
		}
		if c.tls {
			r.TLS = &tls.ConnectionState{}
		}
		a := s.arrive(r, s.policy.Load(), nil)
		if a.peer.Addr != c.peer || a.trusted != c.trusted || a.forward != c.want || (a.peer.TLS != nil) != c.tls {
			t.Errorf("%s: got %q, trusted %v, %+v; want %q, %v, %+v", c.name, a.peer.Addr, a.trusted, a.forward, c.peer, c.trusted, c.want)
		}
	}
}

// TestLengthHolds: net/http goes by the first of several lengths, and by none
// where the header ends the request.
func TestLengthHolds(t *testing.T) {
	for _, c := range []struct {
		values []string
		length int64 // as net/http has it
		want   bool
	}{
		{nil, -1, true},
		{nil, 0, true},
		{[]string{"0"}, 0, true},
		{[]string{"5"}, 5, true},
		{[]string{"5"}, 0, false}, // the header ends the request
		{[]string{"5", "5"}, 5, false},
		{[]string{"5", "6"}, 5, false},
		{[]string{"+5"}, 0, false},
		{[]string{""}, 0, false},
		{[]string{"99999999999999999999"}, 0, false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
		r.ContentLength = c.length
		if c.values != nil {
			r.Header["Content-Length"] = c.values
		}
		if got := gate.LengthHolds(r); got != c.want {
			t.Errorf("%q and a length of %d: %v, want %v", c.values, c.length, got, c.want)
		}
	}
}

func TestViaNamesTheProtocol(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	for major, want := range map[int]string{1: "1.1 culvert", 2: "2 culvert"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, testMethod, http.NoBody)
		r.ProtoMajor = major
		if got := s.arrive(r, s.policy.Load(), nil).forward.Via; got != want {
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
		"x-real-ip", "1.2.3.4", "x-auth-request-user", "root", "x-company-user", "root", "x-request-id", "call-0001", "cookie", "a=1", "sec-fetch-site", "same-origin", "x-a", "1",
		"x_forwarded_for", "1.2.3.4", "x_company_user", "root")
	for _, c := range []struct {
		name string
		cfg  Config
		want map[string]string
	}{
		{"of anybody", Config{VouchedHeaders: []string{"X-Company-User"}}, map[string]string{
			"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http", "via": "2 culvert", "forwarded": "", "x-real-ip": "",
			"x-auth-request-user": "", "x-company-user": "", "x-request-id": "call-0001", "cookie": "", "x-a": "1",
			"x_forwarded_for": "", "x_company_user": "",
		}},
		{"of a trusted proxy", Config{VouchedHeaders: []string{"X-Company-User"}, TrustedProxies: prefixes(t, "127.0.0.0/8"), ForwardCookies: true}, map[string]string{
			"x-forwarded-for": "1.2.3.4, 127.0.0.1", "x-forwarded-proto": "https", "x-forwarded-host": "admin", "via": "1.1 liar, 2 culvert",
			"forwarded": "", "x-real-ip": "1.2.3.4", "x-auth-request-user": "root", "x-company-user": "root", "cookie": "a=1", "x-a": "1",
			"x_forwarded_for": "", "x_company_user": "",
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
	return dial(t, address, append(opts, grpc.WithContextDialer(tunnelDialer(header, tunnelName)))...)
}

// tunnelDialer opens tunnels by requests with the header that offer the subprotocols.
func tunnelDialer(header http.Header, offer ...string) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		ws, res, err := websocket.Dial(ctx, "ws://"+address, &websocket.DialOptions{Subprotocols: offer, HTTPHeader: header})
		if res != nil && res.Body != nil {
			_ = res.Body.Close() // it has none
		}
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}
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
		"X_real_ip": {"1.2.3.4"},
	}
	forged := []string{
		"origin", "https://evil.example", "cookie", "inner=1", "x-forwarded-for", "1.2.3.4", "x-forwarded-proto", "https",
		"x-forwarded-host", "admin", "via", "1.1 liar", "x-real-ip", "1.2.3.4", "x-auth-request-user", "root", "x-a", "inner",
		"x_forwarded_for", "1.2.3.4", "x_auth_request_user", "root",
	}
	cc := dialTunnel(t, serve(t, s), outer, grpc.WithAuthority("admin.internal"))
	for _, c := range []struct {
		inner []string
		want  map[string]string
	}{
		{forged, map[string]string{
			"cookie": "outer=1", "authorization": "Bearer outer", "x-forwarded-for": "203.0.113.9, 127.0.0.1", "x-forwarded-proto": "http",
			"x-real-ip": "203.0.113.9", "x-auth-request-user": "", "x-a": "inner", "via": "2 culvert",
			"x_forwarded_for": "", "x_auth_request_user": "", "x_real_ip": "",
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

// On loopback a name that a certificate is for counts as this server's own.
func TestNamesOfCertificatesCountOnLoopback(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{LoopbackOnly: true, Serves: func(host string) bool { return host == "grpc.example.com" }})
	for host, want := range map[string]int{
		"grpc.example.com": http.StatusNotFound, "GRPC.example.com:8443": http.StatusNotFound, "localhost": http.StatusNotFound, "other.example.com": http.StatusForbidden,
	} {
		r, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, "http://"+address+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Host, r.Close = host, true
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close() // the status is all
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", host, response.StatusCode, want)
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
		{http.MethodGet, "/a.b/c", "localhost", "page /a.b/c"},
		{http.MethodPut, "/a/c", "localhost", "page /a/c"},
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

func TestCallsOwnIDIsUsedIfSane(t *testing.T) {
	for id, want := range map[string]bool{
		"call-0001": true, "0123456789abcdef": true, "A.b_c-d.e": true, strings.Repeat("a", 64): true,
		"a": true, "...": true, "": false, ".": false, "..": false, strings.Repeat("a", 65): false, "call 0001": false, "call\n0001": false, "call-0001\x00": false, "c\u00e1ll-0001": false, "<script>": false,
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

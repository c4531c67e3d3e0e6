package bridge

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// TestPeerAddress: who calls is right in the log and at the backend, whatever
// stands between, over every protocol; and nobody else can say it.
func TestPeerAddress(t *testing.T) {
	backend, seen := seenBy(t)
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: backend}, Observer: obs})
	ca := parts.NewAuthority(t)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"h2", "http/1.1"}}
	proxy := prefixes(t, "127.0.0.2/32")
	listeners := map[string]Listener{
		"open":            {},
		"x-forwarded-for": {TrustedProxies: proxy},
		"forwarded":       {TrustedProxies: proxy, Forwarded: true},
		"PROXY":           {ProxyProtocol: proxy, TrustedProxies: prefixes(t, "127.0.0.2/32", "10.0.0.0/8", "fd00::/8")},
	}
	addresses := map[string]string{}
	for name, l := range listeners {
		addresses[name] = serveListener(t, s, listen(t, "127.0.0.1:0"), l)
		l.TLS = serverTLS
		addresses[name+" over TLS"] = serveListener(t, s, listen(t, "127.0.0.1:0"), l)
	}
	const (
		stranger, trusted = "127.0.0.1", "127.0.0.2"
		v1                = "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n"
	)
	said := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	scheme := func(tls bool) string { return map[bool]string{true: "https", false: "http"}[tls] }
	forged := said("X-Forwarded-For", "192.0.2.66", "Forwarded", "for=192.0.2.66", "X-Real-Ip", "192.0.2.66")
	for _, c := range []struct {
		listener, from, proxied string
		header                  http.Header
		peer                    string // without a port
		chain                   string // as the backend sees it
	}{
		{"open", stranger, "", nil, stranger, stranger},
		{"open", stranger, "", forged, stranger, stranger},
		{"x-forwarded-for", stranger, "", forged, stranger, stranger},
		{"x-forwarded-for", trusted, "", nil, trusted, trusted},
		{"x-forwarded-for", trusted, "", said("X-Forwarded-For", "192.0.2.66, 203.0.113.9"), "203.0.113.9", "192.0.2.66, 203.0.113.9, 127.0.0.2"},
		{"x-forwarded-for", trusted, "", said("X-Forwarded-For", "203.0.113.9, 127.0.0.2"), "203.0.113.9", "203.0.113.9, 127.0.0.2, 127.0.0.2"},
		{"x-forwarded-for", trusted, "", said("X-Forwarded-For", "2001:db8::9", "Forwarded", "for=192.0.2.66"), "2001:db8::9", "2001:db8::9, 127.0.0.2"},
		{"forwarded", stranger, "", forged, stranger, stranger},
		{"forwarded", trusted, "", said("Forwarded", `for=192.0.2.66, for="[2001:db8::9]:1"`, "X-Forwarded-For", "192.0.2.66"), "2001:db8::9", "192.0.2.66, [2001:db8::9]:1, 127.0.0.2"},
		{"PROXY", stranger, "", forged, stranger, stranger},
		{"PROXY", trusted, v1, nil, "203.0.113.9", "203.0.113.9"},
		{"PROXY", trusted, v1, forged, "203.0.113.9", "203.0.113.9"},
		{"PROXY", trusted, parts.PROXYHeader(t, "203.0.113.9:4660"), forged, "203.0.113.9", "203.0.113.9"},
		{"PROXY", trusted, parts.PROXYHeader(t, "[2001:db8::9]:4660"), forged, "2001:db8::9", "2001:db8::9"},
		{"PROXY", trusted, parts.PROXYHeader(t, ""), forged, trusted, trusted}, // a health check
		{"PROXY", trusted, "PROXY UNKNOWN\r\n", forged, trusted, trusted},
		// A proxy that ends HTTP, and before culvert one that passes TCP on.
		{"PROXY", trusted, "PROXY TCP4 10.0.0.7 127.0.0.1 4660 80\r\n", said("X-Forwarded-For", "192.0.2.66, 203.0.113.9"), "203.0.113.9", "192.0.2.66, 203.0.113.9, 10.0.0.7"},
		{"PROXY", trusted, "PROXY TCP6 fd00::7 ::1 4660 80\r\n", said("X-Forwarded-For", "203.0.113.9"), "203.0.113.9", "203.0.113.9, fd00::7"},
		{"PROXY", trusted, "PROXY TCP6 ::ffff:10.0.0.7 ::1 4660 80\r\n", said("X-Forwarded-For", "203.0.113.9"), "203.0.113.9", "203.0.113.9, 10.0.0.7"},
	} {
		for transport, call := range callers {
			for _, over := range []string{"", " over TLS"} {
				w := way{from: c.from, header: c.proxied}
				if over != "" {
					w.tls = &tls.Config{RootCAs: ca.Pool}
				}
				call(t, w, addresses[c.listener+over], c.header)
				md := await(t, "the call at the backend", seen)
				info := await(t, "the call's end", obs.ended)
				peer := info.Peer
				if host, _, err := net.SplitHostPort(peer); err == nil {
					peer = host
				}
				chain, proto := strings.Join(md["x-forwarded-for"], " | "), strings.Join(md["x-forwarded-proto"], " | ")
				if peer != c.peer || info.Transport != transport || chain != c.chain || proto != scheme(over != "") || len(md["forwarded"]) > 0 {
					t.Errorf("%s%s from %s, %q, %v: %s of %s, and the backend sees %q over %s, %q; want %s of %s, and %q",
						c.listener, over, c.from, c.proxied, c.header, info.Transport, info.Peer, chain, proto, md["forwarded"], transport, c.peer, c.chain)
				}
			}
		}
	}
}

// TestWebServerSeesTheClientOfAPROXYHeader, as backends do: in the header that culvert
// sets, never in what the client wrote. The log has the same address.
func TestWebServerSeesTheClientOfAPROXYHeader(t *testing.T) {
	seen := make(chan http.Header, 1)
	to := webServer(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		if ws, err := websocket.Accept(w, r, nil); err == nil {
			_ = ws.Close(websocket.StatusNormalClosure, "")
		}
	})
	obs := newWebObserver()
	s := newServer(t, Config{Backend: nowhere, FallbackURL: to, Observer: obs})
	proxy := prefixes(t, "127.0.0.2/32")
	only := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{ProxyProtocol: proxy})
	trusting := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{ProxyProtocol: proxy, TrustedProxies: prefixes(t, "10.0.0.0/8")})
	forwarded := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{ProxyProtocol: proxy, TrustedProxies: prefixes(t, "10.0.0.0/8"), Forwarded: true})
	const v1, inner = "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n", "PROXY TCP4 10.0.0.7 127.0.0.1 4660 80\r\n"
	for _, c := range []struct{ name, address, from, header, client, chain string }{
		{"version 1", only, "127.0.0.2", v1, "203.0.113.9", "203.0.113.9"},
		{"version 2", only, "127.0.0.2", parts.PROXYHeader(t, "203.0.113.9:4660"), "203.0.113.9", "203.0.113.9"},
		{"IPv6", only, "127.0.0.2", parts.PROXYHeader(t, "[2001:db8::9]:4660"), "2001:db8::9", "2001:db8::9"},
		{"the proxy's own request", only, "127.0.0.2", parts.PROXYHeader(t, ""), "127.0.0.2", "127.0.0.2"},
		{"a client beside the proxy", only, "127.0.0.1", "", "127.0.0.1", "127.0.0.1"},
		{"a client that isn't trusted", trusting, "127.0.0.2", v1, "203.0.113.9", "203.0.113.9"},
		{"an HTTP proxy before the TCP proxy", trusting, "127.0.0.2", inner, "192.0.2.66", "192.0.2.66, 10.0.0.7"},
		{"one that sets Forwarded", forwarded, "127.0.0.2", inner, "192.0.2.67", "192.0.2.67, 10.0.0.7"},
	} {
		w := way{from: c.from, header: c.header}
		said := http.Header{"X-Forwarded-For": {"192.0.2.66"}, "Forwarded": {"for=192.0.2.67"}, "X-Real-Ip": {"192.0.2.68"}}
		check := func(version string) {
			t.Helper()
			got, info := await(t, c.name, seen), await(t, "the log", obs.web)
			if chain, ip := strings.Join(got["X-Forwarded-For"], " | "), strings.Join(got["X-Real-Ip"], " | "); chain != c.chain || ip != c.client || len(got["Forwarded"]) > 0 {
				t.Errorf("%s, %s: the web server gets the chain %q of %q, and Forwarded %q; want %q of %q", c.name, version, chain, ip, got["Forwarded"], c.chain, c.client)
			}
			if peer, _, err := net.SplitHostPort(info.Peer); peer != c.client && (err == nil || info.Peer != c.client) {
				t.Errorf("%s, %s: the log has %q, want %q", c.name, version, info.Peer, c.client)
			}
		}
		for version, client := range webClients(t) {
			client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, address string) (net.Conn, error) { return w.dial(ctx, address) }
			r := newRequest(t, http.MethodGet, "http://"+c.address+"/", "")
			r.Header = said.Clone()
			_, _ = send(t, client, r) // the web server has seen enough
			check(version)
		}
		ws, _, err := websocket.Dial(within(t, patience), "ws://"+c.address+"/chat", &websocket.DialOptions{HTTPHeader: said, HTTPClient: w.httpClient(t)})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_, _, _ = ws.Read(within(t, patience)) // its end
		check("WebSocket")
		_ = ws.CloseNow() // closed by the web server
	}
}

// TestPROXYPortWantsItsHeader from those that are listed, and from nobody else.
func TestPROXYPortWantsItsHeader(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{ProxyProtocol: prefixes(t, "127.0.0.2/32")})
	const request = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
	answer := func(from, sent string) string {
		conn, err := way{from: from, header: sent}.dial(within(t, patience), address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		got, _ := io.ReadAll(conn)                     // a reset is an end, too
		line, _, _ := strings.Cut(string(got), "\r\n")
		return line
	}
	for _, c := range []struct{ name, from, sent, want string }{
		{"a proxy", "127.0.0.2", "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n" + request, "HTTP/1.1 404 Not Found"},
		{"a proxy without a header", "127.0.0.2", request, ""},
		{"a proxy with two", "127.0.0.2", "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\nPROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n" + request, "HTTP/1.1 400 Bad Request"},
		{"a stranger", "127.0.0.1", request, "HTTP/1.1 404 Not Found"},
		{"a stranger with a header", "127.0.0.1", "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n" + request, "HTTP/1.1 400 Bad Request"},
		{"a stranger with a header of version 2", "127.0.0.1", parts.PROXYHeader(t, "203.0.113.9:4660") + request, "HTTP/1.1 400 Bad Request"},
	} {
		if got := answer(c.from, c.sent); got != c.want {
			t.Errorf("%s is answered %q, want %q", c.name, got, c.want)
		}
	}
	if r := await(t, "the refusal", obs.refused); r.Reason != report.ReasonBadRequest || r.Key != report.KeyProxyProtocol || !strings.HasPrefix(r.Peer, "127.0.0.2:") || !strings.Contains(r.Detail, "PROXY header") {
		t.Errorf("the Observer is told of %+v", r)
	}
	if n := len(obs.refused); n > 0 {
		t.Errorf("and of %d more", n)
	}
}

// TestPROXYConnectionsAreTold of with the address that the header names, and
// those without one not at all; all are counted.
func TestPROXYConnectionsAreTold(t *testing.T) {
	obs := &connObserver{anObserver: newObserver()}
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: obs})
	address := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "behind", ProxyProtocol: prefixes(t, "127.0.0.2/32")})
	w := way{from: "127.0.0.2"}
	waiting, err := w.dial(within(t, patience), address)
	if err != nil {
		t.Fatal(err)
	}
	w.header = "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n"
	// One that waits for its header holds nobody up.
	cc := dial(t, address, grpc.WithContextDialer(w.dial))
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Fatal(err)
	}
	tunnel := dial(t, address, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return websocket.NetConn(context.Background(), w.socket(ctx, t, address, tunnelName, nil), websocket.MessageBinary), nil
	}))
	if err := unary(within(t, patience), tunnel, testMethod); err != nil {
		t.Fatal(err)
	}
	if began, tunnels, now := obs.began.Load(), obs.tunnels.Load(), s.edge.Open(); began != 3 || tunnels != 1 || now != 3 {
		t.Errorf("%d connections began, %d of them tunnels, %d are counted; want 3, 1, 3", began, tunnels, now)
	}
	_, _, _ = waiting.Close(), cc.Close(), tunnel.Close()
	for range 3 {
		if c := await(t, "a connection's end", obs.conns); !strings.HasPrefix(c.Peer, "203.0.113.9:") || c.Listener != "behind" {
			t.Errorf("%+v ended, want one of 203.0.113.9", c)
		}
	}
	poll(t, func() string { // nobody is told of the end of what never began
		if n := s.edge.Open(); n > 0 {
			return fmt.Sprintf("%d connections are counted after the last", n)
		}
		return ""
	})
	if n := len(obs.conns) + len(obs.refused); n > 0 {
		t.Errorf("%d ends and refusals more are told", n)
	}
}

package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// startHAProxy starts HAProxy with frontends, each the lines of its backend's
// server, and returns their addresses. It checks culvert's health all the time,
// with the header that it sends for clients, as a LOCAL one.
func startHAProxy(t *testing.T, culvert string, servers map[string]string) map[string]string {
	t.Helper()
	addresses := map[string]string{}
	var proxies strings.Builder
	last := ""
	for name, server := range servers {
		last = freeAddress(t)
		addresses[name] = last
		fmt.Fprintf(&proxies, "frontend %s\n  bind %s\n  default_backend %s\nbackend %s\n  server culvert %s source %s check inter 50ms %s\n",
			name, last, name, name, culvert, frontIP, server)
	}
	dir := t.TempDir()
	file := write(t, dir, "haproxy.cfg", fmt.Sprintf(haproxyConfig, &proxies))
	startPathProcess(t, "haproxy", last, "-db", "-f", file)
	return addresses
}

const haproxyConfig = `
global
  maxconn 200
defaults
  mode tcp
  timeout connect 30s
  timeout client 2m
  timeout server 2m
%s
`

// HAProxy in front, which passes TCP on: culvert knows the client by the PROXY
// header, over every transport, and HAProxy's health checks are no news.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "proxy_protocol: [" + frontIP + "]\n"})
	fronts := startHAProxy(t, c.address, map[string]string{"v1": "send-proxy", "v2": "send-proxy-v2"})
	for name, front := range fronts {
		t.Run(name, func(t *testing.T) {
			perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
				conn := dialFrom(t, transport, clientIP, front)
				wantPeer(t, conn, b, c, conn.TCP.LocalAddr().String(), clientIP)
			})
		})
	}
	for _, line := range c.output.all() {
		if strings.Contains(line, `"msg":"refused"`) {
			t.Errorf("the log tells of a refusal: %s", line)
		}
	}
}

// The same where TLS ends in culvert: the header stands before it, and the
// client's certificate comes through.
func TestTLSBehindHAProxy(t *testing.T) {
	t.Parallel()
	ca, clients, dir := newIssuer(t, "ca"), newIssuer(t, "clients"), t.TempDir()
	certFile, keyFile := writePair(t, dir, "server", ca.issue("server", "localhost"))
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: fmt.Sprintf(`
tls: {cert: %s, key: %s, client_ca: %s}
proxy_protocol: [%s]
metadata: {client_certificate: true}
`, certFile, keyFile, clients.file, frontIP)})
	fronts := startHAProxy(t, c.address, map[string]string{"v1": "send-proxy", "v2": "send-proxy-v2"})
	config := named(ca.trusting(clients.issue("alice")), "localhost")
	for name, front := range fronts {
		t.Run(name, func(t *testing.T) {
			perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
				conn := dialTLS(t, transport, front, config)
				r, line := wantPeer(t, conn, b, c, conn.TCP.LocalAddr().String(), "127.0.0.1")
				if line["client"] != "spiffe://example.org/alice" {
					t.Errorf("the log says that the client is %v, want her SPIFFE ID", line["client"])
				}
				if got := strings.Join(r.Values("x-forwarded-client-cert"), " | "); !strings.HasPrefix(got, "Hash=") || !strings.HasSuffix(got, `;Subject="CN=alice";URI=spiffe://example.org/alice`) {
					t.Errorf("the backend is told x-forwarded-client-cert: %q", got)
				}
				if got := strings.Join(r.Values("x-forwarded-proto"), " | "); got != "https" {
					t.Errorf("the backend is told x-forwarded-proto: %q", got)
				}
			})
		})
	}
	for _, line := range c.output.all() {
		if strings.Contains(line, `"msg":"refused"`) {
			t.Errorf("the log tells of a refusal: %s", line)
		}
	}
}

// Nobody but those in proxy_protocol can say who they are, and these have to.
func TestPROXYHeaderOfAStrangerIsNone(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "proxy_protocol: [" + frontIP + "]\n"})
	const (
		v1      = "PROXY TCP4 6.6.6.6 127.0.0.1 666 80\r\n"
		v2      = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x06\x06\x06\x06\x7f\x00\x00\x01\x02\x9a\x00\x50"
		request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
	)
	for _, one := range []struct{ name, from, sent, want string }{
		{"a stranger's header", "127.0.0.1", v1 + request, "400"},
		{"a stranger's of version 2", "127.0.0.1", v2 + request, "400"},
		{"a stranger without", "127.0.0.1", request, "404"},
		{"a proxy's header", frontIP, v1 + request, "404"},
		{"a proxy's of version 2", frontIP, v2 + request, "404"},
		{"a proxy's, and the client's own", frontIP, v1 + v1 + request, "400"},
		{"a proxy without", frontIP, request, ""},
		{"a proxy with half a header", frontIP, "PROXY TCP4 6.6.6.6 127.0.0.1 666 80" + strings.Repeat("9", 100), ""},
	} {
		if got := answerTo(t, one.from, c.address, one.sent); got != one.want {
			t.Errorf("%s: answered %q, want %q", one.name, got, one.want)
		}
	}
	refused := c.loggedLike(t, func(l map[string]any) bool { return l["msg"] == "refused" && l["key"] == "proxy_protocol" })
	if peer, _, _ := net.SplitHostPort(fmt.Sprint(refused["peer"])); peer != frontIP {
		t.Errorf("the log says that %v sent no header, want %s", refused["peer"], frontIP)
	}
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		conn := dialFrom(t, transport, clientIP, c.address) // directly: a client like others
		wantPeer(t, conn, b, c, conn.TCP.LocalAddr().String(), clientIP)
	})
}

// answerTo sends bytes from an address of the loopback and returns the status of
// the answer, "" for none.
func answerTo(t *testing.T, from, address, sent string) string {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // one that hangs fails below
	if _, err := io.WriteString(conn, sent); err != nil {
		return "" // cut already
	}
	answer, err := io.ReadAll(conn)
	if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // of a net.Conn, as it is
		t.Fatalf("%q is not answered", sent)
	}
	line, _, _ := strings.Cut(string(answer), "\r\n")
	if fields := strings.Fields(line); len(fields) > 1 {
		return fields[1]
	}
	return line
}

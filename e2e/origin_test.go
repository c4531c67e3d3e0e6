package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// An exchange is one request on a connection of its own, byte by byte as written.
type exchange struct {
	status int
	header http.Header // without Connection
	close  bool        // "Connection: close"
	body   string
}

// send sends head (lines without their ends) and body, and reads the answer.
func send(t testing.TB, address, body string, head ...string) exchange {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()            // read as far as it matters
	_ = conn.SetDeadline(time.Now().Add(patience)) // just opened
	if _, err := conn.Write([]byte(strings.Join(head, "\r\n") + "\r\n\r\n" + body)); err != nil {
		t.Fatal(err)
	}
	return receive(t, bufio.NewReader(conn), strings.Fields(head[0])[0])
}

func receive(t testing.TB, in *bufio.Reader, method string) exchange {
	t.Helper()
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	e := exchange{status: resp.StatusCode, header: resp.Header, close: resp.Close}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b, _ := io.ReadAll(resp.Body) // an answer that is cut shows in what it lacks
		e.body = string(b)
		_ = resp.Body.Close() // read
	}
	return e
}

// callFrom makes a gRPC-Web call with a Host and an Origin ("": none), and
// reports whether it was answered as a call and reached the backend.
func callFrom(t testing.TB, b *backend, address, host, origin string) (exchange, bool) {
	t.Helper()
	id := newID(t)
	body := string(wire.Frame(wire.Request(0, 0)))
	head := []string{
		"POST " + wire.Unary + " HTTP/1.1", "Host: " + host, "Content-Type: application/grpc-web+proto",
		fmt.Sprintf("Content-Length: %d", len(body)), probe.IDKey + ": " + id,
	}
	if origin != "" {
		head = append(head, "Origin: "+origin)
	}
	e := send(t, address, body, head...)
	_, reached := b.saw(t, id)
	if called := e.status == http.StatusOK && strings.Contains(e.body, "grpc-status: 0\r\n"); called != reached {
		t.Errorf("Host %s, Origin %q: answered %d %q, and at the backend: %v", host, origin, e.status, e.body, reached)
	}
	return e, reached
}

// upgradeFrom asks for a WebSocket with a Host and an Origin.
func upgradeFrom(t testing.TB, address, host, origin, path, subprotocol string) exchange {
	t.Helper()
	head := []string{
		"GET " + path + " HTTP/1.1", "Host: " + host, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: " + subprotocol,
	}
	if origin != "" {
		head = append(head, "Origin: "+origin)
	}
	return send(t, address, "", head...)
}

// Who may call: by Host and Origin, for posts and for upgrades alike.
func TestOrigins(t *testing.T) {
	b := startBackend(t, backendOptions{})
	allow := []string{
		"--allow-origin", "https://app.example.com", "--allow-origin", "https://*.wild.example",
		"--allow-origin", "http://localhost:*", "--allow-origin", "vscode-webview://*", "--allow-origin", "https://port.example:8443",
	}
	loopback := startCulvert(t, b.address, culvertOptions{args: allow, config: "hosts: [grpc.example.com]\n"})
	public := startCulvert(t, b.address, culvertOptions{listen: "0.0.0.0:0", args: allow, config: "hosts: [grpc.example.com]\n"})
	star := startCulvert(t, b.address, culvertOptions{args: []string{"--allow-origin", "*"}})
	_, port, _ := net.SplitHostPort(loopback.address) // it is one
	_, publicPort, _ := net.SplitHostPort(public.address)
	public.address = "127.0.0.1:" + publicPort

	for _, c := range []struct {
		why          string
		at           *culvert
		host, origin string
		allowed      bool
	}{
		{"no origin: no browser", loopback, loopback.address, "", true},
		{"localhost", loopback, "localhost:" + port, "", true},
		{"another loopback address", loopback, "[::1]:" + port, "", true},
		{"a configured host", loopback, "grpc.example.com", "", true},
		{"a configured host, other case", loopback, "GRPC.Example.Com", "", true},
		{"a page of a configured host", loopback, "grpc.example.com", "https://grpc.example.com", true},
		{"an allowed origin", loopback, loopback.address, "https://app.example.com", true},
		{"allowed, but for http", loopback, loopback.address, "http://app.example.com", false},
		{"allowed, but for another port", loopback, loopback.address, "https://app.example.com:8443", false},
		{"allowed with its port", loopback, loopback.address, "https://port.example:8443", true},
		{"allowed without its port", loopback, loopback.address, "https://port.example", false},
		{"below a wildcard", loopback, loopback.address, "https://a.wild.example", true},
		{"two below a wildcard", loopback, loopback.address, "https://a.b.wild.example", true},
		{"the wildcard's own name", loopback, loopback.address, "https://wild.example", false},
		{"ends like a wildcard", loopback, loopback.address, "https://evilwild.example", false},
		{"begins like an allowed one", loopback, loopback.address, "https://app.example.com.evil.example", false},
		{"any port of localhost", loopback, loopback.address, "http://localhost:5173", true},
		{"localhost over https", loopback, loopback.address, "https://localhost:5173", false},
		{"localhost's name in front", loopback, loopback.address, "http://localhost.evil.example:80", false},
		{"an editor's page", loopback, loopback.address, "vscode-webview://abc123", true},
		{"an opaque origin", loopback, loopback.address, "null", false},
		{"a stranger", loopback, loopback.address, "https://evil.example", false},
		{"rebinding: Host is Origin", loopback, "evil.example", "http://evil.example", false},
		{"rebinding: Host is Origin, with the port", loopback, "evil.example:" + port, "http://evil.example:" + port, false},
		{"rebinding: Host alone", loopback, "evil.example:" + port, "", false},
		{"rebinding: Host with a trailing dot", loopback, "evil.example.:" + port, "", false},
		{"rebinding: an allowed origin", loopback, "evil.example:" + port, "https://app.example.com", false},
		{"a public listener takes any Host", public, "whatever.example", "", true},
		{"a public listener: Host is Origin", public, "evil.example", "http://evil.example", false},
		{"a public listener: a configured host", public, "grpc.example.com", "https://grpc.example.com", true},
		{"*", star, star.address, "https://evil.example", true},
		{"*: rebinding", star, "evil.example", "http://evil.example", false},
	} {
		e, called := callFrom(t, b, c.at.address, c.host, c.origin)
		if called != c.allowed || !called && e.status != http.StatusForbidden {
			t.Errorf("%s (Host %s, Origin %q): answered %d, at the backend: %v, want %v", c.why, c.host, c.origin, e.status, called, c.allowed)
		}
		if got := e.header.Get("Access-Control-Allow-Origin"); c.allowed && c.origin != "" && got != c.origin && got != "*" {
			t.Errorf("%s: the browser would not let the page %s read it: %q", c.why, c.origin, got)
		} else if !c.allowed && got != "" && got != "*" && got != "https://app.example.com" { // who may call reads what is wrong
			t.Errorf("%s: a refusal allows %q to read it", c.why, got)
		}
		for path, subprotocol := range map[string]string{wire.Bidi: "grpc-websockets", "/": "h2ts"} {
			e := upgradeFrom(t, c.at.address, c.host, c.origin, path, subprotocol)
			if upgraded := e.status == http.StatusSwitchingProtocols; upgraded != c.allowed || !upgraded && e.status != http.StatusForbidden {
				t.Errorf("%s (Host %s, Origin %q): the %s upgrade was answered %d", c.why, c.host, c.origin, subprotocol, e.status)
			}
		}
	}
}

// A refusal tells the operator which flag would allow it, and only now and then.
func TestRefusedOriginTellsTheFlag(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	for range 100 {
		callFrom(t, b, c.address, c.address, "https://app.example.com")
	}
	mentions := 0
	c.loggedLike(t, func(l map[string]any) bool {
		return strings.Contains(fmt.Sprint(l), "--allow-origin https://app.example.com")
	})
	for _, line := range c.output.all() {
		if strings.Contains(line, "--allow-origin https://app.example.com") {
			mentions++
		}
	}
	if mentions > 20 {
		t.Errorf("100 refusals fill %d lines of the log", mentions)
	}
}

// With "*" no cookie counts or passes; with a listed origin it does, if asked for.
func TestCookiesPassOnlyForListedOrigins(t *testing.T) {
	b := startBackend(t, backendOptions{})
	args := []string{"--allow-origin", "https://app.example.com"}
	asked := startCulvert(t, b.address, culvertOptions{config: "metadata: {forward_cookies: true}\n", args: args})
	unasked := startCulvert(t, b.address, culvertOptions{args: args})
	star := startCulvert(t, b.address, culvertOptions{args: []string{"--allow-origin", "*"}})
	for _, c := range []struct {
		at          *culvert
		cookie      bool
		credentials string
	}{{asked, true, "true"}, {unasked, false, "true"}, {star, false, ""}} {
		id := newID(t)
		body := string(wire.Frame(wire.Request(0, 0)))
		e := send(t, c.at.address, body, "POST "+wire.Unary+" HTTP/1.1", "Host: "+c.at.address, "Origin: https://app.example.com",
			"Cookie: session=secret", "Content-Type: application/grpc-web+proto", fmt.Sprintf("Content-Length: %d", len(body)), probe.IDKey+": "+id)
		if e.status != http.StatusOK || e.header.Get("Access-Control-Allow-Credentials") != c.credentials {
			t.Errorf("%d with the header %v", e.status, e.header)
		}
		r, _ := b.saw(t, id)
		if got := len(r.Values("cookie")) > 0; got != c.cookie {
			t.Errorf("the cookie passed: %v, want %v", got, c.cookie)
		}
	}
}

// A preflight is answered with all that the clients send, on any path, and is kept
// by the browser.
func TestPreflight(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--allow-origin", "https://app.example.com"}})
	asked := map[string]string{
		"improbable":  "content-type,x-grpc-web",
		"connect-web": "connect-protocol-version,content-type,grpc-timeout,x-grpc-web,x-user-agent",
		"grpc-web":    "authorization,content-type,grpc-timeout,x-grpc-web,x-user-agent",
		"an app's":    "content-type,x-app-token,x-trace-bin,x-grpc-web",
	}
	for client, names := range asked {
		for _, path := range []string{wire.Unary, "/", "/no.Such/Method"} {
			e := send(t, c.address, "", "OPTIONS "+path+" HTTP/1.1", "Host: "+c.address, "Origin: https://app.example.com",
				"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: "+names)
			if e.status != http.StatusNoContent && e.status != http.StatusOK {
				t.Errorf("%s, %s: answered %d", client, path, e.status)
			}
			allowed := strings.Split(strings.ToLower(strings.ReplaceAll(strings.Join(e.header.Values("Access-Control-Allow-Headers"), ","), " ", "")), ",")
			for name := range strings.SplitSeq(names, ",") {
				if !slices.Contains(allowed, name) {
					t.Errorf("%s, %s: the header %s is not allowed by %q", client, path, name, allowed)
				}
			}
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin": "https://app.example.com", "Access-Control-Max-Age": "7200",
			} {
				if got := e.header.Get(name); got != want {
					t.Errorf("%s, %s: %s is %q, want %q", client, path, name, got, want)
				}
			}
			if !strings.Contains(e.header.Get("Access-Control-Allow-Methods"), "POST") {
				t.Errorf("%s, %s: POST is not allowed: %v", client, path, e.header)
			}
			if !strings.Contains(strings.Join(e.header.Values("Vary"), ","), "Origin") {
				t.Errorf("%s, %s: the answer does not vary with the origin: %v", client, path, e.header)
			}
		}
	}
	e := send(t, c.address, "", "OPTIONS "+wire.Unary+" HTTP/1.1", "Host: "+c.address, "Origin: https://evil.example",
		"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
	if e.header.Get("Access-Control-Allow-Origin") != "" || e.header.Get("Access-Control-Allow-Headers") != "" {
		t.Errorf("a stranger's preflight is answered with %v", e.header)
	}
}

// What a page may read of an answer: all of its metadata and the status.
func TestAnswerExposesItsMetadata(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--allow-origin", "https://app.example.com"}})
	body := string(wire.Frame(wire.Request(0, 0)))
	script := probe.Script{Header: []probe.Field{{Name: "x-app", Value: "1"}, {Name: "x-app-bin", Bytes: []byte{1}}, {Name: "access-control-allow-origin", Value: "*"}, {Name: "set-cookie", Value: "a=b"}}}
	e := send(t, c.address, body, "POST "+wire.Unary+" HTTP/1.1", "Host: "+c.address, "Origin: https://app.example.com",
		"Content-Type: application/grpc-web+proto", fmt.Sprintf("Content-Length: %d", len(body)), probe.IDKey+": "+newID(t), probe.ScriptKey+": "+script.String())
	exposed := strings.Split(strings.ToLower(strings.ReplaceAll(strings.Join(e.header.Values("Access-Control-Expose-Headers"), ","), " ", "")), ",")
	for _, name := range []string{"grpc-status", "grpc-message", "grpc-status-details-bin", "x-app", "x-app-bin"} {
		if !slices.Contains(exposed, name) {
			t.Errorf("%s is not exposed by %q", name, exposed)
		}
	}
	if got := e.header.Values("Access-Control-Allow-Origin"); !slices.Equal(got, []string{"https://app.example.com"}) {
		t.Errorf("the backend speaks for the origin: %q", got)
	}
	if e.header.Get("Set-Cookie") != "" {
		t.Error("a cookie of the backend passed unasked")
	}
}

// A stripped upgrade is explained, with 426.
func TestStrippedUpgradeIsExplained(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	for why, head := range map[string][]string{
		"a box removed Connection and Upgrade": {"GET " + wire.Bidi + " HTTP/1.1", "Host: " + c.address, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: grpc-websockets"},
		"the same for a tunnel":                {"GET / HTTP/1.1", "Host: " + c.address, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: h2ts"},
		"a GET of a method":                    {"GET " + wire.Bidi + " HTTP/1.1", "Host: " + c.address},
		"HTTP/1.0":                             {"GET " + wire.Bidi + " HTTP/1.0", "Host: " + c.address, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: grpc-websockets"},
	} {
		e := send(t, c.address, "", head...)
		if e.status != http.StatusUpgradeRequired || !strings.Contains(e.body, "Upgrade") || e.header.Get("Upgrade") != "websocket" {
			t.Errorf("%s: answered %d %q with %v, want 426 and why", why, e.status, e.body, e.header)
		}
	}
}

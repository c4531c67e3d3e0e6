package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A plainAnswer is what a port says over plain HTTP/1.1.
type plainAnswer struct {
	status   int
	location string
}

// plainGet asks without TLS. A host of "" is the address itself.
func (c *culvert) plainGet(t *testing.T, address, path, host string) plainAnswer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), tlsPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(tlsPatience)) // a test that hangs shall fail
	if host == "" {
		host = address
	}
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // the head says it
	return plainAnswer{resp.StatusCode, resp.Header.Get("Location")}
}

// writeConfig returns a file with a configuration.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The plain port sends to the same place over TLS, keeps no connection, and
// makes no other host of a client's words: it knows whom its certificates are
// for.
func TestRedirectToHTTPS(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	c := startTLS(t, ca, b.address, "tls: {http_listen: \"127.0.0.1:0\"}\n")
	plain := c.logged(t, "HTTPS", "address")["address"].(string)
	_, tlsPort, _ := net.SplitHostPort(c.address)
	for _, row := range []struct {
		path, host, want string
		status           int
	}{
		{"/a?b=c", "", "https://127.0.0.1:" + tlsPort + "/a?b=c", 308},
		{"/", "culvert.example", "https://culvert.example:" + tlsPort + "/", 308},
		{"//evil.example/", "culvert.example:80", "https://culvert.example:" + tlsPort + "//evil.example/", 308},
		{"/", "evil.example", "", 421},
		{"/", "192.0.2.1", "", 421},
		{"/", "evil.example:99999", "", 400},
		{"/", "culvert.example@evil.example", "", 400},
		{"http://evil.example/", "culvert.example", "", 421}, // RFC 9112 §3.2.2: a target's host counts
		{"http://culvert.example/a", "evil.example", "https://culvert.example:" + tlsPort + "/a", 308},
	} {
		if got, want := c.plainGet(t, plain, row.path, row.host), (plainAnswer{row.status, row.want}); got != want {
			t.Errorf("%s of %q: %+v, want %+v", row.path, row.host, got, want)
		}
	}
}

// A load balancer shows clients other ports than culvert has, and a
// certificate of its own, whose names are in hosts. The development
// certificate has names, too.
func TestRedirectBehindALoadBalancer(t *testing.T) {
	t.Parallel()
	c, _ := startSelfSigned(t, "127.0.0.1:1", t.TempDir(), "--config", writeConfig(t, `
tls: {http_listen: "127.0.0.1:0", http_target: 443}
hosts: [grpc.example.com]
`))
	plain := c.logged(t, "HTTPS", "address")["address"].(string)
	for host, want := range map[string]plainAnswer{
		"grpc.example.com:80": {308, "https://grpc.example.com/"},
		"localhost":           {308, "https://localhost/"},
		"www.example.com":     {421, ""},
	} {
		if got := c.plainGet(t, plain, "/", host); got != want {
			t.Errorf("%s: %+v, want %+v", host, got, want)
		}
	}
}

// Whoever says nothing to the plain port, or says it slowly, has a few seconds.
func TestRedirectHasNoPatience(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	c := startTLS(t, ca, "127.0.0.1:1", "tls: {http_listen: \"127.0.0.1:0\"}\n")
	plain := c.logged(t, "HTTPS", "address")["address"].(string)
	for _, said := range []string{"", "GET / HTTP/1.1\r\nHost: a"} {
		conn, err := net.Dial("tcp", plain)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, said); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(tlsPatience)) // far over what it has
		rest, err := io.ReadAll(conn)
		if err != nil || strings.Contains(string(rest), "Location") {
			t.Errorf("after %q: %q, %v, want the end", said, rest, err)
		}
		_ = conn.Close() // it is closed at the other end
	}
}

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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

// The plain port sends to the same place over TLS, keeps no connection, and
// makes no other host of a client's words.
func TestRedirectToHTTPS(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	c := startTLS(t, ca, b.address, "tls: {http_listen: \"127.0.0.1:0\"}\n")
	plain := c.logged(t, "redirecting to HTTPS")["address"].(string)
	_, tlsPort, _ := net.SplitHostPort(c.address)
	for _, row := range []struct{ path, host, want string }{
		{"/a?b=c", "", "https://127.0.0.1:" + tlsPort + "/a?b=c"},
		{"/", "culvert.example", "https://culvert.example:" + tlsPort + "/"},
		{"//evil.example/", "culvert.example:80", "https://culvert.example:" + tlsPort + "//evil.example/"},
		{"/", "culvert.example@evil.example", ""},
		{"http://evil.example/", "culvert.example", ""},
	} {
		got := c.plainGet(t, plain, row.path, row.host)
		status := http.StatusPermanentRedirect
		if row.want == "" {
			status = http.StatusBadRequest
		}
		if got.status != status || got.location != row.want {
			t.Errorf("%s of %q: %+v, want %d to %q", row.path, row.host, got, status, row.want)
		}
	}
}

// Whoever says nothing to the plain port, or says it slowly, has a few seconds.
func TestRedirectHasNoPatience(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, "ca")
	c := startTLS(t, ca, "127.0.0.1:1", "tls: {http_listen: \"127.0.0.1:0\"}\n")
	plain := c.logged(t, "redirecting to HTTPS")["address"].(string)
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

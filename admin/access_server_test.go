package admin

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// guardedServer returns the server of a culvert that other hosts reach.
func guardedServer(t *testing.T) *http.Server {
	t.Helper()
	c, _ := control(t)
	c.Access = &Access{Log: slog.New(slog.DiscardHandler)}
	c.Access.SetHosts([]string{"culvert.example"})
	c.Access.SetToken(tokenOf(t, secret))
	return c.Server()
}

// TestServerSpeaksOnlyTLS: a client without TLS is told so, and one that wants HTTP/2 gets
// HTTP/1.1.
func TestServerSpeaksOnlyTLS(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.Config = guardedServer(t)
	s.StartTLS()
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /config HTTP/1.1\r\nHost: culvert.example\r\nAuthorization: Bearer %s\r\n\r\n", secret)
	if answer, _ := io.ReadAll(conn); !strings.HasPrefix(string(answer), "HTTP/1.0 400 ") || strings.Contains(string(answer), secret) {
		t.Errorf("plaintext: %q", answer)
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/config"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || resp.ProtoMajor != 1 {
			t.Errorf("%s without the token: %s %s", path, resp.Proto, resp.Status)
		}
	}
}

// TestServerWaitsForNobody: a caller that sends slowly, or too much, holds its connection for
// seconds, whatever it asks for. It has no token.
func TestServerWaitsForNobody(t *testing.T) {
	const head = " HTTP/1.1\r\nHost: culvert.example\r\n"
	post := head + "Origin: https://culvert.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\n"
	certificate := certificateOf(t)
	for about, x := range map[string]struct {
		sends  string
		answer string
		ends   time.Duration // the connection, at the latest
	}{
		"no handshake's end":                {"", "", 5 * time.Second},
		"a slow header":                     {"GET /config" + head, "", 5 * time.Second},
		"a huge header":                     {"GET /config" + head + "A: " + strings.Repeat("a", 64<<10), "HTTP/1.1 431 ", 5 * time.Second},
		"a huge cookie":                     {"GET /config" + head + "Cookie: " + strings.Repeat("a=b; ", 16<<10), "HTTP/1.1 431 ", 5 * time.Second},
		"a slow form":                       {"POST /login" + post + "token=", "HTTP/1.1 400 ", bodyTime},
		"a form without a body":             {"POST /login" + post, "HTTP/1.1 400 ", bodyTime},
		"a body that nobody reads":          {"POST /config" + post, "HTTP/1.1 401 ", bodyTime},
		"a body of a GET":                   {"GET /config" + post, "HTTP/1.1 401 ", bodyTime},
		"a body of another site":            {"POST /login" + strings.Replace(post, "https://culvert", "https://evil", 1), "HTTP/1.1 403 ", bodyTime},
		"a body of another host":            {"POST /login" + strings.Replace(post, "Host: culvert", "Host: evil", 1), "HTTP/1.1 403 ", bodyTime},
		"chunks that never end":             {"POST /login" + strings.Replace(post, "Content-Length: 100", "Transfer-Encoding: chunked", 1) + "5\r\ntoken", "HTTP/1.1 400 ", bodyTime},
		"a connection that asks no further": {"GET /config" + head + "\r\n", "HTTP/1.1 401 ", time.Minute},
	} {
		t.Run(about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := parts.ListenPipe(t)
				s := guardedServer(t)
				var serving sync.WaitGroup
				serving.Go(func() {
					_ = s.Serve(tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}))
				})
				defer serving.Wait()
				defer func() { _ = s.Close() }()
				plain, err := ln.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				conn := plain
				if x.sends != "" {
					conn = tls.Client(plain, &tls.Config{InsecureSkipVerify: true})
					serving.Go(func() { _, _ = io.WriteString(conn, x.sends) }) // the server may read no more
				}
				answer, _ := io.ReadAll(bufio.NewReader(conn))
				if took := time.Since(began); took > x.ends || !strings.HasPrefix(string(answer), x.answer) || x.answer == "" && len(answer) > 0 {
					t.Errorf("after %v: %.200q", took, answer)
				}
				_ = plain.Close()
				time.Sleep(time.Second) // of the bubble: net/http's goroutine lingers for half of it
			})
		})
	}
}

// certificateOf returns a certificate of httptest's.
func certificateOf(t *testing.T) tls.Certificate {
	t.Helper()
	s := httptest.NewTLSServer(http.NotFoundHandler())
	defer s.Close()
	return s.TLS.Certificates[0]
}

package proxytls

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestRedirectEndsConnectionsOfHTTP10: net/http drops Transfer-Encoding of HTTP/1.0, so
// the body of such a request must not be taken for the next one.
func TestRedirectEndsConnectionsOfHTTP10(t *testing.T) {
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := RedirectServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler)) // as one that answers a CA
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until it is closed
	t.Cleanup(func() {
		_ = server.Close() // nobody is there any more
		serving.Wait()
	})
	for _, path := range []string{"/.well-known/acme-challenge/x", "/none"} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(2 * time.Minute)) // just opened
		_, err = io.WriteString(conn, "GET "+path+" HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"+
			"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(conn) // a reset follows where more was sent than read
		_ = conn.Close()         // read to its end
		if n := strings.Count(string(b), "HTTP/1."); n != 1 {
			t.Errorf("%s: %d answers, want 1: %q", path, n, b)
		}
	}
}

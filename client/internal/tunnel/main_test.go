package tunnel

import (
	"net"
	"net/http"
	"net/url"
	"testing"

	"go.uber.org/goleak"

	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var edge = &url.URL{Scheme: "ws", Host: "edge.example.com", Path: "/"}

// run is what the owner of a Conn does, until the test ends. It returns a channel that is
// closed with Run.
func run(t testing.TB, c *Conn) (ended <-chan struct{}) {
	done := make(chan struct{})
	go func() {
		c.Run()
		close(done)
	}()
	t.Cleanup(func() {
		_ = c.Close() // a test may have
		<-done
	})
	return done
}

// pair returns a tunnel, and the server's end of its WebSocket, of which the kernel would hold
// so many bytes.
func pair(t testing.TB, holds int) (c *Conn, s *wstest.Server, ended <-chan struct{}) {
	t.Helper()
	c, s = wstest.ServerPair(t, holds, tunnel.Name, func(conn net.Conn) (*Conn, error) {
		return Open(t.Context(), conn, edge, http.Header{"Authorization": {"Bearer token"}})
	})
	ended = run(t, c)
	t.Cleanup(func() { _ = s.Close() }) // before the tunnel's end is awaited
	return c, s, ended
}

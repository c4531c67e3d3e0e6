package bridge

import (
	"net/http"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/websocket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// socketPair returns a WebSocket as the server has it, and the client's end
// of the connection under it, of which the kernel would hold so many bytes.
func socketPair(t testing.TB, s *Server, holds int) (*websocket.Conn, *wstest.Client) {
	t.Helper()
	ws, c := wstest.Pair(t, holds, tunnelName, func(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
		return s.accept(w, r, tunnelName, s.account.NewEntry())
	})
	t.Cleanup(ws.Drop) // a test may have closed it
	return ws, c
}

// grpcSocketOf returns the client's end of a call on a WebSocket of grpc-websockets.
func grpcSocketOf(s *Server, c *call, ws *websocket.Conn) *grpcSocket {
	d := new(grpcSocket)
	c.s = s
	d.open(nil, nil, c, d)
	d.ws, d.stream.WS = ws, ws
	return d
}

// TestGoodbyeOfAWebSocket: a drain doesn't wait as long for a client's answer as other
// ends do.
func TestGoodbyeOfAWebSocket(t *testing.T) {
	s := new(Server)
	for _, step := range []struct {
		name     string
		begin    func()
		code     websocket.StatusCode
		patience time.Duration
	}{
		{"a call's end", func() {}, websocket.StatusNormalClosure, closeTimeout},
		{"culvert drain", func() { s.refusing.Store(true) }, websocket.StatusGoingAway, closeTimeout},
		{"Shutdown", func() { s.draining.Store(true) }, websocket.StatusGoingAway, lastWords},
		{"Close", func() { s.closing.Store(true) }, websocket.StatusGoingAway, lastWords},
	} {
		step.begin()
		if code, patience := s.goodbye(); code != step.code || patience != step.patience {
			t.Errorf("%s: %d and %v, want %d and %v", step.name, code, patience, step.code, step.patience)
		}
	}
}

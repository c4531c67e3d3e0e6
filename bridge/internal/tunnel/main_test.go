package tunnel

import (
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

func TestMain(m *testing.M) {
	// net/http lets a connection that it closed linger for half a second, so that the
	// client gets the answer, and Close doesn't wait for it.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// A server is what a tunnel needs of its server, with an Edge that accepts nothing.
type server struct {
	edge     *edge.Edge
	tunnels  *Listener
	leaving  atomic.Bool
	patience time.Duration
}

func newServer() *server {
	s := &server{patience: 5 * time.Second}
	obs := report.Discard()
	refusals := report.NewRefusals(slog.New(slog.DiscardHandler), obs)
	quotas := quota.New(report.Quota{}, report.Quota{}, false, refusals)
	s.edge = edge.New(edge.Options{
		Log: slog.New(slog.DiscardHandler), Observer: obs, Refusals: refusals,
		Bounds:   func(l *edge.Listening) edge.Bounds { return edge.Bounds{Quotas: quotas, Listener: l} },
		Memory:   memory.New(1<<20, 0),
		Leaving:  s.leaving.Load,
		Draining: s.leaving.Load,
	})
	s.tunnels = NewListener(Options{
		Goodbye: func() (websocket.StatusCode, time.Duration) {
			if s.leaving.Load() {
				return websocket.StatusGoingAway, s.patience
			}
			return websocket.StatusNormalClosure, s.patience
		},
		Closing: func() bool { return false },
	})
	return s
}

// pair returns a tunnel as its server has it, and the client's end of the connection under
// its WebSocket, of which the kernel would hold so many bytes.
func pair(t testing.TB, holds int) (*server, *Conn, *wstest.Client) {
	t.Helper()
	s := newServer()
	ws, end := wstest.Pair(t, holds, tunnel.Name, func(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
		return websocket.Accept(w, r, websocket.Options{Subprotocol: tunnel.Name, Pool: mem.DefaultBufferPool(), Refused: func() { t.Error("the upgrade is refused") }})
	})
	c := s.tunnels.NewConn(ws, s.edge.NewTunnel(new(http.Request)), mem.DefaultBufferPool())
	var running sync.WaitGroup
	running.Go(c.Run)
	t.Cleanup(func() {
		_ = c.Close()   // a test may have
		_ = end.Close() // a test may have
		running.Wait()
	})
	return s, c, end
}

package bridge

import (
	"errors"
	"net/http"
	"time"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/websocket"
)

// accept upgrades a request whose Origin is already judged, and counts the connection
// until it closes. Frames that wait for the client count with held. It answers requests
// that it refuses.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, subprotocol string, held *memory.Entry) (*websocket.Conn, error) {
	on := s.edge.Of(r)
	return websocket.Accept(w, r, websocket.Options{
		Subprotocol: subprotocol, Pool: s.account.Pool, Out: held.Buffers(), Panics: s.panics,
		Refused: func() { on.CloseBehindRefusal(w, r) }, Closed: on.Taken(),
	})
}

// handshake counts the WebSocket of a call, which a refused call opens, too. It returns
// why the call is refused.
func (s *Server) handshake(c *call, refused error) error {
	err := c.use.Handshake(c.Method)
	if refused == nil {
		return err
	}
	if f, ok := errors.AsType[*report.Fault](err); ok {
		s.refusals.Note(f, c.Peer.Addr) // the client is told of the other
	}
	return refused
}

// keepAlive returns how culvert watches a WebSocket's client.
func (p *policy) keepAlive(gone func(error)) websocket.KeepAlive {
	return websocket.KeepAlive{Interval: pingInterval, Timeout: pingTimeout, SlowConsumer: p.limits.SlowConsumerTimeout, Gone: gone}
}

// goodbye returns the code that closes a finished WebSocket, and how long its client
// has to answer. In a drain the wait is short: else the WebSockets of clients that don't
// answer would all be left at the end, and to close thousands takes seconds.
func (s *Server) goodbye() (websocket.StatusCode, time.Duration) {
	switch {
	case s.draining.Load():
		return websocket.StatusGoingAway, lastWords
	case s.refusing.Load():
		return websocket.StatusGoingAway, closeTimeout
	default:
		return websocket.StatusNormalClosure, closeTimeout
	}
}

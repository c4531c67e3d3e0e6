package bridge

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/mem"
)

// A webSocket is a WebSocket and the connection under it. Deadlines are set on
// the connection itself: a context that ends would close it, and then the
// client couldn't be told anything any more.
//
// coder/websocket makes the handshake; frames are read and written here.
type webSocket struct {
	net    *socketConn
	closed func() // tells the server that the connection is gone

	in      messageSource
	reading atomic.Bool // a reader waits, so pongs would be seen
	writing atomic.Bool // a message is being written: pings wait behind it

	pong pongDue

	pingMu   sync.Mutex
	pinging  sync.WaitGroup
	pingAt   *time.Timer
	pongAt   *time.Timer
	pingsOff bool
}

// pongDue is the ping that is still to be answered. RFC 6455 §5.5.3: only the
// latest has to be.
type pongDue struct {
	mu      sync.Mutex
	due     bool
	payload [maxControl]byte
	length  int
}

// accept upgrades a request whose Origin is already judged. It answers what
// it refuses; the connection closes then, so that nothing behind the refused
// upgrade is served.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, subprotocol string) (*webSocket, error) {
	hw := &hijackWriter{ResponseWriter: w, pool: s.budget.pool}
	w.Header().Set("Connection", "close") // for a refusal; an upgrade replaces it
	c, err := websocket.Accept(hw, r, &websocket.AcceptOptions{
		Subprotocols:       []string{subprotocol},
		InsecureSkipVerify: true, // the gate has judged the Origin
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	_ = c.CloseNow() // it has done its part; the connection isn't its own
	ws := &webSocket{net: hw.conn, closed: func() {}}
	ws.in.turn.ended.L = &ws.in.turn.mu
	if _, counted := r.Context().Value(connKey{}).(net.Conn); counted {
		l := s.listeningOf(r) // the request itself isn't kept
		ws.closed = sync.OnceFunc(func() { s.connEnded(l, ws.net) })
	}
	return ws, nil
}

// hijackWriter remembers the connection that Accept takes over.
type hijackWriter struct {
	http.ResponseWriter
	pool mem.BufferPool
	conn *socketConn
}

// WriteHeader keeps a refused handshake from being followed by anything.
func (h *hijackWriter) WriteHeader(code int) {
	if code != http.StatusSwitchingProtocols {
		h.Header().Set("Connection", "close")
	}
	h.ResponseWriter.WriteHeader(code)
}

func (h *hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hj, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this HTTP server can't upgrade connections")
	}
	conn, rw, err := hj.Hijack()
	if err != nil {
		return nil, nil, err
	}
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it has as many
	h.conn = newSocketConn(conn, h.pool, unread)
	return notItsOwn{conn}, rw, nil
}

// notItsOwn is a connection that Accept may have and not close.
type notItsOwn struct{ net.Conn }

func (notItsOwn) Close() error { return nil }

// write sends one binary message, given in pieces; between large ones it calls
// wrote. If more follows at once, the message may wait for that.
func (s *webSocket) write(wrote func(), more bool, pieces ...[]byte) error {
	s.net.mu.Lock()
	s.writing.Store(true)
	defer s.writing.Store(false)
	err := s.net.message(wrote, more, pieces)
	if err == nil && s.net.held == nil {
		err = s.sendPong()
	}
	if late := s.net.unlock(); err == nil {
		err = late
	}
	return err
}

// answer notes a ping, and answers it now if the line is free. Otherwise the
// message that is being written goes first.
func (s *webSocket) answer(payload []byte) {
	s.pong.mu.Lock()
	s.pong.length = copy(s.pong.payload[:], payload)
	s.pong.due = true
	s.pong.mu.Unlock()
	s.tryPong()
}

// pongRetry is how soon a pong is tried again that found the line taken.
const pongRetry = 250 * time.Millisecond

// tryPong sends the pong that is due if the line is free, and else tries
// again, unless a message that is written meanwhile brings it along.
func (s *webSocket) tryPong() {
	if s.net.mu.TryLock() {
		free := s.net.free()
		if free {
			_ = s.sendPong() // the reader meets the same error
		}
		s.net.leave()
		if free {
			return
		}
	}
	s.schedule(&s.pongAt, pongRetry, func() {
		s.pong.mu.Lock()
		due := s.pong.due
		s.pong.mu.Unlock()
		if due {
			s.tryPong()
		}
	})
}

// sendPong answers the latest ping, if none did and nothing was said to be the
// last. The connection's mu is held.
func (s *webSocket) sendPong() error {
	s.pong.mu.Lock()
	due := s.pong.due && !s.net.ended.Load()
	var frame []byte
	if due {
		frame = appendControl(nil, opPong, s.pong.payload[:s.pong.length])
		s.pong.due = false
	}
	s.pong.mu.Unlock()
	if !due {
		return nil
	}
	s.net.hold(frame)
	return s.net.flush()
}

var errNoPong = errors.New("no pong in time")

// keepAlive pings the client every pingInterval until stopPings. It calls gone,
// once, when nothing came from the client within pingTimeout after a ping
// although somebody was reading all the time. While culvert holds the reader
// back, or the client reads nothing, silence says nothing: the registry's
// look watches those. It costs a timer and no goroutine.
func (s *webSocket) keepAlive(gone func(error)) {
	var ping func()
	ping = func() {
		before, listening := s.net.received.Load(), s.listening()
		if !s.ping() {
			s.schedulePing(pingInterval, ping)
			return
		}
		s.schedulePing(pingTimeout, func() {
			if listening && s.listening() && s.net.received.Load() == before {
				gone(errNoPong)
				return
			}
			s.schedulePing(pingInterval-pingTimeout, ping)
		})
	}
	s.schedulePing(pingInterval, ping)
}

// listening holds while a pong would be seen and isn't held up itself.
func (s *webSocket) listening() bool { return s.reading.Load() && !s.writing.Load() }

// ping writes a ping unless a message is in its way.
func (s *webSocket) ping() bool {
	if !s.net.mu.TryLock() {
		return false
	}
	sent := false
	if s.net.free() && !s.net.ended.Load() {
		s.net.hold(appendControl(nil, opPing, nil))
		sent = s.net.flush() == nil // else the reader meets the same error
	}
	s.net.leave()
	return sent
}

func (s *webSocket) schedulePing(after time.Duration, f func()) { s.schedule(&s.pingAt, after, f) }

// schedule runs f later, in place of what the timer was to do before, unless
// stopPings comes first.
func (s *webSocket) schedule(at **time.Timer, after time.Duration, f func()) {
	s.pingMu.Lock()
	defer s.pingMu.Unlock()
	if s.pingsOff {
		return
	}
	if *at != nil && (*at).Stop() {
		s.pinging.Done()
	}
	s.pinging.Add(1)
	*at = time.AfterFunc(after, func() {
		defer s.pinging.Done()
		f()
	})
}

func (s *webSocket) stopPings() {
	s.pingMu.Lock()
	s.pingsOff = true
	for _, at := range []*time.Timer{s.pingAt, s.pongAt} {
		if at != nil && at.Stop() {
			s.pinging.Done()
		}
	}
	s.pingMu.Unlock()
	s.pinging.Wait() // none of them blocks
}

// shut closes the WebSocket with a handshake that no peer can make last. What
// was written before reaches a slow reader all the same: the kernel has it.
// RFC 6455 §7.1.
func (s *webSocket) shut(code websocket.StatusCode, patience time.Duration) {
	_ = s.net.SetDeadline(time.Now().Add(patience)) // a closed connection needs none
	s.stopPings()
	if s.net.sendClose(code) == nil {
		s.awaitClose()
	}
	_ = s.net.Close() // it is over either way
	s.closed()
}

// drop closes the connection at once.
func (s *webSocket) drop() {
	_ = s.net.SetDeadline(longAgo) // a closed connection needs none
	s.stopPings()
	_ = s.net.Close() // it is over either way
	s.closed()
}

// goodbye is the code with which a finished WebSocket is closed, and how long
// its client has to answer.
func (s *Server) goodbye() (websocket.StatusCode, time.Duration) {
	switch {
	case s.closing.Load():
		return websocket.StatusGoingAway, time.Second
	case s.draining.Load():
		return websocket.StatusGoingAway, closeTimeout
	default:
		return websocket.StatusNormalClosure, closeTimeout
	}
}

package websocket

import (
	"bufio"
	"errors"
	"net"
	"net/http"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Options are the parameters of Accept besides the request.
type Options struct {
	Subprotocol string         // chosen if the client offers it
	Pool        mem.BufferPool // lends buffers for bytes that were read
	Out         mem.BufferPool // lends those for frames on their way to the client; nil: Pool does

	// Refused is called before a refused upgrade is answered. It is required: it must
	// make the connection close after the answer, so that nothing after the upgrade
	// is served.
	Refused func()

	// Panics catches the panics of the WebSocket's timers, which then close the
	// connection. It may be nil.
	Panics *report.Panics

	// Closed is called once, when the connection under the WebSocket is closed. It
	// may be nil.
	Closed func(net.Conn)
}

// Accept upgrades a request whose Origin is already judged. It answers a request that
// it refuses, after Refused. The caller must close or drop the WebSocket. RFC 6455
// §4.2.
func Accept(w http.ResponseWriter, r *http.Request, o Options) (*Conn, error) {
	t := &takeover{ResponseWriter: w, pool: o.Pool, out: o.Out, refused: o.Refused}
	_, err := coder.Accept(t, r, &coder.AcceptOptions{
		Subprotocols:       []string{o.Subprotocol},
		InsecureSkipVerify: true, // the caller has judged the Origin
		CompressionMode:    coder.CompressionDisabled,
	})
	if t.line == nil {
		return nil, err
	}
	c := newConn(t.line, o.Closed)
	c.panics = o.Panics
	return c, nil
}

func newConn(l *line, closed func(net.Conn)) *Conn {
	c := &Conn{line: l, closed: closed}
	c.in.turn.ended.L = &c.in.turn.mu
	return c
}

// A takeover takes the connection as soon as the handshake has answered, and tells the
// library that it can't have it: a WebSocket of the library's own takes 2 KB and a goroutine.
type takeover struct {
	http.ResponseWriter
	pool    mem.BufferPool
	out     mem.BufferPool
	refused func()
	line    *line // once it is taken
}

// WriteHeader notes a refused handshake.
func (t *takeover) WriteHeader(code int) {
	if t.line != nil {
		return
	}
	if code != http.StatusSwitchingProtocols {
		t.refused()
	}
	t.ResponseWriter.WriteHeader(code)
}

// Write drops what the library answers to errTaken.
func (t *takeover) Write(p []byte) (int, error) {
	if t.line != nil {
		return len(p), nil
	}
	return t.ResponseWriter.Write(p)
}

var errTaken = errors.New("the connection is taken")

func (t *takeover) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hj, ok := t.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.New("this HTTP server can't upgrade connections")
	}
	conn, rw, err := hj.Hijack()
	if err != nil {
		return nil, nil, err
	}
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it has as many
	t.line = newLine(conn, t.pool, unread)
	if t.out != nil {
		t.line.out = t.out
	}
	return nil, nil, errTaken
}

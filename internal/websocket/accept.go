package websocket

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 has it, and not as a secret
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"google.golang.org/grpc/mem"
)

// Options are the parameters of Accept and Open besides the request.
type Options struct {
	Subprotocol string         // the server's choice, as the client spells it; the client's offer; "": none
	Pool        mem.BufferPool // lends buffers for bytes that were read
	Out         mem.BufferPool // lends those for frames on their way to the peer; nil: Pool does

	// Refused is called before Accept answers a refused upgrade. Accept requires it: it must
	// make the connection close after the answer, so that nothing after the upgrade
	// is served.
	Refused func()

	// Panicked is told of a panic in one of the WebSocket's timers, on the goroutine that
	// panicked, before the connection is closed. It may be nil.
	Panicked func(v any)

	// Closed is called once, when the connection under the WebSocket is closed. It
	// may be nil.
	Closed func(net.Conn)
}

// Accept upgrades a GET over HTTP/1.1 that asks for a WebSocket, and whose Origin is already
// judged. It answers a request that it refuses, after Refused. If the server doesn't hand over
// the connection after the answer, Accept panics with http.ErrAbortHandler, so that nothing
// after the upgrade is served. The caller must close or drop the WebSocket. RFC 6455 §4.2.
func Accept(w http.ResponseWriter, r *http.Request, o Options) (*Conn, error) {
	code, why := refusal(w.Header(), r)
	hj := hijackerOf(w)
	if code == 0 && hj == nil {
		code, why = http.StatusNotImplemented, "this HTTP server can't upgrade connections"
	}
	if code != 0 {
		o.Refused()
		http.Error(w, why, code)
		return nil, errors.New(why)
	}
	header := w.Header()
	values := [...]string{"Upgrade", "websocket", acceptance(r.Header["Sec-Websocket-Key"][0])}
	header["Connection"], header["Upgrade"], header["Sec-Websocket-Accept"] = values[:1:1], values[1:2:2], values[2:]
	if o.Subprotocol != "" {
		header["Sec-Websocket-Protocol"] = []string{o.Subprotocol}
	}
	w.WriteHeader(http.StatusSwitchingProtocols)
	if later, ok := w.(interface{ WriteHeaderNow() }); ok {
		later.WriteHeaderNow() // gin only notes the status before
	}
	conn, rw, err := hj.Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it has as many
	return made(newLine(conn, o.Pool, unread), o), nil
}

// made returns the WebSocket behind a handshake.
func made(l *line, o Options) *Conn {
	c := newConn(l, o.Closed)
	c.panicked = o.Panicked
	if o.Out != nil {
		l.out = o.Out
	}
	return c
}

// newConn returns the end of a WebSocket that the line is of: a client's has masks.
func newConn(l *line, closed func(net.Conn)) *Conn {
	c := &Conn{line: l, closed: closed}
	c.in.plain = l.masks != nil
	c.in.turn.ended.L = &c.in.turn.mu
	return c
}

// hijackerOf returns the part of w that can hand over the connection, or nil. Middleware may
// have wrapped it, as for http.ResponseController.
func hijackerOf(w http.ResponseWriter) http.Hijacker {
	for {
		switch t := w.(type) {
		case http.Hijacker:
			return t
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return nil
		}
	}
}

// refusal returns the status and the text of the answer to a request that isn't a handshake,
// and adds to the answer's header what the client needs to know. The status of a handshake
// is 0. RFC 6455 §4.2.1.
func refusal(answer http.Header, r *http.Request) (code int, why string) {
	const violation = "WebSocket protocol violation: "
	keys, version := r.Header["Sec-Websocket-Key"], r.Header.Get("Sec-Websocket-Version")
	switch {
	case version != "13":
		answer["Sec-Websocket-Version"] = []string{"13"}
		return http.StatusBadRequest, fmt.Sprintf("unsupported WebSocket protocol version (only 13 is supported): %q", version)
	case len(keys) == 0:
		return http.StatusBadRequest, violation + "missing Sec-WebSocket-Key"
	case len(keys) > 1:
		return http.StatusBadRequest, violation + "multiple Sec-WebSocket-Key headers"
	}
	key := strings.TrimSpace(keys[0])
	if nonce, err := base64.StdEncoding.DecodeString(key); err != nil || len(nonce) != 16 {
		return http.StatusBadRequest, fmt.Sprintf(violation+"invalid Sec-WebSocket-Key %q, must be a 16 byte base64 encoded string", key)
	}
	return 0, ""
}

// acceptance returns the Sec-WebSocket-Accept for a key. RFC 6455 §4.2.2.
func acceptance(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

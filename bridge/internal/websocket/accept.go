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

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
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
	code, why := refusal(w.Header(), r)
	hj, ok := w.(http.Hijacker)
	if code == 0 && !ok {
		code, why = http.StatusNotImplemented, "this HTTP server can't upgrade connections"
	}
	if code != 0 {
		o.Refused()
		http.Error(w, why, code)
		return nil, errors.New(why)
	}
	header := w.Header()
	header["Connection"], header["Upgrade"] = toUpgrade, toWebSocket
	header["Sec-Websocket-Accept"] = []string{acceptance(r.Header["Sec-Websocket-Key"][0])}
	if protocol := gate.FindToken(r.Header["Sec-Websocket-Protocol"], o.Subprotocol); protocol != "" {
		header["Sec-Websocket-Protocol"] = []string{protocol}
	}
	w.WriteHeader(http.StatusSwitchingProtocols)
	conn, rw, err := hj.Hijack()
	if err != nil {
		return nil, err
	}
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it has as many
	c := newConn(newLine(conn, o.Pool, unread), o.Closed)
	c.panics = o.Panics
	if o.Out != nil {
		c.line.out = o.Out
	}
	return c, nil
}

func newConn(l *line, closed func(net.Conn)) *Conn {
	c := &Conn{line: l, closed: closed}
	c.in.turn.ended.L = &c.in.turn.mu
	return c
}

// These header values are never written to.
var (
	toUpgrade   = []string{"Upgrade"}
	toWebSocket = []string{"websocket"}
)

// refusal returns the status and the text of the answer to a request that isn't a handshake,
// and adds to the answer's header what the client needs to know. The status of a handshake
// is 0. RFC 6455 §4.2.1.
func refusal(answer http.Header, r *http.Request) (code int, why string) {
	const violation = "WebSocket protocol violation: "
	keys, version := r.Header["Sec-Websocket-Key"], r.Header.Get("Sec-Websocket-Version")
	switch {
	case !r.ProtoAtLeast(1, 1):
		return http.StatusUpgradeRequired, fmt.Sprintf(violation+"handshake request must be at least HTTP/1.1: %q", r.Proto)
	case !gate.HasToken(r.Header["Connection"], "Upgrade"):
		answer["Connection"], answer["Upgrade"] = toUpgrade, toWebSocket
		return http.StatusUpgradeRequired, fmt.Sprintf(violation+"Connection header %q does not contain Upgrade", r.Header.Get("Connection"))
	case !gate.HasToken(r.Header["Upgrade"], "websocket"):
		answer["Connection"], answer["Upgrade"] = toUpgrade, toWebSocket
		return http.StatusUpgradeRequired, fmt.Sprintf(violation+"Upgrade header %q does not contain websocket", r.Header.Get("Upgrade"))
	case r.Method != http.MethodGet:
		return http.StatusMethodNotAllowed, fmt.Sprintf(violation+"handshake request method is not GET but %q", r.Method)
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

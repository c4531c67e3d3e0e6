package websocket

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

const (
	openTimeout = 10 * time.Second // for the whole handshake
	pageTimeout = time.Second      // for the body of an answer that is known
	maxAnswer   = 64 << 10         // bytes of an answer's header
	maxPage     = 1 << 10          // bytes of its body
)

// Open makes a client's handshake over a connection: it sends the request, a GET, with the
// fields of a WebSocket, and checks the answer. It waits until the request's context ends, at
// most 10 s. The caller must close or drop the WebSocket. If there is none, the error is a
// *HandshakeError, and the connection is the caller's to close. Refused of the options isn't
// called. RFC 6455 §4.1.
func Open(conn net.Conn, r *http.Request, o Options) (*Conn, error) {
	ctx, cancel := context.WithTimeout(r.Context(), openTimeout)
	defer cancel()
	stop := socket.WhenEnded(ctx, func() { _ = conn.SetDeadline(socket.LongAgo) }) // a closed connection needs none
	unread, err := open(conn, r.WithContext(ctx), o.Subprotocol)
	stop()
	if ctx.Err() != nil && (err == nil || err.Code == 0) {
		err = &HandshakeError{Err: context.Cause(ctx)}
	}
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, &HandshakeError{Err: err}
	}
	l := newLine(conn, o.Pool, unread)
	l.masks = new(masks)
	return made(l, o), nil
}

// open returns what came behind the answer.
func open(conn net.Conn, r *http.Request, subprotocol string) (unread []byte, failed *HandshakeError) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // it never fails
	key := base64.StdEncoding.EncodeToString(nonce[:])
	r.Header = upgradeHeader(r.Header, key, subprotocol)
	var request bytes.Buffer
	err := r.Write(&request)
	if err == nil {
		_, err = conn.Write(request.Bytes())
	}
	if err != nil {
		return nil, &HandshakeError{Err: err}
	}
	from := &answerReader{conn: conn, left: maxAnswer}
	buf := bufio.NewReader(from)
	res, failed := readAnswer(buf, r, from) //nolint:bodyclose // that would read to the body's end, which may never come
	if failed != nil {
		return nil, failed
	}
	failed = &HandshakeError{Status: res.Status, Code: res.StatusCode, Header: res.Header}
	if res.StatusCode != http.StatusSwitchingProtocols {
		_ = conn.SetReadDeadline(time.Now().Add(pageTimeout)) // a closed connection needs none
		from.left = maxAnswer
		failed.Body, _ = io.ReadAll(io.LimitReader(res.Body, maxPage)) // as much as comes
		return nil, failed
	}
	if failed.Broken = brokenUpgrade(res.Header, key, subprotocol); failed.Broken != "" {
		return nil, failed
	}
	unread, _ = buf.Peek(buf.Buffered()) // it has as many
	return unread, nil
}

// upgradeHeader returns the header of a client's handshake, with the fields of h.
func upgradeHeader(h http.Header, key, subprotocol string) http.Header {
	all := make(http.Header, len(h)+6)
	for name, values := range h {
		all[http.CanonicalHeaderKey(name)] = values
	}
	// Spelled as browsers do: some boxes compare bytes.
	for _, f := range [...][2]string{
		{"Connection", "Upgrade"},
		{"Upgrade", "websocket"},
		{"Sec-WebSocket-Version", "13"},
		{"Sec-WebSocket-Key", key},
		{"Sec-WebSocket-Protocol", subprotocol},
		{"Sec-WebSocket-Extensions", ""},
	} {
		delete(all, http.CanonicalHeaderKey(f[0]))
		if f[1] != "" {
			all[f[0]] = []string{f[1]}
		}
	}
	if _, ok := all["User-Agent"]; !ok {
		all["User-Agent"] = []string{"culvert"}
	}
	return all
}

// readAnswer reads the header of the answer, behind interim ones. RFC 9110 §15.2.
func readAnswer(buf *bufio.Reader, r *http.Request, from *answerReader) (*http.Response, *HandshakeError) {
	for {
		res, err := http.ReadResponse(buf, r)
		switch {
		case err == nil && res.StatusCode/100 == 1 && res.StatusCode != http.StatusSwitchingProtocols:
			continue
		case err == nil:
			return res, nil
		case errors.Is(from.err, io.EOF):
			return nil, &HandshakeError{Body: from.seen, Err: io.ErrUnexpectedEOF}
		case from.err != nil:
			return nil, &HandshakeError{Body: from.seen, Err: from.err}
		default:
			return nil, &HandshakeError{Body: from.seen, Broken: "the answer isn't HTTP/1.1: " + err.Error()}
		}
	}
}

// brokenUpgrade returns the rule that the header of a 101 breaks, or "".
func brokenUpgrade(h http.Header, key, subprotocol string) string {
	all := func(name string) string { return strings.Join(h.Values(name), ", ") }
	accept, chosen := all("Sec-Websocket-Accept"), all("Sec-Websocket-Protocol")
	switch {
	case !rules.HasToken(h["Upgrade"], "websocket"):
		return fmt.Sprintf("the server switches to %q, not to a WebSocket", all("Upgrade"))
	case !rules.HasToken(h["Connection"], "upgrade"):
		return "the answer has no Connection: Upgrade: something on the way has removed it"
	case accept == "":
		return "the answer has no Sec-WebSocket-Accept"
	case accept != acceptance(key):
		return "Sec-WebSocket-Accept belongs to another key: the answer isn't one to this request"
	case all("Sec-Websocket-Extensions") != "":
		return fmt.Sprintf("the server uses the extensions %q, which nobody asked for", all("Sec-Websocket-Extensions"))
	case chosen == "" && subprotocol != "":
		return fmt.Sprintf("the server doesn't speak the subprotocol %q", WithoutBearer(subprotocol))
	case !strings.EqualFold(chosen, subprotocol):
		return fmt.Sprintf("the server speaks the subprotocol %q, wanted was %q", WithoutBearer(chosen), WithoutBearer(subprotocol))
	}
	return ""
}

// WithoutBearer hides the credentials in a list of subprotocols, for people.
func WithoutBearer(list string) string {
	all := strings.Split(list, ",")
	for i, p := range all {
		if name, _, ok := strings.Cut(strings.TrimSpace(p), ".bearer."); ok {
			all[i] = " " + name + ".bearer.(hidden)"
		}
	}
	return strings.TrimSpace(strings.Join(all, ","))
}

var errLongAnswer = fmt.Errorf("the answer's header is over %d KiB", maxAnswer>>10)

// An answerReader reads an answer, up to a bound.
type answerReader struct {
	conn net.Conn
	left int    // bytes until the bound
	seen []byte // the first KiB
	err  error  // of the last read; io.EOF for an end
}

func (a *answerReader) Read(p []byte) (n int, err error) {
	if a.left == 0 {
		a.err = errLongAnswer
		return 0, a.err
	}
	n, a.err = a.conn.Read(p[:min(len(p), a.left)])
	a.left -= n
	a.seen = append(a.seen, p[:min(n, maxPage-len(a.seen))]...)
	return n, a.err
}

// A HandshakeError is why a client's handshake has made no WebSocket.
type HandshakeError struct {
	Status string      // "403 Forbidden"; "": no answer, or one that isn't HTTP
	Code   int         // 403; 0: see Status
	Header http.Header // may have secrets: show names, not values
	Body   []byte      // the first KiB of the answer's body; of all bytes if they aren't HTTP
	Broken string      // the rule that the answer breaks; "": none
	Err    error       // of the connection, or the context's cause; nil: it is the answer
}

func (e *HandshakeError) Error() string {
	text := "WebSocket handshake: "
	switch {
	case errors.Is(e.Err, io.ErrUnexpectedEOF):
		text += "the connection was closed before the answer"
	case socket.TimedOut(e.Err):
		text += "no answer in time"
	case e.Err != nil:
		text += e.Err.Error()
	case e.Broken != "":
		text += terminal.Short(e.Broken, maxSaid)
	default:
		text += "answered " + terminal.Short(e.Status, maxSaid)
	}
	if says := e.Says(); says != "" {
		text += fmt.Sprintf(" (%q)", says)
	}
	switch {
	case e.Stripped():
		text += ": the server doesn't see the Upgrade field, or something on the way answers for it"
	case e.Code == http.StatusProxyAuthRequired:
		text += ": a proxy on the way wants credentials"
	}
	return text
}

func (e *HandshakeError) Unwrap() error { return e.Err }

// Stripped reports whether the answer is one that servers give to a GET that doesn't ask for
// a WebSocket: something on the way has probably removed the field Upgrade. A 400 may be
// about something else.
func (e *HandshakeError) Stripped() bool {
	return e.Code == http.StatusOK || e.Code == http.StatusBadRequest || e.Code == http.StatusUpgradeRequired
}

// Says returns what the answer tells people; "": nothing. See terminal.Says.
func (e *HandshakeError) Says() string { return terminal.Says(e.Body, maxSaid) }

// maxSaid bounds what is shown of an answer, in bytes.
const maxSaid = 200

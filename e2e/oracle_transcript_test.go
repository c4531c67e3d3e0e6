package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A transcript is what came back for a script, and what the backend saw of it, a
// line for each fact. To be comparable it is normalised:
//
//   - fields are sorted by name; the values of a name keep their order
//   - names in HTTP headers are in lower case, as HTTP/2 has them; names in frames
//     are as they came
//   - what HTTP does by itself is left out: date, content-length,
//     transfer-encoding, connection
//   - messages of more than 64 bytes are their length and sum
//   - a status with an ErrorInfo of culvert's is its code and reason: the text and
//     the call's id are culvert's own
type transcript []string

func (tr *transcript) add(format string, args ...any) {
	*tr = append(*tr, fmt.Sprintf(format, args...))
}

func (tr transcript) String() string { return strings.Join(tr, "\n") }

// fields adds fields that came as kind.
func (tr *transcript) fields(kind string, h http.Header) {
	own := culvertsOwn(h)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		switch strings.ToLower(name) {
		case "date", "content-length", "transfer-encoding", "connection":
			continue
		case "grpc-message", "grpc-status-details-bin":
			if own != "" {
				continue
			}
		}
		for _, v := range h[name] {
			tr.add("%s %s: %s", kind, name, v)
		}
	}
	if own != "" {
		tr.add("%s reason: %s", kind, own)
	}
}

// culvertsOwn is the reason of a status that culvert made.
func culvertsOwn(h http.Header) string {
	s, err := wire.StatusOf(maps.Clone(h))
	if err != nil {
		return ""
	}
	return s.Reason()
}

func (tr *transcript) message(payload []byte) {
	if len(payload) <= 64 {
		tr.add("message %x", payload)
		return
	}
	sum := sha256.Sum256(payload)
	tr.add("message of %d bytes, %s", len(payload), hex.EncodeToString(sum[:6]))
}

// frames adds the frames in a gRPC-Web body.
func (tr *transcript) frames(body []byte) {
	for len(body) > 0 {
		if len(body) < 5 || int(binary.BigEndian.Uint32(body[1:])) > len(body)-5 {
			tr.add("%d bytes of a frame", len(body))
			return
		}
		n := 5 + int(binary.BigEndian.Uint32(body[1:]))
		tr.frame(body[0], body[5:n], "trailer")
		body = body[n:]
	}
}

func (tr *transcript) frame(flags byte, payload []byte, kind string) {
	switch flags {
	case 0:
		tr.message(payload)
	case 0x80:
		tr.add("frame of %ss", kind)
		block := http.Header{}
		for line := range strings.SplitSeq(strings.TrimSuffix(string(payload), "\r\n"), "\r\n") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				block[name] = append(block[name], value)
			} else if line != "" {
				tr.add("%s without a value: %q", kind, line)
			}
		}
		tr.fields(kind, block)
	default:
		tr.add("frame with the flags %#x: %x", flags, payload)
	}
}

// textBody decodes base64 by quantum.
func textBody(body []byte) ([]byte, error) {
	var out []byte
	for quantum := range slices.Chunk(body, 4) {
		b, err := base64.StdEncoding.DecodeString(string(quantum))
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

// An oracleScript is one request, or one conversation on a WebSocket.
type oracleScript struct {
	name  string
	probe probe.Script

	// Of HTTP.
	method string // "": POST
	path   string // "": the method Unary
	http2  bool
	header http.Header // added to that of an ordinary call; a nil value takes one away
	body   []byte

	// Of a WebSocket. Its metadata message is head, with the script's two names,
	// unless raw says that messages hold all.
	messages []socketMessage // nil: HTTP
	head     string
	raw      bool
	paced    bool // each is sent after a reply to the one before
	stopsAt  int  // the reply after which the client closes; 0: never
}

type socketMessage struct {
	text bool
	b    []byte
}

// run plays the script before the server at address, and tells what came.
func (s oracleScript) run(t *testing.T, b *backend, address string) transcript {
	t.Helper()
	id := newID(t)
	var tr transcript
	if s.messages != nil {
		s.runWebSocket(t, &tr, address, id)
	} else {
		s.runHTTP(t, &tr, address, id)
	}
	tr.seen(t, b, id)
	return tr
}

func (s oracleScript) target() string {
	if s.path == "" {
		return wire.Unary
	}
	return s.path
}

func (s oracleScript) runHTTP(t *testing.T, tr *transcript, address, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: true, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!s.http2)
	transport.Protocols.SetUnencryptedHTTP2(s.http2)
	defer transport.CloseIdleConnections()
	method := s.method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+s.target(), bytes.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{
		"Content-Type": {"application/grpc-web+proto"}, "X-Grpc-Web": {"1"}, "User-Agent": {"oracle"},
		http.CanonicalHeaderKey(probe.IDKey): {id}, http.CanonicalHeaderKey(probe.ScriptKey): {s.probe.String()},
	}
	maps.Copy(req.Header, s.header)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		tr.add("no answer")
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	tr.add("HTTP %d", resp.StatusCode)
	lower := http.Header{}
	for name, values := range resp.Header {
		lower[strings.ToLower(name)] = values
	}
	tr.fields("header", lower)
	kind := resp.Header.Get("Content-Type")
	switch {
	case strings.HasPrefix(kind, "application/grpc-web-text"):
		frames, err := textBody(body)
		if err != nil {
			tr.add("text that isn't base64")
		}
		tr.frames(frames)
	case strings.HasPrefix(kind, "application/grpc-web"):
		tr.frames(body)
	case len(body) > 0:
		tr.add("body %q", body)
	}
	if err != nil {
		tr.add("cut")
	}
	tr.fields("HTTP trailer", resp.Trailer)
}

// oracleSilence is how long nothing may come before that is what came.
const oracleSilence = 5 * time.Second

func (s oracleScript) runWebSocket(t *testing.T, tr *transcript, address, id string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(oracleSilence)) // just opened
	var head bytes.Buffer
	fmt.Fprintf(&head, "GET %s HTTP/1.1\r\nHost: %s\r\n", s.target(), address)
	upgrade := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-WebSocket-Version": {"13"},
		"Sec-WebSocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-WebSocket-Protocol": {"grpc-websockets"},
	}
	maps.Copy(upgrade, s.header)
	_ = upgrade.Write(&head) // to memory
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		tr.add("no answer")
		return
	}
	tr.add("HTTP %d", resp.StatusCode)
	tr.add("subprotocol %s", resp.Header.Get("Sec-WebSocket-Protocol"))
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	messages := s.messages
	if !s.raw {
		block := "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n" + s.head +
			probe.IDKey + ": " + id + "\r\n" + probe.ScriptKey + ": " + s.probe.String() + "\r\n"
		messages = append([]socketMessage{{b: []byte(block)}}, messages...)
	}
	next := func() bool {
		if len(messages) == 0 {
			return false
		}
		op := byte(fin | opBinary)
		if messages[0].text {
			op = fin | opText
		}
		_, _ = io.WriteString(conn, socketFrame(op, string(messages[0].b))) // the server may have closed
		messages = messages[1:]
		return true
	}
	next() // the metadata
	next() // the first request
	for !s.paced && next() {
	}
	s.readWebSocket(tr, conn, in, next)
}

// readWebSocket reads to the end: frames of gRPC-Web, whatever messages they come
// in.
func (s oracleScript) readWebSocket(tr *transcript, conn net.Conn, in io.Reader, next func() bool) {
	var stream []byte
	blocks, replies := 0, 0
	kinds := []string{"header", "trailer", "trailer"}
	for {
		op, payload, err := readSocketFrame(in)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			tr.add("silence after %d bytes of a frame", len(stream))
			return
		case err != nil:
			tr.add("cut after %d bytes of a frame", len(stream))
			return
		case op == opClose && len(payload) >= 2:
			code := binary.BigEndian.Uint16(payload)
			_, _ = io.WriteString(conn, closeFrame(code, "")) // the server may have closed
			tr.add("close %d %q", code, payload[2:])
			return
		case op == opClose:
			tr.add("close without a code")
			return
		case op == opPing || op == opPong:
			continue
		case op != opBinary:
			tr.add("text %q", payload)
			continue
		}
		split := len(stream) > 0
		stream = append(stream, payload...)
		for len(stream) >= 5 && len(stream)-5 >= int(binary.BigEndian.Uint32(stream[1:])) {
			n := 5 + int(binary.BigEndian.Uint32(stream[1:]))
			if split || n != len(stream) {
				tr.add("a frame that is not one WebSocket message")
			}
			tr.frame(stream[0], stream[5:n], kinds[min(blocks, 2)])
			if stream[0] == 0x80 {
				blocks++
			} else {
				replies++
				next()
				if replies == s.stopsAt {
					_, _ = io.WriteString(conn, socketFrame(fin|opClose, "")) // the server may have closed
				}
			}
			stream = stream[n:]
		}
	}
}

// seen adds what the backend has to tell of the call. Whether a call began whose
// request never came, and how soon one was cancelled, is a matter of speed.
func (tr *transcript) seen(t *testing.T, b *backend, id string) {
	t.Helper()
	r, ok := b.saw(t, id)
	if ok {
		r = b.record(t, id, probe.Ended, patience)
	}
	if r.Received == 0 && !r.HalfClosed && r.Sent == 0 {
		tr.add("backend: no request")
		return
	}
	how := "ended " + r.Code
	if !r.Cancelled.IsZero() {
		how = "was cancelled"
	}
	tr.add("backend: %s read %d requests (half-close: %v), sent %d, %s", r.Method, r.Received, r.HalfClosed, r.Sent, how)
	if r.Fault != "" {
		tr.add("backend: %s", r.Fault)
	}
	if r.Timeout > 0 {
		tr.add("backend: a deadline within %v", r.Timeout.Round(time.Minute)) // however long the request takes on a busy machine
	}
	for _, name := range slices.Sorted(maps.Keys(r.Metadata)) {
		if name == probe.IDKey || name == probe.ScriptKey || name == ":authority" {
			continue
		}
		for _, v := range r.Metadata[name] {
			tr.add("backend: metadata %s: %q", name, v)
		}
	}
}

// diff shows two transcripts' lines, those that one has alone marked.
func diff(ours, theirs transcript) string {
	var out strings.Builder
	for len(ours) > 0 || len(theirs) > 0 {
		switch {
		case len(ours) > 0 && len(theirs) > 0 && ours[0] == theirs[0]:
			fmt.Fprintf(&out, "             %s\n", ours[0])
			ours, theirs = ours[1:], theirs[1:]
		case len(ours) > 0 && (len(theirs) == 0 || !slices.Contains(theirs, ours[0])):
			fmt.Fprintf(&out, "culvert:     %s\n", ours[0])
			ours = ours[1:]
		default:
			fmt.Fprintf(&out, "improbable:  %s\n", theirs[0])
			theirs = theirs[1:]
		}
	}
	return out.String()
}

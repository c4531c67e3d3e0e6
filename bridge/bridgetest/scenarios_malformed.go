package bridgetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// malformedScenarios: malformed input costs the sender its call, with a reason, and
// the backend never sees it as a request that ended well. Where protocols differ,
// each has a table.
var malformedScenarios = []scenario{
	{"flags that a message can't have", rawFrames, badFlags},
	{"request ends inside a frame", rawFrames, endsInsideFrame},
	{"frames split and joined anywhere", rawFrames | manyRequests, splitFrames},
	{"binary metadata that isn't base64", rawHeaders, badBinaryMetadata},
	{"methods that aren't", 0, badMethods},
	{"text that isn't base64", rawFrames, badText},
	{"text with line ends and blanks", rawFrames, blankText},
	{"WebSocket messages that aren't the protocol's", rawFrames, badWebSocketMessages},
	{"WebSocket header blocks that can't be read", rawFrames, badHeaderBlocks},
	{"WebSocket header blocks that can", rawFrames, oddHeaderBlocks},
	{"tunnel with a text message", 0, textInTunnel},
	{"HTTP/1.1 body that breaks off or isn't chunked well", rawFrames, brokenChunks},
	{"HTTP/1.1 body shorter than its length", rawFrames, shortBody},
	{"HTTP/2 stream that breaks off", rawFrames, brokenHTTP2Stream},
}

// refusedFrames sends bytes of frames and the half-close, and expects BAD_REQUEST.
func (t *trial) refusedFrames(name string, whole int64, b []byte) {
	t.Helper()
	s := t.open(call{})
	_ = s.stream.sendRaw(b)  // refused already, maybe
	_ = s.stream.closeSend() // refused already, maybe
	r := s.end()
	t.wantReason(name, r, codes.InvalidArgument, report.ReasonBadRequest)
	t.neverWhole(t.backend.seen(), whole)
}

func badFlags(t *trial) {
	t.serve(untilCancelled)
	flags := []byte{0x02, 0x04, 0x40, 0x80, 0x81, 0xff}
	for _, flag := range flags {
		t.refusedFrames(fmt.Sprintf("flag %#02x", flag), 0, frame(flag, hello))
	}
	if t.transport.lacks(manyRequests) == "" {
		for _, flag := range flags {
			t.refusedFrames(fmt.Sprintf("flag %#02x after a message", flag), 1, slices.Concat(frame(0, hello), frame(flag, hello)))
		}
	}
	t.nextServed()
}

func endsInsideFrame(t *trial) {
	t.serve(untilCancelled)
	whole := frame(0, hello)
	for n := 1; n < len(whole); n++ {
		t.refusedFrames(fmt.Sprintf("%d bytes of a frame", n), 0, whole[:n])
	}
	if t.transport.lacks(manyRequests) == "" {
		t.refusedFrames("a second frame cut", 1, slices.Concat(whole, whole[:7]))
	}
	t.nextServed()
}

// splitFrames: the frames are a stream of bytes, whatever carries them.
func splitFrames(t *trial) {
	t.serve(echo)
	s := t.open(call{})
	want := [][]byte{hello, nil, patterned(3000), hello}
	var all []byte
	for _, m := range want {
		all = append(all, frame(0, m)...)
	}
	for step := 1; len(all) > 0; step = step*2 + 1 {
		n := min(step, len(all))
		s.sendRaw(all[:n])
		all = all[n:]
	}
	s.closeSend()
	t.wantOK(s.end(), want...)
}

func badBinaryMetadata(t *trial) {
	t.serve(echo)
	for _, value := range []string{"!!!", "A", "AAEC,!", "AA=A", "===="} {
		t.wantRefused(call{lines: [][2]string{{"x-b-bin", value}}}, codes.InvalidArgument, report.ReasonBadRequest)
	}
	t.noneReached()
}

// badMethods are paths that another component could read differently, so they are
// no calls: the answer is 404, or UNIMPLEMENTED for a client that needs a status.
func badMethods(t *trial) {
	t.serve(echo)
	for _, method := range []string{
		"/", "/nomethod", "//Call", "/a.B/", "/a.B//Call", "/../a.B/Call", "/a.B/..", "/a.B/C/D", "/./Call",
		"/%61.B/Call", "/a.B%2FCall/x", "/a.B;x/Call", "/a.B/Call;x", "/a.B/%43all",
	} {
		t.notThere(method)
	}
	t.noneReached()
}

// wireSender is a stream whose client writes the body beneath the frames.
type wireSender interface{ sendWire(b []byte) error }

// concerns reports whether a table is about the transport.
func (t *trial) concerns(part string) bool {
	if strings.Contains(t.transport.name, part) {
		return true
	}
	t.Logf("concerns %s alone", part)
	return false
}

func badText(t *trial) {
	if !t.concerns("grpc-web-text http1 chunked") {
		return
	}
	t.serve(untilCancelled)
	for _, text := range []string{"AAAA!AAA", "AAAAAAcKBXdvcmxk" + "AAA", "A", "=AAA", "A===", "AA=A", "AAAA_-AA", "\xff\xff\xff\xff", "AAAAAA=="} {
		s := t.open(call{})
		_ = s.stream.(wireSender).sendWire([]byte(text)) // refused already, maybe
		_ = s.stream.closeSend()
		r := s.end()
		t.wantReason(text, r, codes.InvalidArgument, report.ReasonBadRequest)
		t.neverEndedWell(text, t.backend.seen()...)
	}
	t.nextServed()
}

func blankText(t *trial) {
	if !t.concerns("grpc-web-text http1 chunked") {
		return
	}
	t.serve(echo)
	// Vector 6, whole and in pieces: quanta may be split, padded and wrapped.
	for _, pieces := range [][]string{
		{"AAAAAAcKBXdvcmxk"}, {"AAAA\r\nAAcK BXdv\ncmxk\r\n"}, {"A", "AAA", "AAcKB", "Xdvcmxk"}, {"AAAAAAc=", "CgV3b3JsZA=="}, {"AAAAAAc=CgV3b3JsZA==\r\n"},
	} {
		s := t.open(call{})
		for _, p := range pieces {
			if err := s.stream.(wireSender).sendWire([]byte(p)); err != nil {
				t.Fatal(err)
			}
		}
		s.closeSend()
		t.wantOK(s.end(), hello)
	}
}

// textInTunnel: a text message is no part of a byte pipe.
func textInTunnel(t *trial) {
	if !t.concerns("h2ts") {
		return
	}
	t.serve(echo)
	conn, err := dialWebSocket(t.ctx, t.d, "/", "h2ts")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow() //nolint:errcheck // closed by culvert
	if err := conn.Write(t.ctx, websocket.MessageText, []byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, _, err = conn.Read(t.ctx)
	}
	if code := websocket.CloseStatus(err); code != websocket.StatusUnsupportedData {
		t.Errorf("closed with %v, want %v", err, websocket.StatusUnsupportedData)
	}
	t.nextServed()
}

// brokenOff expects the backend's call to be cancelled and not half-closed, and the
// client's call not to be OK.
func (t *trial) brokenOff(name string, s *callT) {
	t.Helper()
	c := t.nextCall()
	t.awaitWithin(goneIsSeen, name+": the backend's context ends", c.ctx().Done())
	t.neverEndedWell(name, c)
	s.neverOK(name)
}

func brokenChunks(t *trial) {
	if !t.concerns("http1 chunked") {
		return
	}
	t.serve(untilCancelled)
	for name, rest := range map[string]string{
		"no chunk size": "zz\r\n", "chunk longer than it says": "1\r\nabc\r\n0\r\n\r\n", "negative size": "-1\r\n\r\n",
		"size beyond all": "ffffffffffffffffff\r\n", "no size at all": "\r\n\r\n",
		"FIN between chunks": "", "FIN in a chunk": "ff\r\nabc", "FIN in a size": "f", "FIN before the last line": "0\r\n",
	} {
		s := t.open(call{})
		s.send(hello)
		conn := s.stream.(*http1Stream).conn
		_, err := conn.Write([]byte(rest))
		if strings.HasPrefix(name, "FIN ") {
			err = errors.Join(err, conn.Conn.(*net.TCPConn).CloseWrite())
		}
		if err != nil {
			t.Fatal(err)
		}
		t.brokenOff(name, s)
	}
	t.nextServed()
}

// shortBody ends with a FIN at a frame's border, which looks like a half-close
// unless the bytes are counted.
func shortBody(t *trial) {
	if !t.concerns("http1 fetch") && !t.concerns("http1 xhr") {
		return
	}
	t.serve(untilCancelled)
	s := t.open(call{})
	h := s.stream.(*http1Stream)
	body := frame(0, hello)
	if h.client.dialect == dialectText {
		body = []byte("AAAAAAcKBXdvcmxk")
	}
	if _, err := h.conn.Write(append(h.head("content-length", fmt.Sprint(len(body)+12)), body...)); err != nil {
		t.Fatal(err)
	}
	if err := h.conn.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	s.neverOK("a short body")
	t.neverEndedWell("a short body", t.backend.seen()...)
	t.nextServed()
}

// brokenHTTP2Stream writes frames by hand: incorrect ways to end a stream's
// request.
func brokenHTTP2Stream(t *trial) {
	if !t.concerns("h2c") || t.transport.dialect() == dialectText {
		return
	}
	t.serve(untilCancelled)
	ends := map[string]func(f *fakeConn){
		"RST_STREAM CANCEL":    func(f *fakeConn) { _ = f.framer.WriteRSTStream(1, http2.ErrCodeCancel) }, // to memory
		"RST_STREAM NO_ERROR":  func(f *fakeConn) { _ = f.framer.WriteRSTStream(1, http2.ErrCodeNo) },     // to memory
		"shorter than it said": func(f *fakeConn) { f.data(1, true, nil) },
		"longer than it said":  func(f *fakeConn) { f.data(1, true, patterned(200)) },
		"a frame on stream 0":  func(f *fakeConn) { _ = f.framer.WriteRawFrame(http2.FrameData, 0, 0, hello) }, // to memory
		"garbage":              func(f *fakeConn) { f.out.WriteString("GET / HTTP/1.1\r\n\r\n") },
		"a second preface":     func(f *fakeConn) { f.out.WriteString(http2.ClientPreface) },
	}
	// All are broken before the first is looked at: net/http takes a second to
	// close a connection that breaks the rules.
	seen := make(map[string]*backendCall)
	for name, end := range ends {
		f := t.rawHTTP2()
		defer f.Close()
		length := len(frame(0, hello)) + 100
		f.headers(1, false, ":method", "POST", ":scheme", "http", ":path", defaultMethod, ":authority", t.address,
			"content-type", t.transport.dialect().contentType(), "te", "trailers", "content-length", fmt.Sprint(length))
		f.data(1, false, frame(0, hello))
		f.mustFlush(t)
		seen[name] = t.nextCall()
		end(f)
		f.mustFlush(t)
	}
	for name, c := range seen {
		t.awaitWithin(goneIsSeen, name+": the backend's context ends", c.ctx().Done())
		t.neverEndedWell(name, c)
	}
	t.nextServed()
}

// rawHTTP2 is a connection to culvert with the preface sent.
func (t *trial) rawHTTP2() *fakeConn {
	t.Helper()
	conn, err := t.d.dial(context.WithoutCancel(t.ctx), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return newClientConn(conn)
}

// newClientConn returns a connection with the client's preface written.
func newClientConn(conn net.Conn) *fakeConn {
	f := newFakeConn(conn)
	f.out.WriteString(http2.ClientPreface)
	_ = f.framer.WriteSettings() // to memory
	return f
}

func (tr transport) dialect() dialect {
	switch {
	case tr.framing == lineFraming:
		return dialectLines
	case tr.framing == eventFraming:
		return dialectEvents
	case tr.framing == postFraming:
		return dialectPost
	case tr.framing == pollFraming:
		return dialectPoll
	case strings.Contains(tr.name, "connect unary"):
		return dialectUnary
	case strings.Contains(tr.name, "connect"):
		return dialectConnect
	case strings.Contains(tr.name, "grpc-web-text"):
		return dialectText
	case strings.Contains(tr.name, "grpc-web"):
		return dialectWeb
	}
	return dialectGRPC
}

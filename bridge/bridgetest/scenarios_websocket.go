package bridgetest

import (
	"slices"
	"strings"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// onWebSocket opens the WebSocket of a call and lets a table write to it.
func (t *trial) onWebSocket(write func(s *websocketStream)) result {
	t.Helper()
	s, err := t.client.(*websocketClient).upgrade(t.ctx, call{method: defaultMethod})
	if err != nil {
		t.Fatal(err)
	}
	write(s)
	c := &callT{t: t, stream: s}
	return c.end()
}

// A wsMessage is one message of a client: text or binary.
type wsMessage struct {
	kind websocket.MessageType
	b    []byte
}

func binaryMessage(b ...byte) wsMessage { return wsMessage{websocket.MessageBinary, b} }
func dataMessage(b []byte) wsMessage    { return binaryMessage(append([]byte{0}, b...)...) }
func textMessage(s string) wsMessage    { return wsMessage{websocket.MessageText, []byte(s)} }
func (s *websocketStream) write(m ...wsMessage) {
	for _, m := range m {
		if s.conn.Write(s.ctx, m.kind, m.b) != nil {
			return // refused already
		}
	}
}

const headerBlock = "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n"

func badWebSocketMessages(t *trial) {
	if !t.concerns("grpc-websockets") {
		return
	}
	t.serve(untilCancelled)
	block, whole := binaryMessage([]byte(headerBlock)...), frame(0, hello)
	for name, messages := range map[string][]wsMessage{
		"text first":                  {textMessage(headerBlock)},
		"text instead of data":        {block, textMessage("\x00")},
		"empty message":               {block, binaryMessage()},
		"unknown marker":              {block, binaryMessage(2)},
		"unknown marker with data":    {block, binaryMessage(append([]byte{2}, whole...)...)},
		"half-close with more":        {block, dataMessage(whole), binaryMessage(1, 0)},
		"no marker":                   {block, binaryMessage(0x80, 0, 0, 0, 0)},
		"half-close inside a frame":   {block, dataMessage(whole[:7]), binaryMessage(1)},
		"text inside a frame":         {block, dataMessage(whole[:7]), textMessage("x")},
		"empty message inside":        {block, dataMessage(whole[:7]), binaryMessage()},
		"unknown marker after a call": {block, dataMessage(whole), binaryMessage(0xff)},
	} {
		r := t.onWebSocket(func(s *websocketStream) { s.write(messages...) })
		t.wantReason(name, r, codes.InvalidArgument, report.ReasonBadRequest)
		t.neverEndedWell(name, t.backend.seen()...)
	}
	t.nextServed()
	// After the half-close no message may follow; one that does is no cut, though.
	t.backend.handleNext(untilCancelled)
	r := t.onWebSocket(func(s *websocketStream) { s.write(block, dataMessage(whole), binaryMessage(1), dataMessage(whole)) })
	t.wantCulvert(r, codes.InvalidArgument, report.ReasonBadRequest)
}

func badHeaderBlocks(t *trial) {
	if !t.concerns("grpc-websockets") {
		return
	}
	t.serve(untilCancelled)
	for _, block := range []string{
		"nothing", headerBlock + "x-a\r\n", headerBlock + ": v\r\n", headerBlock + "x a: v\r\n",
		headerBlock + "x-a: b\x00c\r\n", headerBlock + "x-a: b\rc\r\n", headerBlock + "x-b-bin: !!!\r\n", "\x00\x00\x00\x00\x00",
		headerBlock + "grpc-timeout: soon\r\n",
	} {
		r := t.onWebSocket(func(s *websocketStream) { s.write(binaryMessage([]byte(block)...), binaryMessage(1)) })
		t.wantReason(block, r, codes.InvalidArgument, report.ReasonBadRequest)
	}
	big := headerBlock + strings.Repeat("x-big: "+strings.Repeat("v", 1000)+"\r\n", 200)
	r := t.onWebSocket(func(s *websocketStream) { s.write(binaryMessage([]byte(big)...), binaryMessage(1)) })
	t.wantCulvert(r, codes.ResourceExhausted, report.ReasonMetadataTooLarge)
	t.noneReached()
}

func oddHeaderBlocks(t *trial) {
	if !t.concerns("grpc-websockets") {
		return
	}
	t.serve(echo)
	for _, block := range []string{
		"", "content-type: application/grpc-web+proto", "Content-Type: application/grpc-web+proto\nX-A:1\n",
		"content-type:application/grpc-web+proto\r\nx-a:\r\n", headerBlock + "x-b-bin: AAEC, /w==\r\n",
	} {
		r := t.onWebSocket(func(s *websocketStream) {
			s.write(binaryMessage([]byte(block)...), dataMessage(frame(0, hello)), binaryMessage(1))
		})
		t.wantOK(r, hello)
	}
	// A frame may be split over messages, and a message may be empty.
	whole := frame(0, hello)
	r := t.onWebSocket(func(s *websocketStream) {
		s.write(binaryMessage([]byte(headerBlock)...), dataMessage(nil), dataMessage(whole[:1]), dataMessage(whole[1:]), dataMessage(slices.Concat(whole, whole)), binaryMessage(1))
	})
	t.wantOK(r, hello, hello, hello)
}

package message

import (
	"errors"
	"io"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// SocketBody joins the data of a WebSocket's messages into one body, for the protocol
// grpc-websockets. Each message
// begins with a marker. A message that is only the marker 1 ends the body.
type SocketBody struct {
	WS *websocket.Conn

	begun  bool    // a message has begun, and not all of head has come
	head   [2]byte // of that message
	had    int     // of head
	open   bool    // a message of data is being read
	closed bool    // the half-close came
	told   bool    // Read has returned it
}

// Read implements io.Reader. Called again after io.EOF, it continues to read.
func (b *SocketBody) Read(p []byte) (int, error) {
	for {
		if b.closed && !b.told {
			b.told = true
			return 0, io.EOF
		}
		if !b.open {
			if err := b.next(); err != nil {
				return 0, err
			}
			continue
		}
		n, err := b.WS.Read(p)
		if errors.Is(err, io.EOF) {
			b.open, err = false, nil
			if n == 0 {
				continue
			}
		}
		if err != nil {
			err = SocketFault(err)
		}
		return n, err
	}
}

// next begins the next message: data, or the half-close. A read deadline that passes
// loses nothing.
func (b *SocketBody) next() error {
	if !b.begun {
		op, err := b.WS.NextMessage()
		if err != nil {
			return SocketFault(err)
		}
		if b.closed {
			return report.New(report.ReasonBadRequest, "a WebSocket message came after the half-close")
		}
		if op != websocket.Binary {
			return TextFault()
		}
		b.begun, b.had = true, 0
	}
	for b.had == 0 || b.had == 1 && b.head[0] != byte(codec.MarkerData) { // only there the length matters
		n, err := b.WS.Read(b.head[b.had:][:1])
		b.had += n
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return SocketFault(err)
		}
	}
	b.begun = false
	marker, err := codec.ParseMarker(b.head[0], b.had)
	if err != nil {
		return report.New(report.ReasonBadRequest, "a WebSocket message can't be read: "+err.Error())
	}
	b.closed = marker == codec.MarkerHalfClose
	b.open = !b.closed
	return nil
}

// Await reads up to the next message of data, and returns nil there. A read deadline that
// passes loses nothing.
func (b *SocketBody) Await() error {
	for !b.open {
		if err := b.next(); err != nil {
			return err
		}
	}
	return nil
}

// SocketFault returns the fault of a failed read of a WebSocket.
func SocketFault(err error) error {
	if f, ok := errors.AsType[*report.Fault](err); ok {
		return f
	}
	broken, ok := errors.AsType[websocket.RuleError](err)
	if !ok {
		return report.New(report.ReasonClientGone, report.ClientGone).Because(err)
	}
	switch broken.Code {
	case websocket.StatusPolicyViolation:
		return report.New(report.ReasonLimitExceeded, "too many WebSocket frames that carry nothing").Because(err).Ending(report.EndedFlood)
	case websocket.StatusMessageTooBig:
		f := report.New(report.ReasonRequestTooLarge, "a WebSocket frame is over 4 GiB").Because(err).Ending(report.EndedProtocol)
		f.Remedy = "send smaller messages"
		return f
	}
	return report.New(report.ReasonBadRequest, "a WebSocket frame is malformed").Because(err).Ending(report.EndedProtocol)
}

// TextFault returns the fault of a client that sends a text message.
func TextFault() error {
	return report.New(report.ReasonBadRequest, "a WebSocket message is text: send binary messages")
}

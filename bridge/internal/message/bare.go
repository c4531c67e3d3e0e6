package message

import (
	"errors"
	"io"
	"sync/atomic"
	"unicode/utf8"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// Bare reads the binary messages of a WebSocket, each of which is one message of a method. Body is
// the body of its Reader.
type Bare struct {
	WS        *websocket.Conn
	Text      bool   // text messages are the method's, too
	HalfClose string // a text message that is the client's half-close; empty: there is none

	// Refresh is the only member of an object that isn't a message of the method: Renew gets its
	// value. It may also come behind the half-close. Empty: there is none.
	Refresh string
	Renew   func(authorization string)

	OpAMP *OpAMP // reads each message's header; nil: they have none

	code  atomic.Int32     // see Code
	left  atomic.Bool      // see Left
	begun bool             // a message has begun
	kind  websocket.Opcode // of that message
	ended bool             // the half-close came
}

// Code returns the code that closes the WebSocket after an error, if it says more than that
// of the status, or 0. Any goroutine may call it.
func (b *Bare) Code() websocket.StatusCode { return websocket.StatusCode(b.code.Load()) }

// Left reports that the client has closed the WebSocket properly: it has nothing more to
// say, and can't be told anything. Any goroutine may call it.
func (b *Bare) Left() bool { return b.left.Load() }

// BinaryFault returns the fault of a client whose first message must be text and is binary.
func (b *Bare) BinaryFault() error {
	return b.closing(websocket.StatusUnsupportedData, report.New(report.ReasonBadRequest, "the first WebSocket message is binary: send text"))
}

// closing notes the code that closes the WebSocket after the error.
func (b *Bare) closing(code websocket.StatusCode, err error) error {
	b.code.Store(int32(code))
	return err
}

// Body returns the body that the Reader reads.
func (b *Bare) Body() io.Reader {
	if b.OpAMP != nil {
		return b.OpAMP
	}
	return bareBody{b.WS}
}

// Read implements Framing. The client's half-close, or its close of the WebSocket, is
// io.EOF. Called again after a half-close, it continues to read.
func (b *Bare) Read(m *Reader) (payload mem.BufferSlice, compressed bool, err error) {
	for renewed := true; renewed; {
		if err := b.Await(); err != nil {
			return nil, false, err
		}
		b.begun = false
		payload, err = b.payload(m)
		if renewed = err == nil && b.renews(payload); renewed {
			payload.Free()
		}
	}
	switch {
	case err == nil && b.ended:
		payload.Free()
		return nil, false, afterHalfClose()
	case err == nil && b.kind == websocket.Text:
		payload, err = b.text(payload)
	}
	if err != nil { // f is garbage
		if f, ok := errors.AsType[*report.Fault](err); ok && f.Reason == report.ReasonRequestTooLarge {
			b.code.Store(int32(websocket.StatusMessageTooBig))
		}
	}
	return payload, false, err
}

// Await waits until the next message begins, or until the client closes the WebSocket
// properly, which is io.EOF.
func (b *Bare) Await() (err error) {
	if b.begun {
		return nil
	}
	if b.left.Load() {
		return io.EOF
	}
	if b.kind, err = b.WS.NextMessage(); err != nil {
		return b.closed(err)
	}
	switch {
	case b.ended && b.Refresh == "":
		return afterHalfClose()
	case b.kind == websocket.Text && !b.Text && b.HalfClose == "":
		return b.closing(websocket.StatusUnsupportedData, TextFault())
	}
	b.begun = true
	return nil
}

func afterHalfClose() error {
	return report.New(report.ReasonBadRequest, "a WebSocket message came after the half-close")
}

// maxRefresh is the longest message that renews a credential.
const maxRefresh = 32 << 10

// renews reports whether a message renews a credential, which it does.
func (b *Bare) renews(payload mem.BufferSlice) bool {
	if b.Refresh == "" || payload.Len() > maxRefresh {
		return false
	}
	value, ok := codec.ParseRefresh(b.Refresh, payload.Materialize())
	if ok {
		b.Renew(value)
	}
	return ok
}

// closed returns what the end of the WebSocket means.
func (b *Bare) closed(err error) error {
	if code := websocket.CloseStatus(err); code == websocket.StatusNormalClosure || code == websocket.StatusGoingAway {
		b.left.Store(true)
		return io.EOF
	}
	return SocketFault(err)
}

// payload reads the message that has begun.
func (b *Bare) payload(m *Reader) (payload mem.BufferSlice, err error) {
	n, known := b.WS.Length()
	if b.OpAMP != nil {
		header, err := b.OpAMP.skipHeader(m)
		if err != nil {
			return nil, err
		}
		n -= int64(header)
	}
	if !known {
		return m.rest()
	}
	if err := m.fits(n); err != nil {
		return nil, err
	}
	payload, err = m.Payload(int(n))
	if err == nil && n == 0 {
		_, _ = b.WS.Read(nil) // io.EOF: an empty message has an end, too
	}
	return payload, err
}

// text returns what a text message means: itself, the half-close, or a fault. It frees a
// message that it doesn't return.
func (b *Bare) text(payload mem.BufferSlice) (_ mem.BufferSlice, err error) {
	switch {
	case b.HalfClose != "" && payload.Len() == len(b.HalfClose) && string(payload.Materialize()) == b.HalfClose:
		b.ended = true
		err = io.EOF
	case !validText(payload):
		err = b.closing(websocket.StatusBadPayload, report.New(report.ReasonBadRequest, "a text message isn't valid UTF-8"))
	case b.Text:
		return payload, nil
	default:
		err = b.closing(websocket.StatusUnsupportedData, TextFault())
	}
	payload.Free()
	return nil, err
}

// validText reports whether the pieces of a message are UTF-8 when they are joined.
func validText(pieces mem.BufferSlice) bool {
	var begun []byte // a character at the end of a piece
	for _, piece := range pieces {
		data := piece.ReadOnlyData()
		for len(begun) > 0 && !utf8.FullRune(begun) && len(data) > 0 {
			begun, data = append(begun, data[0]), data[1:]
		}
		if len(begun) > 0 && !utf8.FullRune(begun) {
			continue
		}
		if !utf8.Valid(begun) {
			return false
		}
		whole := len(data)
		for back := 1; back < utf8.UTFMax && back <= len(data); back++ {
			if last := data[len(data)-back:]; utf8.RuneStart(last[0]) {
				if !utf8.FullRune(last) {
					whole -= back
				}
				break
			}
		}
		if !utf8.Valid(data[:whole]) {
			return false
		}
		begun = append(begun[:0], data[whole:]...)
	}
	return len(begun) == 0
}

// A bareBody reads the message of a WebSocket that has begun.
type bareBody struct{ ws *websocket.Conn }

func (b bareBody) Read(p []byte) (int, error) {
	n, err := b.ws.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = SocketFault(err)
	}
	return n, err
}

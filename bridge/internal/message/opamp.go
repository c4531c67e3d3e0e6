package message

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// An OpAMP reads the messages of OpAMP's agents from a WebSocket: each begins with a
// header. It is the body of the Bare that it belongs to.
type OpAMP struct {
	ws    *websocket.Conn
	first [binary.MaxVarintLen64]byte // of the message
	ahead []byte                      // the part of first that is nobody's header, and not read yet
	ended error                       // the message has no more than that: io.EOF
}

// NewOpAMP returns the reader of a WebSocket's messages.
func NewOpAMP(ws *websocket.Conn) *OpAMP { return &OpAMP{ws: ws} }

// skipHeader reads the header of a message that has begun, and returns its length.
func (o *OpAMP) skipHeader(m *Reader) (n int, err error) {
	m.Gets.ReadPiece()
	defer m.Gets.EndRead()
	read := 0
	o.ahead, o.ended = nil, nil
	for o.ended == nil && read < len(o.first) && (read == 0 || o.first[0] != codec.OpAMPHeader) {
		n, err := bareBody{o.ws}.Read(o.first[read:])
		read += n
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		o.ended = err
	}
	if n, err = codec.ParseOpAMPHeader(o.first[:read]); err != nil {
		return 0, report.New(report.ReasonBadRequest, "a WebSocket message isn't one of OpAMP: "+err.Error())
	}
	o.ahead = o.first[n:read]
	return n, nil
}

// Read reads from the message after its header.
func (o *OpAMP) Read(p []byte) (n int, err error) {
	if len(o.ahead) == 0 && o.ended == nil {
		return bareBody{o.ws}.Read(p)
	}
	n = copy(p, o.ahead)
	if o.ahead = o.ahead[n:]; len(o.ahead) == 0 {
		err = o.ended
	}
	return n, err
}

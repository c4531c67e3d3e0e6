package message

import (
	"errors"
	"io"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// Unary reads a body that is one bare message, as in the Connect protocol. An empty body
// is an empty message. https://connectrpc.com/docs/protocol#unary-request
type Unary struct {
	Length int64  // of the body; negative: unknown
	Coding string // of the body: "" or "gzip"
	read   bool
}

// Read implements Framing.
func (f *Unary) Read(m *Reader) (payload mem.BufferSlice, compressed bool, err error) {
	if f.read {
		return nil, false, io.EOF
	}
	f.read = true
	if f.Length < 0 {
		payload, err = m.rest()
	} else {
		payload, err = f.known(m)
	}
	return payload, f.Coding == "gzip" && payload.Len() > 0, err
}

// known reads a body of known length to its end: only then the transport knows that it
// has ended.
func (f *Unary) known(m *Reader) (mem.BufferSlice, error) {
	if err := m.fits(f.Length); err != nil {
		return nil, err
	}
	payload, err := m.Payload(int(f.Length))
	if err != nil {
		return nil, err
	}
	var probe [1]byte
	if n, err := io.ReadFull(m.Body, probe[:]); n > 0 || !errors.Is(err, io.EOF) {
		payload.Free()
		if n > 0 {
			return nil, report.New(report.ReasonBadRequest, "the body is longer than its content-length")
		}
		return nil, Fault(err)
	}
	return payload, nil
}

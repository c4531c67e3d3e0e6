package message

import (
	"errors"
	"io"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// GRPC reads the frames of the gRPC family, in a body and on a WebSocket, and the
// envelopes of Connect's streams: each message has a prefix of flags and length.
type GRPC struct {
	Coding string // of the compressed messages: "" or "gzip"
	Length uint32 // of the last message, as its prefix says
	prefix [codec.FrameHeaderBytes]byte
}

// errUncoded ends a call whose message is compressed although its request names no
// coding. https://github.com/grpc/grpc/blob/master/doc/compression.md
var errUncoded = &report.Fault{Reason: report.ReasonBadRequest, Code: codes.Internal, Text: "a message is marked as compressed, but the request names no coding (grpc-encoding, connect-content-encoding)"}

// Read implements Framing. It refuses a gRPC-Web trailer frame (0x80): clients have no
// trailers.
func (f *GRPC) Read(m *Reader) (payload mem.BufferSlice, compressed bool, err error) {
	n, err := io.ReadAtLeast(m.Body, f.prefix[:], 1)
	if errors.Is(err, io.EOF) {
		return nil, false, io.EOF
	}
	if err != nil {
		return nil, false, Fault(err)
	}
	// Judge the flag at once: a client that sends a wrong one may never send the rest.
	flags := f.prefix[0]
	if flags&^codec.FlagCompressed != 0 {
		return nil, false, report.Newf(report.ReasonBadRequest, "a message begins with the flag byte 0x%02x, want 0x00 or 0x01", flags)
	}
	if err := m.Begin(); err != nil {
		return nil, false, err
	}
	if err := f.readPrefix(m, n); err != nil {
		return nil, false, err
	}
	payload, err = m.Payload(int(f.Length))
	if err != nil || flags == 0 {
		return payload, false, err
	}
	if f.Coding != "gzip" {
		payload.Free()
		return nil, false, errUncoded
	}
	return payload, f.Length > 0, nil // nothing is an empty message in any coding
}

// readPrefix reads the rest of a prefix after its first n bytes.
func (f *GRPC) readPrefix(m *Reader, n int) error {
	if n < len(f.prefix) {
		m.Gets.ReadPart(n)
	}
	if _, err := m.ReadFull(f.prefix[n:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return report.New(report.ReasonBadRequest, "the request ended inside a message's prefix of 5 bytes")
	} else if err != nil {
		return Fault(err)
	}
	h, _, err := codec.ParseFrameHeader(f.prefix[:])
	if err != nil {
		return report.New(report.ReasonBadRequest, "a message's prefix can't be read: "+err.Error())
	}
	f.Length = h.Length
	return m.fits(int64(h.Length))
}

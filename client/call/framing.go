package call

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/client/internal/answer"
	"github.com/culvert-grpc/culvert/codec"
)

// A framing is how messages stand in a stream of bytes, and how the stream ends.
type framing struct {
	parse func([]byte) (codec.FrameHeader, int, error)
	last  byte   // the flag of the end
	frame string // in words
	final string // the last frame, in words
	end   func(t *trace, payload []byte) (*status.Status, metadata.MD, error)
}

// inFrame returns a message in its frame.
func inFrame(m []byte) []byte {
	return append(codec.FrameHeader{Length: uint32(len(m))}.AppendTo(nil), m...) // converse bounds messages
}

// next reads a message. It returns io.EOF once o has the call's end.
func (f *framing) next(t *trace, r io.Reader, o *outcome) ([]byte, error) {
	if o.status != nil {
		return nil, io.EOF
	}
	h, payload, err := codec.ReadFrame(r, f.parse, maxMessageBytes)
	switch {
	case errors.Is(err, codec.ErrReservedFlag):
		return nil, fmt.Errorf("the answer is malformed: %w", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, errCutOff
	case err != nil:
		return nil, err
	case h.Flags&codec.FlagCompressed != 0:
		return nil, errors.New("the server compressed a message, though the request accepts no compression")
	case h.Flags&f.last == 0:
		t.say(received, "a message of %s, in %s of %s", bytesOf(len(payload)), f.frame, bytesOf(len(payload)+codec.FrameHeaderBytes))
		return payload, nil
	}
	if o.status, o.trailer, err = f.end(t, payload); err != nil {
		o.status = nil
		return nil, err
	}
	return nil, io.EOF
}

// A framedStream is a call whose answer has frames.
type framedStream struct {
	httpStream
	framing *framing
	text    bool      // the request is base64
	answer  io.Reader // its frames
}

// read begins to read the answer's frames.
func (s *framedStream) read(res *http.Response) {
	s.answer = told{res.Body, func(err error) error { return bodyError(s.r.Context(), err) }}
}

// send implements stream. In text, each frame is padded on its own.
func (s *framedStream) send(m []byte) error {
	frame := inFrame(m)
	what := fmt.Sprintf("a message of %s, in %s of %s", bytesOf(len(m)), s.framing.frame, bytesOf(len(frame)))
	if s.text {
		frame = []byte(base64.StdEncoding.EncodeToString(frame))
		what += fmt.Sprintf(", as %d characters of base64", len(frame))
	}
	return s.write(frame, what)
}

func (s *framedStream) recv() ([]byte, error) {
	if s.status != nil {
		return nil, io.EOF
	}
	m, err := s.framing.next(s.w.c.trace, s.answer, &s.outcome)
	if !errors.Is(err, io.EOF) {
		return m, err
	}
	if answer.More(s.answer, s.res.Body) {
		return nil, fmt.Errorf("the answer is malformed: more bytes behind %s", s.framing.final)
	}
	return nil, io.EOF
}

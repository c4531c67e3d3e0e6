package bridgetest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// messageClient sends bare messages.
type messageClient struct {
	sockets
	framing *framing
}

func (c *messageClient) open(ctx context.Context, rq call) (stream, error) {
	header := make(http.Header)
	for _, line := range metadataLines(rq) {
		header[line[0]] = append(header[line[0]], line[1])
	}
	if rq.timeout != "" {
		header["grpc-timeout"] = []string{rq.timeout}
	}
	conn, answer, err := upgrade(ctx, c.d, rq.method, &websocket.DialOptions{HTTPHeader: header})
	if _, ok := errors.AsType[*httpError](err); ok {
		return &failedStream{err: err}, nil
	}
	if err != nil {
		return nil, err
	}
	s := &messageStream{socket: socket{ctx: ctx, conn: conn}, d: c.d, framing: c.framing, head: metadata.MD{}}
	if ids := answer["X-Request-Id"]; len(ids) > 0 {
		s.head["x-request-id"] = ids
	}
	c.add(&s.socket)
	return s, nil
}

type messageStream struct {
	socket
	d       *dialer
	framing *framing

	head metadata.MD
	st   *status.Status
	err  error
}

func (s *messageStream) header() (metadata.MD, error) { return s.head, nil }
func (s *messageStream) status() *status.Status       { return s.st }
func (s *messageStream) trailer() metadata.MD         { return metadata.MD{} }
func (s *messageStream) compressed() int              { return 0 }
func (s *messageStream) sendRaw([]byte) error         { return errors.ErrUnsupported }

func (s *messageStream) send(b []byte) error {
	return s.conn.Write(s.ctx, s.framing.kind, s.framing.encode(s.d.sent(b)))
}

func (s *messageStream) closeSend() error {
	if s.framing == agentFraming {
		return errors.ErrUnsupported
	}
	return s.conn.Write(s.ctx, websocket.MessageText, []byte(halfCloseText))
}

// sendHalf begins a message of 64 KiB, and sends less.
func (s *messageStream) sendHalf() error {
	w, err := s.conn.Writer(s.ctx, s.framing.kind)
	if err == nil {
		_, err = w.Write(s.framing.encode(patterned(64 << 10))) // the end stays in w's buffer
	}
	return err
}

func (s *messageStream) recv() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	kind, b, err := s.conn.Read(s.ctx)
	switch {
	case s.framing == agentFraming && (err != nil || agentFailure(b) != ""):
		s.err = s.endOfAgent(agentFailure(b), err)
	case err != nil:
		s.err = err
	case kind == websocket.MessageText && isStatus(b):
		s.err = s.end(b)
	case kind != s.framing.kind:
		s.err = violation("a message of the other kind: %.40q", b)
	default:
		if b, s.err = s.framing.decode(b); s.d.typed {
			b = typed(b)
		}
		return b, s.err
	}
	return nil, s.err
}

// end checks the message with the status, and the close frame after it.
func (s *messageStream) end(b []byte) error {
	st, name, err := lastStatus(b)
	if err != nil {
		return err
	}
	_, b, err = s.conn.Read(s.ctx)
	var told websocket.CloseError
	switch {
	case err == nil:
		return violation("a message of %d bytes after the status", len(b))
	case !errors.As(err, &told):
		return violation("no close frame after the status: %w", err)
	}
	s.st = st
	reason := result{status: s.st}.info().GetReason()
	if !closesWith(told.Code, s.st.Code(), report.Reason(reason)) || !closesFor(told.Reason, name, s.st.Message()) && !closesFor(told.Reason, reason, s.st.Message()) {
		s.st = nil
		return violation("closed with %d %q after the status %v of %s", told.Code, told.Reason, st, reason)
	}
	return io.EOF
}

// endOfAgent checks the close frame, which has the same text as the message before it if
// the call has failed. Otherwise err is the close frame.
func (s *messageStream) endOfAgent(failure string, err error) error {
	if failure != "" {
		_, _, err = s.conn.Read(s.ctx)
	}
	var told websocket.CloseError
	switch {
	case !errors.As(err, &told):
		return err
	case told.Reason != failure || (told.Code == websocket.StatusNormalClosure) != (failure == ""):
		return violation("closed with %d %q after the failure %q", told.Code, told.Reason, failure)
	case failure == "":
		s.st = status.New(codes.OK, "")
		return io.EOF
	}
	name, message, _ := strings.Cut(failure, ": ")
	st := codes.Code(told.Code - 4000)
	if told.Code < 4000 || code.Code_name[int32(st)] != name {
		return violation("closed with %d %q", told.Code, told.Reason)
	}
	s.st = status.New(st, message)
	return io.EOF
}

// agentFailure returns the text of a ServerErrorResponse in a message to an agent, or "".
func agentFailure(b []byte) string {
	const errorResponse, errorMessage = 2, 2
	if len(b) == 0 {
		return ""
	}
	of := b[1:] // behind the header
	for _, field := range []protowire.Number{errorResponse, errorMessage} {
		for len(of) > 0 {
			number, kind, n := protowire.ConsumeTag(of)
			size := protowire.ConsumeFieldValue(number, kind, of[max(n, 0):])
			if n < 0 || size < 0 {
				return ""
			}
			if number == field && kind == protowire.BytesType {
				of, _ = protowire.ConsumeBytes(of[n:])
				break
			}
			of = of[n+size:]
		}
	}
	return string(of)
}

// closesWith reports whether a close frame may have the code after a status, which is
// culvert's own if it has a reason.
func closesWith(code websocket.StatusCode, st codes.Code, reason report.Reason) bool {
	switch code {
	case websocket.StatusNormalClosure:
		return st == codes.OK
	case websocket.StatusGoingAway:
		return reason == report.ReasonDraining
	case websocket.StatusUnsupportedData, websocket.StatusInvalidFramePayloadData:
		return reason == report.ReasonBadRequest
	case websocket.StatusMessageTooBig:
		return reason == report.ReasonRequestTooLarge
	case websocket.StatusInternalError:
		return reason == report.ReasonInternal
	}
	return st != codes.OK && code == 4000+websocket.StatusCode(min(st, 999))
}

// closesFor reports whether the text of a close frame begins with the name, and goes on
// with the status's message as far as there is room. RFC 6455 §5.5 has 123 bytes.
func closesFor(text, name, message string) bool {
	if name == "OK" {
		return text == ""
	}
	whole := name
	if message != "" {
		whole += ": " + message
	}
	return strings.HasPrefix(whole, text) && (text == whole || len(text) > 123-4)
}

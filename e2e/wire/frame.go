package wire

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

const flagTrailers = 0x80

// Frame returns message behind its 5-byte prefix.
func Frame(message []byte) []byte { return append(Prefix(len(message)), message...) }

// Prefix returns the 5 bytes that announce a message of size bytes.
func Prefix(size int) []byte {
	return binary.BigEndian.AppendUint32([]byte{0}, uint32(size))
}

// ReadFrame reads one frame. io.EOF: r ended before it.
func ReadFrame(r io.Reader) (flags byte, payload []byte, err error) {
	var prefix [5]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	if _, err := io.ReadFull(r, payload); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return prefix[0], payload, nil
}

// A Status is how a call ended.
type Status struct {
	Code      codes.Code
	Message   string
	Trailer   http.Header // lower-case keys, without the status
	Details   *spb.Status // nil: none
	CloseCode int         // a WebSocket's; 0: no close frame came
}

// String returns the status for a test's message.
func (s *Status) String() string {
	return fmt.Sprintf("%v %s %q", s.Code, s.Reason(), s.Message)
}

// Reason returns the reason that culvert gave if it made the status, else "".
func (s *Status) Reason() string { return Info(s.Details).GetReason() }

// Info returns what culvert says in details, nil if it made no such status.
func Info(details *spb.Status) *errdetails.ErrorInfo {
	for _, d := range details.GetDetails() {
		info := new(errdetails.ErrorInfo)
		if d.UnmarshalTo(info) == nil && info.GetDomain() == "culvert" {
			return info
		}
	}
	return nil
}

// StatusOf reads the status from trailers, or a Trailers-Only answer's header.
func StatusOf(fields http.Header) (s *Status, err error) {
	lower := http.Header{}
	for name, values := range fields {
		lower[strings.ToLower(name)] = values
	}
	if len(lower["grpc-status"]) == 0 {
		return nil, fmt.Errorf("%w: no grpc-status in the trailers", ErrCut)
	}
	if len(lower["grpc-status"]) > 1 {
		return nil, fmt.Errorf("%d times grpc-status", len(lower["grpc-status"]))
	}
	code, err := strconv.ParseUint(lower["grpc-status"][0], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("grpc-status: %w", err)
	}
	s = &Status{Code: codes.Code(code), Trailer: lower}
	if v := lower["grpc-message"]; len(v) > 0 {
		if s.Message, err = url.PathUnescape(v[0]); err != nil {
			return nil, fmt.Errorf("grpc-message: %w", err)
		}
	}
	if v := lower["grpc-status-details-bin"]; len(v) > 0 {
		raw, err := base64.RawStdEncoding.DecodeString(v[0])
		if err != nil {
			return nil, fmt.Errorf("grpc-status-details-bin: %w", err)
		}
		s.Details = new(spb.Status)
		if err := proto.Unmarshal(raw, s.Details); err != nil {
			return nil, fmt.Errorf("grpc-status-details-bin: %w", err)
		}
		if s.Details.GetCode() != int32(s.Code) {
			return nil, fmt.Errorf("grpc-status %d with details of code %d", s.Code, s.Details.GetCode())
		}
	}
	for _, name := range []string{"grpc-status", "grpc-message", "grpc-status-details-bin"} {
		delete(s.Trailer, name)
	}
	return s, nil
}

// lastStatus reads the status of gRPC-Web from the frame behind the messages.
func lastStatus(flags byte, payload []byte) (*Status, error) {
	if flags != flagTrailers {
		return nil, fmt.Errorf("a frame with the flags %#x", flags)
	}
	return ParseStatus(payload)
}

// ParseStatus reads the status from the payload of a trailers frame.
func ParseStatus(block []byte) (*Status, error) {
	fields, err := parseBlock(block)
	if err != nil {
		return nil, err
	}
	return StatusOf(fields)
}

// parseBlock reads the payload of a trailers frame or a header message. It wants
// what every client can read: lower-case keys.
func parseBlock(b []byte) (http.Header, error) {
	h := http.Header{}
	for line := range strings.SplitSeq(string(b), "\r\n") {
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || name != strings.ToLower(name) {
			return nil, fmt.Errorf("a line %q in a header block", line)
		}
		h[name] = append(h[name], textproto.TrimString(value))
	}
	return h, nil
}

// textReader decodes gRPC-Web-text by quantum: padding may stand anywhere.
type textReader struct {
	r    *bufio.Reader
	rest []byte
}

func (t *textReader) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		var quantum [4]byte
		if _, err := io.ReadFull(t.r, quantum[:]); err != nil {
			return 0, err
		}
		decoded, err := base64.StdEncoding.DecodeString(string(quantum[:]))
		if err != nil {
			return 0, err
		}
		t.rest = decoded
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

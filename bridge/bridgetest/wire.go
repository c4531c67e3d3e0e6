package bridgetest

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// A dialect is how a family of clients writes and reads the 5-byte frame.
type dialect int

const (
	dialectGRPC    dialect = iota // trailers are HTTP's
	dialectWeb                    // trailers are a frame
	dialectText                   // and all of it is base64
	dialectConnect                // Connect's streams: the last frame is JSON
	dialectUnary                  // Connect's unary calls: no frames
	dialectLines                  // bare messages: one in JSON, and replies that are lines
	dialectEvents                 // and replies that are events
	dialectPost                   // and an answer like that of Connect's unary calls
	dialectPoll                   // polls of OpAMP's agents
)

// contentType returns the content type of requests. The answer must have the same,
// word for word (protobuf-ts requires that).
func (d dialect) contentType() string {
	return [...]string{"application/grpc", "application/grpc-web+proto", "application/grpc-web-text+proto", "application/connect+proto", "application/proto", "application/json", "application/json", "application/json", "application/x-protobuf"}[d]
}

const (
	flagCompressed = 0x01
	flagTrailers   = 0x80
)

// frame returns one frame: the prefix and the payload.
func frame(flags byte, payload []byte) []byte {
	b := make([]byte, 5, 5+len(payload))
	b[0] = flags
	binary.BigEndian.PutUint32(b[1:], uint32(len(payload)))
	return append(b, payload...)
}

// message returns one message as the body has it, compressed if the call says so.
func (d dialect) message(encoding string, message []byte) []byte {
	switch {
	case d == dialectPoll:
		message = ofAgent(message)
	case d.isPlain():
		message = jsonFraming.encode(message)
	}
	switch {
	case (d == dialectUnary || d.isPlain()) && isGzip(encoding) && len(message) > 0:
		return parts.Gzipped(message)
	case d == dialectUnary || d.isPlain():
		return message
	case isGzip(encoding):
		return frame(flagCompressed, parts.Gzipped(message))
	}
	return frame(0, message)
}

// isConnect reports whether the dialect is one of the Connect protocol's.
func (d dialect) isConnect() bool { return d == dialectConnect || d == dialectUnary }

// isPlain reports whether the dialect is one of bare messages.
func (d dialect) isPlain() bool {
	return d == dialectLines || d == dialectEvents || d == dialectPost || d == dialectPoll
}

// encodingHeaders returns the names of the headers for a coding and for the codings that
// can be read.
func (d dialect) encodingHeaders() (encoding, accepts string) {
	switch d {
	case dialectConnect:
		return "connect-content-encoding", "connect-accept-encoding"
	case dialectUnary, dialectLines, dialectEvents, dialectPost, dialectPoll:
		return "content-encoding", "accept-encoding"
	}
	return "grpc-encoding", "grpc-accept-encoding"
}

// isGzip reports whether a coding is gzip. RFC 9110 §8.4.1.
func isGzip(coding string) bool {
	return strings.EqualFold(coding, "gzip") || strings.EqualFold(coding, "x-gzip")
}

func gunzipped(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// readFrame reads one frame. io.EOF is the end before a frame; the end inside
// one is io.ErrUnexpectedEOF.
func readFrame(r io.Reader) (flags byte, payload []byte, err error) {
	var prefix [5]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	if _, err := io.ReadFull(r, payload); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	return prefix[0], payload, nil
}

// A quantumReader decodes base64 four characters at a time, like clients of
// gRPC-Web-text: padding may end any quantum, nothing may split one.
type quantumReader struct {
	r       io.Reader
	in, out []byte // read and not decoded, decoded and not handed out
	err     error  // of r, for when in is used up
}

func (q *quantumReader) Read(p []byte) (int, error) {
	for len(q.out) == 0 {
		if len(q.in) >= 4 {
			if err := q.decode(); err != nil {
				return 0, err
			}
			continue
		}
		if q.err != nil {
			if len(q.in) > 0 {
				return 0, violation("the text ends with %d of a quantum's 4 characters: %v", len(q.in), q.err)
			}
			return 0, q.err
		}
		buf := make([]byte, 32<<10)
		n := copy(buf, q.in)
		m, err := q.r.Read(buf[n:])
		q.in, q.err = buf[:n+m], err
	}
	n := copy(p, q.out)
	q.out = q.out[n:]
	return n, nil
}

// decode decodes whole quanta up to and with the first that is padded.
func (q *quantumReader) decode() error {
	whole := q.in[:len(q.in)&^3]
	if i := bytes.IndexByte(whole, '='); i >= 0 {
		whole = whole[:i&^3+4]
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(whole)))
	n, err := base64.StdEncoding.Decode(out, whole)
	if err != nil {
		return violation("text %.20q: %w", whole, err)
	}
	q.in, q.out = q.in[len(whole):], out[:n]
	return nil
}

// parseBlock parses a header block like the strictest of clients: every line "name:
// value" ends in CRLF, names are lower case, values printable ASCII.
func parseBlock(b []byte) (metadata.MD, error) {
	fields := make(map[string][]string)
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte("\r\n"))
		if !ok {
			return nil, violation("block line %q has no end", b)
		}
		b = rest
		name, value, ok := strings.Cut(string(line), ": ")
		if !ok || name == "" || name != strings.ToLower(name) {
			return nil, violation("block line %q", line)
		}
		for _, c := range []byte(value) {
			if c < 0x20 || c > 0x7e {
				return nil, violation("block line %q has a byte that isn't printable ASCII", line)
			}
		}
		fields[name] = append(fields[name], value)
	}
	return decodeFields(fields)
}

// appendBlock writes fields as clients do.
func appendBlock(b []byte, lines [][2]string) []byte {
	for _, l := range lines {
		b = fmt.Appendf(b, "%s: %s\r\n", l[0], l[1])
	}
	return b
}

// headerLines returns the call's request header as name and value, in the form
// that every transport but grpc-go's own writes.
func headerLines(c call, d dialect) [][2]string {
	lines := grpcLines(c, d)
	if d.isConnect() {
		lines = connectLines(c, d)
	} else if d.isPlain() {
		lines = askedLines([][2]string{{"content-type", d.contentType()}}, c, "content-encoding")
	}
	return append(lines, metadataLines(c)...)
}

// metadataLines are the lines that the scenario gives.
func metadataLines(c call) (lines [][2]string) {
	for name, values := range c.metadata {
		for _, v := range values {
			if strings.HasSuffix(name, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
			lines = append(lines, [2]string{name, v})
		}
	}
	return append(lines, c.lines...)
}

// grpcLines are the lines of the gRPC family's own.
func grpcLines(c call, d dialect) [][2]string {
	lines := [][2]string{{"content-type", cmp.Or(c.contentType, d.contentType())}}
	if d == dialectGRPC {
		lines = append(lines, [2]string{"te", "trailers"}, [2]string{"grpc-accept-encoding", cmp.Or(c.accepts, "gzip")})
	} else {
		lines = append(lines, [2]string{"x-grpc-web", "1"}, [2]string{"x-user-agent", userAgent})
	}
	if d == dialectText {
		lines = append(lines, [2]string{"accept", d.contentType()})
	}
	return askedLines(lines, c, "grpc-encoding")
}

// askedLines adds the lines of the call's time-out and of its messages' encoding.
func askedLines(lines [][2]string, c call, encoding string) [][2]string {
	if c.timeout != "" {
		lines = append(lines, [2]string{"grpc-timeout", c.timeout})
	}
	if c.encoding != "" {
		lines = append(lines, [2]string{encoding, c.encoding})
	}
	return lines
}

// userAgent is the x-user-agent of the clients written here.
const userAgent = "grpc-web-bridgetest/1"

// decodeFields makes metadata from header fields. Values of -bin keys must be
// unpadded base64, which culvert promises to write.
func decodeFields(fields map[string][]string) (metadata.MD, error) {
	md := metadata.MD{}
	for name, values := range fields {
		name = strings.ToLower(name)
		for _, v := range values {
			if strings.HasSuffix(name, "-bin") {
				raw, err := base64.RawStdEncoding.DecodeString(v)
				if err != nil {
					return nil, violation("%s: %q isn't unpadded base64", name, v)
				}
				v = string(raw)
			}
			md[name] = append(md[name], v)
		}
	}
	return md, nil
}

// takeStatus removes the status from the trailing metadata. It requires exactly one
// code in canonical form, a message that decodeURIComponent accepts, and details
// that agree with the code.
func takeStatus(md metadata.MD) (*status.Status, error) {
	values, messages, details := md["grpc-status"], md["grpc-message"], md["grpc-status-details-bin"]
	delete(md, "grpc-status")
	delete(md, "grpc-message")
	if len(values) != 1 || len(messages) > 1 || len(details) > 1 {
		return nil, violation("grpc-status %q, grpc-message %q, grpc-status-details-bin %q", values, messages, details)
	}
	code, err := strconv.ParseUint(values[0], 10, 32)
	if err != nil || strconv.FormatUint(code, 10) != values[0] {
		return nil, violation("grpc-status %q", values[0])
	}
	st := &statuspb.Status{Code: int32(uint32(code))}
	if st.Message, err = percentDecoded(strings.Join(messages, "")); err != nil {
		return nil, err
	}
	if len(details) == 1 {
		var full statuspb.Status
		if err := proto.Unmarshal([]byte(details[0]), &full); err != nil {
			return nil, violation("grpc-status-details-bin: %w", err)
		}
		if uint64(uint32(full.GetCode())) != code {
			return nil, violation("grpc-status is %d, its details say %d", code, full.GetCode())
		}
		st.Details = full.GetDetails()
	}
	return status.FromProto(st), nil
}

// browserStatus is takeStatus for the dialects of browsers, whose clients turn
// unknown codes into INTERNAL.
func browserStatus(md metadata.MD) (*status.Status, error) {
	st, err := takeStatus(md)
	if err == nil && st.Code() > codes.Unauthenticated {
		return nil, violation("grpc-status %d for a browser", st.Code())
	}
	return st, err
}

func percentDecoded(s string) (string, error) {
	for i, c := range []byte(s) {
		if c < 0x20 || c > 0x7e {
			return "", violation("grpc-message %q: byte %#x isn't escaped", s, c)
		}
		if escape := s[i:min(i+3, len(s))]; c == '%' && escape != strings.ToUpper(escape) {
			return "", violation("grpc-message %q: bad escape at %d", s, i)
		}
	}
	text, err := url.PathUnescape(s)
	if err != nil || !utf8.ValidString(text) {
		return "", violation("grpc-message %q isn't escaped UTF-8: %v", s, err)
	}
	return text, nil
}

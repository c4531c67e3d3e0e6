package bridgetest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// flagEndStream marks the last envelope of a Connect stream.
const flagEndStream = 0x02

// connectCodes are the names of codes and the HTTP statuses of unary errors, as
// https://connectrpc.com/docs/protocol#error-codes has them.
var connectCodes = map[string]struct {
	code codes.Code
	http int
}{
	"canceled": {codes.Canceled, 499}, "unknown": {codes.Unknown, 500}, "invalid_argument": {codes.InvalidArgument, 400},
	"deadline_exceeded": {codes.DeadlineExceeded, 504}, "not_found": {codes.NotFound, 404}, "already_exists": {codes.AlreadyExists, 409},
	"permission_denied": {codes.PermissionDenied, 403}, "resource_exhausted": {codes.ResourceExhausted, 429},
	"failed_precondition": {codes.FailedPrecondition, 400}, "aborted": {codes.Aborted, 409}, "out_of_range": {codes.OutOfRange, 400},
	"unimplemented": {codes.Unimplemented, 501}, "internal": {codes.Internal, 500}, "unavailable": {codes.Unavailable, 503},
	"data_loss": {codes.DataLoss, 500}, "unauthenticated": {codes.Unauthenticated, 401},
}

// anyHost begins the type URLs of details.
const anyHost = "type.googleapis.com/"

// A connectError is Connect's JSON of an error.
type connectError struct {
	Code    string
	Message string
	Details []struct{ Type, Value string }
}

func (e *connectError) status() (*status.Status, error) {
	row, ok := connectCodes[e.Code]
	if !ok {
		return nil, violation("the error's code is %q", e.Code)
	}
	return jsonStatus(row.code, e.Message, e.Details)
}

// jsonStatus returns a status whose details are in JSON.
func jsonStatus(code codes.Code, message string, details []struct{ Type, Value string }) (*status.Status, error) {
	st := &statuspb.Status{Code: int32(code), Message: message}
	for _, d := range details {
		value, err := base64.RawStdEncoding.DecodeString(d.Value)
		if err != nil || strings.Contains(d.Type, "/") {
			return nil, violation("a detail is %q: %q", d.Type, d.Value)
		}
		st.Details = append(st.Details, &anypb.Any{TypeUrl: anyHost + d.Type, Value: value})
	}
	return status.FromProto(st), nil
}

// strictly parses JSON that has no other fields than the value.
func strictly(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return violation("JSON %.100q: %w", b, err)
	}
	if d.More() {
		return violation("JSON %.100q has more behind it", b)
	}
	return nil
}

// connectLines are headerLines in Connect.
func connectLines(c call, d dialect) [][2]string {
	encoding, accept := d.encodingHeaders()
	lines := [][2]string{{"content-type", cmp.Or(c.contentType, d.contentType())}, {"connect-protocol-version", "1"}, {accept, cmp.Or(c.accepts, "gzip")}}
	if c.timeout != "" {
		lines = append(lines, [2]string{"connect-timeout-ms", milliseconds(c.timeout)})
	}
	if c.encoding != "" {
		lines = append(lines, [2]string{encoding, c.encoding})
	}
	return lines
}

// milliseconds returns a grpc-timeout in Connect's form, and a text that isn't one as it
// is.
func milliseconds(timeout string) string {
	unit := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}[timeout[len(timeout)-1]]
	n, err := strconv.ParseUint(timeout[:len(timeout)-1], 10, 32)
	if err != nil || unit == 0 {
		return timeout
	}
	const most = 9_999_999_999 // ten digits
	ms := float64(n) * float64(unit) / float64(time.Millisecond)
	return strconv.FormatInt(int64(min(ms, most)), 10)
}

// endConnect checks the last envelope of a stream, and that the body ends with it.
func (r *reply) endConnect(payload []byte) error {
	var end struct {
		Error    *connectError
		Metadata map[string][]string
	}
	err := strictly(payload, &end)
	if err != nil {
		return err
	}
	if r.tail, err = decodeFields(end.Metadata); err != nil {
		return err
	}
	r.st = status.New(codes.OK, "")
	if end.Error != nil {
		if r.st, err = end.Error.status(); err != nil {
			return err
		}
	}
	return r.endAfter("the last envelope")
}

// judgeUnary checks the head of a unary answer, which has the trailers, too.
func (r *reply) judgeUnary() (err error) {
	want := "application/json"
	if r.resp.StatusCode == http.StatusOK {
		want = r.dialect.contentType()
	}
	if got := r.resp.Header.Get("content-type"); got != want {
		return errors.Join(&httpError{r.resp.StatusCode}, violation("content-type %q, want %q", got, want))
	}
	head, tail := map[string][]string{}, map[string][]string{}
	for name, values := range r.resp.Header {
		if name, ok := strings.CutPrefix(strings.ToLower(name), "trailer-"); ok {
			tail[name] = values
		} else {
			head[name] = values
		}
	}
	if r.head, err = decodeFields(head); err != nil {
		return err
	}
	r.tail, err = decodeFields(tail)
	return err
}

// nextUnary returns the message, and then the end.
func (r *reply) nextUnary() ([]byte, error) {
	if r.st != nil {
		return nil, io.EOF
	}
	b, err := io.ReadAll(r.frames)
	if err != nil {
		return nil, err
	}
	if r.resp.StatusCode == http.StatusOK {
		r.st = status.New(codes.OK, "")
		if r.resp.Header.Get("content-encoding") == "gzip" {
			r.gzips++
			b, err = gunzipped(b)
		}
		if err == nil && r.dialect == dialectPost {
			return r.decoded(b)
		}
		return b, err
	}
	if r.dialect == dialectPoll {
		if r.st, _, err = lastStatus(b); err == nil && r.st.Code() == codes.OK {
			r.st, err = nil, violation("HTTP status %d with OK", r.resp.StatusCode)
		}
		return nil, cmp.Or(err, io.EOF)
	}
	var failure connectError
	if err := strictly(b, &failure); err != nil {
		return nil, err
	}
	if want := connectCodes[failure.Code].http; r.resp.StatusCode != want {
		return nil, errors.Join(&httpError{r.resp.StatusCode}, violation("the code %q with HTTP status %d, want %d", failure.Code, r.resp.StatusCode, want))
	}
	if r.st, err = failure.status(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

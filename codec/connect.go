package codec

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"iter"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// FlagEndStream marks the last envelope of a Connect stream, whose payload is JSON. The
// other flag of an envelope is FlagCompressed.
// https://connectrpc.com/docs/protocol#streaming-response
const FlagEndStream byte = 0x02

// A connectCode is a code of gRPC in the Connect protocol: its name, and the HTTP status
// of a unary answer.
type connectCode struct {
	name string
	http int
}

// connectCodes are gRPC's codes. OK has none.
// https://connectrpc.com/docs/protocol#error-codes
var connectCodes = [...]connectCode{
	codes.Canceled:           {"canceled", 499},
	codes.Unknown:            {"unknown", 500},
	codes.InvalidArgument:    {"invalid_argument", 400},
	codes.DeadlineExceeded:   {"deadline_exceeded", 504},
	codes.NotFound:           {"not_found", 404},
	codes.AlreadyExists:      {"already_exists", 409},
	codes.PermissionDenied:   {"permission_denied", 403},
	codes.ResourceExhausted:  {"resource_exhausted", 429},
	codes.FailedPrecondition: {"failed_precondition", 400},
	codes.Aborted:            {"aborted", 409},
	codes.OutOfRange:         {"out_of_range", 400},
	codes.Unimplemented:      {"unimplemented", 501},
	codes.Internal:           {"internal", 500},
	codes.Unavailable:        {"unavailable", 503},
	codes.DataLoss:           {"data_loss", 500},
	codes.Unauthenticated:    {"unauthenticated", 401},
}

// codeOf returns the row of an error's code. OK, and codes that gRPC doesn't define,
// become "unknown".
func codeOf(code codes.Code) connectCode {
	if code == codes.OK || code > maxCode {
		code = codes.Unknown
	}
	return connectCodes[code]
}

// A connectError is the JSON of an error.
// https://connectrpc.com/docs/protocol#error-end-stream
type connectError struct {
	Code    string          `json:"code"`
	Message string          `json:"message,omitempty"`
	Details []connectDetail `json:"details,omitempty"`
}

type connectDetail struct {
	Type  string `json:"type"`  // the name of the message, without a host
	Value string `json:"value"` // unpadded base64
}

func newConnectError(st *status.Status) *connectError {
	e := &connectError{Code: codeOf(st.Code()).name, Message: st.Message()}
	for _, d := range st.Proto().GetDetails() {
		name := d.GetTypeUrl()
		e.Details = append(e.Details, connectDetail{
			Type:  name[strings.LastIndexByte(name, '/')+1:],
			Value: base64.RawStdEncoding.EncodeToString(d.GetValue()),
		})
	}
	return e
}

// ConnectError returns the HTTP status and the JSON body of a unary call's error. Bytes
// that aren't UTF-8 become U+FFFD.
// https://connectrpc.com/docs/protocol#unary-response
func ConnectError(st *status.Status) (httpStatus int, body []byte) {
	body, _ = json.Marshal(newConnectError(st)) // strings always marshal
	return codeOf(st.Code()).http, body
}

// ConnectEnd returns the payload of a stream's last envelope: the error unless st is OK,
// and ConnectTrailers.
// https://connectrpc.com/docs/protocol#error-end-stream
func ConnectEnd(st *status.Status, trailer metadata.MD) []byte {
	var end struct {
		Error    *connectError       `json:"error,omitempty"`
		Metadata map[string][]string `json:"metadata,omitempty"`
	}
	if st.Code() == codes.OK && len(trailer) == 0 {
		return []byte("{}")
	}
	if st.Code() != codes.OK {
		end.Error = newConnectError(st)
	}
	for name, value := range ConnectTrailers(st, trailer) {
		if end.Metadata == nil {
			end.Metadata = make(map[string][]string, len(trailer))
		}
		end.Metadata[name] = append(end.Metadata[name], value)
	}
	body, _ := json.Marshal(end) // strings always marshal
	return body
}

// ConnectTrailers yields the Fields of trailer without the status. For a code that
// Connect has no name for, it adds x-grpc-status-original.
func ConnectTrailers(st *status.Status, trailer metadata.MD) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		unknown := st.Code() > maxCode
		if !unknown || yield(originalStatusKey, codeText(st.Code())) {
			yieldTrailer(yield, trailer, unknown)
		}
	}
}

// maxConnectTimeoutDigits is the largest number of digits in a connect-timeout-ms.
const maxConnectTimeoutDigits = 10

var errMalformedConnectTimeout = errors.New("connect-timeout-ms: not 1 to 10 digits")

// ParseConnectTimeout parses a connect-timeout-ms header: milliseconds in one to ten
// digits. 0 means that the deadline has passed.
// https://connectrpc.com/docs/protocol#unary-request
func ParseConnectTimeout(s string) (time.Duration, error) {
	if len(s) > maxConnectTimeoutDigits {
		return 0, errMalformedConnectTimeout
	}
	ms, err := strconv.ParseUint(s, 10, 64) // takes no sign
	if err != nil {
		return 0, errMalformedConnectTimeout
	}
	return time.Duration(ms) * time.Millisecond, nil // at most 115 days
}

package codec

import (
	"encoding/json"

	"google.golang.org/grpc/codes"
)

// connectCodes are the names of gRPC's codes in the Connect protocol. OK has none.
// https://connectrpc.com/docs/protocol#error-codes
var connectCodes = [...]string{
	codes.Canceled:           "canceled",
	codes.Unknown:            "unknown",
	codes.InvalidArgument:    "invalid_argument",
	codes.DeadlineExceeded:   "deadline_exceeded",
	codes.NotFound:           "not_found",
	codes.AlreadyExists:      "already_exists",
	codes.PermissionDenied:   "permission_denied",
	codes.ResourceExhausted:  "resource_exhausted",
	codes.FailedPrecondition: "failed_precondition",
	codes.Aborted:            "aborted",
	codes.OutOfRange:         "out_of_range",
	codes.Unimplemented:      "unimplemented",
	codes.Internal:           "internal",
	codes.Unavailable:        "unavailable",
	codes.DataLoss:           "data_loss",
	codes.Unauthenticated:    "unauthenticated",
}

// ConnectError returns an error in the JSON of the Connect protocol. OK, and codes that
// gRPC doesn't define, become "unknown".
// https://connectrpc.com/docs/protocol#error-end-stream
func ConnectError(code codes.Code, message string) string {
	if code == codes.OK || code > maxCode {
		code = codes.Unknown
	}
	b, _ := json.Marshal(map[string]string{"code": connectCodes[code], "message": message}) // strings always marshal
	return string(b)
}

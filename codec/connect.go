package codec

import "google.golang.org/grpc/codes"

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

// ConnectCode returns the name of an error's code in the Connect protocol. A code
// that gRPC doesn't define is "unknown", and so is OK.
func ConnectCode(code codes.Code) string {
	if code == codes.OK || code > maxCode {
		code = codes.Unknown
	}
	return connectCodes[code]
}

package message

import (
	"errors"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// Malformed reports whether an error is about a body's bytes and not about the
// connection. net/http's errors have no types, so Malformed looks for parts of
// their texts. A new text counts as a client that has gone away.
func Malformed(err error) bool {
	if _, ok := errors.AsType[*h2.LengthError](err); ok {
		return true
	}
	return slices.ContainsFunc([]string{
		"chunk",                     // RFC 9112 §7.1
		"header line too long",      // a chunk's extensions
		"declared Content-Length",   // more DATA than declared, in a server of the caller's: RFC 9113 §8.1.1
		"declared a Content-Length", // less
	}, func(part string) bool { return strings.Contains(err.Error(), part) })
}

// Fault returns what a broken body means: a fault when the bytes are wrong, else that the
// client has gone away.
func Fault(err error) error {
	if f, ok := errors.AsType[*report.Fault](err); ok {
		return f
	}
	if errors.Is(err, codec.ErrTextTruncated) || errors.Is(err, codec.ErrTextMalformed) {
		return report.New(report.ReasonBadRequest, "the request is not base64: "+err.Error())
	}
	if Malformed(err) {
		return report.New(report.ReasonBadRequest, "the HTTP body can't be read: its chunks or its length are wrong").Because(err).Ending(report.EndedProtocol)
	}
	return report.New(report.ReasonClientGone, report.ClientGone).Because(err)
}

package gate

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// ContentSubtype returns the part after the "+" of the content type value, and reports
// whether the type is contentType. It drops a subtype that isn't a token: the subtype
// would stand in the answer's header and in the backend's request. RFC 9110 §8.3.1.
func ContentSubtype(value, contentType string) (string, bool) {
	have, _, _ := strings.Cut(value, ";")
	rest, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(have)), contentType)
	if !ok || (rest != "" && rest[0] != '+') {
		return "", false
	}
	subtype := strings.TrimPrefix(rest, "+")
	if !IsToken(subtype) {
		subtype = ""
	}
	return subtype, true
}

// IsUpgrade reports whether a request is a WebSocket handshake over HTTP/1.1. RFC 6455
// §4.1. A handshake over HTTP/1.0 has come through a proxy that can't upgrade.
func IsUpgrade(r *http.Request) bool {
	return r.ProtoMajor == 1 && r.ProtoMinor == 1 && r.Method == http.MethodGet &&
		rules.HasToken(r.Header["Connection"], "upgrade") && rules.HasToken(r.Header["Upgrade"], "websocket")
}

// MediaType returns a request's content type without its parameters.
func MediaType(r *http.Request) string {
	have, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(have))
}

// LengthHolds reports whether the server used the content-length of an HTTP/2 request,
// if it has one. In a program of the caller's the server may be net/http's. That takes
// the first of several, and none if the header ends the request, which then looks
// complete. RFC 9113 §8.1.1.
func LengthHolds(r *http.Request) bool {
	values, ok := r.Header["Content-Length"]
	if !ok {
		return true
	}
	n, err := strconv.ParseInt(values[0], 10, 64)
	return len(values) == 1 && err == nil && n == r.ContentLength
}

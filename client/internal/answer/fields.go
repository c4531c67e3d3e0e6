package answer

import "strings"

// ofHTTP are fields of an answer's header that belong to HTTP, to its connection (RFC 9110 §7.6.1)
// or to the server, whichever gateway has set them.
var ofHTTP = map[string]bool{
	"connection": true, "keep-alive": true, "proxy-connection": true, "te": true, "trailer": true,
	"transfer-encoding": true, "upgrade": true,
	"content-type": true, "content-length": true, "content-encoding": true, "date": true, "server": true,
	"accept-post": true, "allow": true, "alt-svc": true, "strict-transport-security": true,
	// The bridge sets these for browsers and boxes, in place of a backend's.
	"vary": true, "cache-control": true, "x-content-type-options": true, "x-accel-buffering": true,
}

// OfHTTP reports whether a field of the header of an answer over HTTP isn't metadata of its call.
func OfHTTP(name string) bool {
	name = strings.ToLower(name)
	return ofHTTP[name] || strings.HasPrefix(name, "access-control-") // for browsers, too
}

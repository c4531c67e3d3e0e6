package headers

import (
	"net/http"
	"strings"
)

// Web returns the fields of a request's header that reach the web server: all but those
// of one connection, and those that only culvert and trusted proxies may set.
func Web(h http.Header, trusted bool, vouched VouchedNames) http.Header {
	hop := ConnectionNames(h)
	header := make(http.Header, len(h)+8)
	for name, values := range h {
		lower := strings.ToLower(name)
		if (!hop[lower] || lower == "te") && reachesWeb(lower, trusted) && !vouched.Strikes(lower, trusted) {
			header[name] = values
		}
	}
	delete(header, "Connection")
	delete(header, "Upgrade") // no other protocol: h2c would let the client speak for culvert
	delete(header, "Http2-Settings")
	delete(header, "Forwarded")
	delete(header, "X-Forwarded-Client-Cert")
	return header
}

// reachesWeb reports whether a field of the name reaches the web server.
func reachesWeb(name string, trusted bool) bool {
	if plain := hyphened(name); plain != name && toUpstream.imitated(plain) {
		return false
	}
	return !toUpstream.imitated(name) || trusted && toUpstream.of(name) == Vouched
}

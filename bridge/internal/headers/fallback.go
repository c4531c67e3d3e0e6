package headers

import (
	"net/http"
	"slices"
	"strings"
)

// fallbackRows are what else doesn't reach a web server: programs there take it for the word of
// the proxy in front of them. X-Http-Method-Override and its like pass: the client may send
// any method anyway.
var fallbackRows = compile(slices.Concat(
	rows("drop", "a CGI program takes it for its variable HTTP_PROXY (https://httpoxy.org)", "proxy"),
	rows("drop", ofFront, "x-sendfile-type", "x-accel-*"),           // x-sendfile-type: CVE-2025-61780
	rows("drop", "the web server's own", "x-middleware-subrequest"), // CVE-2025-29927
	rows("vouched", "replaces the path", "x-rewrite-url", "x-script-name", "script-name"),
	rows("vouched", "replaces the host", "x-host", "x-http-host-override"),
	rows("vouched", "replaces the scheme", "x-scheme", "x-url-scheme", "front-end-https"),
	rows("vouched", vouch,
		"x-originating-ip", "x-proxyuser-ip", "x-azure-clientip", "x-azure-socketip", "x-appengine-*",
		"cf-connecting-ipv6", "fly-client-ip", "wl-proxy-*", "client-ip", "x-remote-*", "remote-*", "x-webauth-*",
	),
))

// Fallback returns the fields of a request's header that reach the web server: all but those
// of one connection, and those that only culvert and trusted proxies may set.
func Fallback(h http.Header, trusted bool, vouched VouchedNames) http.Header {
	hop := connectionNames(h)
	header := make(http.Header, len(h)+8)
	for name, values := range h {
		lower := strings.ToLower(name)
		if (!hop.has(lower) || lower == "te") && reachesFallback(lower, trusted) && fallbackRows.lets(lower, trusted) && !vouched.Strikes(lower, trusted) {
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

// reachesFallback reports whether a field of the name reaches the web server.
func reachesFallback(name string, trusted bool) bool {
	if plain := hyphened(name); plain != name && toUpstream.imitated(plain) {
		return false
	}
	return !toUpstream.imitated(name) || trusted && toUpstream.of(name) == Vouched
}

// lets reports whether a field of the name reaches the web server by this table. A name with
// underscores or dots is the same CGI variable as the one with hyphens.
func (rs *ruleset) lets(name string, trusted bool) bool {
	switch rs.of(hyphened(name)) {
	case Pass:
		return true
	case Vouched:
		return trusted && hyphened(name) == name
	default:
		return false
	}
}

package headers

import (
	"net/http"
	"strings"
)

// fallbackRows are what else doesn't reach a web server: programs there take it for the word of
// the proxy in front of them. X-Http-Method-Override and its like pass: the client may send
// any method anyway.
var fallbackRows = compile([]Row{
	{"proxy", "drop", "a CGI program takes it for its variable HTTP_PROXY (https://httpoxy.org)"},
	{"x-sendfile-type", "drop", ofFront}, // CVE-2025-61780
	{"x-accel-*", "drop", ofFront},
	{"x-middleware-subrequest", "drop", "the web server's own"}, // CVE-2025-29927
	{"x-rewrite-url", "vouched", "replaces the path"},
	{"x-script-name", "vouched", "replaces the path"},
	{"script-name", "vouched", "replaces the path"},
	{"x-host", "vouched", "replaces the host"},
	{"x-http-host-override", "vouched", "replaces the host"},
	{"x-scheme", "vouched", "replaces the scheme"},
	{"x-url-scheme", "vouched", "replaces the scheme"},
	{"front-end-https", "vouched", "replaces the scheme"},
	{"x-originating-ip", "vouched", vouch},
	{"x-proxyuser-ip", "vouched", vouch},
	{"x-azure-clientip", "vouched", vouch},
	{"x-azure-socketip", "vouched", vouch},
	{"x-appengine-*", "vouched", vouch},
	{"cf-connecting-ipv6", "vouched", vouch},
	{"fly-client-ip", "vouched", vouch},
	{"wl-proxy-*", "vouched", vouch},
	{"client-ip", "vouched", vouch},
	{"x-remote-*", "vouched", vouch},
	{"remote-*", "vouched", vouch},
	{"x-webauth-*", "vouched", vouch},
})

// Fallback returns the fields of a request's header that reach the web server: all but those
// of one connection, and those that only culvert and trusted proxies may set.
func Fallback(h http.Header, trusted bool, vouched VouchedNames) http.Header {
	hop := ConnectionNames(h)
	header := make(http.Header, len(h)+8)
	for name, values := range h {
		lower := strings.ToLower(name)
		if (!hop[lower] || lower == "te") && reachesFallback(lower, trusted) && fallbackRows.lets(lower, trusted) && !vouched.Strikes(lower, trusted) {
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
func (rs ruleset) lets(name string, trusted bool) bool {
	switch rs.of(hyphened(name)) {
	case Pass:
		return true
	case Vouched:
		return trusted && hyphened(name) == name
	default:
		return false
	}
}

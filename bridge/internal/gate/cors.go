package gate

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// CORSHeaders allows the browser's page to read the answer, and says whether the
// request may have cookies.
func CORSHeaders(h http.Header, v Access) {
	switch {
	case v.Origin == "":
	case v.Any:
		h.Set("Access-Control-Allow-Origin", "*")
	default:
		h.Set("Access-Control-Allow-Origin", v.Origin)
		if v.Credentials {
			h.Set("Access-Control-Allow-Credentials", "true")
		}
	}
}

// varies are the request fields that every answer depends on. That includes answers
// to requests without them: another page's request would be refused. It is never
// written to.
var varies = []string{"Origin, Sec-Fetch-Site"}

// VaryAnswer tells caches that every answer depends on the page, even if a request
// names none.
func VaryAnswer(h http.Header) {
	if h["Vary"] == nil {
		h["Vary"] = varies
		return
	}
	h.Add("Vary", varies[0])
}

// VaryPreflight tells caches the other fields that the answer to a preflight depends
// on.
func VaryPreflight(h http.Header) {
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
}

// preflightMaxAge is Chrome's cap, in seconds.
const preflightMaxAge = "7200"

// Preflight answers a browser's preflight. It allows the headers of web clients'
// protocols and those that crosses allows, whose names are in lower case. It never
// allows "*": in the request "*" is a name, and in the answer it means every name.
// https://fetch.spec.whatwg.org/#cors-preflight-request
func Preflight(w http.ResponseWriter, r *http.Request, v Access, crosses func(name string) bool) {
	h := w.Header()
	VaryAnswer(h)
	CORSHeaders(h, v)
	h.Set("Access-Control-Allow-Methods", "POST")
	h.Set("Access-Control-Max-Age", preflightMaxAge)
	var granted []string
	for _, line := range r.Header["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if len(granted) < 128 && name != "*" && (slices.Contains(protocolHeaders, name) || IsToken(name) && crosses(name)) {
				granted = append(granted, name)
			}
		}
	}
	if len(granted) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(granted, ", "))
	}
	w.WriteHeader(http.StatusNoContent)
}

// protocolHeaders are the headers that web clients send beside the application's own.
var protocolHeaders = []string{
	"content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "authorization", "content-encoding", "grpc-encoding",
	"grpc-accept-encoding", "accept", "x-request-id", "user-agent",
	"connect-protocol-version", "connect-timeout-ms", "connect-content-encoding", "connect-accept-encoding",
}

// IsToken reports whether s is a token in lower case, like the names of header
// fields. RFC 9110 §5.6.2.
func IsToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// Exposed returns the list of names in a call's metadata that a page may read.
func Exposed(header http.Header) string {
	names := slices.Sorted(maps.Keys(header))
	return strings.Join(append(names, "grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"), ", ")
}

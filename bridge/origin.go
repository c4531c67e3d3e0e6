package bridge

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// An originPolicy decides which pages may call, and as which host this server
// may be addressed.
type originPolicy struct {
	any      bool
	patterns []originPattern
	hosts    []string // lower case, with or without a port
}

// An originPattern is one allowed origin: scheme, host and port, of which the
// host may begin with "*." and host or port may be "*".
type originPattern struct{ scheme, host, port string }

func newOriginPolicy(allow, hosts []string) (originPolicy, error) {
	p := originPolicy{}
	for _, h := range hosts {
		p.hosts = append(p.hosts, strings.ToLower(h))
	}
	for _, text := range allow {
		if text == "*" {
			p.any = true
			continue
		}
		pattern, err := parseOriginPattern(text)
		if err != nil {
			return originPolicy{}, err
		}
		p.patterns = append(p.patterns, pattern)
	}
	return p, nil
}

func parseOriginPattern(text string) (originPattern, error) {
	bad := func(why string) (originPattern, error) {
		return originPattern{}, fmt.Errorf("origin %q: %s: want \"https://app.example.com\", \"https://*.example.com\", \"http://localhost:*\" or \"*\"", text, why)
	}
	scheme, rest, ok := strings.Cut(strings.ToLower(text), "://")
	if !ok || scheme == "" || rest == "" {
		return bad("no scheme")
	}
	if strings.ContainsAny(rest, "/?#@ ") {
		return bad("an origin has no path")
	}
	host, port := splitHostPort(rest)
	if i := strings.LastIndex(host, "*"); i > 0 || (i == 0 && host != "*" && !strings.HasPrefix(host, "*.")) {
		return bad("* stands for a whole host or its first labels")
	}
	if host == "*." || (host == "*" && (scheme == "http" || scheme == "https")) {
		return bad("this allows every page")
	}
	if (scheme == "https" && port == "443") || (scheme == "http" && port == "80") {
		port = "" // as browsers write it
	}
	return originPattern{scheme, host, port}, nil
}

// A verdict on an origin.
type originVerdict struct {
	allowed bool
	any     bool   // only the wildcard allowed it: without cookies
	origin  string // as the browser sent it; empty: not a browser
}

// judge decides on a request's Origin. host is the Host it was addressed to,
// which counts as the same origin only where no name server can forge it.
func (p originPolicy) judge(origin, host string) originVerdict {
	v := originVerdict{origin: origin}
	if origin == "" {
		v.allowed = true
		return v
	}
	lower := strings.ToLower(origin)
	if u, err := url.Parse(lower); err == nil && u.Host != "" && u.Scheme+"://"+u.Host == lower { // nothing else in it
		v.allowed = p.knows(u) || p.sameSafeHost(u, strings.ToLower(host)) || p.matches(u)
	}
	if !v.allowed && p.any {
		v.allowed, v.any = true, true
	}
	return v
}

// knows holds when the origin is one of this server's own configured names.
func (p originPolicy) knows(u *url.URL) bool {
	return (u.Scheme == "http" || u.Scheme == "https") &&
		(slices.Contains(p.hosts, u.Host) || slices.Contains(p.hosts, u.Hostname()))
}

// sameSafeHost holds when a page of this very server calls and its name is
// one that DNS rebinding can't take: an IP or localhost.
func (p originPolicy) sameSafeHost(u *url.URL, host string) bool {
	return (u.Scheme == "http" || u.Scheme == "https") && u.Host == host && unforgeable(u.Hostname())
}

func (p originPolicy) matches(u *url.URL) bool {
	for _, o := range p.patterns {
		if o.scheme == u.Scheme && matchesHost(o.host, u.Hostname()) && (o.port == "*" || o.port == u.Port()) {
			return true
		}
	}
	return false
}

func matchesHost(pattern, host string) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*."); ok {
		sub, ok := strings.CutSuffix(host, "."+suffix)
		return ok && sub != ""
	}
	return pattern == "*" || pattern == host
}

// allowsHost holds for a Host that a page elsewhere can't make a browser send
// to a loopback listener by pointing a name of its own at it.
func (p originPolicy) allowsHost(host string) bool {
	host = strings.ToLower(host)
	name, _ := splitHostPort(host)
	return unforgeable(name) || slices.Contains(p.hosts, host) || slices.Contains(p.hosts, name)
}

func unforgeable(name string) bool {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil
}

// splitHostPort splits at a port if there is one; brackets of an IPv6 address
// are removed.
func splitHostPort(s string) (host, port string) {
	if h, p, err := net.SplitHostPort(s); err == nil {
		return h, p
	}
	return strings.Trim(s, "[]"), ""
}

// corsHeaders tells a browser that its page may read the answer.
func corsHeaders(h http.Header, v originVerdict) {
	if v.origin == "" {
		return
	}
	h.Add("Vary", "Origin")
	if v.any {
		h.Set("Access-Control-Allow-Origin", "*")
		return
	}
	h.Set("Access-Control-Allow-Origin", v.origin)
	h.Set("Access-Control-Allow-Credentials", "true")
}

// preflightMaxAge is Chrome's cap, in seconds.
const preflightMaxAge = "7200"

// preflight answers what a browser asks before it sends a call. The headers
// it asks for are granted when a call may carry them at all.
// https://fetch.spec.whatwg.org/#cors-preflight-request
func preflight(w http.ResponseWriter, r *http.Request, v originVerdict) {
	h := w.Header()
	h.Add("Vary", "Origin")
	h.Add("Vary", "Access-Control-Request-Method")
	h.Add("Vary", "Access-Control-Request-Headers")
	if v.any {
		h.Set("Access-Control-Allow-Origin", "*")
	} else {
		h.Set("Access-Control-Allow-Origin", v.origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.Set("Access-Control-Allow-Methods", "POST")
	h.Set("Access-Control-Max-Age", preflightMaxAge)
	var granted []string
	for _, line := range r.Header["Access-Control-Request-Headers"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.TrimSpace(name))
			if mayRequest(name) && len(granted) < 128 {
				granted = append(granted, name)
			}
		}
	}
	if len(granted) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(granted, ", "))
	}
	w.WriteHeader(http.StatusNoContent)
}

// protocolHeaders are what web clients send beside the application's own.
var protocolHeaders = []string{
	"content-type", "x-grpc-web", "x-user-agent", "grpc-timeout", "authorization", "content-encoding", "grpc-encoding",
	"grpc-accept-encoding", "accept", "x-request-id", "user-agent",
	"connect-protocol-version", "connect-timeout-ms", "connect-content-encoding", "connect-accept-encoding",
}

// mayRequest holds for a header that a page may send with a call.
func mayRequest(name string) bool {
	return slices.Contains(protocolHeaders, name) || (isToken(name) && toUpstream.of(name) == pass)
}

// isToken holds for an HTTP field name in lower case. RFC 9110 §5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// exposed is the list of header names that a page may read.
func exposed(names []string) string {
	return strings.Join(append(names, "grpc-status", "grpc-message", "grpc-status-details-bin", "x-request-id"), ", ")
}

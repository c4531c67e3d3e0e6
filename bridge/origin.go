package bridge

import (
	"fmt"
	"net"
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

package network

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// A Target is where an edge is.
type Target struct {
	Secure bool   // TLS
	Host   string // a name in ASCII or an IP address, without brackets
	Port   string // a number
	Prefix string // before the path of each method: "", or "/grpc"
}

// ParseTarget parses "https://edge.example.com", which may have a port and a path. http, wss
// and ws are schemes, too.
func ParseTarget(s string) (Target, error) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Opaque != "" {
		return Target{}, fmt.Errorf("%q is no address of an edge: write it as https://edge.example.com", redacted(s))
	}
	t := Target{Host: u.Hostname(), Port: u.Port(), Prefix: strings.TrimRight(u.EscapedPath(), "/")}
	switch u.Scheme {
	case "https", "wss":
		t.Secure = true
	case "http", "ws":
	default:
		return Target{}, fmt.Errorf("%q: the scheme %q isn't known: use https, or http for plaintext", redacted(s), u.Scheme)
	}
	switch {
	case u.User != nil || strings.Contains(t.Prefix, "@"): // behind a password with a slash
		return Target{}, fmt.Errorf("%q has a user: send credentials as metadata", redacted(s))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return Target{}, fmt.Errorf("%q has a query or a fragment: an edge has at most a path", redacted(s))
	case t.Host == "":
		return Target{}, fmt.Errorf("%q has no host", redacted(s))
	}
	if t.Host, err = asciiName(t.Host); err != nil {
		return Target{}, fmt.Errorf("%q has a host that no name server knows: check its spelling", redacted(s))
	}
	if t.Port == "" {
		t.Port = UsualPort(t.Secure)
	}
	if port, err := strconv.ParseUint(t.Port, 10, 16); err != nil || port == 0 {
		return Target{}, fmt.Errorf("%q has a port that isn't between 1 and 65535", redacted(s))
	}
	return t, nil
}

// redacted returns what was given as an address without what may be a secret. An address that
// may have a user, a query or a fragment has them at places that only a parser could know, and
// its parser has refused it. In such an address, no part can be told from a password.
func redacted(s string) string {
	if !strings.ContainsAny(s, "@?#%") {
		return s
	}
	scheme, _, ok := strings.Cut(s, "://")
	if !ok || strings.ContainsFunc(scheme, func(r rune) bool { return r < 'a' || r > 'z' }) {
		return "…"
	}
	return scheme + "://…"
}

// UsualPort is that of https or of http. RFC 9110 §4.2.
func UsualPort(secure bool) string {
	if secure {
		return "443"
	}
	return "80"
}

// Address is the host and the port, to connect to.
func (t Target) Address() string { return net.JoinHostPort(t.Host, t.Port) }

// Authority is the host with the port, unless it is the usual one. RFC 9110 §4.3.
func (t Target) Authority() string {
	if t.Port != UsualPort(t.Secure) {
		return t.Address()
	}
	if strings.Contains(t.Host, ":") {
		return "[" + t.Host + "]"
	}
	return t.Host
}

// URL is that of a path behind the prefix: "/pkg.Service/Method".
func (t Target) URL(path string) *url.URL {
	u := &url.URL{Scheme: "http", Host: t.Authority()}
	if t.Secure {
		u.Scheme = "https"
	}
	u.RawPath = t.Prefix + path
	u.Path = u.RawPath
	if decoded, err := url.PathUnescape(u.RawPath); err == nil {
		u.Path = decoded
	}
	return u
}

// String is the target as a URL.
func (t Target) String() string { return t.URL("").String() }

// Loopback reports whether the host is this machine.
func (t Target) Loopback() bool {
	addr, err := netip.ParseAddr(t.Host)
	return err == nil && addr.IsLoopback() || strings.EqualFold(t.Host, "localhost") || strings.HasSuffix(strings.ToLower(t.Host), ".localhost")
}

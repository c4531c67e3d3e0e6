package rules

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// CutPort cuts host[:port]. The colons of an IPv6 address are in brackets, which stay.
func CutPort(s string) (host, port string, found bool) {
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// IsPort reports whether s is a port, from 0 to 65535.
func IsPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

var usualPorts = map[string]string{"http": "80", "https": "443"}

// IsWeb reports whether a scheme is http or https.
func IsWeb(scheme string) bool { return usualPorts[scheme] != "" }

// UsualPort returns the port that a URL of http or https needn't have, and "" for another
// scheme.
func UsualPort(scheme string) string { return usualPorts[scheme] }

// WebServer parses the URL of a web server: http or https, a host, and perhaps a port. The
// zone of an IPv6 address must be escaped.
func WebServer(text string) (u *url.URL, ok bool) {
	u, err := url.Parse(text)
	return u, err == nil && IsWeb(u.Scheme) && u.Hostname() != "" && u.User == nil && (u.Path == "" || u.Path == "/") && u.RawQuery == "" && !u.ForceQuery && u.Fragment == ""
}

// RouteHost returns the host of a route as routes compare it: "*.example.com" becomes
// ".example.com", and "*" becomes "". Its error continues a sentence that begins with the
// host.
func RouteHost(host string) (string, error) {
	name, wild := strings.CutPrefix(host, "*")
	switch {
	case host == "":
		return "", errors.New(`is empty: write a name such as "shop.example.com", or "*" for any host`)
	case wild && name == "":
		return "", nil
	case wild && name[0] != '.', strings.Contains(name, "*"):
		return "", errors.New(`can match no host: "*" must be the first label, as in "*.example.com"`)
	}
	if addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")); err == nil && !wild {
		return addr.WithZone("").String(), nil
	}
	if strings.Contains(name, ":") {
		return "", errors.New("can match no host: remove the port, and select a port by match.listeners")
	}
	if strings.Trim(name, ".") == "" || strings.Contains(name, "..") || strings.ContainsFunc(name, notInHost) {
		return "", errors.New(`can match no host: write a name such as "shop.example.com"`)
	}
	return strings.ToLower(strings.TrimSuffix(name, ".")), nil
}

func notInHost(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/?#@,;"<>\^|{}[]`+"`", r)
}

package rules

import (
	"errors"
	"net/netip"
	"strings"
)

// AnyHost is what RouteHost makes of "*".
const AnyHost = ""

// Mistakes in the host of a route. They continue a sentence that begins with the host.
var (
	ErrHostStar = errors.New(`can match no host: "*" must be the first label, as in "*.example.com"`)
	ErrHostPort = errors.New("can match no host: remove the port, and select a port by match.listeners")
)

// RouteHost returns the host of a route in the spelling in which routes compare hosts:
// "*.example.com" becomes ".example.com", and "*" becomes AnyHost. Its error continues a
// sentence that begins with the host.
func RouteHost(host string) (string, error) {
	name, wild := strings.CutPrefix(host, "*")
	switch {
	case host == "":
		return "", errors.New(`is empty: write a name such as "shop.example.com", or "*" for any host`)
	case wild && name == "":
		return AnyHost, nil
	case wild && name[0] != '.', strings.Contains(name, "*"):
		return "", ErrHostStar
	}
	if addr, err := netip.ParseAddr(unbracketed(name)); err == nil && !wild {
		return addr.WithZone("").String(), nil
	}
	if _, _, hasPort := CutPort(name); hasPort {
		return "", ErrHostPort
	}
	if strings.Trim(name, ".") == "" || strings.Contains(name, "..") || strings.ContainsFunc(name, notInHost) {
		return "", errors.New(`can match no host: write a name such as "shop.example.com"`)
	}
	return strings.ToLower(strings.TrimSuffix(name, ".")), nil
}

// unbracketed returns an IPv6 address without the brackets that it has in a URL.
func unbracketed(s string) string {
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") {
		return strings.TrimSuffix(inner, "]")
	}
	return s
}

func notInHost(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/?#@,;"<>\^|{}[]`+"`", r)
}

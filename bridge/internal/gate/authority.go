package gate

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// maxHostName is the largest length of a name. RFC 3986 §3.2.2.
const maxHostName = 255

// ParseAuthority parses a Host or an :authority. It returns a host, without the
// brackets of IPv6 and without a final dot, and a port, which may be empty. Except
// for its case, a name has only one accepted spelling, so that no other spelling
// evades a rule for it: no empty label, and no unnecessary encoding. It also has no
// separators of lists, since x-forwarded-host may be read as a list. It allocates
// nothing for valid input. RFC 9110 §4.2, §7.2; RFC 9113 §8.3.1; RFC 3986 §3.2.2,
// §6.2.2.2.
func ParseAuthority(s string) (host, port string, ok bool) {
	host, port, _ = rules.CutPort(s)
	if port != "" && !rules.IsPort(port) {
		return "", "", false
	}
	if host == "" || host[0] != '[' {
		host = strings.TrimSuffix(host, ".")
		return host, port, isHostName(host)
	}
	host, bracketed := strings.CutSuffix(host[1:], "]")
	if !bracketed || !isIPv6(host) {
		return "", "", false
	}
	return host, port, true
}

// isIPv6 reports whether s is an IPv6 address, with or without a zone. Some clients
// leave the zone there, although it means nothing here. RFC 6874 §4.
func isIPv6(s string) bool {
	bare, zone, zoned := strings.Cut(s, "%")
	addr, err := netip.ParseAddr(bare)
	if err != nil || !addr.Is6() || zoned && zone == "" {
		return false
	}
	for i := range len(zone) {
		if !unreserved(zone[i]) && zone[i] != '%' {
			return false
		}
	}
	return true
}

// isHostName reports whether s is a name or an IPv4 address, without a final dot.
func isHostName(s string) bool {
	if len(s) > maxHostName {
		return false
	}
	label := 0 // bytes of it
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.' && label == 0:
			return false
		case c == '.':
			label = 0
			continue
		case c == '%':
			if b, ok := unhex(s[i+1:]); !ok || unreserved(b) {
				return false
			}
			i += 2
		case !unreserved(c) && strings.IndexByte("!$&'()*+", c) < 0:
			return false
		}
		label++
	}
	return label > 0
}

// unhex decodes the two digits of an encoded byte.
func unhex(s string) (b byte, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	n, err := strconv.ParseUint(s[:2], 16, 8)
	return byte(n), err == nil
}

// unreserved reports whether a byte is never encoded. RFC 3986 §2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// HostOf returns an address without its port, if it has one, and without the
// brackets of IPv6.
func HostOf(address string) string {
	host, _ := splitHostPort(address)
	return host
}

// splitHostPort splits off a port if there is one, and removes the brackets of an
// IPv6 address.
func splitHostPort(s string) (host, port string) {
	if h, p, err := net.SplitHostPort(s); err == nil {
		return h, p
	}
	return strings.Trim(s, "[]"), ""
}

// Package zone finds the zones of IPv6 addresses in texts, such as eth0 in
// [fe80::1%eth0]:9000. A zone names an interface of this host, so other hosts aren't told
// of it.
package zone

import "strings"

// Escape escapes the zone of an IPv6 address in an address or a URL, as url.Parse wants
// it: [fe80::1%eth0] becomes [fe80::1%25eth0]. A zone that is escaped already stays.
// RFC 6874.
func Escape(address string) string {
	before, zone, after := cut(address)
	if zone == "" || len(zone) > 2 && strings.HasPrefix(zone, "25") && (zone[2] < '0' || zone[2] > '9') {
		return address
	}
	return before + "%25" + zone + after
}

// Remove returns an address or a URL without the zone of its IPv6 address.
func Remove(address string) string {
	before, _, after := cut(address)
	return before + after
}

// cut splits around the zone of an address in brackets. If there is none, or an empty one,
// before is all.
func cut(address string) (before, zone, after string) {
	end := strings.LastIndexByte(address, ']')
	start := strings.LastIndexByte(address[:max(end, 0)], '[')
	if start < 0 {
		return address, "", ""
	}
	ip, zone, _ := strings.Cut(address[start:end], "%")
	if strings.Trim(zone, "%") == "" {
		return address, "", ""
	}
	return address[:start] + ip, zone, address[end:]
}

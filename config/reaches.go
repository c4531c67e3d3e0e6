package config

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// reaches reports whether a connection to the host and port, made on this host, reaches
// the listener at the address. It returns false for a listener on a unix socket.
func reaches(toHost, toPort, address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !samePort(port, toPort) {
		return false
	}
	to, at := addressesOf(toHost), addressesOf(host)
	return isWildcard(host) && slices.ContainsFunc(to, netip.Addr.IsLoopback) ||
		slices.ContainsFunc(to, func(a netip.Addr) bool { return slices.Contains(at, a) }) ||
		plainName(toHost) == plainName(host)
}

// samePort compares ports that may begin with zeros.
func samePort(a, b string) bool {
	return a != "" && b != "" && strings.TrimLeft(a, "0") == strings.TrimLeft(b, "0")
}

// plainName returns a name as DNS compares it.
func plainName(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// loopback are the addresses of "localhost". A connection to an unspecified address, or
// to none, goes there, too.
var loopback = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// addressesOf returns the addresses that a host is for certain, without a name server.
func addressesOf(host string) []netip.Addr {
	name := plainName(host)
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") { // RFC 6761 §6.3
		return loopback
	}
	addr, err := netip.ParseAddr(name)
	if err != nil {
		addr = classicAddr(name)
	}
	addr = addr.Unmap().WithZone("")
	switch {
	case !addr.IsValid():
		return nil
	case addr.IsUnspecified():
		return loopback
	}
	return []netip.Addr{addr}
}

// notClassic matches numbers that only Go reads.
var notClassic = regexp.MustCompile(`^0[bBoO]|_`)

// classicAddr returns the IPv4 address of a text that inet_aton(3) can read, and so many
// resolvers can, or none. It has one to four decimal, octal or hexadecimal numbers. The
// last one stands for all bytes that are left: "127.1", "0x7f.0.0.1", "2130706433".
func classicAddr(text string) netip.Addr {
	parts := strings.Split(text, ".")
	if len(parts) > 4 {
		return netip.Addr{}
	}
	var all uint64
	for i, part := range parts {
		bits := 8
		if i == len(parts)-1 {
			bits = 8 * (5 - len(parts))
		}
		n, err := strconv.ParseUint(part, 0, bits)
		if err != nil || notClassic.MatchString(part) {
			return netip.Addr{}
		}
		all = all<<bits | n
	}
	return netip.AddrFrom4([4]byte{byte(all >> 24), byte(all >> 16), byte(all >> 8), byte(all)})
}

func isWildcard(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.Unmap().WithZone("").IsUnspecified()
}

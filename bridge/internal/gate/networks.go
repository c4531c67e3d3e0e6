package gate

import (
	"net"
	"net/netip"
	"slices"
)

// Contains reports whether one of the networks contains an address. An IPv4-mapped
// IPv6 address counts as IPv4, and a zone is ignored.
func Contains(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ContainsPeer reports whether one of the networks contains a socket's address.
func ContainsPeer(networks []netip.Prefix, peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	return ok && Contains(networks, tcp.AddrPort().Addr())
}

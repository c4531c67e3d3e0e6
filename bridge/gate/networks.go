package gate

import (
	"net"
	"net/netip"
	"slices"
)

// Contains looks for an address among networks, one of IPv4 as that also
// in IPv6's clothes, and whatever its zone.
func Contains(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

// ContainsPeer looks for an address of a socket among networks.
func ContainsPeer(networks []netip.Prefix, peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	return ok && Contains(networks, tcp.AddrPort().Addr())
}

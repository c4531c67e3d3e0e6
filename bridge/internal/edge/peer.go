package edge

import (
	"net"
	"net/netip"
)

// RemoteAddr returns the client's address. If a PROXY header is expected, it waits for
// the header.
func (c *clientConn) RemoteAddr() net.Addr {
	_ = c.awaitHeader() // Read has the error; until then only the peer is known
	return c.address()
}

// LocalAddr returns the address that the client connected to; with a PROXY header the
// proxy's. It waits for the header.
func (c *clientConn) LocalAddr() net.Addr {
	_ = c.awaitHeader() // Read has the error
	if c.proxied != nil && c.proxied.local != nil {
		return c.proxied.local
	}
	return c.Conn.LocalAddr()
}

// address returns the client's address, as far as it is known.
func (c *clientConn) address() net.Addr {
	if c.proxied != nil && c.proxied.client != nil {
		return c.proxied.client
	}
	if _, ok := c.Conn.(*net.UnixConn); ok {
		return unixPeer
	}
	return c.Conn.RemoteAddr()
}

// addressOf is RemoteAddr without waiting for a PROXY header.
func addressOf(c net.Conn) net.Addr {
	if client, ok := c.(*clientConn); ok {
		return client.address()
	}
	return c.RemoteAddr()
}

// unixPeer stands for the peer of a unix socket: it has no address, and is on this
// host, like a peer on loopback.
var unixPeer = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0))

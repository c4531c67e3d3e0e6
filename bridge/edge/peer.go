package edge

import (
	"net"
	"net/netip"
)

// RemoteAddr is the client's address. Where a PROXY header is to come, it
// waits for that.
func (c *clientConn) RemoteAddr() net.Addr {
	_ = c.awaitHeader() // Read has the error; until then the peer is all there is
	return c.address()
}

// LocalAddr is the address that the client connected to: with a PROXY header
// that of the proxy. It waits for the header.
func (c *clientConn) LocalAddr() net.Addr {
	_ = c.awaitHeader() // Read has the error
	if c.proxied != nil && c.proxied.local != nil {
		return c.proxied.local
	}
	return c.Conn.LocalAddr()
}

// address is the client's as far as it is known.
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

// unixPeer stands for whoever has the other end of a unix socket: it has no
// address, and is on this host, like whoever has one of loopback.
var unixPeer = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0))

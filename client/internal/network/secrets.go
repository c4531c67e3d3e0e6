package network

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
)

// Why credentials may not cross a connection.
var (
	errPlaintext  = errors.New("credentials would cross the network in plaintext: use https://")
	errUnverified = errors.New("nothing verifies the certificate of the server that would get the credentials: trust its CA instead")
)

// MayCarrySecrets returns why credentials may not cross connections to the target, as far as
// its address tells, or nil. Dial judges each connection again if n.Secrets is set.
func (n *Network) MayCarrySecrets(t Target) error {
	p, err := n.ProxyFor(t)
	if err != nil {
		return err
	}
	host, _, _ := net.SplitHostPort(n.address(t)) // "" is nobody's
	switch {
	case t.Secure && !n.verifies():
		return errUnverified
	case !t.Secure && (p != nil || !(Target{Host: host}).Loopback()):
		return errPlaintext
	}
	return nil
}

// Carries returns why credentials may not cross a connection to the target, or nil: they cross
// TLS that verifies the server. In plaintext they cross only what stays on this machine: the
// address counts, since a name server may send localhost anywhere, and behind a proxy, no
// address is known.
func (n *Network) Carries(conn net.Conn, t Target) error {
	if _, ok := conn.(interface{ ConnectionState() tls.ConnectionState }); ok {
		if n.verifies() {
			return nil
		}
		return errUnverified
	}
	p, err := n.ProxyFor(t)
	if err != nil || p != nil || !isHere(conn.RemoteAddr()) {
		return errPlaintext
	}
	return nil
}

// verifies reports whether TLS verifies servers, which a program's own functions may do.
func (n *Network) verifies() bool {
	c := n.TLS
	return c == nil || !c.InsecureSkipVerify || c.VerifyConnection != nil || c.VerifyPeerCertificate != nil
}

// isHere reports whether an address is this machine's alone.
func isHere(a net.Addr) bool {
	if a.Network() == "unix" {
		return true
	}
	at, err := netip.ParseAddrPort(a.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

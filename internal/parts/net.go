package parts

import (
	"net"
	"testing"
)

// Listen listens on a TCP address until the test ends.
func Listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // it may be closed already
	return ln
}

// TCPPair returns both ends of a connection on loopback.
func TCPPair(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	ln := Listen(t, "127.0.0.1:0")
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.Close(), c.Close() }) // a test may have
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

package parts

import (
	"net"
	"net/netip"
	"testing"

	"github.com/pires/go-proxyproto"
)

// PROXYHeader returns a PROXY header of version 2 that names a client, or of a health check.
func PROXYHeader(t testing.TB, client string) string {
	t.Helper()
	h := &proxyproto.Header{Version: 2, Command: proxyproto.LOCAL}
	if client != "" {
		source := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(client))
		h = proxyproto.HeaderProxyFromAddrs(2, source, source)
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

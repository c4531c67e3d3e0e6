package gate

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"github.com/pires/go-proxyproto"
)

// ReadPROXYHeader reads a PROXY header and not one byte after it, so that the next
// reader may read the socket itself. It returns the client that the header names and
// the address that the client connected to, both nil if the header names none. The
// caller bounds the time by the connection's deadline.
// https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
func ReadPROXYHeader(r io.Reader) (client, local net.Addr, err error) {
	h, err := readProxyHeader(r)
	if err != nil {
		return nil, nil, err
	}
	client, local = addressesIn(h)
	return client, local, nil
}

// addressesIn returns the client that a header names and the address that the client
// connected to. They are nil for a health check of the proxy's own, and for a client
// that reached the proxy without an address.
func addressesIn(h *proxyproto.Header) (client, local net.Addr) {
	if h.Command.IsLocal() { // in version 1: UNKNOWN
		return nil, nil
	}
	source, destination, ok := h.IPs()
	if !ok {
		return nil, nil
	}
	sourcePort, destinationPort, _ := h.Ports() // as IPs
	return tcpAddr(source, sourcePort), tcpAddr(destination, destinationPort)
}

// tcpAddr returns nil if ip is no address.
func tcpAddr(ip net.IP, port int) net.Addr {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return nil
	}
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr.Unmap(), uint16(port)))
}

// The bounds of a header's length. The shortest is "PROXY UNKNOWN" with its line end,
// which is less than version 2 has before its length.
const (
	leastHeader   = 15
	fixedHeader   = 16
	maxHeaderLine = 107     // version 1
	maxHeaderBody = 4 << 10 // version 2: as much as go-proxyproto accepts
)

// ErrNothingCame reports that a peer closed without sending a byte, like health
// checks and port scans.
var ErrNothingCame = errors.New("the peer closed the connection before its PROXY header")

var errLongHeader = errors.New("the PROXY header is too long")

func readProxyHeader(r io.Reader) (*proxyproto.Header, error) {
	header := make([]byte, leastHeader, 2*maxHeaderLine)
	if n, err := io.ReadFull(r, header); err != nil {
		if n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, ErrNothingCame
		}
		return nil, broken(err)
	}
	var err error
	switch {
	case bytes.HasPrefix(header, proxyproto.SIGV1):
		header, err = readHeaderLine(r, header)
	case bytes.HasPrefix(header, proxyproto.SIGV2):
		header, err = readHeaderBody(r, header)
	default:
		err = errors.New("the connection begins without a PROXY header")
	}
	if err != nil {
		return nil, err
	}
	rest := bytes.NewReader(header)
	buffered := bufio.NewReaderSize(rest, len(header)) // it needs all of it in one read
	h, err := proxyproto.Read(buffered)
	if err != nil {
		return nil, err
	}
	if buffered.Buffered() > 0 || rest.Len() > 0 {
		return nil, proxyproto.ErrInvalidLength
	}
	return h, nil
}

func readHeaderLine(r io.Reader, line []byte) ([]byte, error) {
	for line[len(line)-1] != '\n' {
		if len(line) == maxHeaderLine {
			return nil, errLongHeader
		}
		line = append(line, 0)
		if _, err := io.ReadFull(r, line[len(line)-1:]); err != nil {
			return nil, broken(err)
		}
	}
	return line, nil
}

// readHeaderBody reads as many bytes as the header's length says.
func readHeaderBody(r io.Reader, header []byte) ([]byte, error) {
	header = append(header, make([]byte, fixedHeader-leastHeader)...)
	if _, err := io.ReadFull(r, header[leastHeader:]); err != nil {
		return nil, broken(err)
	}
	body := int(binary.BigEndian.Uint16(header[fixedHeader-2:]))
	if body > maxHeaderBody {
		return nil, errLongHeader
	}
	header = append(header, make([]byte, body)...)
	if _, err := io.ReadFull(r, header[fixedHeader:]); err != nil {
		return nil, broken(err)
	}
	if header[fixedHeader-4] == byte(proxyproto.PROXY) && header[fixedHeader-3] == byte(proxyproto.UNSPEC) {
		// PROXY without an address family names no client. The receiver may treat it
		// as LOCAL; go-proxyproto refuses it. §2.2.
		header[fixedHeader-4] = byte(proxyproto.LOCAL)
	}
	return header, nil
}

// broken reports that a header is incomplete. A deadline's error stays recognizable.
func broken(err error) error { return fmt.Errorf("the PROXY header is incomplete: %w", err) }

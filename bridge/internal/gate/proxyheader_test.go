package gate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pires/go-proxyproto"
)

// headerV2 is a header of version 2 with a body as given.
func headerV2(command, family byte, body ...byte) string {
	h := append(slices.Clone(proxyproto.SIGV2), command, family)
	return string(binary.BigEndian.AppendUint16(h, uint16(len(body)))) + string(body)
}

// Bodies of version 2: a client at 203.0.113.9:4660 and one at [2001:db8::9]:4660.
var (
	bodyIPv4   = []byte{203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x34, 0, 80}
	bodyIPv6   = append(append([]byte{0x20, 1, 0xd, 0xb8, 15: 9}, make([]byte, 16)...), 0x12, 0x34, 0, 80)
	bodyMapped = append(append([]byte{10: 0xff, 0xff, 203, 0, 113, 9}, make([]byte, 16)...), 0x12, 0x34, 0, 80)
	aTLV       = []byte{4, 0, 2, 'a', 'b'} // of no effect
)

// proxyHeaders are headers and the clients that they name, "" for none.
var proxyHeaders = []struct{ name, header, client string }{
	{"version 1, IPv4", "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\r\n", "203.0.113.9:4660"},
	{"version 1, IPv6", "PROXY TCP6 2001:db8::9 ::1 4660 80\r\n", "[2001:db8::9]:4660"},
	{"version 1, IPv4 in IPv6", "PROXY TCP6 ::ffff:203.0.113.9 ::1 4660 80\r\n", "203.0.113.9:4660"},
	{"version 1, nobody", "PROXY UNKNOWN\r\n", ""},
	{"version 1, nobody, with words", "PROXY UNKNOWN 203.0.113.9 127.0.0.1 4660 80\r\n", ""},
	{"version 2, IPv4", headerV2(0x21, 0x11, bodyIPv4...), "203.0.113.9:4660"},
	{"version 2, IPv6", headerV2(0x21, 0x21, bodyIPv6...), "[2001:db8::9]:4660"},
	{"version 2, IPv4 in IPv6", headerV2(0x21, 0x21, bodyMapped...), "203.0.113.9:4660"},
	{"version 2, TLVs", headerV2(0x21, 0x11, append(slices.Clone(bodyIPv4), aTLV...)...), "203.0.113.9:4660"},
	{"version 2, as much as there may be", headerV2(0x21, 0x11, append(slices.Clone(bodyIPv4), make([]byte, maxHeaderBody-12)...)...), "203.0.113.9:4660"},
	{"version 2, a health check", headerV2(0x20, 0x00), ""},
	{"version 2, a health check with an address", headerV2(0x20, 0x11, bodyIPv4...), ""},
	{"version 2, no address family", headerV2(0x21, 0x00), ""},
	{"version 2, no address family, with TLVs", headerV2(0x21, 0x00, aTLV...), ""},
	{"version 2, no address family, with an address", headerV2(0x21, 0x00, bodyIPv4...), ""},
	{"version 2, a unix socket", headerV2(0x21, 0x31, make([]byte, 216)...), ""},
}

// badProxyHeaders are none, each long enough to be told from one under way.
var badProxyHeaders = map[string]string{
	"HTTP/1.1":                  "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
	"HTTP/2":                    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"TLS":                       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 32),
	"no addresses":              "PROXY TCP4\r\n    \r\n",
	"an address of the other":   "PROXY TCP4 2001:db8::9 ::1 4660 80\r\n",
	"a zone":                    "PROXY TCP6 fe80::1%eth0 ::1 4660 80\r\n",
	"a port too large":          "PROXY TCP4 203.0.113.9 127.0.0.1 66000 80\r\n",
	"a bare line end":           "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80\n",
	"a line without end":        "PROXY TCP4 203.0.113.9 127.0.0.1 4660 80" + strings.Repeat(" ", 200),
	"two blanks":                "PROXY  TCP4 203.0.113.9 127.0.0.1 4660 80\r\n",
	"lower case":                "proxy tcp4 203.0.113.9 127.0.0.1 4660 80\r\n",
	"an early line end":         "PROXY UNKNOW\r\nN\r\n",
	"another version":           headerV2(0x31, 0x11, bodyIPv4...),
	"another command":           headerV2(0x22, 0x11, bodyIPv4...),
	"a family of its own":       headerV2(0x21, 0x13, bodyIPv4...),
	"too short for its address": headerV2(0x21, 0x11, bodyIPv4[:8]...),
	"too long":                  headerV2(0x21, 0x11, make([]byte, maxHeaderBody+1)...),
}

// TestReadProxyHeader: it is read whole however it comes, and what follows is
// left where it is.
func TestReadProxyHeader(t *testing.T) {
	const after = "what follows"
	for _, c := range proxyHeaders {
		for how, wrap := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
			under := strings.NewReader(c.header + after)
			h, err := readProxyHeader(wrap(under))
			if err != nil {
				t.Errorf("%s, %s: %v", c.name, how, err)
				continue
			}
			client := ""
			if addr, _ := addressesIn(h); addr != nil {
				client = addr.String()
			}
			rest, _ := io.ReadAll(under) // a strings.Reader has no error
			if client != c.client || string(rest) != after {
				t.Errorf("%s, %s: the client is %q, and %q follows; want %q, %q", c.name, how, client, rest, c.client, after)
			}
		}
		for n := range c.header {
			if _, err := readProxyHeader(strings.NewReader(c.header[:n])); err == nil || (n == 0) != errors.Is(err, ErrNothingCame) {
				t.Errorf("%s, its first %d bytes: %v", c.name, n, err)
			}
		}
	}
	for name, header := range badProxyHeaders {
		if h, err := readProxyHeader(strings.NewReader(header)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %+v, %v; want an error that is not its end", name, h, err)
		}
	}
}

func FuzzReadProxyHeader(f *testing.F) {
	for _, c := range proxyHeaders {
		f.Add([]byte(c.header))
	}
	for _, header := range badProxyHeaders {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		under := bytes.NewReader(in)
		h, err := readProxyHeader(under)
		used := in[:len(in)-under.Len()]
		if len(used) > fixedHeader+maxHeaderBody {
			t.Errorf("%d bytes of %q were read", len(used), in)
		}
		if err != nil {
			return
		}
		// The same bytes alone say the same, to any other reader too.
		again, err := readProxyHeader(bytes.NewReader(used))
		if err != nil || !again.EqualsTo(h) {
			t.Errorf("%q: %+v, alone %+v, %v", used, h, again, err)
		}
		if client, _ := addressesIn(h); client != nil && client.(*net.TCPAddr).AddrPort().Addr().Is4In6() {
			t.Errorf("%q: the client is %v", used, client)
		}
	})
}

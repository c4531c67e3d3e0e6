package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Listener is one address for clients, with its own rules.
type Listener struct {
	// "host:port", ":port", or "unix:/path".
	Address string `key:"address" is:"listen address" needed:"true" restart:"yes"`

	// The name of the listener in the log. Default: its address.
	Name string `key:"name" is:"listener name" restart:"yes"`

	// Permissions of a unix socket, in octal: "0600" lets its owner connect,
	// "0660" its group, too. Ports have no mode. Default: "0600".
	Mode Mode `key:"mode" unset:"0600" restart:"yes"`

	// The client protocols that this listener accepts. Empty: all. A call inside
	// an h2ts tunnel needs both h2ts and its own protocol.
	Transports []string `key:"transports" words:"transports"`

	// TLS on this listener (docs/guides/listeners.md). Unset keys inherit from
	// tls. With one of cert, key, certificates and self_signed it inherits none of
	// these, and no acme; with one of client_ca, client_auth and crls none of
	// these.
	TLS ListenerTLS `key:"tls"`

	// Addresses or networks of the proxies in front of this listener.
	TrustedProxies []netip.Prefix `key:"trusted_proxies" like:"trusted_proxies"`

	// The header in which these proxies name the client.
	TrustedHeader string `key:"trusted_header" one:"x-forwarded-for,forwarded" like:"trusted_header"`

	// Addresses or networks of the proxies that start each connection to this
	// listener with a PROXY header.
	ProxyProtocol []netip.Prefix `key:"proxy_protocol" like:"proxy_protocol"`

	// Limits for all clients of this listener together, in addition to limits. The
	// lowest size and calls_per_connection apply. 0 is no limit.
	Limits ListenerLimits `key:"limits" as:"limits"`
}

// ListenerTLS configures TLS of one listener.
type ListenerTLS struct {
	// Use TLS on this listener; "false" for plaintext beside listeners with TLS.
	// Default: true if there is a certificate.
	Enabled bool `key:"enabled" restart:"yes"`

	ServerTLS `like:"tls"`
}

// Mode has the permission bits of a file. The file has them in octal: "0600".
type Mode uint32

// defaultMode lets only the owner of a socket connect.
const defaultMode Mode = 0o600

// String returns m in octal, as chmod takes it.
func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

func parseMode(s string) (any, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return nil, errors.New(`is not a file mode: write it in octal, such as "0660"`)
	}
	if n&0o600 != 0o600 {
		return nil, errors.New(`denies access to the owner: write "0600", or more`)
	}
	return Mode(n), nil
}

// SocketMode returns the mode of a unix socket.
func (l Listener) SocketMode() fs.FileMode { return fs.FileMode(cmp.Or(l.Mode, defaultMode)) }

const unixPrefix = "unix:"

// Socket returns the path of a unix socket, or "" for a port.
func (l Listener) Socket() string { return socketIn(l.Address) }

func socketIn(address string) string {
	if socket, found := strings.CutPrefix(address, unixPrefix); found {
		return socket
	}
	return ""
}

// beyondThisHost reports whether other hosts can connect. A name might be of any host.
func (l Listener) beyondThisHost() bool {
	host, _, err := net.SplitHostPort(l.Address)
	if err != nil || l.Socket() != "" || host == "localhost" {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err != nil || !addr.IsLoopback()
}

// maxSocketPath fits into a socket address on every system: 104 bytes with the
// terminating zero (unix(4)), less the temporary suffix with a dot and a
// process ID.
const maxSocketPath = 103 - 8

// parseListenAddress also accepts the form of backend.address for sockets:
// "unix:///run/culvert.sock".
func parseListenAddress(s string) (any, error) {
	socket, isSocket := strings.CutPrefix(s, unixPrefix)
	if !isSocket {
		return s, checkAddress(s)
	}
	if rest, slashes := strings.CutPrefix(socket, "//"); slashes && strings.HasPrefix(rest, "/") {
		socket = rest
	}
	switch {
	case strings.Trim(socket, "/") == "":
		return nil, errors.New(`has no path: write "unix:/run/culvert.sock"`)
	case !path.IsAbs(socket) || path.Clean(socket) != socket || strings.ContainsRune(socket, 0):
		return nil, errors.New(`is not a plain path from the root: write "unix:/run/culvert.sock"`)
	case len(socket) > maxSocketPath:
		return nil, fmt.Errorf("is too long for a socket: use a path of at most %d bytes", maxSocketPath)
	}
	return unixPrefix + socket, nil
}

var listenerNameForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]*$`)

func checkListenerName(s string) error {
	if !listenerNameForm.MatchString(s) {
		return errors.New("is not a name: use only letters, digits, . _ and -")
	}
	return nil
}

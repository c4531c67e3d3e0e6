package config

import (
	"net"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/internal/rules"
)

// Admin configures the address for operators.
type Admin struct {
	// The address for operators (docs/guides/admin.md); "" or "off" for none:
	//
	//   - "127.0.0.1:9902": a port on this host only.
	//   - "unix:/run/culvert/admin.sock": a unix socket, to which only root and
	//     culvert's user can connect.
	//   - ":9902": a port that other hosts reach. It needs tls, hosts and token.
	//
	// If the address is taken, culvert doesn't start; if the default is, it starts
	// without, and warns.
	Listen string `key:"listen" flag:"admin" is:"admin address" restart:"yes"`

	// Names and IP addresses, without ports, by which operators reach the address.
	// Requests for other hosts are refused, except localhost and loopback addresses.
	Hosts []string `key:"hosts" is:"own name"`

	// A file with the token that callers must know: one line of at least 16 random
	// characters ("openssl rand -hex 32"). Programs send it in each request
	// (Authorization: Bearer), people type it into a form.
	Token string `key:"token" is:"file"`

	// TLS on the address. Without a certificate, it speaks plaintext.
	TLS AdminTLS `key:"tls"`
}

// AdminTLS configures TLS of the address for operators.
type AdminTLS struct {
	// The certificate chain (PEM).
	Cert string `key:"cert" is:"file"`

	// The private key (PEM) of cert.
	Key string `key:"key" is:"file"`
}

// Guarded reports whether the address has what one needs that other hosts reach.
func (a Admin) Guarded() bool { return a.lacks() == nil }

// lacks returns what is missing for an address that other hosts reach, with remedies.
func (a Admin) lacks() (missing []string) {
	if a.TLS.Cert == "" || a.TLS.Key == "" {
		missing = append(missing, "admin.tls.cert and admin.tls.key, a certificate")
	}
	if len(a.Hosts) == 0 {
		missing = append(missing, "admin.hosts, the names by which operators reach it")
	}
	if a.Token == "" {
		missing = append(missing, "admin.token, a file with a secret (openssl rand -hex 32)")
	}
	return missing
}

// Socket returns the path of a unix socket, or "" for a port or none.
func (a Admin) Socket() string { return socketIn(a.Listen) }

// parseAdminAddress accepts the address of a port or of a unix socket. checkAdminAccess finds
// one that lacks protection.
func parseAdminAddress(s string) (any, error) {
	switch {
	case s == "" || s == "off":
		return "", nil
	case strings.HasPrefix(s, unixPrefix):
		return parseListenAddress(s)
	default:
		return s, checkAddress(s)
	}
}

// checkAdminListen finds an address that culvert uses for something else, too.
// culvert starts without the default address if it is taken.
func checkAdminListen(l *Loaded) {
	if !l.IsSet("admin.listen") {
		return
	}
	var others []ownAddress
	for _, ln := range l.Listen {
		others = append(others, ownAddress{"listen", ln.Address})
	}
	for _, o := range append(others, ownAddress{"health.listen", l.Health.Listen}, ownAddress{"tls.http_listen", l.TLS.HTTPListen}) {
		if collide(l.Admin.Listen, o.address) {
			l.refuse("admin.listen", "is the address of %s, too: use another one, or turn the admin address off (--admin off)", o.key)
			return
		}
	}
}

// checkAdminAccess finds an address for operators that anybody could use, and keys that have no
// effect on who can.
func checkAdminAccess(l *Loaded) {
	a := l.Admin
	if len(a.Token) >= tokenLength && !strings.ContainsAny(a.Token, "./") {
		l.refuse("admin.token", "looks like the token itself, but must name a file that has it: write a path, such as /etc/culvert/admin.token or ./NAME")
		return
	}
	missing := a.lacks()
	_, port, _ := net.SplitHostPort(a.Listen)
	switch {
	case a.Listen == "":
	case a.Socket() != "":
		l.refuseSet([]setKey{{"admin.tls.cert", a.TLS.Cert != ""}, {"admin.hosts", len(a.Hosts) > 0}, {"admin.token", a.Token != ""}},
			"has no effect on a unix socket, to which only root and culvert's user can connect: remove the key, or let admin.listen be a port (--admin)")
	case !(Listener{Address: a.Listen}).beyondThisHost():
		checkPair(l, "admin.tls", a.TLS.Cert, a.TLS.Key)
		if len(a.Hosts) > 0 && a.Token == "" {
			l.refuse("admin.hosts", "lets others than this host's programs ask, so it needs admin.token, a file with a secret (openssl rand -hex 32)")
		}
	case missing != nil:
		l.refuse("admin.listen", `is an address that other hosts can reach, and they could control culvert: set %s, or write "127.0.0.1:%s" or "unix:/run/culvert/admin.sock" (--admin)`, strings.Join(missing, "; "), port)
	}
	for _, host := range a.Hosts {
		if slices.ContainsFunc(l.Hosts, func(name string) bool { h, _, _ := rules.CutPort(name); return strings.EqualFold(h, host) }) {
			l.warn("admin.hosts", "has a name that is in hosts, too: browsers send the cookie of an admin session to every port of the name, and so to the pages, the web server and the backend there. Give the admin address a name of its own")
			break
		}
	}
}

// tokenLength is that of the shortest token.
const tokenLength = 16

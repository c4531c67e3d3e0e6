package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Admin configures the address for operators.
type Admin struct {
	// The address for operators (docs/guides/admin.md), on loopback or a unix
	// socket ("unix:/run/culvert/admin.sock"); "" or "off" for none. If the
	// address is taken, culvert doesn't start; with the default, it starts without
	// it and logs a warning.
	Listen string `key:"listen" flag:"admin" is:"admin address" restart:"yes"`
}

// Socket returns the path of a unix socket, or "" for a port or none.
func (a Admin) Socket() string { return socketIn(a.Listen) }

// parseAdminAddress accepts only addresses that no other host can reach.
func parseAdminAddress(s string) (any, error) {
	if s == "" || s == "off" {
		return "", nil
	}
	if strings.HasPrefix(s, unixPrefix) {
		return parseListenAddress(s)
	}
	if err := checkAddress(s); err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(s) // checkAddress has split it
	addr, err := netip.ParseAddr(host)
	switch {
	case host == "localhost" || err == nil && addr.IsLoopback():
		return s, nil
	case isWildcard(host):
		return nil, fmt.Errorf("lets other hosts control culvert: write %q", "127.0.0.1:"+port)
	default:
		return nil, errors.New(`is not a loopback address, and other hosts must not control culvert: write "127.0.0.1:` + port + `", or "unix:/run/culvert/admin.sock"`)
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

package serve

import (
	"net"
	"slices"
	"strings"
)

// maxRedirected limits the connections to the redirecting port. Each
// connection has a few seconds, and a connection over the limit replaces the
// oldest.
const maxRedirected = 256

// httpsPort returns the port for redirects: tls.http_target, or the port of
// the first listener with TLS.
func (p *program) httpsPort() int {
	if port := p.Config.TLS.HTTPTarget; port != 0 {
		return port
	}
	for _, l := range p.ports.public {
		if tcp, ok := l.Addr().(*net.TCPAddr); ok && l.rules.TLS != nil {
			return tcp.Port
		}
	}
	return 443
}

// isServed reports whether culvert has a certificate for the host, or hosts
// names it.
func (p *program) isServed(host string) bool {
	named := slices.ContainsFunc(p.reloads.current().Hosts, func(h string) bool {
		if name, _, err := net.SplitHostPort(h); err == nil {
			h = name
		}
		return strings.EqualFold(strings.Trim(h, "[]"), host)
	})
	return named || p.keys.Serves(host)
}

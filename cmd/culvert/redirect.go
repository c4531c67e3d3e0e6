package main

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
	proxytls "github.com/culvert-grpc/culvert/tls"
)

// maxRedirected limits the connections to the redirecting port. Each
// connection has a few seconds, and a connection over the limit replaces the
// oldest.
const maxRedirected = 256

// openRedirect binds the port that redirects plaintext requests to HTTPS.
func (p *program) openRedirect(ctx context.Context) error {
	address := p.config.TLS.HTTPListen
	if address == "" {
		return nil
	}
	ln, err := p.passed.Listen(ctx, redirectKey, address)
	if err != nil {
		return p.config.Errorf("tls.http_listen", "%w: %s", err, sockets.Remedy(err, "tls.http_listen"))
	}
	p.redirectListener = sockets.Newest(p.bridge.LeaveDescriptors(ln), maxRedirected)
	return nil
}

// redirectServer redirects to HTTPS, and answers ACME challenges.
func (p *program) redirectServer() *http.Server {
	return proxytls.RedirectServer(p.keys.AnswerCA(proxytls.RedirectHandler(p.httpsPort(), p.isServed)), p.log)
}

// httpsPort returns the port for redirects: tls.http_target, or the port of
// the first listener with TLS.
func (p *program) httpsPort() int {
	if port := p.config.TLS.HTTPTarget; port != 0 {
		return port
	}
	for i, ln := range p.listeners {
		if tcp, ok := ln.Addr().(*net.TCPAddr); ok && p.policies[i].TLS != nil {
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

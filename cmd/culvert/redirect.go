package main

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"

	proxytls "github.com/culvert-grpc/culvert/tls"
)

// maxRedirected bounds the connections to the port that redirects: each has a
// few seconds, and one over the bound takes the place of the oldest.
const maxRedirected = 256

// openRedirect binds the port that sends plaintext to HTTPS.
func (p *program) openRedirect(ctx context.Context) error {
	address := p.config.TLS.HTTPListen
	if address == "" {
		return nil
	}
	ln, err := listen(ctx, address)
	if err != nil {
		return p.config.Errorf("tls.http_listen", "%w: %s", err, listenRemedy(err, "tls.http_listen"))
	}
	p.redirectListener = &newestListener{Listener: p.bridge.LeaveDescriptors(ln), most: maxRedirected}
	return nil
}

// redirectServer sends to HTTPS, and answers a CA that looks for proof.
func (p *program) redirectServer() *http.Server {
	return proxytls.RedirectServer(p.keys.answerCA(proxytls.RedirectHandler(p.httpsPort(), p.isServed)), p.log)
}

// httpsPort is where clients find TLS: at the first listener that speaks it on
// a port, if nothing else is said.
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

// isServed holds for a host that a certificate is for, or that the operator has
// named.
func (p *program) isServed(host string) bool {
	named := slices.ContainsFunc(p.config.Hosts, func(h string) bool {
		if name, _, err := net.SplitHostPort(h); err == nil {
			h = name
		}
		return strings.EqualFold(strings.Trim(h, "[]"), host)
	})
	return named || p.keys.serves(host)
}

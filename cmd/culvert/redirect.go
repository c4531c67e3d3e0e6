package main

import (
	"context"
	"net"
	"net/http"

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

// redirectServer sends to the first listener that speaks TLS on a port, and
// answers a CA that looks for proof.
func (p *program) redirectServer() *http.Server {
	port := 443
	for i := len(p.listeners) - 1; i >= 0; i-- {
		if tcp, ok := p.listeners[i].Addr().(*net.TCPAddr); ok && p.policies[i].TLS != nil {
			port = tcp.Port
		}
	}
	return proxytls.RedirectServer(p.keys.answerCA(proxytls.RedirectHandler(port)), p.log)
}

package box

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"
)

// handle serves a client's connection.
func (b *Box) handle(raw net.Conn) {
	c := b.newConn(raw)
	defer b.forget(c)
	if c.target = b.o.Edge; c.target == "" && !b.connect(c) {
		return
	}
	first, err := c.r.Peek(1)
	switch {
	case err != nil:
	case b.o.Tunnel:
		b.tunnel(c)
	case first[0] == 0x16: // a handshake of TLS, RFC 8446 §5.1
		b.decrypt(c)
	default:
		b.hand(c, c)
	}
}

// connect answers CONNECT, and reports whether there is a tunnel then.
func (b *Box) connect(c *conn) bool {
	for {
		r, err := http.ReadRequest(c.r)
		if err != nil {
			return false
		}
		b.note(r.Method + " " + r.RequestURI)
		switch {
		case b.o.ConnectHangs:
			<-c.gone
			return false
		case b.o.ConnectRaw != "":
			_, _ = io.WriteString(c, b.o.ConnectRaw) // the client may be gone
			return false
		case r.Method != http.MethodConnect:
			turnAway(c, http.StatusForbidden) // an http:// URL, without a tunnel
			return false
		case b.o.Schemes != nil && b.o.User == "", b.o.User != "" && r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(b.o.User+":"+b.o.Password)):
			schemes := b.o.Schemes
			if schemes == nil {
				schemes = []string{`Basic realm="box"`}
			}
			header := ""
			for _, s := range schemes {
				header += "Proxy-Authenticate: " + s + "\r\n"
			}
			_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\n"+header+"Content-Length: 0\r\n\r\n") // the client may be gone
		case b.o.ConnectCode != 0:
			turnAway(c, b.o.ConnectCode)
			return false
		default:
			c.target = r.RequestURI
			_, err := io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
			return err == nil
		}
	}
}

// turnAway answers a request outside of a tunnel with the box's page.
func turnAway(c *conn, code int) {
	_, _ = fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nConnection: close\r\n\r\n%s", code, http.StatusText(code), page) // the client may be gone
}

// tunnel carries bytes as they are.
func (b *Box) tunnel(c *conn) {
	server, err := b.o.Dial(b.life, "tcp", c.target)
	if err != nil {
		return
	}
	copyBoth(c, server, func() {
		_ = c.Close()      // it may be closed
		_ = server.Close() // it may be closed
	})
}

// decrypt does a server's handshake of TLS, and hands the connection on.
func (b *Box) decrypt(c *conn) {
	switch {
	case b.o.TLSCut:
		return
	case b.o.TLSHangs:
		<-c.gone
		return
	}
	host, _, _ := net.SplitHostPort(c.target) // what isn't one has no name
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		name := hello.ServerName
		if name == "" {
			name = host
		}
		return b.certificate(name)
	}}
	switch {
	case b.o.NoALPN:
	case b.o.HTTP2 || b.o.H2Silent:
		config.NextProtos = []string{"h2", "http/1.1"}
	default:
		config.NextProtos = []string{"http/1.1"}
		// A box that doesn't know h2 ignores the offer, as OpenSSL does by default. Go's
		// server would send an alert.
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(hello.SupportedProtos, "http/1.1") {
				return nil, nil //nolint:nilnil // the configuration stays
			}
			without := config.Clone()
			without.NextProtos = nil
			return without, nil
		}
	}
	decrypted := tls.Server(c, config)
	ctx, cancel := context.WithTimeout(b.life, time.Minute)
	defer cancel()
	if decrypted.HandshakeContext(ctx) != nil {
		return
	}
	if b.o.H2Silent && decrypted.ConnectionState().NegotiatedProtocol == "h2" {
		_, _ = io.Copy(io.Discard, decrypted) // until the client is gone
		return
	}
	b.hand(decrypted, c)
}

// hand has the server serve a connection that may have been decrypted, until c is gone.
func (b *Box) hand(served net.Conn, c *conn) {
	if b.accepted.Hand(b.life, served) == nil {
		<-c.gone
	}
}

// certificate returns the certificate for a host, which it makes once.
func (b *Box) certificate(host string) (*tls.Certificate, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cert := b.certs[host]; cert != nil {
		return cert, nil
	}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: host}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	cert, err := b.authority.Issue(template)
	if err != nil {
		return nil, err
	}
	b.certs[host] = &cert
	return &cert, nil
}

// connOf returns the client's connection below TLS.
func connOf(c net.Conn) *conn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return c.(*conn) //nolint:forcetypeassert // the box hands over no others
}

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, connOf(c))
}

// dialEdge connects to an edge, with TLS if the client has it.
func (b *Box) dialEdge(ctx context.Context, target, name string, secure bool, protocols ...string) (net.Conn, *bufio.Reader, error) {
	server, err := b.o.Dial(ctx, "tcp", target)
	if err != nil {
		return nil, nil, err
	}
	if secure {
		encrypted := tls.Client(server, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: b.o.Roots, ServerName: name, NextProtos: protocols})
		if err := encrypted.HandshakeContext(ctx); err != nil {
			_ = server.Close() // it is over
			return nil, nil, err
		}
		server = encrypted
	}
	return server, bufio.NewReader(server), nil
}

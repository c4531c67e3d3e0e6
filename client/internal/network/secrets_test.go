package network

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// A distantConn has an address of its own.
type distantConn struct {
	net.Conn
	remote net.Addr
}

func (c distantConn) RemoteAddr() net.Addr { return c.remote }

// TestSecrets: credentials cross TLS that verifies the server, and plaintext that stays on this
// machine, wherever names and proxies lead.
func TestSecrets(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 80} }
	a := parts.NewAuthority(t)
	for name, c := range map[string]struct {
		to, connectTo, proxy string
		config               *tls.Config
		at                   net.Addr
		early, late          error
	}{
		"TLS":                        {"https://edge.example.com", "", "", &tls.Config{RootCAs: a.Pool}, tcp("192.0.2.2"), nil, nil},
		"TLS, not verified":          {"https://localhost", "", "", &tls.Config{InsecureSkipVerify: true}, tcp("127.0.0.1"), errUnverified, errUnverified},
		"TLS, verified otherwise":    {"https://edge.example.com", "", "", &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(tls.ConnectionState) error { return nil }}, tcp("192.0.2.2"), nil, nil},
		"plaintext":                  {"http://edge.example.com", "", "", nil, tcp("192.0.2.2"), errPlaintext, errPlaintext},
		"here":                       {"http://127.0.0.1", "", "", nil, tcp("127.0.0.1"), nil, nil},
		"here, IPv6":                 {"http://localhost", "", "", nil, tcp("::1"), nil, nil},
		"a unix socket":              {"http://localhost", "", "", nil, &net.UnixAddr{Net: "unix", Name: "/s"}, nil, nil},
		"localhost, connected away":  {"http://localhost", "192.0.2.2:7401", "", nil, tcp("192.0.2.2"), errPlaintext, errPlaintext},
		"another name, at localhost": {"http://edge.example.com", "127.0.0.1:7401", "", nil, tcp("127.0.0.1"), nil, nil},
		"localhost, resolved away":   {"http://localhost", "", "", nil, tcp("192.0.2.2"), nil, errPlaintext},
		"x.localhost, resolved away": {"http://x.localhost", "", "", nil, tcp("192.0.2.2"), nil, errPlaintext},
		"through a proxy here":       {"http://localhost", "", "http://127.0.0.1:3128", nil, tcp("127.0.0.1"), errPlaintext, errPlaintext},
		"through a proxy with TLS":   {"http://edge.example.com", "", "https://proxy.example.com:3128", &tls.Config{RootCAs: a.Pool}, tcp("192.0.2.2"), errPlaintext, errPlaintext},
	} {
		n := &Network{ConnectTo: c.connectTo, TLS: c.config, Secrets: true}
		if c.proxy != "" {
			n.Proxy = through(t, c.proxy)
		}
		to := target(t, c.to)
		if err := n.MayCarrySecrets(to); !errors.Is(err, c.early) {
			t.Errorf("%s, before it connects: %v, want %v", name, err, c.early)
		}
		near, far := net.Pipe()
		n.Dialer = func(context.Context, string, string) (net.Conn, error) { return distantConn{near, c.at}, nil }
		pair, ofProxy := a.Server(t, to.Host), a.Server(t, "proxy.example.com")
		go func() {
			far := far
			if strings.HasPrefix(c.proxy, "https:") {
				far = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{ofProxy}})
			}
			switch {
			case c.proxy != "":
				_, _ = far.Read(make([]byte, 4096)) // a CONNECT
				_, _ = far.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
				_, _ = io.Copy(io.Discard, far) // TLS says goodbye
			case to.Secure:
				_ = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair}}).HandshakeContext(t.Context())
			}
		}()
		conn, err := n.Dial(t.Context(), to)
		if !errors.Is(err, c.late) || (conn == nil) != (err != nil) {
			t.Errorf("%s, connected: %v, want %v", name, err, c.late)
		}
		_, _ = near.Close(), far.Close() // they may be closed
	}
}

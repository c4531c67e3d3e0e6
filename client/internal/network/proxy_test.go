package network

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// malformedProxies have "secret" in their password, with a character that must be escaped.
var malformedProxies = []string{
	"http://user:se?secret@host:3128", "http://user:12?secret@host:3128", "http://user:12/secret@host:3128",
	"http://user:12#secret@host:3128", "http://user:p%zzsecret@host:1", "http://user:secret%40host:3128",
	"user:12/secret@host", "http://user:secret@", "http://[user:secret@host", "http://user:\x7fsecret@host",
	"://user:secret@host", "http://user:secret @host", "http:user:secret@host/x", "http://user:secret@host:65536",
}

// TestProxysScheme: an unknown one is refused where it is given.
func TestProxysScheme(t *testing.T) {
	if _, err := Through("ftp://user:secret@host:3128"); !errors.Is(err, errScheme) || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

// TestProxysName: an error has the proxy's host and port, as they are called.
func TestProxysName(t *testing.T) {
	for address, want := range map[string]string{"http://host:": "host:80", "socks5://host:": "host:1080", "socks5://host": "host:1080", "https://[::1]:": "[::1]:443"} {
		through, err := Through(address)
		if err != nil {
			t.Fatal(err)
		}
		n := &Network{Proxy: through, Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") }}
		if _, err := n.Connect(t.Context(), target(t, "https://edge.example.com")); err == nil || !strings.Contains(err.Error(), " through the proxy "+want+": no way") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// TestMalformedProxies: an address of a proxy that can't be parsed is an error, and none of its
// characters is in the text.
func TestMalformedProxies(t *testing.T) {
	unset(t)
	for _, address := range malformedProxies {
		if _, err := Through(address); err == nil || !strings.Contains(err.Error(), "isn't a proxy address") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", address, err)
		}
		for name, edge := range map[string]string{"HTTPS_PROXY": "https://edge.example.com", "https_proxy": "https://edge.example.com", "HTTP_PROXY": "http://edge.example.com"} {
			t.Run(name, func(t *testing.T) {
				t.Setenv(name, address)
				t.Setenv("NO_PROXY", "near.example.com")
				n := &Network{Proxy: fromEnvironment()}
				_, err := n.Connect(t.Context(), target(t, edge))
				if e, ok := asError(err); !ok || e.Stage != Proxy || !strings.Contains(err.Error(), "the variable "+name+": ") || strings.Contains(err.Error(), "secret") {
					t.Errorf("%q: %v", address, err)
				}
				if p, err := n.ProxyFor(target(t, strings.Replace(edge, "edge", "near", 1))); p != nil || err != nil {
					t.Errorf("NO_PROXY: %v, %v", p, err)
				}
			})
		}
	}
}

// TestProxyOfTheEnvironment is that of the edge's scheme, with or without a scheme of its own.
func TestProxyOfTheEnvironment(t *testing.T) {
	unset(t)
	t.Setenv("HTTPS_PROXY", "user:p@ss@proxy:3128")
	t.Setenv("NO_PROXY", "near.example.com")
	n := &Network{Proxy: fromEnvironment()}
	for edge, want := range map[string]string{"https://edge.example.com": "http://user:p%40ss@proxy:3128", "http://edge.example.com": "", "https://near.example.com": ""} {
		got := ""
		p, err := n.ProxyFor(target(t, edge))
		if p != nil {
			got = p.String()
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", edge, got, err, want)
		}
	}
	t.Setenv("HTTP_PROXY", "http://proxy:3128")
	t.Setenv("REQUEST_METHOD", "GET")
	n.Proxy = fromEnvironment()
	if _, err := n.ProxyFor(target(t, "http://edge.example.com")); err == nil || !strings.Contains(err.Error(), "CGI") {
		t.Errorf("in a CGI program: %v", err)
	}
}

// unset hides the environment's proxies from a test.
func unset(t *testing.T) {
	t.Helper()
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
}

// FuzzParseProxy: an address that is taken leads to a host, and one that isn't stays secret.
func FuzzParseProxy(f *testing.F) {
	for _, s := range append(malformedProxies, "http://user:p@proxy:3128", "socks5://proxy", "proxy:3128", "http://proxy:") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		p, err := parseProxy(in)
		if err == nil && (p.Hostname() == "" || strings.Contains(p.Host, "@") || strings.HasSuffix(p.Host, ":")) || err != nil && !errors.Is(err, errProxy) && !errors.Is(err, errScheme) {
			t.Errorf("%q: %v, %v", in, p, err)
		}
		if got := redacted(in); got != in && strings.ContainsAny(got, "@?#%") {
			t.Errorf("%q: shown as %q", in, got)
		}
	})
}

// TestProxysCertificate is verified even if the edge's isn't, and gets no certificate of ours. So
// a false proxy gets no password.
func TestProxysCertificate(t *testing.T) {
	good, evil := parts.NewAuthority(t), parts.NewAuthority(t)
	for name, c := range map[string]struct {
		of   *parts.Authority
		want bool
	}{"its own": {good, true}, "another one": {evil, false}} {
		ln := parts.Listen(t, "127.0.0.1:0")
		got := make(chan string, 1)
		var serving sync.WaitGroup
		serving.Go(func() {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			s := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{c.of.Server(t, "proxy.test", "127.0.0.1")}, ClientAuth: tls.RequestClientCert})
			b := make([]byte, 4096)
			n, _ := s.Read(b) // 0 bytes if the client leaves
			got <- fmt.Sprintf("%d certificates, %s", len(s.ConnectionState().PeerCertificates), b[:n])
		})
		pair := good.Server(t, "client.test")
		n := &Network{Proxy: through(t, "https://u:secret@"+ln.Addr().String()), TLS: &tls.Config{InsecureSkipVerify: true, RootCAs: good.Pool, ServerName: "edge.test", Certificates: []tls.Certificate{pair}}}
		_, err := n.Dial(t.Context(), target(t, "https://edge.test"))
		e, ok := asError(err)
		says := parts.Await(t, "the proxy", got)
		if sent := strings.Contains(says, "Proxy-Authorization"); !ok || sent != c.want || !strings.HasPrefix(says, "0 certificates") || !c.want && (!e.OfProxy || !strings.HasPrefix(err.Error(), "connect to the proxy 127.0.0.1:")) {
			t.Errorf("%s: the proxy saw %q; %v", name, says, err)
		}
		_ = ln.Close() // it ends Accept
		serving.Wait()
	}
}

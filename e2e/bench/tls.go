package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/culvert-grpc/culvert/e2e/certificate"
)

// The programs over TLS 1.3, with one certificate (ECDSA P-256) for all. nginx
// passes native gRPC on to the backend by itself; for WebSockets it ends TLS
// before a culvert in plaintext, and both are measured together.
const (
	culvertTLS  = "culvert, TLS"
	nginxTLS    = "nginx, TLS"
	nginxBefore = "nginx, TLS, before culvert"
)

var (
	gRPCOverTLS    = []string{culvertTLS, "culvert", nginxTLS}
	socketsOverTLS = []string{culvertTLS, "culvert", nginxBefore}
)

// tlsTable is what TLS costs: against culvert in plaintext, and against nginx.
// No client resumes a session, so each connection is a full handshake.
var tlsTable = []cell{
	{name: "a TLS connection and a unary call on it, 16 clients, 100 B", shape: unary, client: newConnectingClient, streams: 16, size: 100, peers: gRPCOverTLS},
	{name: "native gRPC ping-pong over TLS, 64 connections, 100 B", shape: pingPong, client: newGRPCClient(64), streams: 64, size: 100, peers: gRPCOverTLS},
	{name: "native gRPC ping-pong over TLS, 64 connections, 16 KiB", shape: pingPong, client: newGRPCClient(64), streams: 64, size: 16 << 10, peers: gRPCOverTLS},
	{name: "WebSocket bidi over TLS, full duplex, 4 streams, 1 KiB", shape: duplex, client: newWebSocketClient, streams: 4, size: 1 << 10, peers: socketsOverTLS},
	{name: "WebSocket bidi over TLS, full duplex, 4 streams, 16 KiB", shape: duplex, client: newWebSocketClient, streams: 4, size: 16 << 10, peers: socketsOverTLS},
}

// overTLS holds for a cell of TLS.
func (c cell) overTLS() bool { return c.peers[0] == culvertTLS }

// newConnectingClient makes a connection for each call.
func newConnectingClient(p *peer) client { return connectingClient{p} }

type connectingClient struct{ p *peer }

func (connectingClient) close() {}

func (c connectingClient) open(ctx context.Context, n int, method string, header map[string]string) (stream, error) {
	own := newGRPCClient(1)(c.p)
	s, err := own.open(ctx, n, method, header)
	if err != nil {
		own.close()
		return nil, err
	}
	return connectingStream{s, own}, nil
}

type connectingStream struct {
	stream
	own client
}

func (s connectingStream) close() {
	s.stream.close()
	s.own.close()
}

// A pair is a certificate for loopback that no one trusts but the clients here.
type pair struct {
	cert, key string // files
	roots     *x509.CertPool
}

// clientTLS is how clients reach a program that has the pair.
func (p *pair) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS13}
}

func makePair(dir string) (*pair, error) {
	p := &pair{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}
	var err error
	p.roots, err = certificate.SelfSigned(&x509.Certificate{
		Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, p.cert, p.key)
	return p, err
}

func (a *arena) culvertTLS(ctx context.Context) (*peer, error) {
	return a.culvert(ctx, &peer{name: culvertTLS, tls: a.pair.clientTLS()}, nil, "--tls-cert", a.pair.cert, "--tls-key", a.pair.key)
}

const nginxTLSConfig = `
daemon off; worker_processes auto; pid %[1]s/nginx.pid; error_log %[1]s/nginx-error.log;
events { worker_connections 19000; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	upstream backend { server %[2]s; keepalive 256; keepalive_requests 1000000000; }
	server {
		# Connections are spread over the workers evenly.
		listen %[3]s %[4]s reuseport;
		ssl_certificate %[5]s;
		ssl_certificate_key %[6]s;
		ssl_protocols TLSv1.2 TLSv1.3;
		http2_max_concurrent_streams 1024;
		keepalive_requests 1000000000;
		client_max_body_size 0;
		client_body_timeout 1h;
		location / { %[7]s }
	}
}
`

const (
	viaGRPC    = "grpc_pass grpc://backend; grpc_read_timeout 1h; grpc_send_timeout 1h;"
	viaSockets = `proxy_pass http://backend; proxy_http_version 1.1; proxy_read_timeout 1h; proxy_send_timeout 1h;
			proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_set_header Host $http_host;`
)

func (a *arena) nginxTLS(ctx context.Context) (*peer, error) {
	return a.endTLS(ctx, nginxTLS, a.backend.line, "ssl http2", viaGRPC)
}

func (a *arena) nginxBefore(ctx context.Context) (*peer, error) {
	behind, err := a.culvert(ctx, &peer{name: "culvert"}, nil)
	if err != nil {
		return nil, err
	}
	p, err := a.endTLS(ctx, nginxBefore, behind.address, "ssl", viaSockets)
	if err != nil {
		behind.stop()
		return nil, err
	}
	p.behind = behind
	return p, nil
}

// endTLS starts an nginx that ends TLS before upstream.
func (a *arena) endTLS(ctx context.Context, name, upstream, listen, via string) (*peer, error) {
	address := freeAddress()
	file := filepath.Join(a.dir, "nginx-tls.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxTLSConfig, a.dir, upstream, address, listen, a.pair.cert, a.pair.key, via), 0o600); err != nil {
		return nil, err
	}
	return a.startNginx(ctx, name, address, file, a.pair.clientTLS())
}

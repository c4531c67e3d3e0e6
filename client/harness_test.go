package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// An edge is a culvert with TLS in front of a real backend.
type edge struct {
	url       string
	address   string
	authority *parts.Authority
	http1     atomic.Bool // TLS offers HTTP/1.1 only
}

// startEdge serves handle behind a culvert.
func startEdge(t testing.TB, handle func(grpc.ServerStream) error) *edge {
	t.Helper()
	backend := parts.StartBackend(t, handle)
	b, err := bridge.New(bridge.Config{Backend: bridge.Backend{Target: backend}})
	if err != nil {
		t.Fatal(err)
	}
	e := &edge{authority: parts.NewAuthority(t)}
	ln := parts.Listen(t, "127.0.0.1:0")
	server := &http.Server{TLSConfig: &tls.Config{Certificates: []tls.Certificate{e.authority.Server(t, "edge.test")}}}
	b.ConfigureHTTP(server)
	server.TLSConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if !e.http1.Load() {
			return nil, nil
		}
		config := server.TLSConfig.Clone()
		config.NextProtos = []string{"http/1.1"}
		return config, nil
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.ServeTLS(ln, "", "") }) // it always returns the error of a closed server
	t.Cleanup(func() {
		_ = b.Close()
		_ = server.Close()
		serving.Wait()
	})
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	e.url, e.address = "https://edge.test:"+port, ln.Addr().String()
	return e
}

// trust are the options that lead to the edge.
func (e *edge) trust(opts ...Option) []Option {
	return append([]Option{
		WithConnectTo(e.address), WithProxy("none"), WithTLS(&tls.Config{RootCAs: e.authority.Pool}),
		WithGRPC(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))),
	}, opts...)
}

// connect returns a client of the edge.
func (e *edge) connect(t testing.TB, opts ...Option) *Client {
	t.Helper()
	c, err := NewClient(e.url, e.trust(opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // a second Close is an error
	return c
}

// startEdgeIn serves handle behind a culvert in memory, at edge.test:443.
func startEdgeIn(t *testing.T, places parts.Places, handle func(grpc.ServerStream) error) *parts.Authority {
	t.Helper()
	return startEdgeWith(t, places, bridge.Config{}, handle)
}

// startEdgeWith does the same with other settings.
func startEdgeWith(t *testing.T, places parts.Places, cfg bridge.Config, handle func(grpc.ServerStream) error) *parts.Authority {
	t.Helper()
	backend := parts.Places{} // the bridge dials at once, and the test listens on
	parts.ServeBackend(t, backend.Listen(t, "backend:1"), handle)
	cfg.Backend = bridge.Backend{
		Target: "passthrough:///backend:1",
		Dial:   func(ctx context.Context, address string) (net.Conn, error) { return backend.Dial(ctx, "tcp", address) },
	}
	b, err := bridge.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	authority := parts.NewAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{authority.Server(t, "edge.test")}, NextProtos: []string{"h2", "http/1.1"}}
	ln := places.Listen(t, "edge.test:443")
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.ServeListener(ln, bridge.Listener{TLS: config}) }) // it always returns the error of a closed server
	t.Cleanup(func() {
		_ = b.Close()
		_ = ln.Close() // it may be closed
		serving.Wait()
	})
	return authority
}

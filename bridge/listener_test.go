package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// serveListener runs the Server on a listener and returns its address.
func serveListener(t testing.TB, s *Server, ln net.Listener, l Listener) string {
	t.Helper()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.ServeListener(ln, l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("ServeListener returned %v, want %v", err, http.ErrServerClosed)
		}
	})
	t.Cleanup(func() {
		_ = s.Close() // again, in newServer's cleanup, where its error counts
		serving.Wait()
	})
	return ln.Addr().String()
}

// listenUnix listens on a socket in a folder of the test's.
func listenUnix(t testing.TB) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // it may be closed already
	return ln
}

func dialUnix(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", address)
}

// TestListenersHaveTheirOwnPolicy: TLS, trust and name are of the listener
// that a request came in on, also for a call inside a tunnel.
func TestListenersHaveTheirOwnPolicy(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: obs, TrustedProxies: prefixes(t, "127.0.0.0/8")})
	ca := parts.NewAuthority(t)
	policy := &tls.Config{Certificates: []tls.Certificate{ca.Server(t)}, NextProtos: []string{"h2", "http/1.1"}}
	overTLS := grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: ca.Pool}))

	own := serve(t, s)
	public := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "public", TLS: policy})
	behind := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "behind", TrustedProxies: prefixes(t, "127.0.0.1/32")})
	socket := serveListener(t, s, listenUnix(t), Listener{Name: "socket", TrustedProxies: prefixes(t, "127.0.0.1/32")})
	for _, c := range []struct {
		name     string
		cc       *grpc.ClientConn
		listener string
		trusted  bool
	}{
		{"Serve", dial(t, own), "", true},
		{"TLS", dial(t, public, overTLS), "public", false},
		{"a proxy's port", dial(t, behind), "behind", true},
		{"a tunnel to a proxy's port", dialTunnel(t, behind, http.Header{"X-Forwarded-For": {"203.0.113.9"}}), "behind", true},
		{"a unix socket", dial(t, socket, grpc.WithContextDialer(dialUnix)), "socket", true},
	} {
		ctx := metadata.AppendToOutgoingContext(within(t, patience), "x-forwarded-for", "203.0.113.9")
		if err := unary(ctx, c.cc, testMethod); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		info := await(t, c.name, obs.ended)
		if info.Listener != c.listener || (info.Peer == "203.0.113.9") != c.trusted {
			t.Errorf("%s: a call of %s on the listener %q, want trusted %v on %q", c.name, info.Peer, info.Listener, c.trusted, c.listener)
		}
	}
}

// TestUnixPeerCountsAsLoopback, where an address is asked for.
func TestUnixPeerCountsAsLoopback(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}, Observer: obs})
	socket := serveListener(t, s, listenUnix(t), Listener{})
	if err := unary(within(t, patience), dial(t, socket, grpc.WithContextDialer(dialUnix)), testMethod); err != nil {
		t.Fatal(err)
	}
	if info := await(t, "the call's end", obs.ended); info.Peer != "127.0.0.1:0" {
		t.Errorf("the peer is %q, want 127.0.0.1:0", info.Peer)
	}
}

// TestListenersTakeTheirTransports: any other call is refused in its own
// protocol, and a tunnel before it is one; inside a tunnel that was let in,
// the calls are judged as well.
func TestListenersTakeTheirTransports(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
	only := func(names ...string) string {
		return serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Transports: names})
	}
	refused := func(what string, err error) {
		t.Helper()
		if status.Code(err) != codes.Unimplemented || reasonFor(err) != report.ReasonNoRoute {
			t.Errorf("%s: %v, want UNIMPLEMENTED for %s", what, err, report.ReasonNoRoute)
		}
	}
	web := only("grpc-web", "grpc-websockets", tunnelName)
	refused("a native call", unary(within(t, patience), dial(t, web), testMethod))
	refused("a native call in a tunnel", unary(within(t, patience), dialTunnel(t, web, nil), testMethod))
	if err := unary(within(t, patience), dialTunnel(t, only("grpc", tunnelName), nil), testMethod); err != nil {
		t.Errorf("a native call in a tunnel, both allowed: %v", err)
	}
	native := only("grpc")
	if err := unary(within(t, patience), dial(t, native), testMethod); err != nil {
		t.Errorf("a native call where it is allowed: %v", err)
	}
	_, resp, err := websocket.Dial(within(t, patience), "ws://"+native, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
	if err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("a tunnel where none is allowed: %v, want 403", err)
	}
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close() // only read
	}
}

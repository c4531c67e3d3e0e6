package e2e

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// overSocket is an address of TCP whose connections go on to a unix socket, so
// that the clients of other tests reach it. It ends with the test.
func overSocket(t testing.TB, socket string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return // the test is over
			}
			far, err := net.Dial("unix", socket)
			if err != nil {
				_ = near.Close() // as if it had been refused
				continue
			}
			relays.Go(func() { passOn(near, far) })
			relays.Go(func() { passOn(far, near) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		relays.Wait() // clients' and culvert's ends are closed before
	})
	return ln.Addr().String()
}

// passOn copies until one side ends, then ends both.
func passOn(to, from net.Conn) {
	_, _ = io.Copy(to, from) // however it ends
	_ = to.Close()
	_ = from.Close()
}

// threeListeners are a public one with TLS, one in plaintext behind a proxy, and
// a socket.
type threeListeners struct {
	*culvert
	ca     *issuer
	public string // with TLS: trusts nobody, takes no grpc-web-text
	inside string // plaintext: trusts 127.0.0.1
	socket string // plaintext, native gRPC alone
	path   string // of the socket
}

func startListeners(t *testing.T, target string) threeListeners {
	t.Helper()
	ca := newIssuer(t, "ca")
	certFile, keyFile := writePair(t, t.TempDir(), "server", ca.issue("server"))
	dir, err := os.MkdirTemp("", "culvert") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // nothing is asked of it any more
	l := threeListeners{ca: ca, path: filepath.Join(dir, "s")}
	l.culvert = startCulvert(t, target, culvertOptions{listen: listenByConfig, config: fmt.Sprintf(`
drain_timeout: 3m
trusted_proxies: [127.0.0.1]
tls: {cert: %q, key: %q}
listen:
- name: public
  address: 127.0.0.1:0
  trusted_proxies: []
  transports: [grpc, grpc-web, grpc-websockets, h2ts]
- name: inside
  address: 127.0.0.1:0
  tls: {enabled: false}
- name: socket
  address: unix:%s
  mode: "0660"
  tls: {enabled: false}
  transports: [grpc]
`, certFile, keyFile, l.path)})
	l.public, l.inside = l.listener(t, "public"), l.listener(t, "inside")
	if got := l.listener(t, "socket"); got != l.path {
		t.Errorf("the socket is said to be %s, want %s", got, l.path)
	}
	l.socket = overSocket(t, l.path)
	return l
}

// Three listeners of one culvert: each has its own TLS and takes its own
// protocols; what it doesn't take is refused in the protocol's own words.
func TestListenersTakeTheirOwn(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	l := startListeners(t, b.address)
	if info, err := os.Lstat(l.path); err != nil || info.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("the socket is %v, %v, want mode 0660", info.Mode(), err)
	}
	refused := func(t *testing.T, conn *wire.Conn) {
		t.Helper()
		e := finish(post(t, conn, wire.Unary, probe.Script{}), 0)
		if !e.is(codes.Unimplemented, "NO_ROUTE") || !strings.Contains(e.status.Message, "listen[].transports") {
			t.Errorf("%v, want UNIMPLEMENTED with NO_ROUTE by listen[].transports", e)
		}
	}
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		if transport == wire.WebText {
			refused(t, dialTLS(t, transport, l.public, l.ca.trusting()))
		} else if err := worksTLS(t, transport, l.public, l.ca.trusting()); err != nil {
			t.Errorf("over TLS: %v", err)
		}
		if err := works(t, transport, l.inside, tlsPatience); err != nil {
			t.Errorf("in plaintext: %v", err)
		}
		switch transport {
		case wire.GRPC:
			if err := works(t, transport, l.socket, tlsPatience); err != nil {
				t.Errorf("over the socket: %v", err)
			}
		case wire.Tunnel, wire.TunnelWeb: // the upgrade is no call: 403
			if err := works(t, transport, l.socket, tlsPatience); err == nil || !strings.Contains(err.Error(), "403") {
				t.Errorf("over the socket: %v, want 403", err)
			}
		default:
			refused(t, dial(t, transport, l.socket))
		}
	})
	if err := works(t, wire.GRPC, l.public, tlsPatience); err == nil {
		t.Error("a client in plaintext is served where TLS is spoken")
	}
	if err := worksTLS(t, wire.GRPC, l.inside, l.ca.trusting()); err == nil {
		t.Error("a client with TLS is served where plaintext is spoken")
	}
}

// Whose word on its clients counts is of the listener; the log names it.
func TestListenersTrustTheirOwn(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	l := startListeners(t, b.address)
	for _, row := range []struct {
		listener string
		conn     *wire.Conn
		want     string // the backend's x-forwarded-for
		peer     string // the log's
	}{
		{"public", dialTLS(t, wire.GRPC, l.public, l.ca.trusting()), "127.0.0.1", "127.0.0.1"},
		{"inside", dial(t, wire.GRPC, l.inside), "203.0.113.7, 127.0.0.1", "203.0.113.7"},
		{"socket", dial(t, wire.GRPC, l.socket), "203.0.113.7, 127.0.0.1", "203.0.113.7"},
	} {
		id := newID(t)
		md := wire.Metadata(id, probe.Script{})
		md["x-forwarded-for"] = []string{"203.0.113.7"}
		c, err := row.conn.Post(t.Context(), wire.Unary, md, wire.Request(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if e := finish(c, 0); !e.is(codes.OK, "") {
			t.Errorf("%s: %v", row.listener, e)
		}
		c.Close()
		r := b.record(t, id, probe.Ended, tlsPatience)
		if got := r.Values("x-forwarded-for"); !slices.Equal(got, []string{row.want}) && strings.Join(got, ", ") != row.want {
			t.Errorf("%s: x-forwarded-for is %q, want %s", row.listener, got, row.want)
		}
		l.awaitLogged(t, func(line map[string]any) bool {
			peer, _ := line["peer"].(string)
			return line["msg"] == "call" && line["listener"] == row.listener && strings.HasPrefix(peer, row.peer)
		})
	}
}

// TERM drains all of them: none takes a connection any more, calls on each
// finish, and the socket is gone with culvert.
func TestListenersDrain(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	l := startListeners(t, b.address)
	talks := []*call{
		open(t, dialTLS(t, wire.WebSocket, l.public, l.ca.trusting()), wire.Bidi, probe.Script{Echo: true}),
		open(t, dialTLS(t, wire.GRPC, l.public, l.ca.trusting()), wire.Bidi, probe.Script{Echo: true}),
		open(t, dial(t, wire.Tunnel, l.inside), wire.Bidi, probe.Script{Echo: true}),
		open(t, dial(t, wire.GRPC, l.socket), wire.Bidi, probe.Script{Echo: true}),
	}
	for _, talk := range talks {
		say(t, talk, 0)
	}
	l.signal(t, syscall.SIGTERM)
	for address, network := range map[string]string{l.public: "tcp", l.inside: "tcp", l.path: "unix"} {
		if err := eventually(tlsPatience, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil
			}
			_ = conn.Close() // it should not have been
			return fmt.Errorf("%s takes a new connection", address)
		}); err != nil {
			t.Errorf("after TERM: %v", err)
		}
	}
	if err := eventually(tlsPatience, func() error {
		if code := l.ask("/readyz"); code != http.StatusServiceUnavailable {
			return fmt.Errorf("readyz is %d, want 503", code)
		}
		return nil
	}); err != nil {
		t.Errorf("while draining: %v", err)
	}
	for _, talk := range talks {
		say(t, talk, 1)
		if err := talk.CloseSend(); err != nil {
			t.Errorf("%s: %v", talk.conn.Transport, err)
		}
		if e := finish(talk, 2); !e.is(codes.OK, "") {
			t.Errorf("%s: a call that was under way: %v", talk.conn.Transport, e)
		}
	}
	if code := l.wait(t, tlsPatience); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if _, err := os.Lstat(l.path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

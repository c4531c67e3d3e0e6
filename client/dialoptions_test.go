package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// A tap keeps what comes on the connections of a listener.
type tap struct {
	net.Listener

	mu    sync.Mutex
	conns []*tapped
}

type tapped struct {
	net.Conn
	of   *tap
	came bytes.Buffer
}

func (l *tap) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, &tapped{Conn: raw, of: l})
	return l.conns[len(l.conns)-1], nil
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	c.came.Write(p[:n])
	return n, err
}

// calls lists the header fields of each call of a method.
func (l *tap) calls(method string) (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		came := bytes.NewReader(c.came.Bytes())
		_, _ = io.CopyN(io.Discard, came, int64(len(http2.ClientPreface))) // without it, no frame follows
		frames := http2.NewFramer(io.Discard, came)
		frames.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for f, err := frames.ReadFrame(); err == nil; f, err = frames.ReadFrame() {
			if h, ok := f.(*http2.MetaHeadersFrame); ok && strings.HasSuffix(h.PseudoValue("path"), method) {
				of := fmt.Sprintf("%s %s %s", h.PseudoValue("scheme"), h.PseudoValue("authority"), h.PseudoValue("path"))
				for _, f := range h.RegularFields() {
					if f.Name == "authorization" {
						of += " " + f.Value
					}
				}
				all = append(all, of)
			}
		}
	}
	return all
}

// A secureToken is a credential for connections with TLS.
type secureToken struct{}

func (secureToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer secret"}, nil
}

func (secureToken) RequireTransportSecurity() bool { return true }

// TestDialOptions: a stock grpc.ClientConn calls the target by its own name and scheme, and gives
// credentials that need TLS to nothing else.
func TestDialOptions(t *testing.T) {
	authority := parts.NewAuthority(t)
	for _, scheme := range []string{"https", "http"} {
		t.Run(scheme, func(t *testing.T) {
			ln := parts.Listen(t, "127.0.0.1:0")
			edge := &tap{Listener: ln}
			if scheme == "https" {
				edge.Listener = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{authority.Server(t, "edge.test")}, NextProtos: []string{"h2"}})
			}
			parts.ServeBackend(t, edge, parts.Echo)
			_, port, _ := net.SplitHostPort(ln.Addr().String()) // it has both
			target := scheme + "://edge.test:" + port + "/pre"
			connect := func(more ...grpc.DialOption) (*grpc.ClientConn, error) {
				opts, err := DialOptions(target, WithWay(GRPC), WithProxy("none"), WithConnectTo(ln.Addr().String()), WithTLS(&tls.Config{RootCAs: authority.Pool}),
					WithGRPC(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))))
				if err != nil {
					t.Fatal(err)
				}
				return grpc.NewClient(target, append(opts, more...)...)
			}
			token := ""
			cc, err := connect(grpc.WithPerRPCCredentials(secureToken{}))
			if scheme == "https" {
				token = " Bearer secret"
			} else {
				if err == nil {
					t.Error("grpc.NewClient took a credential that needs TLS")
				}
				cc, err = connect()
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cc.Close() }) // it is open
			var reply []byte
			if err := cc.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("hello"), &reply); err != nil || string(reply) != "hello" {
				t.Fatalf("a unary call: %q, %v", reply, err)
			}
			if err := parts.Converse(t, cc, 5, 0); err != nil {
				t.Error(err)
			}
			if scheme == "http" {
				err := cc.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("hello"), &reply, grpc.PerRPCCredentials(secureToken{}))
				if status.Code(err) != codes.Unauthenticated {
					t.Errorf("a call with a credential that needs TLS: %v", err)
				}
			}
			want := fmt.Sprintf("%s edge.test:%s /pre/a.B/Echo%s", scheme, port, token)
			if got := edge.calls("/a.B/Echo"); len(got) != 2 || got[0] != want || got[1] != want {
				t.Errorf("%q, want %q twice", got, want)
			}
		})
	}
}

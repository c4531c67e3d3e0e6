package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/client/internal/webcall"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
)

var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// TestWays carry unary calls and conversations, pinned and found.
func TestWays(t *testing.T) {
	for _, way := range []Way{"", GRPC, WebSocket, GRPCWeb} {
		t.Run(string(way), func(t *testing.T) {
			e := startEdge(t, parts.Echo)
			c := e.connect(t, WithWay(way))
			var reply []byte
			if err := c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("hello"), &reply); err != nil || string(reply) != "hello" {
				t.Fatalf("a unary call: %q, %v", reply, err)
			}
			if err := parts.Converse(t, c, 20, 0); err != nil {
				t.Fatal(err)
			}
			want := way
			if way == "" {
				want = GRPC
			}
			if s := c.Status(); s.State != connectivity.Ready || s.Way != want || !s.TwoWay || s.Latency <= 0 {
				t.Errorf("status %+v, want %s", s, want)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if s := c.State(); s != connectivity.Shutdown {
				t.Errorf("after Close: %v", s)
			}
		})
	}
}

// TestEnds: the backend's status, details and trailers arrive by each way.
func TestEnds(t *testing.T) {
	e := startEdge(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		_ = ss.SendHeader(metadata.Pairs("h-bin", "\x00\xff", "saw", fmt.Sprintf("%q", md["x-bin"])))
		ss.SetTrailer(metadata.Pairs("t", "1", "t", "2", "t-bin", "\x01"))
		return status.Error(codes.Code(42), "a status with a % and ä")
	})
	for _, way := range ways {
		t.Run(string(way), func(t *testing.T) {
			c := e.connect(t, WithWay(way))
			var header, trailer metadata.MD
			ctx := metadata.AppendToOutgoingContext(parts.Within(t, parts.Patience), "x-bin", "\xfe\x00")
			err := c.Invoke(ctx, "/a.B/C", []byte("x"), new([]byte), grpc.Header(&header), grpc.Trailer(&trailer))
			if s := status.Convert(err); s.Code() != codes.Code(42) || s.Message() != "a status with a % and ä" {
				t.Errorf("%v", err)
			}
			if got := fmt.Sprintf("%q", [][]string{header["h-bin"], header["saw"], trailer["t"], trailer["t-bin"]}); got != `[["\x00\xff"] ["[\"\\xfe\\x00\"]"] ["1" "2"] ["\x01"]]` {
				t.Error(got)
			}
		})
	}
}

// TestTokenStaysHere: a token never leaves in plaintext, wherever localhost leads.
func TestTokenStaysHere(t *testing.T) {
	token := WithToken(func(context.Context) (string, error) { return "secret", nil })
	for name, opts := range map[string][]Option{
		"--connect":    {WithProxy("none"), WithConnectTo("192.0.2.2:7401")},
		"a proxy":      {WithProxy("http://127.0.0.1:3128")},
		"no verifying": {WithProxy("none"), WithTLS(&tls.Config{InsecureSkipVerify: true})},
	} {
		target := "http://localhost"
		if name == "no verifying" {
			target = "https://localhost"
		}
		d, err := NewDialer(target, append(opts, token)...)
		if err == nil {
			d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "credentials") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRefusedTransport: a way by which culvert itself accepts no calls isn't one that works.
func TestRefusedTransport(t *testing.T) {
	b, err := bridge.New(bridge.Config{Backend: bridge.Backend{Target: parts.StartBackend(t, parts.Echo)}})
	if err != nil {
		t.Fatal(err)
	}
	ln := parts.Listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() { _ = b.ServeListener(ln, bridge.Listener{Transports: []string{"grpc"}}) }) // it always returns the error of a closed server
	t.Cleanup(func() {
		_ = b.Close()
		serving.Wait()
	})
	c, err := NewClient("http://"+ln.Addr().String(), WithProxy("none"), WithWay(GRPCWeb), WithGRPC(grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{}))))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var reply []byte
	err = c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("hello"), &reply)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "no way to ") || !strings.Contains(err.Error(), "culvert answered: this address accepts no calls by grpc-web") {
		t.Errorf("got %v", err)
	}
}

// TestClosesHeldProofs: nothing is left of a connection on which a box holds the call that proves
// gRPC.
func TestClosesHeldProofs(t *testing.T) {
	t.Parallel()
	e := startEdge(t, parts.Echo)
	b := box.Start(t, box.Options{Roots: e.authority.Pool, HTTP2: true, HoldRequests: true})
	c := e.connect(t, WithWay(GRPC), WithProxy(b.Proxy), WithTLS(&tls.Config{RootCAs: b.CA}))
	var open atomic.Int64
	c.d.net.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			open.Add(1)
			conn = &counted{Conn: conn, closed: sync.OnceFunc(func() { open.Add(-1) })}
		}
		return conn, err
	}
	c.Connect()
	parts.Poll(t, func() string {
		if seen(b, "POST "+webcall.EchoPath) == 0 {
			return "no call proves the way"
		}
		return ""
	})
	if err := c.Close(); err != nil || open.Load() != 0 {
		t.Errorf("%d connections are open: %v", open.Load(), err)
	}
}

// A counted connection tells that it is closed.
type counted struct {
	net.Conn
	closed func()
}

func (c *counted) Close() error {
	c.closed()
	return c.Conn.Close()
}

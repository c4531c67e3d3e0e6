package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// With http2_server: standard, net/http serves HTTP/2, and grpc-go and curl call
// as before: in plaintext, over TLS, and through a tunnel.
func TestStandardHTTP2Server(t *testing.T) {
	t.Parallel()
	const config = "http2_server: standard\n"
	ca := newIssuer(t, "ca")
	b := startBackend(t, backendOptions{})
	plain, secure := startCulvert(t, b.address, culvertOptions{config: config}), startTLS(t, ca, b.address, config)
	h2 := ca.trusting()
	h2.NextProtos = []string{"h2"}

	for name, dial := range map[string]func(ctx context.Context) (net.Conn, error){
		"h2c": func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", plain.address)
		},
		"TLS": func(ctx context.Context) (net.Conn, error) {
			return (&tls.Dialer{Config: h2}).DialContext(ctx, "tcp", secure.address)
		},
		"h2ts": func(ctx context.Context) (net.Conn, error) {
			tcp, err := new(net.Dialer).DialContext(ctx, "tcp", plain.address)
			if err != nil {
				return nil, err
			}
			return wire.DialTunnel(ctx, tcp)
		},
	} {
		if standard, err := announcesFrameSize(t, dial); err != nil || !standard {
			t.Errorf("%s: served by net/http: %v, %v; want true", name, standard, err)
		}
	}

	for name, cc := range map[string]*grpc.ClientConn{
		"h2c":  grpcOver(t, plain.address, insecure.NewCredentials()),
		"TLS":  grpcOver(t, secure.address, credentials.NewTLS(ca.trusting())),
		"h2ts": grpcOver(t, "culvert", insecure.NewCredentials(), throughTunnel(plain.address)),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), tlsPatience)
		client := e2epb.NewProbeClient(cc)
		if _, err := client.Unary(ctx, new(e2epb.Request)); err != nil {
			t.Errorf("grpc-go over %s: %v", name, err)
		}
		if err := callBothWays(ctx, client); err != nil {
			t.Errorf("grpc-go over %s, both ways: %v", name, err)
		}
		if err := cc.Invoke(ctx, "/culvert.e2e.v1.Probe/None", new(e2epb.Request), new(e2epb.Reply)); status.Code(err) != codes.Unimplemented {
			t.Errorf("grpc-go over %s: a method that isn't there ends with %v, want %v", name, err, codes.Unimplemented)
		}
		cancel()
	}

	// Not a method that isn't there: that is answered before the request's end, and
	// curl 7.88 may lose what comes before a reset (docs/guides/http2-server.md).
	for _, u := range []curl{
		{name: "h2c", c: plain, flags: []string{"--http2-prior-knowledge"}},
		{name: "TLS", c: secure, trusts: ca.trusting(), flags: []string{"--http2", "--cacert", ca.file}},
	} {
		empty := bytes.NewReader(make([]byte, 5)) // a message without fields
		// Behind a content-length curl 7.88 shows only trailers that it reads together
		// with the data.
		if got := u.post(t, wire.Unary, "", requestID(), empty, "--data-binary", "@-"); got != "200 " && got != "200 0" {
			t.Errorf("curl over %s says %q, want 200, and 0 or no grpc-status", u.name, got)
		}
	}
}

// announcesFrameSize reports whether the server's SETTINGS have MAX_FRAME_SIZE:
// those of net/http have it, culvert's own don't.
func announcesFrameSize(t *testing.T, dial func(ctx context.Context) (net.Conn, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(t.Context(), tlsPatience)
	defer cancel()
	conn, err := dial(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(tlsPatience)) // one that hangs shall fail
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return false, err
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		return false, err
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		return false, err
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		return false, errors.New("the first frame is not SETTINGS")
	}
	_, announced := settings.Value(http2.SettingMaxFrameSize)
	return announced, nil
}

func grpcOver(t *testing.T, address string, tc credentials.TransportCredentials, o ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, append(o, grpc.WithTransportCredentials(tc), grpc.WithNoProxy())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() }) // it was used
	return cc
}

// callBothWays makes a call with a reply for each request.
func callBothWays(ctx context.Context, client e2epb.ProbeClient) error {
	stream, err := client.Bidi(ctx)
	if err != nil {
		return err
	}
	for range 3 {
		if err := stream.Send(new(e2epb.Request)); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

package bridge

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// A way is how a client's bytes come to a listener: from which address of
// loopback (Linux has them all), behind which PROXY header, and whether over
// TLS.
type way struct {
	from, header string
	tls          *tls.Config
}

func (w way) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	if w.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(w.from)}
	}
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, w.header); err != nil {
		return nil, err
	}
	return conn, nil
}

// dialTLS dials the address, whatever it is asked for.
func (w way) dialTLS(address string) func(ctx context.Context, network, _ string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := w.dial(ctx, address)
		if err != nil {
			return nil, err
		}
		secured := tls.Client(conn, w.tls)
		return secured, secured.HandshakeContext(ctx)
	}
}

func (w way) httpClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext:     func(ctx context.Context, _, address string) (net.Conn, error) { return w.dial(ctx, address) },
		TLSClientConfig: w.tls,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// url is that of a method.
func (w way) url(scheme, address string) string {
	if w.tls != nil {
		scheme += "s"
	}
	return scheme + "://" + address + testMethod
}

func (w way) socket(ctx context.Context, t testing.TB, address, subprotocol string, header http.Header) *websocket.Conn {
	t.Helper()
	ws, res, err := websocket.Dial(ctx, w.url("ws", address), &websocket.DialOptions{
		Subprotocols: []string{subprotocol}, HTTPHeader: header, HTTPClient: w.httpClient(t),
	})
	if res != nil && res.Body != nil {
		_ = res.Body.Close() // it has none
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ws.CloseNow() }) // culvert has closed it
	return ws
}

// callers make one call over each client protocol, with header fields.
var callers = map[string]func(t *testing.T, w way, address string, header http.Header){
	"grpc": func(t *testing.T, w way, address string, header http.Header) {
		opts := []grpc.DialOption{grpc.WithContextDialer(w.dial)}
		if w.tls != nil {
			opts = append(opts, grpc.WithTransportCredentials(credentials.NewTLS(w.tls)))
		}
		callWith(t, dial(t, address, opts...), header)
	},
	"grpc-web": func(t *testing.T, w way, address string, header http.Header) {
		r, err := http.NewRequestWithContext(within(t, patience), http.MethodPost, w.url("http", address), bytes.NewReader(make([]byte, 5)))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(r.Header, header)
		r.Header.Set("Content-Type", "application/grpc-web")
		res, err := w.httpClient(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body) // the backend and the Observer tell what counts
		_ = res.Body.Close()
	},
	"grpc-websockets": func(t *testing.T, w way, address string, header http.Header) {
		ctx := within(t, patience)
		ws := w.socket(ctx, t, address, "grpc-websockets", header)
		// Forged fields in the first message have no effect.
		for _, m := range []string{"content-type: application/grpc-web+proto\r\nx-forwarded-for: 192.0.2.66\r\nforwarded: for=192.0.2.66\r\n", "\x00\x00\x00\x00\x00\x00", "\x01"} {
			if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		for {
			if _, _, err := ws.Read(ctx); err != nil { // at the end the close is answered
				return
			}
		}
	},
	"h2ts+grpc": func(t *testing.T, w way, address string, header http.Header) {
		cc := dial(t, address, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return websocket.NetConn(context.Background(), w.socket(ctx, t, address, tunnelName, header), websocket.MessageBinary), nil
		}))
		callWith(t, cc, http.Header{"X-Forwarded-For": {"192.0.2.66"}, "Forwarded": {"for=192.0.2.66"}}) // as above
	},
}

func callWith(t *testing.T, cc *grpc.ClientConn, header http.Header) {
	t.Helper()
	md := metadata.MD{}
	for name, values := range header {
		md.Append(name, values...)
	}
	_ = open(metadata.NewOutgoingContext(within(t, patience), md), t, cc, testMethod).RecvMsg(new([]byte)) // the backend and the Observer tell what counts
}

package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A client is one of a culvert.
type client struct {
	address string
	name    string      // of the host that it calls; "": the address
	tls     *tls.Config // nil: plaintext
	upgrade http.Header // of requests that open WebSockets
}

// An outcome is how a call ended, with the backend's header.
type outcome struct {
	code    codes.Code
	message string
	header  metadata.MD
}

// String is short, for failures of tests.
func (o outcome) String() string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(o.header)), func(n string) bool { return !strings.HasPrefix(n, "got-") })
	return fmt.Sprintf("%v %q; the backend got %q", o.code, o.message, names)
}

// got returns a value of metadata that the backend got.
func (o outcome) got(name string) string { return strings.Join(o.header["got-"+name], ",") }

// ways are those of a unary call, by the transports as the log has them. Each sends metadata with
// the call itself.
var ways = map[string]func(ctx context.Context, c *client, method string, md metadata.MD) (outcome, error){
	"grpc":            overGRPC,
	"grpc-web":        overGRPCWeb,
	"grpc-websockets": overWebSocket,
	"h2ts+grpc":       overTunnel,
}

// call makes a unary call. Pairs are the call's metadata.
func (c *client) call(t *testing.T, way, method string, pairs ...string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o, err := ways[way](ctx, c, method, metadata.Pairs(pairs...))
	if err != nil {
		t.Fatalf("%s by %s: %v", method, way, err)
	}
	return o
}

// on is a call's place in the messages of tests.
func on(way, method string) string { return method + " by " + way }

// base is the client's URL.
func (c *client) base(scheme string) string {
	host := c.name
	if host == "" {
		host = c.address
	}
	if c.tls != nil {
		scheme += "s"
	}
	return scheme + "://" + host
}

// http returns a client of HTTP/1.1 that connects to culvert whatever the name is.
func (c *client) http() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: c.tls.Clone(),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, c.address)
		},
	}}
}

// connect returns a connection of grpc-go.
func (c *client) connect(o ...grpc.DialOption) (*grpc.ClientConn, error) {
	secure := insecure.NewCredentials()
	if c.tls != nil {
		secure = credentials.NewTLS(c.tls.Clone())
	}
	if c.name != "" {
		o = append(o, grpc.WithAuthority(c.name))
	}
	return grpc.NewClient("passthrough:///"+c.address, append([]grpc.DialOption{grpc.WithTransportCredentials(secure), grpc.WithNoProxy()}, o...)...)
}

// tunnel returns a connection of grpc-go inside a WebSocket.
func (c *client) tunnel() (*grpc.ClientConn, error) {
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		ws, _, err := websocket.Dial(ctx, c.base("ws")+"/", &websocket.DialOptions{Subprotocols: []string{"h2ts"}, HTTPClient: c.http(), HTTPHeader: c.upgrade})
		if err != nil {
			return nil, err
		}
		return websocket.NetConn(context.Background(), ws, websocket.MessageBinary), nil
	}
	inner := &client{address: c.address, name: c.name}
	return inner.connect(grpc.WithContextDialer(dial))
}

func overGRPC(ctx context.Context, c *client, method string, md metadata.MD) (outcome, error) {
	conn, err := c.connect()
	if err != nil {
		return outcome{}, err
	}
	return invoke(ctx, conn, method, md)
}

func overTunnel(ctx context.Context, c *client, method string, md metadata.MD) (outcome, error) {
	conn, err := c.tunnel()
	if err != nil {
		return outcome{}, err
	}
	return invoke(ctx, conn, method, md)
}

// invoke makes a call and closes the connection.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string, md metadata.MD) (o outcome, err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	st := status.Convert(conn.Invoke(metadata.NewOutgoingContext(ctx, md), "/"+method, &emptypb.Empty{}, &emptypb.Empty{}, grpc.Header(&o.header)))
	o.code, o.message = st.Code(), st.Message()
	return o, nil
}

const emptyFrame = "\x00\x00\x00\x00\x00"

func overGRPCWeb(ctx context.Context, c *client, method string, md metadata.MD) (outcome, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base("http")+"/"+method, strings.NewReader(emptyFrame))
	if err != nil {
		return outcome{}, err
	}
	r.Header.Set("Content-Type", "application/grpc-web+proto")
	for name, values := range md {
		r.Header[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	res, err := c.http().Do(r)
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{header: metadata.MD{}}
	for name, values := range res.Header {
		o.header[strings.ToLower(name)] = values
	}
	if res.Header.Get("Grpc-Status") != "" {
		return o.ended(res.Header)
	}
	return o.endedBy(body)
}

// endedBy reads the trailers in the last frame of an answer.
func (o outcome) endedBy(frames []byte) (outcome, error) {
	for len(frames) >= 5 {
		length := binary.BigEndian.Uint32(frames[1:5])
		if uint64(length)+5 > uint64(len(frames)) {
			break
		}
		if frames[0]&0x80 != 0 {
			h, err := fields(frames[5 : 5+length])
			if err != nil {
				return o, err
			}
			return o.ended(h)
		}
		frames = frames[5+length:]
	}
	return o, fmt.Errorf("no trailers in %q", frames)
}

// ended reads a status.
func (o outcome) ended(h http.Header) (outcome, error) {
	code, err := strconv.ParseUint(h.Get("Grpc-Status"), 10, 32)
	if err != nil {
		return o, err
	}
	o.code = codes.Code(code)
	o.message, err = url.PathUnescape(h.Get("Grpc-Message"))
	return o, err
}

// fields reads lines of a header.
func fields(block []byte) (http.Header, error) {
	h := http.Header{}
	for line := range bytes.Lines(block) {
		name, value, found := strings.Cut(strings.TrimSpace(string(line)), ":")
		if !found && name != "" {
			return nil, fmt.Errorf("the line %q has no colon", line)
		}
		h.Add(name, strings.TrimSpace(value))
	}
	return h, nil
}

// overWebSocket sends the metadata in the first message.
func overWebSocket(ctx context.Context, c *client, method string, md metadata.MD) (outcome, error) {
	ws, _, err := websocket.Dial(ctx, c.base("ws")+"/"+method, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}, HTTPClient: c.http(), HTTPHeader: c.upgrade})
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = ws.CloseNow() }() // the call has ended
	var first strings.Builder
	first.WriteString("content-type: application/grpc-web+proto\r\n")
	for name, values := range md {
		fmt.Fprintf(&first, "%s: %s\r\n", name, values[0])
	}
	for _, m := range []string{first.String(), "\x00" + emptyFrame, "\x01"} {
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(m)); err != nil {
			return outcome{}, err
		}
	}
	o := outcome{}
	var last []byte
	for {
		_, m, err := ws.Read(ctx)
		if websocket.CloseStatus(err) != -1 {
			break
		}
		if err != nil {
			return o, err
		}
		if o.header == nil && len(m) > 5 {
			h, err := fields(m[5:])
			if err != nil {
				return o, err
			}
			o.header = metadata.MD{}
			for name, values := range h {
				o.header[strings.ToLower(name)] = values
			}
		}
		last = m
	}
	return o.endedBy(last)
}

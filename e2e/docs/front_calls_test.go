package docs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Addresses of the loopback: a client that isn't the proxy in front of culvert,
// and the address that it claims to have.
const (
	someClient    = "127.0.0.5"
	forgedAddress = "6.6.6.6"
)

// forged is what a client claims in the headers by which proxies tell of theirs.
var forged = http.Header{"X-Forwarded-For": {forgedAddress}, "X-Forwarded-Host": {forgedAddress}, "X-Real-Ip": {forgedAddress}}

// A frontBackend is the gRPC server behind culvert and a proxy in front of it. It
// answers each message with the x-forwarded-for that it saw, and refuses calls with
// anything forged. After its first answer to Watch it waits until the client has
// read that.
type frontBackend struct {
	read chan struct{} // one for each first answer that a client has read
}

// startFrontBackend starts a frontBackend where culvert's backend is.
func startFrontBackend(t testing.TB) *frontBackend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:9000")
	if err != nil {
		t.Fatal(err)
	}
	b := &frontBackend{make(chan struct{}, 1)} // the client doesn't wait for the server's next step
	server := grpc.NewServer(grpc.UnknownServiceHandler(b.serve))
	healthpb.RegisterHealthServer(server, health.NewServer())
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until it is stopped
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	return b
}

func (b *frontBackend) serve(_ any, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	for name, values := range md {
		if strings.Contains(strings.Join(values, " "), forgedAddress) {
			return status.Errorf(codes.Unauthenticated, "%s is the client's own: %q", name, values)
		}
	}
	var answer emptypb.Empty // whose one field is unknown, and kept as it is
	text := strings.Join(md.Get("x-forwarded-for"), ", ")
	answer.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), text))
	for {
		if err := stream.RecvMsg(new(emptypb.Empty)); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(&answer); err != nil {
			return err
		}
		if method, _ := grpc.MethodFromServerStream(stream); !strings.HasSuffix(method, "/Watch") {
			continue
		}
		select {
		case <-b.read:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		if err := stream.SendMsg(&answer); err != nil {
			return err
		}
	}
}

// answerText is the text in one of the backend's answers.
func answerText(message []byte) string {
	_, _, n := protowire.ConsumeTag(message)
	text, _ := protowire.ConsumeString(message[max(n, 0):])
	return text
}

// A frontClient calls from someClient through what listens at port 443 of the host,
// and claims to come from elsewhere.
type frontClient struct {
	host         string
	http1, http2 *http.Transport
	claims       http.Header     // of where it comes from
	read         chan<- struct{} // the backend's
	quiet        time.Duration   // how long a stream carries nothing after its first answer
}

// A frontCall makes a call and returns what the backend's answers say.
type frontCall struct {
	name string
	call func(ctx context.Context, c *frontClient) ([]string, error)
}

// webCalls are those that pages make, nativeCalls those of gRPC clients.
var (
	webCalls = []frontCall{
		{"a unary call by gRPC-Web over HTTP/1.1", func(ctx context.Context, c *frontClient) ([]string, error) { return c.web(ctx, c.http1, "Unary", 1) }},
		{"a unary call by gRPC-Web over HTTP/2", func(ctx context.Context, c *frontClient) ([]string, error) { return c.web(ctx, c.http2, "Unary", 1) }},
		{"a server stream by gRPC-Web over HTTP/1.1", func(ctx context.Context, c *frontClient) ([]string, error) { return c.web(ctx, c.http1, "Watch", 2) }},
		{"a server stream by gRPC-Web over HTTP/2", func(ctx context.Context, c *frontClient) ([]string, error) { return c.web(ctx, c.http2, "Watch", 2) }},
		{"a two-way stream over a WebSocket", func(ctx context.Context, c *frontClient) ([]string, error) { return c.chatWebSocket(ctx, "") }},
	}
	// pageCalls are those of pages that the front's host has served, one of them at a port
	// that is forwarded to the front.
	pageCalls = []frontCall{
		{"a page's WebSocket", func(ctx context.Context, c *frontClient) ([]string, error) { return c.chatWebSocket(ctx, c.host) }},
		{"a page's WebSocket at another port", func(ctx context.Context, c *frontClient) ([]string, error) {
			return c.chatWebSocket(ctx, c.host+":8443")
		}},
	}
	nativeCalls = []frontCall{{"a two-way stream by native gRPC", func(ctx context.Context, c *frontClient) ([]string, error) { return c.chatNative(ctx) }}}
)

// wantFrontPasses makes the calls to the host, and holds the x-forwarded-for that
// the backend sees to told. Streams are quiet for a time in between.
func wantFrontPasses(t *testing.T, b *frontBackend, host, told string, quiet time.Duration, calls []frontCall) {
	t.Helper()
	c := newFrontClient(t, b, host, forged)
	c.quiet = quiet
	for _, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		answers, err := call.call(ctx, c)
		cancel()
		if err != nil {
			t.Errorf("%s: after %d answers: %v", call.name, len(answers), err)
		}
		for _, text := range answers {
			if text != told {
				t.Errorf("%s: the backend is told of %q, want %q", call.name, text, told)
			}
		}
	}
}

// wantManyStreams makes server streams by gRPC-Web over HTTP/1.1, many at a time. A
// proxy made of Go's net/http breaks some of them off if it passes them on over
// HTTP/1.1. https://github.com/golang/go/issues/40747
func wantManyStreams(t *testing.T, b *frontBackend, host string) {
	t.Helper()
	const clients, calls = 6, 100
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	failed := make(chan error, clients) // each client stops at its first
	var calling sync.WaitGroup
	for range clients {
		c := newFrontClient(t, b, host, forged)
		calling.Go(func() {
			for range calls {
				if _, err := c.web(ctx, c.http1, "Watch", 2); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	calling.Wait()
	close(failed)
	for err := range failed {
		t.Errorf("one of many server streams by gRPC-Web over HTTP/1.1: %v", err)
	}
}

func newFrontClient(t *testing.T, b *frontBackend, host string, claims http.Header) *frontClient {
	t.Helper()
	c := &frontClient{host: host, http1: httpTransport(t, false, ""), http2: httpTransport(t, true, ""), claims: claims, read: b.read}
	c.http1.DialContext, c.http2.DialContext = dialFront, dialFront
	return c
}

// dialFront connects from someClient to what listens at port 443, whatever its name.
func dialFront(ctx context.Context, network, _ string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(someClient)}}
	return d.DialContext(ctx, network, "127.0.0.1:443")
}

// stayQuiet lets the time pass in which a proxy may end a stream: that it doesn't
// is nothing to wait for.
func (c *frontClient) stayQuiet(ctx context.Context) {
	if c.quiet == 0 {
		return
	}
	select {
	case <-time.After(c.quiet):
	case <-ctx.Done():
	}
}

// web calls a method by gRPC-Web and wants so many answers.
func (c *frontClient) web(ctx context.Context, tr *http.Transport, method string, answers int) (told []string, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.host+"/front.v1.Front/"+method, bytes.NewReader(make([]byte, 5)))
	if err != nil {
		return nil, err
	}
	r.Header = c.claims.Clone()
	r.Header.Set("Content-Type", "application/grpc-web+proto")
	res, err := tr.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // it is read to its end if all went well
	for range answers {
		kind, message, err := readFrame(res.Body)
		if err != nil || kind != 0 {
			return told, errors.Join(err, unexpected(res.Status+": "+string(message)))
		}
		if told = append(told, answerText(message)); method == "Watch" && len(told) == 1 {
			c.stayQuiet(ctx)
			select {
			case c.read <- struct{}{}:
			case <-ctx.Done():
				return told, ctx.Err()
			}
		}
	}
	_, trailers, err := readFrame(res.Body)
	if err != nil || string(trailers) != okTrailers {
		return told, errors.Join(err, unexpected(trailers))
	}
	return told, nil
}

// readFrame reads a frame of gRPC-Web.
func readFrame(body io.Reader) (kind byte, message []byte, err error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(body, head); err != nil {
		return 0, nil, err
	}
	message = make([]byte, binary.BigEndian.Uint32(head[1:]))
	_, err = io.ReadFull(body, message)
	return head[0], message, err
}

// chatWebSocket sends its second message after the answer to the first. With an authority,
// it calls as a page that was loaded from there.
func (c *frontClient) chatWebSocket(ctx context.Context, authority string) (told []string, err error) {
	header := c.claims.Clone()
	if authority != "" {
		header.Set("Origin", "https://"+authority)
	}
	ws, res, err := websocket.Dial(ctx, "wss://"+c.host+"/front.v1.Front/Chat", &websocket.DialOptions{
		Subprotocols: []string{"grpc-websockets"}, HTTPClient: &http.Client{Transport: c.http1}, HTTPHeader: header, Host: authority,
	})
	if err != nil && res != nil {
		err = fmt.Errorf("%s: %w", res.Status, err)
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = ws.CloseNow() }() // closed already if all went well
	const first, message, halfClose = "content-type: application/grpc-web+proto\r\n", "\x00\x00\x00\x00\x00\x00", "\x01"
	var last []byte
	for _, step := range []struct {
		send    string
		answers int
	}{{first, 0}, {message, 2}, {message, 1}, {halfClose, 1}} { // the backend's header comes first, its trailers come last
		if len(told) == 1 {
			c.stayQuiet(ctx)
		}
		if err := ws.Write(ctx, websocket.MessageBinary, []byte(step.send)); err != nil {
			return told, err
		}
		for range step.answers {
			if _, last, err = ws.Read(ctx); err != nil {
				return told, err
			}
			if len(last) >= 5 && last[0] == 0 {
				told = append(told, answerText(last[5:]))
			}
		}
	}
	if len(told) != 2 || !strings.HasSuffix(string(last), okTrailers) {
		return told, unexpected(last)
	}
	return told, nil
}

// chatNative sends its second message after the answer to the first.
func (c *frontClient) chatNative(ctx context.Context) (told []string, err error) {
	cc, err := grpc.NewClient("passthrough:///"+c.host+":443", grpc.WithNoProxy(), grpc.WithTransportCredentials(credentials.NewTLS(roots())),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dialFront(ctx, "tcp", "") }))
	if err != nil {
		return nil, err
	}
	defer func() { _ = cc.Close() }() // it has done its part
	for name, values := range c.claims {
		ctx = metadata.AppendToOutgoingContext(ctx, name, values[0])
	}
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/front.v1.Front/Chat")
	if err != nil {
		return nil, err
	}
	for range 2 {
		if len(told) == 1 {
			c.stayQuiet(ctx)
		}
		var answer emptypb.Empty
		_ = stream.SendMsg(new(emptypb.Empty)) // if it fails, the next says why
		if err := stream.RecvMsg(&answer); err != nil {
			return told, err
		}
		told = append(told, answerText(answer.ProtoReflect().GetUnknown()))
	}
	if err := stream.CloseSend(); err != nil {
		return told, err
	}
	if err := stream.RecvMsg(new(emptypb.Empty)); !errors.Is(err, io.EOF) {
		return told, fmt.Errorf("after the half-close: %w", err)
	}
	return told, nil
}

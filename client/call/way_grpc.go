package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // servers may compress their answers
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/terminal"
)

// http2Patience is how long a server may take for its first frame of HTTP/2.
const http2Patience = 10 * time.Second

// native is the way of gRPC over HTTP/2.
type native struct {
	c    *caller
	tap  *tap
	cc   *grpc.ClientConn
	done func() // close calls it last
}

// An http2Error reports a connection that carries no HTTP/2.
type http2Error struct{ address, what string }

func (e *http2Error) Error() string {
	return "connected to " + e.address + ", but " + e.what + ": something on the way, or the server, doesn't speak HTTP/2: try --via grpc-web or --via websocket"
}

// newNative connects, and waits for the server's first frame: a handshake of TLS or of a
// WebSocket proves nothing.
func (c *caller) newNative(ctx context.Context, via string) (*native, error) {
	var conn net.Conn
	var err error
	done := func() {}
	if via == viaH2TS {
		conn, done, err = c.tunnel(ctx)
	} else {
		conn, err = c.dialHTTP2(ctx)
	}
	if err != nil {
		return nil, err
	}
	n := &native{c: c, tap: newTap(conn, c.trace), done: done}
	secure := insecure.NewCredentials()
	if c.target.Secure {
		secure = begun{secure}
	}
	var dialled atomic.Bool
	n.cc, err = grpc.NewClient("passthrough:///"+c.target.Address(),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if dialled.Swap(true) {
				return nil, errors.New("the connection was lost") // a call isn't repeated
			}
			return n.tap, nil
		}),
		grpc.WithTransportCredentials(secure), grpc.WithAuthority(c.target.Authority()), grpc.WithNoProxy(),
		grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(), grpc.WithIdleTimeout(0), grpc.WithUserAgent(c.agent()),
		grpc.WithMaxHeaderListSize(maxHeaderBytes), grpc.WithStatsHandler(ends{}),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)))
	if err != nil {
		_ = conn.Close() // it was never used
		done()
		return nil, fmt.Errorf("grpc-go: %w", err)
	}
	if err := n.ready(ctx); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// ready waits until HTTP/2 has begun.
func (n *native) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, http2Patience)
	defer cancel()
	n.cc.Connect()
	for {
		switch s := n.cc.GetState(); {
		case s == connectivity.Ready:
			return nil
		case s == connectivity.TransientFailure, s == connectivity.Shutdown, !n.cc.WaitForStateChange(ctx, s):
			if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
				return cause
			}
			return &http2Error{n.c.target.Address(), n.tap.complaint()}
		}
	}
}

func (n *native) close() {
	_ = n.cc.Close()  // it can only be closed already
	_ = n.tap.Close() // as above, unless grpc-go never asked for it
	n.done()
}

func (n *native) open(ctx context.Context, q *request) (stream, error) {
	s := &nativeStream{frames: n.tap.in}
	ctx, s.cancel = context.WithCancel(ctx)
	var err error
	s.of, err = n.cc.NewStream(context.WithValue(metadata.NewOutgoingContext(ctx, q.metadata), streamKey{}, s),
		&grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, n.c.target.Prefix+q.path)
	if err != nil {
		s.cancel()
		return nil, broken(err)
	}
	return s, nil
}

// A nativeStream is a stream of grpc-go.
type nativeStream struct {
	of     grpc.ClientStream
	cancel context.CancelFunc
	frames *frames
	told   atomic.Bool // the server has sent trailers
	status *status.Status
}

func (s *nativeStream) send(m []byte) error { return s.of.SendMsg(m) }

func (s *nativeStream) closeSend() error { return s.of.CloseSend() }

// header implements stream. Without a header, recv has the end.
func (s *nativeStream) header() (metadata.MD, error) {
	md, _ := s.of.Header()
	return withoutReserved(md), nil
}

func (s *nativeStream) recv() ([]byte, error) {
	var m []byte
	err := s.of.RecvMsg(&m)
	switch {
	case err == nil:
		return m, nil
	case errors.Is(err, io.EOF):
		s.status = status.New(0, "")
		return nil, io.EOF
	case !s.told.Load() || unread(err):
		return nil, broken(err)
	}
	s.status = status.Convert(err)
	if s.status.Code() == codes.Unknown && s.status.Message() == "" && s.frames.noStatus.Load() { // what grpc-go makes of that
		return nil, &brokenError{codes.Unknown, "the answer ended without a status"}
	}
	if s.status.Code() > math.MaxInt32 { // it was negative
		return nil, fmt.Errorf("the answer is malformed: grpc-status is %d", int32(s.status.Code()))
	}
	return nil, io.EOF
}

// unread reports whether an error is grpc-go's own, of a message that it can't read: it has the
// same type as a status of the server.
func unread(err error) bool {
	text := status.Convert(err).Message()
	switch status.Code(err) { //nolint:exhaustive // grpc-go has no others
	case codes.Internal:
		return slices.ContainsFunc(unreadTexts, func(begin string) bool { return strings.HasPrefix(text, begin) })
	case codes.ResourceExhausted: // servers have the same text, with limits of their own
		return strings.HasPrefix(text, "grpc: received message ") && strings.HasSuffix(strings.TrimSuffix(text, ")"), fmt.Sprintf(" %d", maxMessageBytes))
	}
	return false
}

var unreadTexts = []string{
	io.ErrUnexpectedEOF.Error(), // a message without its end
	"grpc: compressed flag set with identity or empty encoding", "grpc: Decompressor is not installed",
	"grpc: no decompressor available", "grpc: failed to decompress the", "grpc: failed to read decompressed data",
}

// broken returns an error that grpc-go has made itself.
func broken(err error) error {
	st := status.Convert(err)
	return &brokenError{st.Code(), strings.TrimPrefix(st.Message(), "transport: ")}
}

// A brokenError is an end without a status of the server.
type brokenError struct {
	code codes.Code // that clients report
	text string
}

func (e *brokenError) Error() string {
	return fmt.Sprintf("the call broke: %s (clients report it as %s)", terminal.Text(e.text), codec.StatusName(e.code))
}

func (s *nativeStream) end() (*status.Status, metadata.MD) {
	return s.status, withoutReserved(s.of.Trailer())
}

func (s *nativeStream) close() { s.cancel() }

// withoutReserved leaves out what isn't metadata: grpc-go shows it in headers, and in trailers
// without a header before them.
func withoutReserved(md metadata.MD) metadata.MD {
	maps.DeleteFunc(md, func(name string, _ []string) bool { return isTransport(name) })
	return md
}

// streamKey is where a context has its nativeStream: grpc-go's events have nothing else of a call.
type streamKey struct{}

// ends notes which statuses came from the server: grpc-go makes others itself.
type ends struct{}

func (ends) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (ends) HandleRPC(ctx context.Context, e stats.RPCStats) {
	if _, ok := e.(*stats.InTrailer); ok {
		if s, ok := ctx.Value(streamKey{}).(*nativeStream); ok {
			s.told.Store(true)
		}
	}
}

func (ends) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (ends) HandleConn(context.Context, stats.ConnStats) {}

// begun are credentials for connections whose TLS has begun: the scheme of their requests is https.
type begun struct {
	credentials.TransportCredentials
}

func (begun) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, credentials.TLSInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (begun) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (b begun) Clone() credentials.TransportCredentials { return b }

// raw passes messages as they are.
type raw struct{}

func (raw) Name() string { return "" } // the content type is application/grpc

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

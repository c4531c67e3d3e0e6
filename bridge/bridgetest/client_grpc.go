package bridgetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // for typed messages
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// bytesCodec lets messages be bytes at both ends, or typed ones.
type bytesCodec struct{ parts.BytesCodec }

func (c bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	if _, typed := v.(proto.Message); typed {
		return encoding.GetCodecV2(c.Name()).Marshal(v)
	}
	return c.BytesCodec.Marshal(v)
}

func (c bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, typed := v.(proto.Message); typed {
		return encoding.GetCodecV2(c.Name()).Unmarshal(data, v)
	}
	return c.BytesCodec.Unmarshal(data, v)
}

// grpcUnit replaces grpc-timeout's units by those of time.ParseDuration.
var grpcUnit = strings.NewReplacer("H", "h", "M", "m", "S", "s", "m", "ms", "u", "us", "n", "ns")

// grpcClient is grpc-go, the usual native client.
type grpcClient struct {
	d  *dialer
	cc *grpc.ClientConn
}

func newGRPCClient(d *dialer, w way, tc *tls.Config) (client, error) {
	creds := insecure.NewCredentials()
	if tc != nil {
		creds = credentials.NewTLS(tc)
	}
	cc, err := grpc.NewClient("passthrough:///"+d.address,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w(ctx, d) }),
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second},
			MinConnectTimeout: patience,
		}),
		// The windows stay small, so that a client that doesn't read blocks its
		// sender.
		grpc.WithStaticStreamWindowSize(64<<10),
		grpc.WithStaticConnWindowSize(1<<20),
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, fmt.Errorf("grpc-go client: %w", err)
	}
	return &grpcClient{d: d, cc: cc}, nil
}

func (c *grpcClient) cut(how cut) { c.d.cut(how) }

func (c *grpcClient) close() { _ = c.cc.Close() } // closed twice at worst

func (c *grpcClient) open(ctx context.Context, rq call) (stream, error) {
	// The scenario's end ends the call, but isn't the call's deadline: grpc-go
	// would send it.
	scenario := ctx
	ctx = metadata.NewOutgoingContext(context.WithoutCancel(ctx), rq.metadata)
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(scenario, cancel)
	if rq.timeout != "" {
		d, err := time.ParseDuration(grpcUnit.Replace(rq.timeout))
		if err != nil {
			cancel()
			return nil, fmt.Errorf("grpc-go can't ask for a time-out of %q", rq.timeout)
		}
		next, release := context.WithTimeout(ctx, d)
		outer := cancel
		ctx, cancel = next, func() { release(); outer() }
	}
	var opts []grpc.CallOption
	if rq.encoding != "" {
		opts = append(opts, grpc.UseCompressor(rq.encoding))
	}
	cs, err := c.cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, rq.method, opts...)
	if err != nil {
		// A call that couldn't begin has a status, too: return it as the end.
		cancel()
		return &failedStream{st: status.Convert(err), err: io.EOF}, nil
	}
	return &grpcStream{cs: cs, stop: cancel}, nil
}

type grpcStream struct {
	cs   grpc.ClientStream
	stop context.CancelFunc
	st   *status.Status
}

func (s *grpcStream) send(b []byte) error    { return s.cs.SendMsg(b) }
func (s *grpcStream) sendRaw([]byte) error   { return errors.ErrUnsupported }
func (s *grpcStream) closeSend() error       { return s.cs.CloseSend() }
func (s *grpcStream) status() *status.Status { return s.st }
func (s *grpcStream) trailer() metadata.MD   { return s.cs.Trailer() }
func (s *grpcStream) compressed() int        { return 0 }
func (s *grpcStream) cancel()                { s.stop() }

func (s *grpcStream) header() (metadata.MD, error) {
	// The error is the call's status, which recv returns.
	md, _ := s.cs.Header()
	return md, nil
}

func (s *grpcStream) recv() ([]byte, error) {
	var b []byte
	err := s.cs.RecvMsg(&b)
	if err == nil {
		return b, nil
	}
	s.stop()
	if errors.Is(err, io.EOF) {
		s.st = status.New(codes.OK, "")
	} else {
		s.st = status.Convert(err)
	}
	return nil, io.EOF
}

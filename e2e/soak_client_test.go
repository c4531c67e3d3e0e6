package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip" // some calls are compressed
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A soakConn is a client's connection to culvert, of any kind.
type soakConn interface {
	Open(ctx context.Context, method string, md http.Header) (wire.Call, error)
	Post(ctx context.Context, method string, md http.Header, message []byte) (wire.Call, error)
	SetDeadline(t time.Time)
	Close()
	Reset() // with a RST
}

// A soakKind is a kind of client.
type soakKind struct {
	name        string
	multiplexed bool
	dial        func(ctx context.Context, address string) (soakConn, error)
}

// soakKinds is every transport as package wire has it, and grpc-go.
func soakKinds() []soakKind {
	var kinds []soakKind
	for _, transport := range wire.All {
		kinds = append(kinds, soakKind{string(transport), transport.Multiplexed(), func(ctx context.Context, address string) (soakConn, error) {
			return wire.Dial(ctx, transport, address)
		}})
	}
	return append(kinds,
		soakKind{"grpc-go h2c", true, dialGRPCGo("", "")},
		soakKind{"grpc-go h2c, gzip", true, dialGRPCGo("", "gzip")},
		soakKind{"grpc-go h2ts", true, dialGRPCGo("h2ts", "")})
}

// A grpcGoConn is one connection of grpc-go.
type grpcGoConn struct {
	cc      *grpc.ClientConn
	tcp     *net.TCPConn
	options []grpc.CallOption
}

func dialGRPCGo(subprotocol, compressor string) func(context.Context, string) (soakConn, error) {
	return func(ctx context.Context, address string) (soakConn, error) {
		tcp, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		c := &grpcGoConn{tcp: tcp.(*net.TCPConn), options: []grpc.CallOption{grpc.ForceCodecV2(rawMessages{}), grpc.MaxCallRecvMsgSize(32 << 20)}}
		if compressor != "" {
			c.options = append(c.options, grpc.UseCompressor(compressor))
		}
		conn := tcp
		if subprotocol != "" {
			if conn, err = wire.DialTunnel(ctx, tcp); err != nil {
				_ = tcp.Close() // the handshake's error says more
				return nil, err
			}
		}
		first := make(chan net.Conn, 1)
		first <- conn
		dialer := func(context.Context, string) (net.Conn, error) {
			select {
			case conn := <-first:
				return conn, nil
			default:
				return nil, errors.New("the connection is gone")
			}
		}
		c.cc, err = grpc.NewClient("passthrough:///"+address, grpc.WithContextDialer(dialer),
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
		if err != nil {
			return nil, err
		}
		c.cc.Connect()
		return c, nil
	}
}

func (c *grpcGoConn) Open(ctx context.Context, method string, md http.Header) (wire.Call, error) {
	out := metadata.MD{}
	for name, values := range md {
		out.Append(name, values...)
	}
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, out))
	if v := out.Get("grpc-timeout"); len(v) > 0 { // grpc-go has it in the context
		timeout, err := time.ParseDuration(v[0] + "s") // "5m" is 5 milliseconds
		if err != nil {
			cancel()
			return nil, err
		}
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	stream, err := c.cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, c.options...)
	return &grpcGoCall{stream: stream, cancel: cancel, failed: err}, nil
}

func (c *grpcGoConn) Post(ctx context.Context, method string, md http.Header, message []byte) (wire.Call, error) {
	call, err := c.Open(ctx, method, md)
	if err != nil {
		return nil, err
	}
	_ = call.Send(message) // Recv has the reason
	_ = call.CloseSend()   // Recv has the reason
	return call, nil
}

func (c *grpcGoConn) SetDeadline(t time.Time) { _ = c.tcp.SetDeadline(t) } // closed: everything fails
func (c *grpcGoConn) Close()                  { _ = c.cc.Close(); _ = c.tcp.Close() }

func (c *grpcGoConn) Reset() {
	_ = c.tcp.SetLinger(0) // closed by then
	_ = c.tcp.Close()
	_ = c.cc.Close()
}

// A grpcGoCall is a call of grpc-go that carries serialised messages.
type grpcGoCall struct {
	stream grpc.ClientStream
	failed error // why there is no stream
	cancel context.CancelFunc
	header http.Header
	status *wire.Status
}

func (c *grpcGoCall) Send(message []byte) error {
	if c.failed != nil {
		return c.failed
	}
	return c.stream.SendMsg(&message)
}

func (c *grpcGoCall) Write([]byte) error { return errors.ErrUnsupported }

func (c *grpcGoCall) CloseSend() error {
	if c.failed != nil {
		return c.failed
	}
	return c.stream.CloseSend()
}

func (c *grpcGoCall) Header() http.Header  { return c.header }
func (c *grpcGoCall) Status() *wire.Status { return c.status }
func (c *grpcGoCall) Close()               { c.cancel() }

func (c *grpcGoCall) Recv() ([]byte, error) {
	var message []byte
	err := c.failed
	if err == nil {
		err = c.stream.RecvMsg(&message)
	}
	if err == nil {
		return message, nil
	}
	c.status = &wire.Status{}
	if !errors.Is(err, io.EOF) {
		st := status.Convert(err)
		c.status.Code, c.status.Message, c.status.Details = st.Code(), st.Message(), st.Proto()
	}
	return nil, io.EOF
}

// rawMessages is a codec for messages that are serialised already.
type rawMessages struct{}

func (rawMessages) Name() string { return "proto" }

func (rawMessages) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawMessages) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

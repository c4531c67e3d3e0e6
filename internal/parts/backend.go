package parts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// BytesCodec passes messages through as plain bytes, for the ends of a call.
type BytesCodec struct{}

// Name implements encoding.CodecV2.
func (BytesCodec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (BytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

// Unmarshal implements encoding.CodecV2.
func (BytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// StartBackend serves every method of a real grpc-go server with the handler,
// on loopback, and returns its address.
func StartBackend(t testing.TB, handle func(ss grpc.ServerStream) error, opts ...grpc.ServerOption) string {
	t.Helper()
	ln := Listen(t, "127.0.0.1:0")
	ServeBackend(t, ln, handle, opts...)
	return ln.Addr().String()
}

// ServeBackend does the same on a listener, and returns a function that stops it.
func ServeBackend(t testing.TB, ln net.Listener, handle func(ss grpc.ServerStream) error, opts ...grpc.ServerOption) (stop func()) {
	t.Helper()
	opts = append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(BytesCodec{}),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return handle(ss) }),
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.WaitForHandlers(true),
	}, opts...)
	return ServeGRPC(t, ln, grpc.NewServer(opts...))
}

// Echo answers each message with itself.
func Echo(ss grpc.ServerStream) error {
	for {
		var m []byte
		if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.SendMsg(m); err != nil {
			return err
		}
	}
}

// Converse sends messages to Echo, each after the answer to the one before and a pause.
func Converse(t testing.TB, c grpc.ClientConnInterface, messages int, pause time.Duration) error {
	t.Helper()
	s, err := c.NewStream(Within(t, Patience+time.Duration(messages)*pause), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/a.B/Echo")
	if err != nil {
		return err
	}
	for i := range messages {
		if i > 0 && pause > 0 {
			Elapse(pause)
		}
		sent := bytes.Repeat([]byte{byte(i)}, i*i*100)
		if err := s.SendMsg(sent); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var came []byte
		if err := s.RecvMsg(&came); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if !bytes.Equal(came, sent) {
			return fmt.Errorf("message %d of %d bytes came back with %d", i, len(sent), len(came))
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the half-close: %w", err)
	}
	return nil
}

// Hold reads nothing and waits for the call's end.
func Hold(ss grpc.ServerStream) error {
	<-ss.Context().Done()
	return status.FromContextError(ss.Context().Err()).Err()
}

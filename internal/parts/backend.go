package parts

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

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
	gs := grpc.NewServer(opts...)
	var serving sync.WaitGroup
	serving.Go(func() { _ = gs.Serve(ln) }) // it always returns the error of a stopped server
	stop = sync.OnceFunc(func() {
		gs.Stop()
		serving.Wait()
	})
	t.Cleanup(stop)
	return stop
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

// Hold reads nothing and waits for the call's end.
func Hold(ss grpc.ServerStream) error {
	<-ss.Context().Done()
	return status.FromContextError(ss.Context().Err()).Err()
}

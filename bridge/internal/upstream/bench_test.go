package upstream

import (
	"context"
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// BenchmarkCall is a call without messages to a backend with one address, with all
// that grpc-go does for it at both ends.
func BenchmarkCall(b *testing.B) {
	gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return nil }))
	backend, stop := InProcess(gs)
	defer gs.Stop()
	defer stop()
	u, err := New(backend, testMessages, testHeaderBytes, memory.New(1<<30, 0), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = u.Close() }() // nothing else closes it
	b.ReportAllocs()
	account := memory.New(1<<30, 0)
	for b.Loop() {
		ctx, cancel := context.WithCancelCause(b.Context())
		held := account.NewEntry()
		stream, err := u.Open(ctx, cancel, Request{Method: testMethod, ID: "one", Metadata: metadata.MD{idHeader: {"one"}, "x-a": {"1"}}, Held: held})
		if err != nil {
			b.Fatal(err)
		}
		stream.CloseSend()
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
		cancel(errFinished)
		held.Settle()
	}
}

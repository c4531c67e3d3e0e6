package reflection

import (
	"context"
	"log/slog"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/internal/parts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Helpers that several packages share, by short names.
const (
	patience    = parts.Patience
	checkHealth = parts.CheckHealth
	watchHealth = parts.WatchHealth
	reflects    = parts.Reflects
)

var (
	listen                = parts.Listen
	startBackend          = parts.StartBackend
	within                = parts.Within
	describing            = parts.ServeDescribed
	withHealth            = parts.WithHealth
	withReflection        = parts.WithReflection
	withHangingReflection = parts.WithHangingReflection
)

// A oneConn is a backend behind one connection, which stays.
type oneConn struct{ *grpc.ClientConn }

func (c oneConn) Open(ctx context.Context, path string, wait bool, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, path, append(opts, grpc.WaitForReady(wait))...)
}

func (oneConn) Readied() int64 { return 1 }

func (oneConn) Ready() bool { return true }

// bookOf returns the Book of the backend at an address, until the test ends. Nothing of its
// account may be held then.
func bookOf(t testing.TB, address string) *Book {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	account := memory.New(1<<30, 1<<30)
	b := NewBook(oneConn{cc}, nil, 64<<10, account, slog.New(slog.DiscardHandler), nil)
	t.Cleanup(func() {
		wait := b.Close()
		if err := cc.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		wait()
		if n := account.Held(); n != 0 {
			t.Errorf("%d bytes are held after the end", n)
		}
	})
	return b
}

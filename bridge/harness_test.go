package bridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// Helpers that several packages share, by short names.
const patience = parts.Patience

var (
	listen       = parts.Listen
	tcpPair      = parts.TCPPair
	startBackend = parts.StartBackend
	echo         = parts.Echo
	hold         = parts.Hold
	within       = parts.Within
	poll         = parts.Poll
	wantUsed     = parts.WantUsed
	errorInfo    = parts.ErrorInfo
	elapse       = parts.Elapse
	framed       = parts.Framed
	pattern      = parts.Pattern
)

// A bytesCodec hands messages through as plain bytes.
type bytesCodec = parts.BytesCodec

func await[T any](t testing.TB, what string, event <-chan T) T {
	t.Helper()
	return parts.Await(t, what, event)
}

// newEntry is the entry of one call in an account of its own.
func newEntry(limit int64) *memory.Entry { return memory.New(limit, 0).NewEntry() }

// newServer returns a Server that is closed at the test's end, and then holds
// no message.
func newServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	if cfg.Words == nil {
		cfg.Words = rules.InFile
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		parts.Poll(t, func() string { // Close waits for the end of calls, and they settle their memory a moment later
			if used := s.account.Used(); used != 0 {
				return fmt.Sprintf("after the end %d bytes of messages are counted, want 0", used)
			}
			return ""
		})
	})
	return s
}

// serve runs the Server on a loopback port and returns the address.
func serve(t testing.TB, s *Server) string {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v, want %v", err, http.ErrServerClosed)
		}
	})
	t.Cleanup(func() {
		_ = s.Close() // again, in newServer's cleanup, where its error counts
		serving.Wait()
	})
	return ln.Addr().String()
}

// dial returns a grpc-go client's connection to the address.
func dial(t testing.TB, address string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{}), grpc.MaxCallRecvMsgSize(64<<20)),
		grpc.WithNoProxy(),
		grpc.WithDisableRetry(),
	}, opts...)
	cc, err := grpc.NewClient("passthrough:///"+address, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() }) // a test may have closed it
	return cc
}

// open begins a call of any kind.
func open(ctx context.Context, t testing.TB, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// unary makes one call of one message each way, and returns how it ended.
func unary(ctx context.Context, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) error {
	var out []byte
	return cc.Invoke(ctx, method, []byte("hello"), &out, opts...)
}

const testMethod = "/test.Service/Method"

// anObserver is a small working Observer: it passes each end on.
type anObserver struct {
	report.Observer
	ended   chan *report.CallInfo
	refused chan report.Refusal
	conns   chan report.ConnInfo // that ended
}

func newObserver() *anObserver {
	const most = 4096 // more than any test makes
	return &anObserver{Observer: report.Discard(), ended: make(chan *report.CallInfo, most), refused: make(chan report.Refusal, most), conns: make(chan report.ConnInfo, most)}
}

// CallBegan implements report.Observer.
func (o *anObserver) CallBegan(context.Context, *report.CallInfo, metadata.MD) report.CallObserver {
	return anEnd{report.DiscardCall(), o}
}

// anEnd is told of one call's end.
type anEnd struct {
	report.CallObserver
	*anObserver
}

func (o anEnd) Ended(c *report.CallInfo)          { o.ended <- c }
func (o *anObserver) Refused(r report.Refusal)    { o.refused <- r }
func (o *anObserver) ConnEnded(c report.ConnInfo) { o.conns <- c }

// readMessages reads the messages of the gRPC family in a body to its end, and returns
// copies.
func readMessages(body io.Reader) ([][]byte, error) {
	m := message.Reader{
		Ctx: context.Background(), Body: body, Limit: &report.SizeLimit{Bytes: 1 << 10, Key: report.KeyMessageBytes}, Held: newEntry(30 << 20), Use: new(quota.Call),
		Gets: &progress.Record{Clock: parts.StandingClock()}, Frames: new(message.GRPC),
	}
	return parts.ReadMessages(&m)
}

func reasonOf(err error) report.Reason {
	var f *report.Fault
	if errors.As(err, &f) {
		return f.Reason
	}
	return ""
}

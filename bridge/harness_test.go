package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// patience is how long an event may take that ought to come at once: two cores
// under the race detector are slow now and then.
const patience = 15 * time.Second

// bytesCodec hands messages through as plain bytes, for the ends of a call.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// startBackend serves every method of a real grpc-go server with the handler,
// on loopback, and returns its address.
func startBackend(t testing.TB, handle func(ss grpc.ServerStream) error, opts ...grpc.ServerOption) string {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	serveBackend(t, ln, handle, opts...)
	return ln.Addr().String()
}

// serveBackend does the same on a listener, and returns what stops it.
func serveBackend(t testing.TB, ln net.Listener, handle func(ss grpc.ServerStream) error, opts ...grpc.ServerOption) (stop func()) {
	t.Helper()
	opts = append([]grpc.ServerOption{
		grpc.ForceServerCodecV2(bytesCodec{}),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return handle(ss) }),
		grpc.MaxRecvMsgSize(64 << 20),
		grpc.WaitForHandlers(true),
	}, opts...)
	gs := grpc.NewServer(opts...)
	var serving sync.WaitGroup
	serving.Go(func() { _ = gs.Serve(ln) }) // the error is that of being stopped
	stop = sync.OnceFunc(func() {
		gs.Stop()
		serving.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // it may be closed already
	return ln
}

// tcpPair returns both ends of a connection on loopback.
func tcpPair(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.Close(), c.Close() }) // a test may have
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// echo answers each message with itself.
func echo(ss grpc.ServerStream) error {
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

// hold reads nothing and waits for the call's end.
func hold(ss grpc.ServerStream) error {
	<-ss.Context().Done()
	return status.FromContextError(ss.Context().Err()).Err()
}

// newLedger is the account of one call with a budget of its own.
func newLedger(limit int64) *memory.Ledger { return &memory.Ledger{Budget: memory.New(limit)} }

func wantUsed(t testing.TB, b *memory.Budget, want int64) {
	t.Helper()
	if got := b.Used(); got != want {
		t.Errorf("%d bytes are counted, want %d", got, want)
	}
}

// newServer returns a Server that is closed at the test's end, and then holds
// no message.
func newServer(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if used := s.budget.Used(); used != 0 {
			t.Errorf("after the end %d bytes of messages are counted, want 0", used)
		}
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

// within is the test's context with a bound on what ought to come at once.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await waits for an event that ought to come at once.
func await[T any](t testing.TB, what string, event <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-event:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
	return v
}

// elapse lets a bubble's time pass, and what it sets off happen.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

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

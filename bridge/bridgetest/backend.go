package bridgetest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // backends and clients use it
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// A handler is the backend's answer to each call of a scenario.
type handler func(c *backendCall) error

// A backend is an unmodified grpc-go server with one handler for every method. It
// remembers the calls that it saw. The health service is real and typed.
type backend struct {
	address string

	framing *framing // of the client; nil: messages come as they are
	server  *grpc.Server
	serving sync.WaitGroup
	handle  atomic.Pointer[handler]
	began   chan *backendCall // room for more than any scenario makes, so that handlers never wait
}

// startBackend listens on address, or on a free port of loopback if it is empty.
func (t *trial) startBackend(address string, h handler, opts ...grpc.ServerOption) {
	t.Helper()
	ln := parts.Listen(t, cmp.Or(address, "127.0.0.1:0"))
	b := &backend{address: ln.Addr().String(), framing: t.transport.framing, began: make(chan *backendCall, 4096)}
	b.handleNext(h)
	b.server = grpc.NewServer(append(opts,
		grpc.ForceServerCodecV2(bytesCodec{}),
		grpc.UnknownServiceHandler(b.serve),
		grpc.StatsHandler(wireStats{}),
		grpc.MaxRecvMsgSize(64<<20),
		grpc.WaitForHandlers(true),
	)...)
	healthpb.RegisterHealthServer(b.server, health.NewServer())
	b.serving.Go(func() { _ = b.server.Serve(ln) }) // it always returns the error of a stopped server
	t.backend = b
	t.atEnd(b.stop)
}

// handleNext changes the handler of calls that begin from now on.
func (b *backend) handleNext(h handler) { b.handle.Store(&h) }

// stop cuts every connection and waits for the handlers.
func (b *backend) stop() {
	b.server.Stop()
	b.serving.Wait()
}

func (b *backend) serve(_ any, ss grpc.ServerStream) error {
	ctx := ss.Context()
	c := &backendCall{ss: ss, framing: b.framing, ended: make(chan struct{}), requestEnd: make(chan struct{})}
	c.method, _ = grpc.MethodFromServerStream(ss)
	c.metadata, _ = metadata.FromIncomingContext(ctx)
	c.deadline, c.hasDeadline = ctx.Deadline()
	c.remaining = time.Until(c.deadline)
	if w, ok := ctx.Value(wireKey{}).(*wireFacts); ok {
		c.encoding = w.encoding
	}
	b.began <- c
	defer close(c.ended)
	return (*b.handle.Load())(c)
}

// seen returns the calls that have begun and were not asked for yet.
func (b *backend) seen() (calls []*backendCall) {
	for {
		select {
		case c := <-b.began:
			calls = append(calls, c)
		default:
			return calls
		}
	}
}

// A backendCall is one call as the backend sees it.
type backendCall struct {
	method      string
	metadata    metadata.MD
	deadline    time.Time
	hasDeadline bool
	remaining   time.Duration // until the deadline, when the call began
	encoding    string        // the request's grpc-encoding

	ss      grpc.ServerStream
	framing *framing      // as in backend
	ended   chan struct{} // closed when the handler has returned

	received, sent atomic.Int64
	// halfClosed reports that the client ended the request properly; requestEnd is
	// closed then.
	halfClosed atomic.Bool
	requestEnd chan struct{}
}

func (c *backendCall) ctx() context.Context { return c.ss.Context() }

func (c *backendCall) recv() ([]byte, error) {
	var b []byte
	if err := c.ss.RecvMsg(&b); err != nil {
		if errors.Is(err, io.EOF) && !c.halfClosed.Swap(true) {
			close(c.requestEnd)
		}
		return nil, err
	}
	c.received.Add(1)
	return c.framing.received(b), nil
}

func (c *backendCall) send(b []byte) error {
	if err := c.ss.SendMsg(c.framing.replied(b)); err != nil {
		return err
	}
	c.sent.Add(1)
	return nil
}

func (c *backendCall) sendAll(messages ...[]byte) error {
	for _, m := range messages {
		if err := c.send(m); err != nil {
			return err
		}
	}
	return nil
}

// recvAll reads to the half-close.
func (c *backendCall) recvAll() (messages [][]byte, err error) {
	for {
		b, err := c.recv()
		if errors.Is(err, io.EOF) {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		messages = append(messages, b)
	}
}

// await waits for a signal of the scenario, or gives up when the call ends.
func (c *backendCall) await(signal <-chan struct{}) error {
	select {
	case <-signal:
		return nil
	case <-c.ctx().Done():
		return status.FromContextError(c.ctx().Err()).Err()
	}
}

// wireStats gives handlers facts that grpc-go keeps to itself.
type wireStats struct{}

type wireKey struct{}

type wireFacts struct{ encoding string }

func (wireStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, wireKey{}, &wireFacts{})
}

func (wireStats) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if h, ok := s.(*stats.InHeader); ok {
		ctx.Value(wireKey{}).(*wireFacts).encoding = h.Compression
	}
}

func (wireStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (wireStats) HandleConn(context.Context, stats.ConnStats)                       {}

// echo answers each message with itself.
func echo(c *backendCall) error {
	for {
		b, err := c.recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.send(b); err != nil {
			return err
		}
	}
}

// echoBut is echo, and other for calls that have the metadata.
func echoBut(key string, other handler) handler {
	return func(c *backendCall) error {
		if len(c.metadata[key]) > 0 {
			return other(c)
		}
		return echo(c)
	}
}

// hold reads nothing and waits for the call's end.
func hold(c *backendCall) error {
	<-c.ctx().Done()
	return status.FromContextError(c.ctx().Err()).Err()
}

// errTeapot is a status that nothing else here uses.
var errTeapot = status.Error(codes.FailedPrecondition, "a teapot")

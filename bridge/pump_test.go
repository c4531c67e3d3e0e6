package bridge

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/tasks"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A channelDown is the smallest downstream that keeps the contract: a client that
// is a few channels. It shows what the pump asks of a transport.
type channelDown struct {
	t        *testing.T
	ctx      context.Context // the call's, once it has begun
	cancel   context.CancelCauseFunc
	requests chan string // closed: the client's half-close
	gone     chan error  // what Recv returns when the client breaks off
	headers  chan metadata.MD
	replies  chan string // unbuffered: who doesn't take holds Send up
	end      chan channelEnd
	finished chan struct{} // closed by Finish: a waiting Recv returns
	over     atomic.Bool   // Finish has returned
	refused  error         // what Prepare returns
	more     []bool        // of each Send
	flushes  atomic.Int64
}

type channelEnd struct {
	status  *status.Status
	trailer metadata.MD
}

func newChannelDown(t *testing.T) *channelDown {
	return &channelDown{
		t: t, requests: make(chan string), gone: make(chan error, 1), headers: make(chan metadata.MD, 1),
		replies: make(chan string), end: make(chan channelEnd, 1), finished: make(chan struct{}),
	}
}

func (d *channelDown) enter(method string) {
	if d.over.Load() {
		d.t.Errorf("%s is called after Finish", method)
	}
}

// Bind keeps the context.
func (d *channelDown) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	d.enter("Bind")
	d.ctx, d.cancel = ctx, cancel
}

// Prepare has nothing to read.
func (d *channelDown) Prepare(context.Context) error {
	d.enter("Prepare")
	return d.refused
}

// Recv returns the client's messages, io.EOF at its half-close, and then waits for
// Finish, as a transport does that watches for the client going away.
func (d *channelDown) Recv() (mem.BufferSlice, error) {
	d.enter("Recv")
	select {
	case m, ok := <-d.requests:
		if ok {
			return mem.BufferSlice{mem.SliceBuffer(m)}, nil
		}
		d.requests = nil
		return nil, io.EOF
	case err := <-d.gone:
		return nil, err
	case <-d.finished:
		return nil, io.EOF
	}
}

// SendHeader keeps the header.
func (d *channelDown) SendHeader(md metadata.MD, _ bool) error {
	d.enter("SendHeader")
	d.headers <- md
	return nil
}

// Send waits until the client takes the message or the call's context ends.
func (d *channelDown) Send(m mem.BufferSlice, more bool) error {
	d.enter("Send")
	defer m.Free()
	d.more = append(d.more, more)
	select {
	case d.replies <- string(m.Materialize()):
		return nil
	case <-d.ctx.Done():
		return socket.ErrEnded
	}
}

// Flush counts.
func (d *channelDown) Flush() error {
	d.enter("Flush")
	d.flushes.Add(1)
	return nil
}

// Finish keeps the end.
func (d *channelDown) Finish(st *status.Status, trailer metadata.MD) error {
	d.enter("Finish")
	d.end <- channelEnd{st, trailer}
	close(d.finished)
	return nil
}

// Abort implements downstream.
func (d *channelDown) Abort() { close(d.finished) }

// pumped runs a call between the client and a backend's handler until it has
// ended. It returns a function that waits for that.
func pumped(t *testing.T, d *channelDown, handler func(grpc.ServerStream) error, further ...report.Observer) (wait func() *report.CallInfo) {
	t.Helper()
	_, wait = pumpedFrom(t, d, Backend{}, "", handler, further...)
	return wait
}

// pumpedFrom is pumped with the backend's descriptors and the call's content-subtype. It also
// returns the call.
func pumpedFrom(t *testing.T, d *channelDown, with Backend, subtype string, handler func(grpc.ServerStream) error, further ...report.Observer) (c *call, wait func() *report.CallInfo) {
	t.Helper()
	gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.WaitForHandlers(true),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return handler(ss) }))
	backend, stop := InProcess(gs)
	t.Cleanup(stop)
	t.Cleanup(gs.Stop)
	backend.Descriptors = with.Descriptors
	obs := newObserver()
	s := newServer(t, Config{Backend: backend, Observer: report.Observers(append(further, obs)...)})
	c = newCallOf(s)
	c.subtype = subtype
	c.convertJSON()
	done := make(chan struct{})
	go func() { // ends with the call, which the test waits for
		defer close(done)
		c.handle(t.Context(), d, nil, nil)
		d.over.Store(true)
	}()
	return c, func() *report.CallInfo {
		t.Helper()
		await(t, "the end of the call", done)
		return <-obs.ended
	}
}

// TestPumpCarriesACall: requests, the half-close, the header, replies, status and
// trailers, each in its order.
func TestPumpCarriesACall(t *testing.T) {
	d := newChannelDown(t)
	wait := pumped(t, d, func(ss grpc.ServerStream) error {
		if err := ss.SetHeader(metadata.Pairs("answer", "header")); err != nil {
			return err
		}
		if err := echo(ss); err != nil {
			return err
		}
		ss.SetTrailer(metadata.Pairs("answer", "trailer"))
		return status.Error(codes.DataLoss, "as the backend says")
	})
	var got []string
	for _, m := range []string{"one", "", "three"} {
		d.requests <- m
		if m == "one" {
			got = append(got, "header "+(<-d.headers)["answer"][0])
		}
		got = append(got, <-d.replies)
	}
	close(d.requests)
	end := <-d.end
	got = append(got, end.status.Message(), "trailer "+end.trailer["answer"][0])
	if want := []string{"header header", "one", "", "three", "as the backend says", "trailer trailer"}; !slices.Equal(got, want) {
		t.Errorf("the client saw %q, want %q", got, want)
	}
	info := wait()
	if info.Code != codes.DataLoss || info.Origin != report.OriginUpstream || info.MessagesIn != 3 || info.MessagesOut != 3 {
		t.Errorf("%v of %s after %d and %d messages", info.Code, info.Origin, info.MessagesIn, info.MessagesOut)
	}
}

// TestStalledReplyCountsWhatHasCome: all that the backend has sent counts with the call,
// also while the client doesn't take the header, until the client has it.
func TestStalledReplyCountsWhatHasCome(t *testing.T) {
	const size, messages = 1 << 10, 600 // more than a window
	synctest.Test(t, func(t *testing.T) {
		gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.WaitForHandlers(true),
			grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
				for range messages {
					if err := ss.SendMsg(make([]byte, size)); err != nil {
						return err
					}
				}
				return nil
			}))
		backend, stop := InProcess(gs)
		defer stop()
		defer gs.Stop()
		s := newServer(t, Config{Backend: backend})
		d := newChannelDown(t)
		d.headers = make(chan metadata.MD) // unbuffered
		done := make(chan struct{})
		c := newCallOf(s)
		go func() {
			defer close(done)
			c.handle(t.Context(), d, nil, nil)
		}()
		close(d.requests)
		synctest.Wait()
		full := func(when string) {
			t.Helper()
			synctest.Wait()
			window := int64(wire.StreamWindow)
			if got := c.held.Messages(); got < window-16<<10 || got > window+16<<10+size { // the message that the window cuts counts whole
				t.Errorf("%s %d bytes count with the call, want the stream's window of %d", when, got, window)
			}
		}
		full("while the client doesn't take the header")
		<-d.headers
		full("while the client doesn't take the first message")
		for range messages {
			<-d.replies
		}
		<-d.end
		<-done
		wantUsed(t, s.account, 0)
	})
}

// TestPumpHoldsBack: a client that takes nothing holds up the backend, and its
// messages all come once it goes on.
func TestPumpHoldsBack(t *testing.T) {
	const messages, size = 200, 64 << 10
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		d := newChannelDown(t)
		wait := pumped(t, d, func(ss grpc.ServerStream) error {
			for range messages {
				if err := ss.SendMsg(make([]byte, size)); err != nil {
					return err
				}
				sent.Add(1)
			}
			return nil
		})
		close(d.requests)
		<-d.headers
		synctest.Wait() // everybody waits for the client
		// The message that the client is offered, a stream's window, 64 KiB under way in
		// the backend, and the message that waits in Send.
		const window = wire.MaxStreamWindow
		if n := sent.Load(); n < 1 || n > int64(window/size+3) {
			t.Errorf("the backend has sent %d messages, and the client took none", n)
		}
		for i := range messages {
			if m := <-d.replies; len(m) != size {
				t.Fatalf("reply %d has %d bytes, want %d", i, len(m), size)
			}
		}
		if end := <-d.end; end.status.Code() != codes.OK {
			t.Errorf("it ended with %v", end.status)
		}
		wait()
	})
}

// TestPumpEndsInOneOrder: whatever ends the call, the client is told once, the
// backend's context ends, a waiting Recv and a waiting Send return, and nothing of
// the downstream is called afterwards.
func TestPumpEndsInOneOrder(t *testing.T) {
	gone := report.New(report.ReasonClientGone, "the client went away")
	for name, c := range map[string]struct {
		end  func(d *channelDown)
		code codes.Code
		by   string
	}{
		"the client breaks off":      {func(d *channelDown) { d.gone <- gone }, codes.Canceled, report.OriginClient},
		"the client sends nonsense":  {func(d *channelDown) { d.gone <- report.New(report.ReasonBadRequest, "nonsense") }, codes.InvalidArgument, report.OriginCulvert},
		"the call's context ends":    {func(d *channelDown) { d.cancel(errDraining) }, codes.Unavailable, report.OriginCulvert},
		"an error that nobody knows": {func(d *channelDown) { d.gone <- errors.New("odd") }, codes.Internal, report.OriginCulvert},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			released := make(chan struct{})
			d := newChannelDown(t)
			wait := pumped(t, d, func(ss grpc.ServerStream) error {
				defer close(released)
				for ss.Context().Err() == nil && ss.SendMsg([]byte("nobody takes it")) == nil {
				}
				return nil
			})
			<-d.headers // now a Recv waits, and soon a Send
			c.end(d)
			if end := <-d.end; end.status.Code() != c.code {
				t.Errorf("the client is told %v, want %v", end.status, c.code)
			}
			await(t, "the end at the backend", released)
			if info := wait(); info.Origin != c.by {
				t.Errorf("it was ended by %s, want %s", info.Origin, c.by)
			}
		})
	}
}

// TestPumpAfterTheBackendsEnd: a backend may end a call of which the client still
// sends. Its status wins, and the client's messages go nowhere.
func TestPumpAfterTheBackendsEnd(t *testing.T) {
	d := newChannelDown(t)
	wait := pumped(t, d, func(ss grpc.ServerStream) error {
		var m []byte
		if err := ss.RecvMsg(&m); err != nil {
			return err
		}
		return status.Error(codes.ResourceExhausted, "enough")
	})
	d.requests <- "first"
	end := <-d.end
	if end.status.Code() != codes.ResourceExhausted || end.status.Message() != "enough" {
		t.Errorf("the client is told %v", end.status)
	}
	wait()
}

// A parkingDown is a channelDown whose client comes and goes: it has at most one message, and
// takes one reply at a time.
type parkingDown struct {
	*channelDown
	message    string // "": none
	halfClosed bool
	reply      string
	requests   func(done func(error))
	replies    func(parked func())
	waiting    func() int64
	behind     int64 // bytes that waited when the reply came, with it
}

// Park implements parker.
func (d *parkingDown) Park(requests func(done func(error)), replies func(parked func()), waiting func() int64) {
	d.requests, d.replies, d.waiting = requests, replies, waiting
}

// Recv returns the message, if there is one.
func (d *parkingDown) Recv() (mem.BufferSlice, error) {
	m := d.message
	d.message = ""
	switch {
	case m != "":
		return mem.BufferSlice{mem.SliceBuffer(m)}, nil
	case d.halfClosed:
		return nil, io.EOF
	}
	return nil, tasks.ErrParked
}

// Send keeps the reply.
func (d *parkingDown) Send(m mem.BufferSlice, _ bool) error {
	d.reply, d.behind = string(m.Materialize()), d.waiting()
	m.Free()
	return tasks.ErrParked
}

// TestPumpParks: a parked call has no goroutine, and goes on where it was. It ends as any
// other, also by its context, and the server waits for that.
func TestPumpParks(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(d *parkingDown)
		want codes.Code
	}{
		"the client half-closes":  {func(d *parkingDown) { d.halfClosed = true }, codes.OK},
		"the call's context ends": {func(d *parkingDown) { d.cancel(errDraining) }, codes.Unavailable},
	} {
		synctest.Test(t, func(t *testing.T) {
			gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.WaitForHandlers(true),
				grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return echo(ss) }))
			backend, stop := InProcess(gs)
			defer stop()
			defer gs.Stop()
			obs := newObserver()
			s := newServer(t, Config{Backend: backend, Observer: obs})
			d := &parkingDown{channelDown: newChannelDown(t)}
			handled, requests, parked := make(chan struct{}), make(chan error, 1), make(chan struct{}, 1)
			s.sockets.Start(func() {
				defer close(handled)
				newCallOf(s).handle(context.Background(), d, nil, nil)
			})
			<-handled
			for _, m := range []string{"one", "two"} {
				d.message = m
				d.requests(func(err error) { requests <- err })
				d.replies(func() { parked <- struct{}{} })
				<-parked
				if err := <-requests; d.reply != m || !errors.Is(err, tasks.ErrParked) {
					t.Errorf("%s: the reply is %q, and the requests ended with %v, want %q and that they park", name, d.reply, err, m)
				}
			}
			if n := s.RunningCalls(); n != 1 || len(d.headers) != 1 {
				t.Errorf("%s: %d calls and %d headers, want one", name, n, len(d.headers))
			}
			c.end(d)
			d.requests(func(err error) { requests <- err })
			d.replies(func() { parked <- struct{}{} })
			if end := <-d.end; end.status.Code() != c.want {
				t.Errorf("%s: it ended with %v, want %v", name, end.status, c.want)
			}
			<-obs.ended
			s.sockets.Stop()
			if len(parked) > 0 || len(requests) != 1 {
				t.Errorf("%s: it parked %d times, and the requests ended %d times", name, len(parked), len(requests))
			}
		})
	}
}

// A tracer is an Observer that adds to each call's metadata.
type tracer struct {
	report.Observer
	header chan metadata.MD
}

// CallBegan implements report.Observer.
func (o tracer) CallBegan(_ context.Context, _ *report.CallInfo, md metadata.MD) report.CallObserver {
	md.Set("traceparent", "00-1-2-01")
	return tracedCall{report.DiscardCall(), o.header}
}

type tracedCall struct {
	report.CallObserver
	header chan metadata.MD
}

func (o tracedCall) Header(md metadata.MD) { o.header <- md }

// TestObserverAddsMetadata: what an Observer adds at a call's beginning reaches the
// backend, and the observer that it returns is told of that call.
func TestObserverAddsMetadata(t *testing.T) {
	d := newChannelDown(t)
	trace := tracer{report.Discard(), make(chan metadata.MD, 1)}
	wait := pumped(t, d, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		return ss.SetHeader(metadata.MD{"saw": md["traceparent"]})
	}, trace)
	close(d.requests)
	if end := <-d.end; end.status.Code() != codes.OK {
		t.Errorf("it ended with %v", end.status)
	}
	if got := append((<-trace.header)["saw"], (<-d.headers)["saw"]...); !slices.Equal(got, []string{"00-1-2-01", "00-1-2-01"}) {
		t.Errorf("the backend saw %q", got)
	}
	wait()
}

// TestRetryThatGetsNoConnection: the call ends as one that couldn't reach the backend,
// although the call's context ends with the wait for a connection.
func TestRetryThatGetsNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dials atomic.Int64
		var conn atomic.Pointer[net.Conn]
		gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.WaitForHandlers(true),
			grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
				method, _ := grpc.MethodFromServerStream(ss)
				switch {
				case method == testMethod:
					_ = (*conn.Load()).Close() // the backend hangs, and its connection is lost
				case dials.Load() == 1:
					_ = ss.SendMsg([]byte{8, 1})
				}
				<-ss.Context().Done()
				return nil
			}))
		backend, stop := InProcess(gs)
		defer stop()
		defer gs.Stop()
		backend.HealthCheck.Enabled = true
		connect := backend.Dial
		backend.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if dials.Add(1) > 1 { // so that the health check fails after the call has given up
				time.Sleep(500 * time.Millisecond)
			}
			c, err := connect(ctx, address)
			conn.Store(&c)
			return c, err
		}
		d := newChannelDown(t)
		obs := newObserver()
		s := newServer(t, Config{Backend: backend, Observer: obs})
		c := newCallOf(s)
		c.route = &route{backend: DefaultBackend, treatment: &treatment{retry: &Retry{Attempts: 3, Codes: []codes.Code{codes.Unavailable}}}}
		close(d.requests)
		c.handle(t.Context(), d, nil, nil)
		d.over.Store(true)
		end := <-d.end
		info := errorInfo(t, end.status)
		if end.status.Code() != codes.Unavailable || info.GetReason() != string(report.ReasonUpstreamUnreachable) || info.GetMetadata()["sent"] != report.SentMaybe {
			t.Errorf("ended with %v and %v, want %s, sent %q", end.status, info, report.ReasonUpstreamUnreachable, report.SentMaybe)
		}
		<-obs.ended
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

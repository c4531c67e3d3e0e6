package agent

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/client"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/frames"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// A tunnel is a connection to the edge, with the call that carries the requests.
type tunnel struct {
	agent     *Agent
	transport tunnelpb.Transport
	conn      *client.Client
	call      grpc.BidiStreamingClient[tunnelpb.Frame, tunnelpb.Frame]
	ctx       context.Context // of the call
	cancel    context.CancelCauseFunc
	sender    *frames.Sender
	ended     chan struct{} // closed when all of it has ended

	serving sync.WaitGroup // requests
	mu      sync.Mutex
	open    map[uint64]*frames.Exchange
}

// open opens a tunnel over a transport. When it returns, the edge uses the tunnel.
func (a *Agent) open(ctx context.Context, transport tunnelpb.Transport) (*tunnel, error) {
	conn, err := a.dial(ctx, transport)
	if err != nil {
		return nil, err
	}
	t := &tunnel{agent: a, transport: transport, conn: conn, ended: make(chan struct{}), open: make(map[uint64]*frames.Exchange)}
	t.ctx, t.cancel = context.WithCancelCause(a.tunnels)
	if err := t.hello(ctx); err != nil {
		t.cancel(err)
		_ = conn.Close() // not needed any more
		return nil, err
	}
	a.running.Go(t.serve)
	return t, nil
}

// hello begins the call and waits until the edge has added it.
func (t *tunnel) hello(ctx context.Context) error {
	giveUp, stop := context.WithTimeout(ctx, reachTimeout)
	defer stop()
	defer context.AfterFunc(giveUp, func() { t.cancel(context.Cause(giveUp)) })()
	call, err := tunnelpb.NewEdgeClient(t.conn).ForwardHTTP(t.ctx) //nolint:contextcheck // the call goes on after ctx
	if err != nil {
		return err
	}
	t.call, t.sender = call, &frames.Sender{Stream: call}
	hello := &tunnelpb.Hello{Agent: t.agent.Name, Transport: t.transport}
	if err := t.sender.Send(&tunnelpb.Frame{Part: &tunnelpb.Frame_Hello{Hello: hello}}); err != nil {
		return err
	}
	_, err = call.Header()
	return err
}

// register asks the edge for the transport to use.
func (t *tunnel) register(ctx context.Context, reachable []tunnelpb.Transport) (*tunnelpb.RegisterResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	return tunnelpb.NewEdgeClient(t.conn).Register(ctx,
		&tunnelpb.RegisterRequest{Agent: t.agent.Name, Using: t.transport, Reachable: reachable})
}

// serve reads the edge's frames until the call ends. It never waits for anything else.
func (t *tunnel) serve() {
	defer close(t.ended)
	defer func() { _ = t.conn.Close() }() // the call has ended
	defer t.serving.Wait()
	for {
		frame, err := t.call.Recv()
		if err == nil {
			err = t.receive(frame)
		}
		if err != nil {
			t.end(err)
			return
		}
	}
}

// end ends the call. The edge ends a tunnel that it has drained with the status OK.
func (t *tunnel) end(err error) {
	if !errors.Is(err, io.EOF) {
		t.agent.Log("the tunnel over %s has ended: %v", Name(t.transport), err)
	}
	t.cancel(err)
}

func (t *tunnel) receive(frame *tunnelpb.Frame) error {
	if frame.GetDrain() != nil { // all requests have ended
		t.sender.Close()
		return t.call.CloseSend()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	x := t.open[frame.GetRequest()]
	if x == nil && frame.GetHeaders() == nil {
		return nil // of a request that has ended here
	}
	if x == nil {
		x = frames.NewExchange(t.ctx, frame.GetRequest(), t.sender.Send)
		t.open[x.ID] = x
		t.serving.Go(func() { t.forward(x) })
	}
	return x.Receive(frame)
}

func (t *tunnel) forward(x *frames.Exchange) {
	if err := t.agent.forward(x); err != nil {
		x.Abort(err)
	}
	x.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, x.ID)
}

// leave asks the edge for no more requests, and waits until those under way have ended.
func (t *tunnel) leave() {
	_ = t.sender.Send(&tunnelpb.Frame{Part: &tunnelpb.Frame_Drain{Drain: &tunnelpb.Drain{}}}) // or the call has ended
	select {
	case <-t.ended:
	case <-time.After(leaveTimeout):
	}
	t.cancel(errLeaves)
}

var errLeaves = errors.New("the agent leaves")

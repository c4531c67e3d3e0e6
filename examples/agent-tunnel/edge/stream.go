package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/frames"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// A stream is a ForwardHTTP call of an agent. As an http.RoundTripper it sends requests
// to the agent.
type stream struct {
	agent     string
	transport tunnelpb.Transport
	sender    *frames.Sender
	working   *sync.WaitGroup

	mu       sync.Mutex
	last     uint64 // id of the newest request
	open     map[uint64]*frames.Exchange
	draining bool // it takes no more requests
}

var errDraining = errors.New("the stream takes no more requests")

// ForwardHTTP implements tunnelpb.EdgeServer. It reads the agent's frames, so it must
// never wait for anything else.
func (e *Edge) ForwardHTTP(call grpc.BidiStreamingServer[tunnelpb.Frame, tunnelpb.Frame]) error {
	first, err := call.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello.GetAgent() == "" {
		return status.Error(codes.InvalidArgument, "the first frame must be hello, with the agent's name")
	}
	s := &stream{
		agent:     hello.GetAgent(),
		transport: hello.GetTransport(),
		sender:    &frames.Sender{Stream: call},
		working:   &e.working,
		open:      make(map[uint64]*frames.Exchange),
	}
	if err := call.SendHeader(nil); err != nil {
		return err
	}
	if before := e.add(s); before != nil {
		e.working.Go(before.drain) // its connection may be dead, and the new stream doesn't wait for that
	}
	defer s.end()
	defer e.remove(s)
	for {
		frame, err := call.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.receive(e, frame); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
}

func (s *stream) receive(e *Edge, frame *tunnelpb.Frame) error {
	if frame.GetDrain() != nil {
		e.remove(s)
		s.drain()
		return nil
	}
	s.mu.Lock()
	x := s.open[frame.GetRequest()]
	s.mu.Unlock()
	if x == nil {
		return nil // of a request that has ended here
	}
	return x.Receive(frame)
}

// begin returns a new exchange, unless the stream takes none.
func (s *stream) begin(ctx context.Context) (*frames.Exchange, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return nil, errDraining
	}
	s.last++
	x := frames.NewExchange(ctx, s.last, s.sender.Send)
	s.open[x.ID] = x
	return x, nil
}

// finish ends an exchange. An agent whose response isn't complete is told.
func (s *stream) finish(x *frames.Exchange) {
	if x.Trailers() == nil {
		x.Abort(errors.New("the response isn't needed any more"))
	}
	x.Close()
	s.mu.Lock()
	delete(s.open, x.ID)
	s.mu.Unlock()
	s.sayDrained()
}

// drain lets the requests end that are under way, and takes no more.
func (s *stream) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.sayDrained()
}

// sayDrained tells the agent when the last request has ended: it then half-closes.
func (s *stream) sayDrained() {
	s.mu.Lock()
	drained := s.draining && len(s.open) == 0
	s.mu.Unlock()
	if drained {
		_ = s.sender.Send(&tunnelpb.Frame{Part: &tunnelpb.Frame_Drain{Drain: &tunnelpb.Drain{}}}) // or the stream has ended
	}
}

// end fails the requests that the stream still has. Nothing is sent afterwards.
func (s *stream) end() {
	s.mu.Lock()
	s.draining = true
	for _, x := range s.open {
		x.Fail(errors.New("the agent's stream has ended"))
	}
	s.mu.Unlock()
	s.sender.Close()
}

func (s *stream) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// RoundTrip implements http.RoundTripper.
func (s *stream) RoundTrip(r *http.Request) (*http.Response, error) {
	x, err := s.begin(r.Context())
	if err != nil {
		return nil, err
	}
	if err := x.SendHeaders(requestHeaders(r)); err != nil {
		s.finish(x)
		return nil, err
	}
	s.working.Go(func() { upload(x, r) })
	h, err := x.Headers()
	if code := h.GetStatus(); err == nil && (code < 200 || code > 999) {
		err = fmt.Errorf("the agent answers with the status %d", code)
	}
	if err != nil {
		s.finish(x)
		return nil, err
	}
	return newResponse(r, h, &frames.Body{Exchange: x, OnClose: func() { s.finish(x) }}), nil
}

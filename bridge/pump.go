package bridge

import (
	"context"
	"errors"
	"io"
	"runtime"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/replies"
	"github.com/culvert-grpc/culvert/bridge/internal/tasks"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// pump carries one call's messages both ways and sends the client the end. The caller's
// goroutine copies responses, and a second one requests; a complete request needs no
// second. A third goroutine reads ahead while the upstream sends in bursts. pump
// returns when all have ended, or at once with true if the client's end parks.
func (s *Server) pump(ctx context.Context, c *call) (parked bool) {
	down, parks := c.down.(parker)
	switch {
	case parks:
		s.sockets.Stay() // until resume ends the call: it outlives the caller
		down.Park(
			func(done func(error)) { c.others.Go(func() { done(s.passRequests(c)) }) },
			func(parked func()) { go s.resume(ctx, c, parked) },
			c.up.Waiting)
		return true
	case c.early != nil:
		close(c.early.opened)
	case c.Complete:
		_ = s.passRequests(c) // it has ended the call
	default:
		c.others.Go(func() { _ = s.passRequests(c) }) // likewise
	}
	trailer, err := s.copyResponses(ctx, c)
	s.conclude(ctx, c, trailer, err)
	return false
}

// A parker is a downstream that mostly has nothing to do. No goroutine waits for it
// meanwhile: its Recv and Send return tasks.ErrParked, which ends the copying, and the
// downstream has it begin again.
type parker interface {
	// Park is called once, when the stream at the upstream is open. The functions requests and
	// replies copy on goroutines of their own. requests ends with done: it may be called again
	// after tasks.ErrParked, and not after another error or nil. replies ends with parked,
	// and may be called again, or ends the call; the downstream also calls it when the call's
	// context ends. waiting is upstream.Stream's Waiting.
	Park(requests func(done func(error)), replies func(parked func()), waiting func() int64)
}

// resume copies the replies of a parked call until it parks again. Otherwise it ends the
// call, as handle does.
func (s *Server) resume(ctx context.Context, c *call, park func()) {
	parked := false
	defer func() {
		if !parked {
			s.sockets.Leave()
		}
	}()
	defer s.panics.Catch("the end of a call", nil)
	defer s.end(c, &parked)
	defer s.catchRest(c)
	trailer, err := metadata.MD(nil), context.Cause(ctx)
	if err == nil {
		trailer, err = s.copyResponses(ctx, c)
	}
	if parked = errors.Is(err, tasks.ErrParked); parked {
		park()
		return
	}
	s.conclude(ctx, c, trailer, err)
}

// conclude ends a call whose replies have ended with copyResponses' results.
func (s *Server) conclude(ctx context.Context, c *call, trailer metadata.MD, err error) {
	if f, ok := errors.AsType[*report.Fault](err); ok && f.Mute {
		c.cancel(err) // at once: Finish may take seconds with a silent peer
	}
	err = endOf(ctx, err)
	// Keep this order: the client gets the end, the upstream's stream is released, and
	// the other goroutines end before the caller continues.
	s.finish(c, err, trailer)
	c.cancel(errFinished)
	if c.from != nil {
		c.from.Drop()
	}
	c.others.Wait()
}

// endOf returns why a call ends whose copying ended with an error, or nil.
func endOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil && !upstream.GaveUp(cause) {
		if _, ok := errors.AsType[upstream.Status](err); !ok {
			return cause // a status that came with real trailers always wins
		}
	}
	return err
}

// passRequests copies the requests, and ends the call if that fails. It returns
// copyRequests' error.
func (s *Server) passRequests(c *call) error {
	err := s.copyRequests(c)
	if err != nil && !errors.Is(err, tasks.ErrParked) {
		c.cancel(err)
	}
	return err
}

// copyRequests returns nil when the upstream has the end of the requests or has ended
// the call itself, tasks.ErrParked when more may come later, else why the call must end.
func (s *Server) copyRequests(c *call) (err error) {
	defer s.catch(c, "copying a call's requests", &err)
	for m, err := c.firstRequest(); ; m, err = c.converted(c.recv()) {
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.awaitReplies(err)
			return err
		}
		s.noteMessage(c, report.Request, m.Len())
		err = c.pass(m)
		if errors.Is(err, io.EOF) {
			return nil // Recv has the status
		}
		if err != nil {
			return err
		}
		if c.rules.oneRequest {
			c.up.CloseSend()
			return c.awaitGoodbye()
		}
	}
	c.up.CloseSend()
	if c.Complete {
		return nil
	}
	growStack(0) // for the text of the end; a stream that is idle before doesn't need it
	if _, err := c.recv(); !errors.Is(err, io.EOF) {
		return err // the client went away, or broke the protocol
	}
	return nil
}

// copyResponses returns the trailer and nil when the upstream ended with OK,
// tasks.ErrParked when the client takes no more for now, else why the call ends.
func (s *Server) copyResponses(ctx context.Context, c *call) (trailer metadata.MD, err error) {
	defer s.catch(c, "copying a call's replies", &err)
	if c.from == nil { // otherwise the call has been parked
		c.from = replies.New(c.up, c.held, &c.others, s.panics)
		if err := s.copyHeader(ctx, c); err != nil {
			return nil, err
		}
	}
	return s.copyMessages(ctx, c)
}

// copyHeader copies the header of the response, if it has one.
func (*Server) copyHeader(ctx context.Context, c *call) error {
	up := c.up
	header, ok := up.Header()
	if !ok {
		return nil
	}
	if size := headers.Size(header); size > c.headers.Bytes {
		return headers.TooLarge("response", size, c.headers)
	}
	c.from.Packed = up.Compressed()
	c.packReplies = c.takesGzip && c.from.Packed
	header = headers.Response(header, c.setCookies)
	delete(header, "grpc-status-details-bin") // a status is only in the trailers
	c.obs.Header(header)
	if !up.Ended() {
		runtime.Gosched() // what arrived in the header's packet becomes known now
	}
	if err := c.sendHeader(header, up.Ended()); err != nil {
		return clientWriteError(ctx, err)
	}
	return nil
}

// copyMessages copies the messages of the response, with the results of copyResponses.
func (s *Server) copyMessages(ctx context.Context, c *call) (metadata.MD, error) {
	up, from := c.up, c.from
	for {
		m, more, err := from.Next(ctx)
		if errors.Is(err, io.EOF) {
			return up.Trailer(), c.replied(1)
		}
		if err != nil {
			return up.Trailer(), err
		}
		bytes := m.Len()
		if err := c.replied(0); err != nil {
			m.Free()
			from.Sent(bytes, false)
			return nil, err
		}
		s.noteMessage(c, report.Response, bytes)
		if m, err = c.toClient(m); err != nil {
			from.Sent(bytes, false)
			return nil, err
		}
		err = c.send(m, more)
		from.Sent(bytes, more)
		c.answered.note()
		if err != nil {
			return nil, clientWriteError(ctx, err)
		}
	}
}

// clientWriteError returns why no message can be written: the cause that ended the
// call's context, if that interrupted the write, or tasks.ErrParked, else the client's fault.
func clientWriteError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, tasks.ErrParked) {
		return err
	}
	if f, ok := errors.AsType[*report.Fault](err); ok {
		return f
	}
	return writeFault(err)
}

// writeFault is why a call ends whose client can't be written to.
func writeFault(err error) *report.Fault {
	return &report.Fault{Reason: report.ReasonClientGone, Text: report.ClientGone, Cause: err, Mute: true}
}

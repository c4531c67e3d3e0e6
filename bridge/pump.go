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
func (s *Server) pump(ctx context.Context, r *running) (parked bool) {
	down, parks := r.down.(parker)
	switch {
	case parks:
		s.sockets.Stay() // until resume ends the call: it outlives the caller
		down.Park(
			func(done func(error)) { r.others.Go(func() { done(s.passRequests(r)) }) },
			func(parked func()) { go s.resume(ctx, r, parked) },
			r.up.Waiting)
		return true
	case r.early != nil:
		close(r.early.opened)
	case r.call.Complete:
		_ = s.passRequests(r) // it has ended the call
	default:
		r.others.Go(func() { _ = s.passRequests(r) }) // likewise
	}
	trailer, err := s.copyResponses(ctx, r)
	s.conclude(ctx, r, trailer, err)
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
func (s *Server) resume(ctx context.Context, r *running, park func()) {
	parked := false
	defer func() {
		if !parked {
			s.sockets.Leave()
		}
	}()
	defer s.panics.Catch("the end of a call", nil)
	defer s.end(r, &parked)
	defer s.catchRest(r)
	trailer, err := metadata.MD(nil), context.Cause(ctx)
	if err == nil {
		trailer, err = s.copyResponses(ctx, r)
	}
	if parked = errors.Is(err, tasks.ErrParked); parked {
		park()
		return
	}
	s.conclude(ctx, r, trailer, err)
}

// conclude ends a call whose replies have ended with copyResponses' results.
func (s *Server) conclude(ctx context.Context, r *running, trailer metadata.MD, err error) {
	if f, ok := errors.AsType[*report.Fault](err); ok && f.Mute {
		r.cancel(err) // at once: Finish may take seconds with a silent peer
	}
	err = endOf(ctx, err)
	// Keep this order: the client gets the end, the upstream's stream is released, and
	// the other goroutines end before the caller continues.
	s.finish(r, err, trailer)
	r.cancel(errFinished)
	if r.from != nil {
		r.from.Drop()
	}
	r.others.Wait()
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
func (s *Server) passRequests(r *running) error {
	err := s.copyRequests(r)
	if err != nil && !errors.Is(err, tasks.ErrParked) {
		r.cancel(err)
	}
	return err
}

// copyRequests returns nil when the upstream has the end of the requests or has ended
// the call itself, tasks.ErrParked when more may come later, else why the call must end.
func (s *Server) copyRequests(r *running) (err error) {
	defer s.catch(r.call, "copying a call's requests", &err)
	for m, err := r.firstRequest(); ; m, err = r.converted(r.recv()) {
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.awaitReplies(err)
			return err
		}
		s.noteMessage(r, report.Request, m.Len())
		err = r.pass(m)
		if errors.Is(err, io.EOF) {
			return nil // Recv has the status
		}
		if err != nil {
			return err
		}
		if r.call.rules.oneRequest {
			r.up.CloseSend()
			return r.awaitGoodbye()
		}
	}
	r.up.CloseSend()
	if r.call.Complete {
		return nil
	}
	growStack(0) // for the text of the end; a stream that is idle before doesn't need it
	if _, err := r.recv(); !errors.Is(err, io.EOF) {
		return err // the client went away, or broke the protocol
	}
	return nil
}

// copyResponses returns the trailer and nil when the upstream ended with OK,
// tasks.ErrParked when the client takes no more for now, else why the call ends.
func (s *Server) copyResponses(ctx context.Context, r *running) (trailer metadata.MD, err error) {
	defer s.catch(r.call, "copying a call's replies", &err)
	if r.from == nil { // otherwise the call has been parked
		r.from = replies.New(r.up, r.call.held, &r.others, s.panics)
		if err := s.copyHeader(ctx, r); err != nil {
			return nil, err
		}
	}
	return s.copyMessages(ctx, r)
}

// copyHeader copies the header of the response, if it has one.
func (*Server) copyHeader(ctx context.Context, r *running) error {
	up := r.up
	header, ok := up.Header()
	if !ok {
		return nil
	}
	if size := headers.Size(header); size > r.call.headers.Bytes {
		return headers.TooLarge("response", size, r.call.headers)
	}
	r.from.Packed = up.Compressed()
	r.call.packReplies = r.call.takesGzip && r.from.Packed
	header = headers.Response(header, r.call.setCookies)
	delete(header, "grpc-status-details-bin") // a status is only in the trailers
	r.obs.Header(header)
	if !up.Ended() {
		runtime.Gosched() // what arrived in the header's packet becomes known now
	}
	if err := r.sendHeader(header, up.Ended()); err != nil {
		return clientWriteError(ctx, err)
	}
	return nil
}

// copyMessages copies the messages of the response, with the results of copyResponses.
func (s *Server) copyMessages(ctx context.Context, r *running) (metadata.MD, error) {
	up, from := r.up, r.from
	for {
		m, more, err := from.Next(ctx)
		if errors.Is(err, io.EOF) {
			return up.Trailer(), r.replied(1)
		}
		if err != nil {
			return up.Trailer(), err
		}
		bytes := m.Len()
		if err := r.replied(0); err != nil {
			m.Free()
			from.Sent(bytes, false)
			return nil, err
		}
		s.noteMessage(r, report.Response, bytes)
		if m, err = r.toClient(m); err != nil {
			from.Sent(bytes, false)
			return nil, err
		}
		err = r.send(m, more)
		from.Sent(bytes, more)
		r.answered.note()
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

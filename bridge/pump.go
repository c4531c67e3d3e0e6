package bridge

import (
	"context"
	"errors"
	"io"
	"runtime"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/opamp"
	"github.com/culvert-grpc/culvert/bridge/internal/replies"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// pump carries one call's messages both ways and sends the client the end. The caller's
// goroutine copies responses, and a second one requests; a complete request needs no
// second. A third goroutine reads ahead while the upstream sends in bursts. pump
// returns when all have ended.
func (s *Server) pump(ctx context.Context, cancel context.CancelCauseFunc, r *running) {
	switch {
	case r.early != nil:
		close(r.early.opened)
	case r.call.Complete:
		s.passRequests(r)
	default:
		r.others.Go(func() { s.passRequests(r) })
	}
	from := replies.New(r.up, r.call.held, &r.others, s.panics)
	trailer, err := s.copyResponses(ctx, r, from)
	if f, ok := errors.AsType[*report.Fault](err); ok && f.Mute {
		cancel(err) // at once: Finish may take seconds with a silent peer
	}
	err = endOf(ctx, err)
	// Keep this order: the client gets the end, the upstream's stream is released, and
	// the other goroutines end before the caller continues.
	s.finish(r, err, trailer)
	cancel(errFinished)
	from.Drop()
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

// passRequests copies the requests, and ends the call if that fails.
func (s *Server) passRequests(r *running) {
	if err := s.copyRequests(r); err != nil {
		r.cancel(err)
	}
}

// copyRequests returns nil when the upstream has the end of the requests or has ended
// the call itself, else why the call must end.
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
		if r.call.oneRequest {
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

// awaitGoodbye waits for the client's end behind the only message that its method takes.
func (r *running) awaitGoodbye() error {
	m, err := r.recv()
	if errors.Is(err, io.EOF) { // a half-close that the client needn't have sent
		m, err = r.recv()
	}
	if err == nil {
		m.Free()
		return report.New(report.ReasonBadRequest, "the method takes one message, and a second one came")
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// copyResponses returns the trailer and nil when the upstream ended with OK,
// else why the call ends.
func (s *Server) copyResponses(ctx context.Context, r *running, from *replies.Queue) (trailer metadata.MD, err error) {
	defer s.catch(r.call, "copying a call's replies", &err)
	if err := s.copyHeader(ctx, r, from); err != nil {
		return nil, err
	}
	return s.copyMessages(ctx, r, from)
}

// copyHeader copies the header of the response, if it has one.
func (*Server) copyHeader(ctx context.Context, r *running, from *replies.Queue) error {
	up := r.up
	header, ok := up.Header()
	if !ok {
		return nil
	}
	if size := headers.Size(header); size > r.call.headers.Bytes {
		return headers.TooLarge("response", size, r.call.headers)
	}
	from.Packed = up.Compressed()
	r.call.packReplies = r.call.takesGzip && from.Packed
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

// copyMessages copies the messages of the response, with the results of copyResponses. It
// returns opamp.ErrEnough when a session wants no more for now.
func (s *Server) copyMessages(ctx context.Context, r *running, from *replies.Queue) (metadata.MD, error) {
	up := r.up
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
		if errors.Is(err, opamp.ErrEnough) {
			return nil, err
		}
		if err != nil {
			return nil, clientWriteError(ctx, err)
		}
	}
}

// replied returns a fault if the client's protocol needs exactly one reply, and the
// backend has sent another number of them than want.
func (r *running) replied(want int64) error {
	switch {
	case !r.call.oneReply || r.out.messages.Load() == want:
		return nil
	case want == 0:
		return errManyReplies
	default:
		return errNoReply
	}
}

// clientWriteError returns why a message could not be written: the cause that ended the
// call's context, if that interrupted the write, else the client's fault.
func clientWriteError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
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

package bridge

import (
	"context"
	"errors"
	"io"
	"runtime"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/internal/tasks"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// pump carries one call's messages both ways and sends the client the end. The caller's
// goroutine copies responses, and a second one requests; a complete request needs no
// second. pump returns when both have ended, or at once with true if the client's end parks.
func (c *call) pump(ctx context.Context) (parked bool) {
	down, parks := c.down.(parker)
	switch {
	case parks:
		c.replies.parks = true
		c.s.sockets.Stay() // until resume ends the call: it outlives the caller
		down.Park(
			func(done func(error)) { c.others.Go(func() { done(c.passRequests()) }) },
			func(parked func()) { go c.resume(ctx, parked) },
			c.up.Waiting)
		return true
	case c.early != nil:
		close(c.early.opened)
	case c.Complete:
		_ = c.passRequests() // it has ended the call
	default:
		c.others.Go(func() { _ = c.passRequests() }) // its error has ended the call
	}
	trailer, err := c.copyResponses(ctx)
	c.conclude(ctx, trailer, err)
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
func (c *call) resume(ctx context.Context, park func()) {
	parked := false
	defer func() {
		if !parked {
			c.s.sockets.Leave()
		}
	}()
	defer c.s.panics.Catch("the end of a call", nil)
	defer c.end(&parked)
	defer c.catchRest()
	trailer, err := metadata.MD(nil), context.Cause(ctx)
	if err == nil {
		trailer, err = c.copyResponses(ctx)
	}
	if parked = errors.Is(err, tasks.ErrParked); parked {
		park()
		return
	}
	c.conclude(ctx, trailer, err)
}

// conclude ends a call whose replies have ended with copyResponses' results.
func (c *call) conclude(ctx context.Context, trailer metadata.MD, err error) {
	if f, ok := errors.AsType[*report.Fault](err); ok && f.Mute {
		c.cancel(err) // at once: Finish may take seconds with a silent peer
	}
	if err = endOf(ctx, err); c.route.own() {
		err = path.Ending(err)
	}
	// Keep this order: the client gets the end, the upstream's stream is released, and
	// the other goroutines end before the caller continues.
	c.finishWith(err, trailer)
	c.cancel(errFinished)
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
func (c *call) passRequests() error {
	err := c.copyRequests()
	if err != nil && !errors.Is(err, tasks.ErrParked) {
		c.cancel(err)
	}
	return err
}

// copyRequests returns nil when the upstream has the end of the requests or has ended
// the call itself, tasks.ErrParked when more may come later, else why the call must end.
func (c *call) copyRequests() (err error) {
	defer c.catch("copying a call's requests", &err)
	for m, err := c.firstRequest(); ; m, err = c.converted(c.recv()) {
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			c.awaitReplies(err)
			return err
		}
		c.noteMessage(report.Request, m.Len())
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
func (c *call) copyResponses(ctx context.Context) (trailer metadata.MD, err error) {
	defer c.catch("copying a call's replies", &err)
	if !c.replies.begun { // otherwise the call has been parked
		c.replies.begun = true
		if err := c.copyHeader(ctx); err != nil {
			return nil, err
		}
	}
	return c.copyMessages(ctx)
}

// copyHeader copies the header of the response, if it has one.
func (c *call) copyHeader(ctx context.Context) error {
	up := c.up
	header, ok := up.Header()
	if !ok {
		return nil
	}
	if size := headers.Size(header); size > c.headers.Bytes {
		return headers.TooLarge("response", size, c.headers)
	}
	c.replies.packed = up.Compressed()
	c.packReplies = c.takesGzip && c.replies.packed
	header = headers.Response(c.edit(header), c.setCookies)
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

// edit adds what the Authenticator has for the client, once, to the backend's header. An answer
// that is trailers-only has none: there it adds to the trailer.
func (c *call) edit(md metadata.MD) metadata.MD {
	if c.auth == nil || c.auth.editHeader == nil {
		return md
	}
	if md == nil {
		md = make(metadata.MD)
	}
	c.auth.editHeader(md)
	c.auth.editHeader = nil
	return md
}

// copyMessages copies the messages of the response, with the results of copyResponses.
func (c *call) copyMessages(ctx context.Context) (metadata.MD, error) {
	up := c.up
	for {
		m, err := c.nextReply(ctx)
		if errors.Is(err, io.EOF) {
			return up.Trailer(), c.replied(1)
		}
		if err != nil {
			return up.Trailer(), err
		}
		bytes, more := m.Len(), c.moreReplies()
		if err := c.replied(0); err != nil {
			m.Free()
			c.sentReply(bytes, false)
			return nil, err
		}
		c.noteMessage(report.Response, bytes)
		if m, err = c.toClient(m); err != nil {
			c.sentReply(bytes, false)
			return nil, err
		}
		err = c.send(m, more)
		c.sentReply(bytes, more)
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

package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// handle carries one call from its beginning to its end, or until it parks. refused is why the
// transport can't make the call, or nil. conn is the connection that the call
// has for itself, if it has.
func (c *call) handle(parent context.Context, down downstream, conn net.Conn, refused error) {
	ctx := c.begin(parent, down, conn)
	parked := false
	defer c.end(&parked)
	defer c.catchRest()
	if refused == nil {
		refused = c.take()
	}
	c.hold.release()
	if refused != nil || c.up == nil {
		c.endEarly(refused)
		return
	}
	parked = c.pump(ctx)
}

// begin begins a call, up to the steps. end must follow.
func (c *call) begin(parent context.Context, down downstream, conn net.Conn) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	c.cancel, c.conn = cancel, conn
	c.held.Call = c
	c.down, c.obs, c.stopTime = down, report.DiscardCall(), func() {}
	down.Bind(ctx, cancel)
	c.s.registry.add(&c.watched, trafficKey{c.info.Listener, c.info.Transport})
	c.limitTime(ctx)
	return ctx
}

// endEarly ends a call without a stream at the upstream: refused, unless refused is nil.
func (c *call) endEarly(refused error) {
	if err := c.tellBegan(); err != nil {
		refused = err
	}
	c.finishWith(refused, nil)
	c.cancel(errFinished) // a read may wait for memory
	c.others.Wait()
	c.first.Free()
}

// end undoes begin, from the last line to the first, also behind a panic. Nothing of the
// call runs any more. A call that is parked goes on.
func (c *call) end(parked *bool) {
	if *parked {
		return
	}
	defer c.cancel(errFinished)
	defer c.report()
	defer c.use.End()
	if c.auth != nil {
		defer c.auth.use.End()
	}
	defer c.held.Settle()
	defer c.s.registry.remove(&c.watched)
	defer c.stopTime()
	c.releaseUpstream()
}

// finishWith tells the client how the call ended and notes it. After a panic before the client
// was told anything it is told of that; otherwise it is cut off.
func (c *call) finishWith(err error, trailer metadata.MD) {
	panicked := c.tellEnd(err, trailer)
	if panicked != nil && !c.finishing {
		panicked = c.tellEnd(panicked, nil)
	}
	if panicked != nil {
		c.abort(panicked)
	}
}

// abort cuts off a client that can't be told the end.
func (c *call) abort(panicked error) {
	defer c.catch(cutting, &panicked)
	c.finishing = true
	v := judge(panicked, c.info.ID, false, c.s.cfg.Words)
	c.noteEnd(v, nil)
	c.down.Abort()
}

// tellEnd is finishWith up to a panic, which it returns as a fault.
func (c *call) tellEnd(err error, trailer metadata.MD) (panicked error) {
	defer c.catch("ending a call", &panicked)
	info, words := c.info, c.s.cfg.Words
	if c.late != nil && errors.Is(err, context.DeadlineExceeded) {
		err = c.late // grpc-go was first, which reads the clock itself
	}
	v := judge(err, info.ID, c.policy.detailedErrors, words)
	if v.origin == report.OriginUpstream {
		if size := headers.Size(trailer); size > c.headers.Bytes {
			v = judge(headers.TooLarge("response", size, c.headers), info.ID, c.policy.detailedErrors, words)
		}
	}
	if v.origin == report.OriginUpstream {
		trailer = headers.Response(c.edit(trailer), c.setCookies)
	} else {
		trailer = nil
	}
	if c.conn != nil {
		c.on.EndFor(err)
	}
	c.ending, c.fault = v.reason, v.fault
	if v.fault != nil && v.fault.Hint != "" {
		c.s.refusals.Note(v.fault, c.peer.Addr)
	}
	c.finishing = true
	ferr := c.finish(v.status, trailer)
	if errors.Is(ferr, socket.ErrNothingSent) { // the last replies are lost, so the backend's status would be false
		if v.origin == report.OriginUpstream {
			v = judge(context.Cause(c.timed), info.ID, c.policy.detailedErrors, words)
			c.ending, c.fault, trailer = v.reason, v.fault, nil
		}
		ferr = c.finish(v.status, nil)
	}
	switch {
	case ferr == nil:
	case v.origin == report.OriginUpstream: // a status that did not reach the client is not how the call ended
		v = judge(report.New(report.ReasonClientGone, report.ClientGone).Because(fmt.Errorf("the status %v could not be sent: %w", v.status.Code(), ferr)), info.ID, false, words)
	case v.cause == "":
		v.cause = words.Say(ferr.Error())
	}
	c.noteEnd(v, trailer)
	return nil
}

// noteEnd notes for the Observer how the call ended.
func (c *call) noteEnd(v outcome, trailer metadata.MD) {
	info := c.info
	info.Duration = time.Since(info.Begin)
	info.Code, info.Status, info.Trailer = v.status.Code(), v.status, trailer
	info.Origin, info.Reason, info.Limit, info.Cause = v.origin, v.reason, v.limit, v.cause
}

// report tells the Observer that the call is over. Nothing of the call runs any more.
func (c *call) report() {
	var told error
	defer c.catch("the Observer", &told)
	info := c.info
	info.MessagesIn, info.BytesIn = c.in.messages.Load(), c.in.bytes.Load()
	info.MessagesOut, info.BytesOut = c.out.messages.Load(), c.out.bytes.Load()
	defer func() { // also if the Observer panics
		if f := c.s.cfg.CallEnded; f != nil {
			f(info)
		}
	}()
	c.obs.Ended(info)
}

// noteMessage counts a message that passes.
func (c *call) noteMessage(d report.Direction, bytes int) {
	n := &c.in
	if d == report.Response {
		n = &c.out
	}
	n.messages.Add(1)
	n.bytes.Add(int64(bytes))
	c.lastSeen.Store(c.s.registry.now())
	c.obs.Message(d, bytes)
}

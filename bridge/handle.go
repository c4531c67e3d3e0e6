package bridge

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/socket"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// newCall makes the call of a request. Its transport adds the facts that the protocol
// carries: metadata, time-out, codings. id is the call's id from the client; newCall
// replaces an unsafe one.
func (s *Server) newCall(a *arrival, id string) *call {
	c := &call{policy: a.policy, authenticator: s.cfg.Authenticator, decision: a.decision, Authority: a.host, Peer: a.peer, on: a.on, watched: watched{held: s.account.NewEntry(), limits: &a.policy.limits, spread: edge.NewSpread()}}
	if a.policy.routes != nil {
		c.unsettled = &a.facts
	}
	c.arriving, a.counted, a.call = a.counted, false, c
	c.use = a.use()
	c.setCookies = a.policy.forwardSetCookies && a.origin.Credentials
	c.progress.Clock = &s.registry.clock
	if !saneID(id) {
		id = newID()
	}
	c.info = &report.CallInfo{ID: id, Transport: a.peer.Transport, Method: a.Method, Peer: a.peer.Addr, Client: a.peer.Client.String(), Listener: a.listening.Name, Authority: a.host, Begin: time.Now()}
	if a.route != nil {
		c.info.Route = a.route.name // settle may find another one
	}
	return c
}

// handle carries one call from its beginning to its end, or until it parks. refused is why the
// transport can't make the call, or nil. conn is the connection that the call
// has for itself, if it has.
func (s *Server) handle(parent context.Context, c *call, down downstream, conn net.Conn, refused error) {
	r, ctx := s.begin(parent, c, down, conn)
	parked := false
	defer s.end(r, &parked)
	defer s.catchRest(r)
	if refused == nil {
		refused = s.take(r)
	}
	c.arrived()
	if refused != nil || r.up == nil {
		s.endEarly(r, refused)
		return
	}
	parked = s.pump(ctx, r)
}

// handleNext carries another call for the client of c, which has passed the steps, on a
// goroutine of its own: it outlives c, and the client's connection.
func (s *Server) handleNext(c, next *call, down downstream) error {
	next.Metadata, next.Peer, next.info.Identity = maps.Clone(c.Metadata), c.Peer, c.info.Identity
	next.authenticator, next.on = nil, nil
	if !s.sockets.Start(func() {
		defer s.panics.Catch("a call without a connection", func(*report.Fault) { down.Abort() })
		s.handle(context.Background(), next, down, nil, nil)
	}) {
		return errRefusing
	}
	return nil
}

// begin begins a call, up to the steps. end must follow.
func (s *Server) begin(parent context.Context, c *call, down downstream, conn net.Conn) (*running, context.Context) {
	ctx, cancel := context.WithCancelCause(parent)
	c.cancel, c.conn = cancel, conn
	c.held.Call = c
	r := &running{call: c, down: down, obs: report.DiscardCall(), stopTime: func() {}}
	down.Bind(ctx, cancel)
	s.registry.add(&c.watched, trafficKey{c.info.Listener, c.info.Transport})
	r.limitTime(ctx)
	return r, ctx
}

// endEarly ends a call without a stream at the upstream: refused, unless refused is nil.
func (s *Server) endEarly(r *running, refused error) {
	if err := s.tellBegan(r); err != nil {
		refused = err
	}
	s.finish(r, refused, nil)
	r.cancel(errFinished) // a read may wait for memory
	r.others.Wait()
	r.first.Free()
}

// end undoes begin, from the last line to the first, also behind a panic. Nothing of the
// call runs any more. A call that is parked goes on.
func (s *Server) end(r *running, parked *bool) {
	if *parked {
		return
	}
	defer r.cancel(errFinished)
	defer s.report(r)
	defer r.call.arrived()
	defer r.call.use.End()
	defer r.call.held.Settle()
	defer s.registry.remove(&r.watched)
	defer r.stopTime()
	r.releaseUpstream()
}

// finish tells the client how the call ended and notes it. After a panic before the client
// was told anything it is told of that; otherwise it is cut off.
func (s *Server) finish(r *running, err error, trailer metadata.MD) {
	panicked := s.tellEnd(r, err, trailer)
	if panicked != nil && !r.telling {
		panicked = s.tellEnd(r, panicked, nil)
	}
	if panicked != nil {
		s.abort(r, panicked)
	}
}

// abort cuts off a client that can't be told the end.
func (s *Server) abort(r *running, panicked error) {
	defer s.catch(r.call, cutting, &panicked)
	r.telling = true
	v := judge(panicked, r.call.info.ID, false)
	s.noteEnd(r, v, nil)
	r.down.Abort()
}

// tellEnd is finish up to a panic, which it returns as a fault.
func (s *Server) tellEnd(r *running, err error, trailer metadata.MD) (panicked error) {
	defer s.catch(r.call, "ending a call", &panicked)
	info := r.call.info
	if r.call.late != nil && errors.Is(err, context.DeadlineExceeded) {
		err = r.call.late // grpc-go was first, which reads the clock itself
	}
	v := judge(err, info.ID, r.call.policy.detailedErrors)
	if v.origin == report.OriginUpstream {
		if size := headers.Size(trailer); size > r.call.headers.Bytes {
			v = judge(headers.TooLarge("response", size, r.call.headers), info.ID, r.call.policy.detailedErrors)
		}
	}
	if v.origin == report.OriginUpstream {
		trailer = headers.Response(trailer, r.call.setCookies)
	} else {
		trailer = nil
	}
	if r.conn != nil {
		r.call.on.EndFor(err)
	}
	r.call.ending, r.call.fault = v.reason, v.fault
	if v.fault != nil && v.fault.Hint != "" {
		s.refusals.Note(v.fault, r.call.Peer.Addr)
	}
	r.telling = true
	ferr := r.finish(v.status, trailer)
	if errors.Is(ferr, socket.ErrNothingSent) { // the last replies are lost, so the backend's status would be false
		if v.origin == report.OriginUpstream {
			v = judge(context.Cause(r.timed), info.ID, r.call.policy.detailedErrors)
			r.call.ending, r.call.fault, trailer = v.reason, v.fault, nil
		}
		ferr = r.finish(v.status, nil)
	}
	switch {
	case ferr == nil:
	case v.origin == report.OriginUpstream: // a status that did not reach the client is not how the call ended
		v = judge(report.New(report.ReasonClientGone, report.ClientGone).Because(fmt.Errorf("the status %v could not be sent: %w", v.status.Code(), ferr)), info.ID, false)
	case v.cause == "":
		v.cause = ferr.Error()
	}
	s.noteEnd(r, v, trailer)
	return nil
}

// noteEnd notes for the Observer how the call ended.
func (*Server) noteEnd(r *running, v outcome, trailer metadata.MD) {
	info := r.call.info
	info.Duration = time.Since(info.Begin)
	info.Code, info.Status, info.Trailer = v.status.Code(), v.status, trailer
	info.Origin, info.Reason, info.Limit, info.Cause = v.origin, v.reason, v.limit, v.cause
}

// report tells the Observer that the call is over. Nothing of the call runs any more.
func (s *Server) report(r *running) {
	var told error
	defer s.catch(r.call, "the Observer", &told)
	info := r.call.info
	info.MessagesIn, info.BytesIn = r.in.messages.Load(), r.in.bytes.Load()
	info.MessagesOut, info.BytesOut = r.out.messages.Load(), r.out.bytes.Load()
	r.obs.Ended(info)
}

// noteMessage counts a message that passes.
func (s *Server) noteMessage(r *running, d report.Direction, bytes int) {
	n := &r.in
	if d == report.Response {
		n = &r.out
	}
	n.messages.Add(1)
	n.bytes.Add(int64(bytes))
	r.lastSeen.Store(s.registry.now())
	r.obs.Message(d, bytes)
}

// newID makes a call's id. The id must be unique but isn't secret, so it costs no
// system call.
func newID() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], rand.Uint64()) //nolint:gosec // see above
	return hex.EncodeToString(b[:])
}

// saneID reports whether an id is safe to log and to send in a header.
func saneID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

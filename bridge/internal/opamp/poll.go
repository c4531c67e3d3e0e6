package opamp

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// A turn is one poll under way. A session has one at a time.
type turn struct {
	news chan struct{} // something happened since the poll looked; holds one
	done chan struct{} // closed when the next poll may begin
	last bool          // its message is the agent's last
}

// An Ended is the error of a poll whose session's call has ended with this status.
type Ended struct {
	Status *status.Status
	Reason report.Reason // why bridge has ended it; empty: the backend has
}

func (e *Ended) Error() string { return e.Status.String() }

// End returns both.
func (e *Ended) End() (*status.Status, report.Reason) { return e.Status, e.Reason }

// Post passes the message of a poll to the agent's call, and one reply to Deliver: the
// oldest that waits there, or the first that comes within Options.Patience, or one that
// has nothing to say. It opens a session if the agent has none.
//
// The error is a fault, an *Ended, the context's cause, or Deliver's. Unless the error is
// Deliver's, Deliver was not called. After a fault with SentNo, or if the context ended
// before the call took the message, the backend hasn't seen the message.
func (t *Table) Post(ctx context.Context, p Poll) error {
	defer func() { p.Message.Free() }() // unless the call has taken it
	for {
		s, started, err := t.begin(ctx, &p)
		if err != nil {
			return err
		}
		again, err := s.take(ctx, &p, started)
		if !again {
			return err
		}
	}
}

// begin begins a turn of the poll's session, and reports whether the session is new.
func (t *Table) begin(ctx context.Context, p *Poll) (s *Session, started bool, err error) {
	k := key{p.Scope, p.Owner, p.Agent.UID}
	late := time.After(t.options.Patience)
	var left, displaced *Session
	for {
		var before <-chan struct{}
		if s, left, displaced, before, err = t.turn(k, p); before == nil {
			break
		}
		select {
		case <-before:
		case <-late:
			return nil, false, &report.Fault{
				Reason: report.ReasonLimitExceeded, Text: "another poll with this instance id isn't answered yet", Retry: report.AnyMoment,
				Remedy: "send one poll at a time, and give each agent an instance id of its own",
			}
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
	if err != nil || s == left {
		return s, false, err
	}
	defer func(added *Session) {
		if !started { // there is no call, for an error or a panic
			t.drop(added)
		}
	}(s)
	left.leave(errBack)
	if displaced != nil {
		displaced.leave(t.full(report.Newf(report.ReasonOverloaded, "most of the agents that poll here have this agent's address, and another address needed a place (%s)", report.Named(t.options.Key))))
	}
	if err = p.Start(s); err != nil {
		return nil, false, err
	}
	return s, true, nil
}

// turn begins a turn of the poll's session, or returns what is closed when the poll before
// has ended. left is the session that the poll has found: the same, or one that has ended
// and that a new one replaces, or nil. The caller calls leave of displaced, as for add.
func (t *Table) turn(k key, p *Poll) (s, left, displaced *Session, before <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s = t.find(k)
	if s != nil && s.poll != nil {
		return nil, nil, nil, s.poll.done, nil
	}
	left = s
	if s == nil || s.end != nil || s.state.requests == halfClosed {
		if s, displaced, err = t.add(k, p, left); err != nil {
			return nil, nil, nil, nil, err
		}
	}
	t.work(s)
	return s, left, displaced, nil, nil
}

// errBack ends the call of an agent that has said goodbye and polls again.
var errBack = report.New(report.ReasonClientGone, "the agent said goodbye, and has come back")

// drop undoes add: there is no call.
func (t *Table) drop(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.forget()
	close(s.poll.done)
	s.poll = nil
}

// take exchanges the poll's message for a reply, and ends the turn. It returns true if
// the call has ended without having taken the message, so that another call may.
func (s *Session) take(ctx context.Context, p *Poll, started bool) (again bool, err error) {
	defer s.endTurn()
	end, err := s.await(ctx, p)
	if err != nil {
		return false, err
	}
	untaken := p.Message != nil
	switch {
	case untaken && !started:
		return true, nil
	case end != nil && end.Code() != codes.OK:
		return false, &Ended{end, s.Reason}
	case end != nil:
		return false, p.Deliver(nothing(p.Agent.UID))
	default:
		return false, s.deliver(p)
	}
}

// nothing is the reply that has nothing to say.
func nothing(u codec.OpAMPUID) mem.BufferSlice {
	return mem.BufferSlice{mem.SliceBuffer(codec.AppendServerToAgent(nil, u))}
}

// await leaves the poll's message for the call, and waits for a reply, or for none any
// longer. It returns the status of a call that has ended without a reply. If the call
// hasn't taken the message, p has it again.
func (s *Session) await(ctx context.Context, p *Poll) (end *status.Status, err error) {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	err = s.exchange(ctx, p)
	switch {
	case err != nil:
		return nil, err
	case s.stage() == ended && len(s.replies) == 0 || p.Message != nil && s.end != nil:
		return s.end, nil
	case p.Message != nil:
		f := report.Newf(report.ReasonOverloaded, "the backend took no message of this agent for %v", t.options.Patience)
		f.Remedy, f.Sent, f.Retry = "try again later; check why the backend's method doesn't read", report.SentNo, Retry
		return nil, f
	default:
		return nil, nil
	}
}

// exchange is await up to its end. The caller holds mu, which exchange unlocks while it
// waits.
func (s *Session) exchange(ctx context.Context, p *Poll) (err error) {
	t := s.table
	patience := time.NewTimer(t.options.Patience)
	defer patience.Stop()
	s.message, p.Message, s.poll.last = p.Message, nil, p.Agent.Disconnects
	defer func() { p.Message, s.message, s.state.agent = s.message, nil, away }()
	if s.waiting != nil {
		s.old = s.waiting() // before the call has the message
	}
	s.state.await(len(s.replies) == 1 && s.replies[0].of.SaysNothing)
	s.changed.Broadcast() // Send may wait with the next one
	s.kick()
	for was := opening; ; {
		now := s.stage()
		if now == answered || now == ended {
			return nil
		}
		if now != was {
			patience.Reset(t.options.Patience)
			was = now
		}
		expired := patience.C
		if now == opening {
			expired = nil // the backend has its own time for that
		}
		news := s.poll.news
		t.mu.Unlock()
		late := false
		select {
		case <-news:
		case <-expired:
			late = true
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		t.mu.Lock()
		if late && s.stage() == was || err != nil {
			return err
		}
	}
}

// The stages of a poll.
type stage int

const (
	opening  stage = iota // the call isn't open yet
	leaving               // the call hasn't taken the message
	waiting               // it has, and there is no reply yet, or one that yields to the next
	answered              // there is one
	ended                 // the call has ended: none will come
)

// stage returns the stage of the poll that is under way. The caller holds mu.
func (s *Session) stage() stage {
	taken := s.message == nil
	switch {
	case taken && len(s.replies) > 0 && s.state.agent != seeks:
		return answered
	case s.end != nil:
		return ended
	case taken:
		return waiting
	case s.state.requests != unopened:
		return leaving
	default:
		return opening
	}
}

// deliver delivers the oldest reply. The end of the call may free the session's own
// reference to it meanwhile.
func (s *Session) deliver(p *Poll) (err error) {
	r, there := s.oldest()
	if !there {
		return p.Deliver(nothing(p.Agent.UID))
	}
	defer r.m.Free()
	delivered := false
	defer func() { s.delivered(r, delivered) }()
	err = p.Deliver(r.m)
	delivered = err == nil
	return err
}

// oldest returns the oldest reply, which is being delivered from now on, with a reference
// for the caller.
func (s *Session) oldest() (r reply, there bool) {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(s.replies) == 0 {
		return reply{}, false
	}
	r = s.replies[0]
	r.m.Ref()
	t.rename(s, r) // before the agent can poll with the new id
	s.state.agent = fetches
	return r, true
}

// delivered ends the delivery of a reply. yes: the agent has it.
func (s *Session) delivered(r reply, yes bool) {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	s.state.agent = away
	if !yes {
		return
	}
	s.told = s.told || r.of.Capabilities != 0
	if len(s.replies) > 0 {
		s.pop().m.Free()
		s.changed.Broadcast() // there is room, or Finish waited for this
	}
}

// endTurn lets the next poll begin.
func (s *Session) endTurn() {
	t := s.table
	t.mu.Lock()
	close(s.poll.done)
	s.poll = nil
	closed := t.closed
	switch {
	case t.sessions[s.key] != s:
		closed = nil // it ends already
	case closed != nil:
		t.remove(s)
	default:
		t.rest(s)
	}
	t.mu.Unlock()
	if closed != nil {
		s.leave(closed)
	}
}

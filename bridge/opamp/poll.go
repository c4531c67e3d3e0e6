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
}

// An Ended is the error of a poll whose session's call has ended with this status.
type Ended struct {
	Status *status.Status
	Reason report.Reason // why bridge has ended it; empty: the backend has
}

func (e *Ended) Error() string { return e.Status.String() }

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
	k := key{p.Scope, p.Agent.UID}
	patience := time.NewTimer(t.options.Patience)
	defer patience.Stop()
	t.mu.Lock()
	for {
		if s, err = t.find(k, p.Owner); err != nil || s == nil || s.poll == nil {
			break
		}
		before := s.poll.done
		t.mu.Unlock()
		select {
		case <-before:
		case <-patience.C:
			return nil, false, errBusy()
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
		t.mu.Lock()
	}
	var left *Session
	if err == nil && (s == nil || s.end != nil || s.said) {
		left = s
		s, err = t.add(k, p, left)
		started = true
	}
	if err == nil {
		t.idle.remove(s)
		s.poll = &turn{news: make(chan struct{}, 1), done: make(chan struct{})}
	}
	t.mu.Unlock()
	if err != nil || !started {
		return s, false, err
	}
	left.leave(errBack)
	if err := p.Start(s); err != nil {
		t.drop(s)
		return nil, false, err
	}
	return s, true, nil
}

// errBack ends the call of an agent that has said goodbye and polls again.
var errBack = report.New(report.ReasonClientGone, "the agent said goodbye, and has come back")

// drop undoes add: there is no call.
func (t *Table) drop(s *Session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(s.replies) > 0 {
		s.pop().Free()
	}
	s.first.Free()
	s.first = nil
	t.remove(s)
	t.count--
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
	patience := time.NewTimer(t.options.Patience)
	defer patience.Stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	s.message, s.goodbye, s.awaits, p.Message = p.Message, p.Agent.Disconnects, true, nil
	s.kick()
	for was := opening; ; {
		now := s.stage()
		if now == answered || now == ended {
			break
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
			break
		}
	}
	p.Message, s.message, s.awaits, s.lent = s.message, nil, false, false
	switch {
	case err != nil:
		return nil, err
	case s.stage() == ended && len(s.replies) == 0 || p.Message != nil && s.end != nil:
		return s.end, nil
	case p.Message != nil:
		return nil, errBlocked(t.options.Patience)
	default:
		return nil, nil
	}
}

// The stages of a poll.
type stage int

const (
	opening  stage = iota // the call isn't open yet
	leaving               // the call hasn't taken the message
	waiting               // it has, and there is no reply yet
	answered              // there is one
	ended                 // the call has ended: none will come
)

// stage returns the stage of the poll that is under way. The caller holds mu.
func (s *Session) stage() stage {
	taken := s.message == nil
	switch {
	case taken && len(s.replies) > 0:
		return answered
	case s.end != nil:
		return ended
	case taken:
		return waiting
	case s.pass != nil:
		return leaving
	default:
		return opening
	}
}

// deliver delivers the oldest reply. The end of the call may free the session's own
// reference to it meanwhile.
func (s *Session) deliver(p *Poll) error {
	t := s.table
	t.mu.Lock()
	if len(s.replies) == 0 {
		t.mu.Unlock()
		return p.Deliver(nothing(p.Agent.UID))
	}
	m := s.replies[0]
	m.Ref()
	defer m.Free()
	t.rename(s, m) // before the agent can poll with the new id
	t.mu.Unlock()
	if err := p.Deliver(m); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(s.replies) > 0 {
		s.pop().Free()
		s.changed.Broadcast() // there is room, or Finish waited for this
	}
	return nil
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

package opamp

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/tasks"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// A Session is the client's end of one call, for an agent that polls. Its exported
// methods are those of a downstream of bridge, and only the call calls them.
type Session struct {
	// Reason is why bridge itself ends the call. Abort sets it; bridge does before Finish.
	Reason report.Reason

	table *Table
	held  *memory.Entry // the call's

	// The table's mu guards the rest.
	key, renamed key
	changed      sync.Cond       // Send and Finish wait
	ctx          context.Context // the call's, from Bind on: it ends with the session
	cancel       context.CancelCauseFunc
	unwatch      func() bool

	pass    func(done func(error)) // see Park
	receive func(parked func())    // see Park
	waiting func() int64           // see Park; nil: the call isn't open yet

	state   state
	message mem.BufferSlice // of the poll that waits, until Recv takes it; nil: none
	first   mem.BufferSlice // of an earlier poll, which a call couldn't pass on; Recv takes it before message
	lent    mem.BufferSlice // what Recv has returned, until the call has passed it on; nil: nothing
	lentBy  *turn           // whose message that is; nil: an earlier poll's

	replies []reply
	old     int64          // bytes that waited when the last poll began, and that Send hasn't had
	told    bool           // the agent knows the server's capabilities
	end     *status.Status // of the call; nil: it goes on
	over    error          // why the session ends before the call has; nil: it doesn't

	poll   *turn // nil: none is under way
	polled time.Time

	unasked links    // in Table.idle
	address *address // nil: it isn't in the table any more
	beside  links    // in the address's lists
}

// Bind implements downstream.
func (s *Session) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	s.table.mu.Lock()
	s.ctx, s.cancel = ctx, cancel
	s.unwatch = context.AfterFunc(ctx, s.wake)
	over := s.over
	s.table.mu.Unlock()
	if over != nil {
		cancel(over)
	}
}

// wake has a Send or a Finish return, and the call end that is parked.
func (s *Session) wake() {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.changed.Broadcast()
	s.kick()
}

// Park tells that the call is open. From now on each poll, and the end of the call's context,
// starts pass, which passes on what Recv returns, and receive, which hands replies to Send. When
// Recv and Send return tasks.ErrParked, they end with done and parked, and the next poll starts
// them again. waiting returns how many bytes of replies have arrived from the backend and
// aren't sent yet; each counts prefixBytes more than it has.
func (s *Session) Park(pass func(done func(error)), receive func(parked func()), waiting func() int64) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.pass, s.receive, s.waiting = pass, receive, waiting
	s.state.requests, s.state.replies = parked, parked
	s.tell()
	s.kick()
}

// kick starts pass and receive if there is something to do for them. The caller holds mu.
func (s *Session) kick() {
	if s.ctx == nil || s.end != nil {
		return
	}
	requests, replies := s.state.begin(s.message != nil, len(s.replies), s.ctx.Err() != nil)
	if requests {
		s.pass(s.passed)
	}
	if replies {
		s.receive(s.received)
	}
}

// passed notes the end of pass. If the backend has ended the call before it got the message
// that Recv has returned, another call gets the message: at once if its poll still waits,
// otherwise with the next poll.
func (s *Session) passed(err error) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	m := s.lent
	s.lent = nil
	switch {
	case errors.Is(err, tasks.ErrParked):
		s.state.requests.park()
	case m == nil:
	case err != nil || s.end != nil: // it failed, or Abort was called: Finish waits for the message
		m.Free()
	case s.lentBy == s.poll && s.state.asks():
		s.state.requests, s.message = refusing, m
	default:
		s.state.requests, s.first = refusing, m
	}
	s.changed.Broadcast() // Send and Finish
	s.tell()
	s.kick() // for what has come meanwhile
}

// received notes that receive has parked.
func (s *Session) received() {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.state.replies.park()
	s.kick() // for what has come meanwhile
}

// Prepare implements downstream. The message comes by Recv.
func (*Session) Prepare(context.Context) error { return nil }

// Recv returns the message of a poll, or tasks.ErrParked. The agent's last one is followed by
// io.EOF. The session keeps a reference to the message until Recv is called again: then the
// call has passed it on.
func (s *Session) Recv() (mem.BufferSlice, error) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.lent.Free()
	s.lent = nil
	s.changed.Broadcast() // Finish
	switch {
	case s.end != nil: // a message that is here goes to another call
		return nil, tasks.ErrParked
	case s.first != nil:
		s.lent, s.lentBy, s.first = s.first, nil, nil
	case s.message != nil:
		s.lent, s.lentBy, s.message = s.message, s.poll, nil
		if s.poll.last {
			s.state.requests = halfClosed
		}
		s.tell()
		s.kick()
	case s.state.requests == halfClosed:
		return nil, io.EOF
	default:
		return nil, tasks.ErrParked
	}
	s.lent = s.held.Adopt(s.lent)
	s.lent.Ref()
	return s.lent, nil
}

// SendHeader implements downstream. A poll's answer has no room for metadata.
func (*Session) SendHeader(metadata.MD, bool) error { return nil }

// Send implements downstream. It keeps one reply; further ones wait where they are, and in
// the end so does the backend. A reply that yields to the next one is the exception.
func (s *Session) Send(m mem.BufferSlice, _ bool) error {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	for len(s.replies) > 0 && s.state.agent != seeks && s.state.requests != refusing && s.ctx.Err() == nil {
		s.changed.Wait()
	}
	if s.ctx.Err() != nil {
		m.Free()
		return context.Cause(s.ctx)
	}
	r := reply{m, codec.ParseServerToAgent(m)}
	size := int64(m.Len()) + prefixBytes
	isOld := s.old > 0
	s.old -= size
	s.push(r)
	if s.state.asks() {
		s.state.await(len(s.replies) == 1 && r.of.SaysNothing && (isOld || s.waiting() > size))
	}
	s.tell()
	if s.state.agent == seeks || s.state.ending() {
		return nil
	}
	return tasks.ErrParked
}

// errLeft reports that an agent has come for none of the last replies.
var errLeft = errors.New("the agent didn't fetch its last replies")

// Finish implements downstream. Replies that are left keep the session for the next
// polls, as long as the call's context lives.
func (s *Session) Finish(st *status.Status, _ metadata.MD) error {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	for s.lent != nil { // it may come back, and another call gets it
		s.changed.Wait()
	}
	s.end = st
	s.tell()
	for len(s.replies) > 0 && s.ctx.Err() == nil {
		s.changed.Wait()
	}
	var err error
	if len(s.replies) > 0 {
		err = errLeft
	}
	s.forget()
	return err
}

// Abort implements downstream. A poll that waits is told that the call has failed.
func (s *Session) Abort() {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if s.end == nil {
		f := report.New(report.ReasonInternal, "internal error")
		s.Reason, s.end = f.Reason, f.Status("", false)
	}
	s.tell()
	s.changed.Broadcast()
	s.forget()
}

// forget removes a session whose call has ended, and frees what is left there. The caller
// holds mu.
func (s *Session) forget() {
	s.table.remove(s)
	if s.unwatch != nil {
		s.unwatch()
	}
	for len(s.replies) > 0 {
		s.pop().m.Free()
	}
	s.first.Free()
	s.first = nil
}

// A reply waits for a poll.
type reply struct {
	m  mem.BufferSlice
	of codec.ServerToAgent
}

// prefixBytes is the size of the prefix of each message. gRPC PROTOCOL-HTTP2,
// "Length-Prefixed-Message".
const prefixBytes = 5

// yields reports whether the last reply yields to next: it says nothing, and the agent
// knows the server's capabilities, or next has them. docs/decisions/0048-empty-answers-yield.md
func (s *Session) yields(next reply) bool {
	n := len(s.replies)
	if n == 0 || n == 1 && s.state.agent == fetches {
		return false
	}
	last := s.replies[n-1].of
	return last.SaysNothing && (s.told || last.Capabilities == 0 || next.of.Capabilities != 0)
}

// push adds a reply, which counts with the call from then on.
func (s *Session) push(r reply) {
	if s.yields(r) {
		last := len(s.replies) - 1
		s.release(s.replies[last]).Free()
		s.replies = s.replies[:last]
	}
	s.replies = append(s.replies, r)
	s.held.Add(memory.ClassOf(r.m.Len()), r.m.Len())
}

func (s *Session) pop() reply {
	r := s.replies[0]
	s.replies[0] = reply{}
	if s.replies = s.replies[1:]; len(s.replies) == 0 {
		s.replies = nil
	}
	s.release(r)
	return r
}

// release undoes the counting of a reply, and returns its message.
func (s *Session) release(r reply) mem.BufferSlice {
	s.held.Sub(memory.ClassOf(r.m.Len()), r.m.Len())
	return r.m
}

// tell wakes the poll that is under way.
func (s *Session) tell() {
	if s.poll != nil {
		select {
		case s.poll.news <- struct{}{}:
		default: // it has to look already
		}
	}
}

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

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Session is the client's end of one call, for an agent that polls. Its exported
// methods are those of a downstream of bridge, and only the call calls them.
type Session struct {
	// Reason is why bridge itself ends the call. It is set before Finish.
	Reason report.Reason

	table *Table
	owner Owner
	held  *memory.Entry  // the call's
	work  sync.WaitGroup // pass and receive

	// The table's mu guards the rest.
	key, renamed key
	changed      sync.Cond       // Send and Finish wait
	ctx          context.Context // the call's, from Bind on: it ends with the session
	cancel       context.CancelCauseFunc
	unwatch      func() bool

	pass, receive      func() error // see Ready; nil: the call isn't open yet
	passing, receiving bool         // they run, or nothing is left to do for them
	stopped            bool         // they don't begin any more

	message mem.BufferSlice // from a poll, until Recv takes it; nil: none
	first   mem.BufferSlice // of an earlier poll, which a call couldn't pass on; Recv takes it before message
	goodbye bool            // the message is the agent's last
	said    bool            // Recv has returned that one
	lent    bool            // Recv has returned the message of the poll that waits
	refused bool            // the call takes no more messages: it has ended

	replies []mem.BufferSlice
	end     *status.Status // of the call; nil: it goes on
	over    error          // why the session ends before the call has; nil: it doesn't

	poll   *turn // nil: none is under way
	awaits bool  // it waits for a reply
	polled time.Time
	before *Session // in the list of idle sessions
	after  *Session
	isIdle bool // it is in that list
}

// Bind implements downstream.
func (s *Session) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	s.table.mu.Lock()
	s.ctx, s.cancel = ctx, cancel
	over := s.over
	s.unwatch = context.AfterFunc(ctx, s.wake) // of a Send or a Finish
	s.table.mu.Unlock()
	if over != nil {
		cancel(over)
	}
}

func (s *Session) wake() {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.changed.Broadcast()
}

// Ready tells that the call is open. From now on each poll starts pass, which passes on what
// Recv returns, and receive, which sends replies. They end with the error of Recv or Send;
// after ErrEnough the next poll starts them again. So a call costs no goroutine between two
// polls.
func (s *Session) Ready(pass, receive func() error) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.pass, s.receive = pass, receive
	s.tell()
	s.kick()
}

// ErrEnough is the error of Recv and Send that nothing is left to do until the next poll.
var ErrEnough = errors.New("no poll waits")

// kick starts pass and receive if there is something to do for them. The caller holds mu.
func (s *Session) kick() {
	if s.pass == nil || s.stopped {
		return
	}
	if !s.passing && s.message != nil {
		s.passing = true
		s.work.Go(func() { s.run(s.pass, &s.passing) })
	}
	if !s.receiving && (s.said || s.refused || s.awaits && len(s.replies) == 0) {
		s.receiving = true
		s.work.Go(func() { s.run(s.receive, &s.receiving) })
	}
}

func (s *Session) run(f func() error, active *bool) {
	if err := f(); !errors.Is(err, ErrEnough) {
		return
	}
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	*active = false
	s.kick() // for what has come meanwhile
}

// Stop waits for pass and receive, and lets none begin. The call must have ended.
func (s *Session) Stop() {
	s.table.mu.Lock()
	s.stopped = true
	s.table.mu.Unlock()
	s.work.Wait()
}

// Prepare implements downstream. The message comes by Recv.
func (*Session) Prepare(context.Context) error { return nil }

// Recv returns the message of a poll, or ErrEnough. The agent's last one is followed by
// io.EOF.
func (s *Session) Recv() (mem.BufferSlice, error) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	if m := s.first; m != nil {
		s.first = nil
		return s.held.Adopt(m), nil
	}
	switch {
	case s.message == nil && s.said:
		return nil, io.EOF
	case s.message == nil:
		return nil, ErrEnough
	}
	m := s.message
	s.message, s.said, s.lent = nil, s.goodbye, true
	s.tell()
	s.kick()
	return s.held.Adopt(m), nil
}

// Return takes back the message that Recv has returned: the call had ended before. Another
// call gets the message: at once if its poll still waits, otherwise with the next poll.
func (s *Session) Return(m mem.BufferSlice) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.refused = true
	if s.lent {
		s.message = m
	} else {
		s.first = m
	}
	s.changed.Broadcast() // Send
	s.tell()
	s.kick()
}

// SendHeader implements downstream. A poll's answer has no room for metadata.
func (*Session) SendHeader(metadata.MD, bool) error { return nil }

// Send implements downstream. It keeps one reply; further ones wait where they are, and in
// the end so does the backend.
func (s *Session) Send(m mem.BufferSlice, _ bool) error {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	for len(s.replies) > 0 && !s.refused && s.ctx.Err() == nil {
		s.changed.Wait()
	}
	if s.ctx.Err() != nil {
		m.Free()
		return context.Cause(s.ctx)
	}
	s.push(m)
	s.tell()
	if s.said || s.refused {
		return nil // the call's end is near
	}
	return ErrEnough
}

// errLeft reports that an agent has come for none of the last replies.
var errLeft = errors.New("the agent didn't fetch its last replies")

// Finish implements downstream. Replies that are left keep the session for the next
// polls, as long as the call's context lives.
func (s *Session) Finish(st *status.Status, _ metadata.MD) error {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	s.end = st
	s.tell()
	for len(s.replies) > 0 && s.ctx.Err() == nil {
		s.changed.Wait()
	}
	t.remove(s)
	t.count--
	s.unwatch()
	var err error
	for len(s.replies) > 0 {
		s.pop().Free()
		err = errLeft
	}
	s.first.Free()
	s.first = nil
	return err
}

// push adds a reply, which counts with the call from then on.
func (s *Session) push(m mem.BufferSlice) {
	s.replies = append(s.replies, m)
	s.held.Add(memory.ClassOf(m.Len()), m.Len())
}

// pop removes the oldest reply and returns it.
func (s *Session) pop() mem.BufferSlice {
	m := s.replies[0]
	s.replies[0] = nil
	if s.replies = s.replies[1:]; len(s.replies) == 0 {
		s.replies = nil
	}
	s.held.Sub(memory.ClassOf(m.Len()), m.Len())
	return m
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

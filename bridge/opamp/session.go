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
	held  *memory.Entry // the call's

	// The table's mu guards the rest.
	key, renamed key
	changed      sync.Cond       // Recv, Send and Finish wait
	ctx          context.Context // the call's, from Bind on: it ends with the session
	cancel       context.CancelCauseFunc
	unwatch      func() bool

	message mem.BufferSlice // from a poll, until Recv takes it; nil: none
	goodbye bool            // the message is the agent's last
	said    bool            // Recv has returned that one
	reading bool            // the call is open: Recv was called

	replies []mem.BufferSlice
	bytes   int            // of them
	end     *status.Status // of the call; nil: it goes on
	over    error          // why the session ends before the call has; nil: it doesn't

	poll   *turn // nil: none is under way
	polled time.Time
	before *Session // in the list of idle sessions
	after  *Session
	isIdle bool // it is in that list
}

// The replies that a session has besides the one that a poll is taking. bridge's limit
// on what a transport may have read ahead.
const (
	maxReplies    = 16
	maxReplyBytes = 64 << 10
)

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

// Prepare implements downstream. The message comes by Recv.
func (*Session) Prepare(context.Context) error { return nil }

// Recv returns the next poll's message. The agent's last one is followed by io.EOF.
func (s *Session) Recv() (mem.BufferSlice, error) {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	s.reading = true
	s.tell()
	for s.message == nil && s.end == nil && !s.said {
		s.changed.Wait()
	}
	if s.message == nil || s.end != nil {
		return nil, io.EOF
	}
	m := s.message
	s.message, s.said = nil, s.goodbye
	s.tell()
	return s.held.Adopt(m), nil
}

// SendHeader implements downstream. A poll's answer has no room for metadata.
func (*Session) SendHeader(metadata.MD, bool) error { return nil }

// Send implements downstream. While the agent hasn't taken earlier replies, Send waits,
// and so does the backend.
func (s *Session) Send(m mem.BufferSlice, _ bool) error {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	for s.full(m.Len()) && s.ctx.Err() == nil {
		s.changed.Wait()
	}
	if s.ctx.Err() != nil {
		m.Free()
		return context.Cause(s.ctx)
	}
	s.push(m)
	s.tell()
	return nil
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
	s.changed.Broadcast() // Recv
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
	return err
}

// full reports whether there is no room for a reply of n bytes. There always is for one.
func (s *Session) full(n int) bool {
	return len(s.replies) >= maxReplies || len(s.replies) > 0 && s.bytes+n > maxReplyBytes
}

// push adds a reply, which counts with the call from then on.
func (s *Session) push(m mem.BufferSlice) {
	s.replies = append(s.replies, m)
	s.bytes += m.Len()
	s.held.Add(memory.ClassOf(m.Len()), m.Len())
}

// pop removes the oldest reply and returns it.
func (s *Session) pop() mem.BufferSlice {
	m := s.replies[0]
	s.replies[0] = nil
	if s.replies = s.replies[1:]; len(s.replies) == 0 {
		s.replies = nil
	}
	s.bytes -= m.Len()
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

package upstream

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

const (
	// maxRetriedBytes bounds the messages that are kept for another attempt. It is less
	// than HTTP/2's initial window, so that sending them again doesn't wait for the
	// backend.
	maxRetriedBytes = 32 << 10

	// maxUnseenBytes is that bound without a policy: grpc-go keeps as much, for the
	// second attempt that it makes by itself.
	maxUnseenBytes = 16 << 10

	// keptMessageBytes is about what a kept message takes besides its bytes.
	keptMessageBytes = 64
)

// fewAddresses is how many grpc-go tries by itself if a backend refuses a call unseen.
// gRFC A6, "Transparent Retries".
const fewAddresses = 2

// The attempts are the part of a Stream whose call may be sent again.
//
// The goroutine that receives begins each attempt. It does so with sending locked, so
// that the goroutine that sends continues with the new stream.
type attempts struct {
	upstream *Upstream
	open     func(previous int) error // begins an attempt
	policy   *report.Retry            // nil: the call is sent again only if the backend has refused it unseen
	most     int                      // of keptBytes
	entry    *memory.Entry            // counts the kept messages, and has the trace; may be nil

	// Only the receiver uses these.
	made     int   // so far, as the policy counts them
	settled  bool  // an answer has begun, or no other attempt is due
	end      error // how the call ended, if no answer has begun
	unopened bool  // the last attempt got no stream
	reached  bool  // an attempt before the last one may have reached the backend

	sending sync.Mutex // held to send, and to change the stream, until final
	closed  bool       // the client has half-closed; guarded by sending
	final   atomic.Bool

	mu        sync.Mutex
	kept      []mem.BufferSlice // sent so far
	keptBytes int               // their memory
	counted   int               // of these, with entry: a large message counts by itself
	committed bool              // nothing is kept, so the call can't be sent again
}

// openRetried opens a stream that may be replaced until an answer begins.
func (u *Upstream) openRetried(s *Stream, giveUp context.CancelCauseFunc, r Request) error {
	plain := r.Metadata
	a := &attempts{upstream: u, most: maxUnseenBytes, entry: r.Held, made: 1}
	if r.Retry != nil && r.Retry.Attempts > 1 {
		a.policy, a.most = r.Retry, maxRetriedBytes
	}
	s.again = a
	a.open = func(previous int) error {
		if previous > 0 {
			r.Metadata = plain.Copy()
			r.Metadata["grpc-previous-rpc-attempts"] = []string{strconv.Itoa(previous)}
		}
		return u.attempt(s, giveUp, r)
	}
	end := a.open(0)
	if end == nil || r.Elsewhere {
		r.Elsewhere = false // the call stays here
		return end
	}
	return s.retry(end, nil)
}

// settle returns when an answer has begun, or no other attempt is due.
func (s *Stream) settle() {
	a := s.again
	if a.settled {
		return
	}
	a.settled = true
	defer a.final.Store(true)
	defer a.commit()
	for {
		if len(s.header()) > 0 {
			a.succeeded()
			return
		}
		var end error
		for end == nil { // without a header, there is no message
			var m mem.BufferSlice
			m, end = s.recv()
			m.Free()
		}
		if a.end = s.retry(end, s.stream.Trailer()); a.end != nil {
			return
		}
	}
}

// retry begins other attempts after the end of one. It returns nil as soon as there is
// a stream, else how the call ends.
func (s *Stream) retry(end error, trailer metadata.MD) error {
	a := s.again
	for end != nil {
		counter, last := s.pause(end, trailer)
		if last != nil {
			return last
		}
		committed := false
		if committed, last = s.reopenUnlessCommitted(); committed {
			return a.last(end)
		}
		end, trailer = last, nil
		if end == nil {
			counter.Add(1)
		}
	}
	return nil
}

// reopenUnlessCommitted begins an attempt, unless the call can't be sent again because of
// what was sent meanwhile.
func (s *Stream) reopenUnlessCommitted() (committed bool, err error) {
	a := s.again
	a.sending.Lock()
	defer a.sending.Unlock()
	if a.isCommitted() {
		return true, nil
	}
	if a.entry != nil {
		a.entry.Trace().Note(report.Retried)
	}
	return false, s.reopen()
}

// reopen begins an attempt, and sends what was sent before. sending is held.
func (s *Stream) reopen() error {
	a := s.again
	if s.call != nil { // else no attempt has had a stream
		s.call.Flow.UnqueueAll()
	}
	err := a.open(a.made - 1)
	a.unopened = err != nil
	if err != nil {
		return err
	}
	for _, m := range a.kept { // only Send adds to it, and only settle commits from here on
		m.Ref()
		if s.send(m) != nil {
			break // Recv has the status
		}
	}
	if a.closed {
		_ = s.stream.CloseSend() // always nil; the status comes from Recv
	}
	return nil
}

// sendRetried keeps the message for another attempt, if it can, and sends it.
func (s *Stream) sendRetried(m mem.BufferSlice) error {
	a := s.again
	a.sending.Lock()
	defer a.sending.Unlock()
	kept := a.keep(m)
	err := s.send(m)
	if kept && errors.Is(err, io.EOF) {
		return nil // Recv decides whether there is another attempt, which sends it
	}
	return err
}

// keep reports whether the message is kept for another attempt.
func (a *attempts) keep(m mem.BufferSlice) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	bytes := m.Len() + keptMessageBytes
	if a.keptBytes+bytes > a.most {
		a.commitLocked()
	}
	if a.committed {
		return false
	}
	m.Ref()
	a.kept = append(a.kept, slices.Clone(m)) // who sends may use the slice again
	a.keptBytes += bytes
	if a.entry == nil {
		return true
	}
	if m.Len() > memory.RoomlessBytes { // its claim counts it until it is freed
		bytes = keptMessageBytes
	}
	a.entry.Add(memory.Small, bytes)
	a.counted += bytes
	return true
}

func (a *attempts) isCommitted() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.committed
}

// commit gives up any other attempt, and what is kept for it.
func (a *attempts) commit() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.commitLocked()
}

func (a *attempts) commitLocked() {
	a.committed = true
	for _, m := range a.kept {
		m.Free()
	}
	if a.counted > 0 {
		a.entry.Sub(memory.Small, a.counted)
	}
	a.kept, a.keptBytes, a.counted = nil, 0, 0
}

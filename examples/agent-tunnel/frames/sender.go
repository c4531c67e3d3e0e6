// Package frames has what the edge and the agents do alike: they carry many HTTP
// requests as frames on one stream.
package frames

import (
	"errors"
	"sync"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// A Sender sends the frames of many requests on one stream, one at a time.
type Sender struct {
	Stream interface {
		Send(frame *tunnelpb.Frame) error
	}

	mu     sync.Mutex // held while a frame is sent: a stream has one writer at a time
	closed bool
}

// Send waits while the other end takes no more. That isn't for long: it reads all frames
// at once, since the windows bound what it has to keep.
func (s *Sender) Send(frame *tunnelpb.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("this end sends no more frames")
	}
	return s.Stream.Send(frame)
}

// Close makes all later frames fail.
func (s *Sender) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

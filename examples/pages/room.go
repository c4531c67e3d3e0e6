package main

import (
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/examples/pages/roompb"
)

// backlog is how many lines wait for a member that reads slowly.
const backlog = 64

// A room passes each line to all its members.
type room struct {
	roompb.UnimplementedRoomServer

	mu      sync.Mutex
	members map[chan *roompb.Line]struct{} // closed for a member that reads too slowly
}

func (r *room) Join(stream grpc.BidiStreamingServer[roompb.Line, roompb.Line]) error {
	lines := make(chan *roompb.Line, backlog)
	r.change(func() { r.members[lines] = struct{}{} })
	defer r.change(func() { delete(r.members, lines) })
	ended := make(chan error, 1)
	go func() { ended <- r.listen(stream) }() // ends with the stream, after Join at the latest
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return status.Error(codes.ResourceExhausted, "you read more slowly than the room talks")
			}
			if err := stream.Send(line); err != nil {
				return err
			}
		case err := <-ended:
			return err
		}
	}
}

// listen takes what a member says, until its half-close.
func (r *room) listen(stream grpc.BidiStreamingServer[roompb.Line, roompb.Line]) error {
	for {
		line, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.tell(line.GetName(), line.GetText())
		r.mu.Unlock()
	}
}

// change lets a member come or go, and tells the others.
func (r *room) change(members func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	members()
	r.tell("", "")
}

// tell sends a line to all members. The caller holds the lock.
func (r *room) tell(name, text string) {
	line := &roompb.Line{Name: name, Text: text, Members: uint32(len(r.members))}
	for member := range r.members {
		select {
		case member <- line:
		default:
			delete(r.members, member)
			close(member)
		}
	}
}

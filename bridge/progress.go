package bridge

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// The pump calls the client and the backend through these methods only, so every wait
// is noted in one place.

// recv reads the client's next message.
func (r *running) recv() (mem.BufferSlice, error) {
	r.call.progress.BeginReceive()
	defer r.call.progress.EndReceive()
	return r.down.Recv()
}

// awaitEnd waits for the client to go away.
func (r *running) awaitEnd(down endAwaiter) error {
	r.call.progress.BeginReceive()
	defer r.call.progress.EndReceive()
	return down.AwaitEnd()
}

// pass sends a message to the backend.
func (r *running) pass(m mem.BufferSlice) error {
	if r.conn != nil {
		r.call.held.Add(memory.Small, memory.BehindBytes)
		defer r.call.held.Sub(memory.Small, memory.BehindBytes)
	}
	if r.up.Full() {
		r.call.progress.BlockedIn.Store(true)
		defer r.call.progress.BlockedIn.Store(false)
	}
	return r.up.Send(m)
}

// sendHeader sends the client the header.
func (r *running) sendHeader(md metadata.MD, more bool) error {
	r.call.progress.BeginSend()
	defer r.call.progress.EndSend()
	return r.down.SendHeader(md, more)
}

// send sends the client a message.
func (r *running) send(m mem.BufferSlice, more bool) error {
	r.call.progress.BeginSend()
	defer r.call.progress.EndSend()
	return r.down.Send(m, more)
}

// finish tells the client the end.
func (r *running) finish(st *status.Status, trailer metadata.MD) error {
	r.call.progress.BeginSend()
	defer r.call.progress.EndSend()
	return r.down.Finish(st, trailer)
}

package bridge

import (
	"io"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A lookingDown is a downstream that looks at the call's progress while the call
// waits for it.
type lookingDown struct {
	downstream
	look func(method string)
}

func (d *lookingDown) Recv() (mem.BufferSlice, error) {
	d.look("Recv")
	return nil, io.EOF
}

func (d *lookingDown) SendHeader(metadata.MD, bool) error {
	d.look("SendHeader")
	return nil
}

func (d *lookingDown) Send(m mem.BufferSlice, _ bool) error {
	d.look("Send")
	m.Free()
	return nil
}

func (d *lookingDown) Finish(*status.Status, metadata.MD) error {
	d.look("Finish")
	return nil
}

// TestWaitsForTheClientAreNoted, and only while they last.
func TestWaitsForTheClientAreNoted(t *testing.T) {
	type state struct {
		receiving, sending bool
		sends              int64
	}
	r := &call{watched: watched{held: newEntry(1 << 20), progress: progress.Record{Clock: parts.StandingClock()}}}
	p := &r.progress
	now := func() state { return state{p.Receiving.Load(), p.Sending.Load() > 0, p.Sends.Load()} }
	got := map[string]state{}
	r.down = &lookingDown{look: func(method string) {
		got[method] = now()
		if method != "Recv" {
			p.SentPiece() // as a WebSocket does, of a large frame
		}
	}}
	_, _ = r.recv() // io.EOF
	_ = r.sendHeader(nil, false)
	if p.Sending.Load() != 0 {
		t.Error("a header that was sent counts as under way")
	}
	_ = r.send(nil, false)
	if p.Sending.Load() != 0 {
		t.Error("a message that was sent counts as under way")
	}
	_ = r.finish(status.New(codes.OK, ""), nil)
	for method, want := range map[string]state{
		"Recv":       {receiving: true},
		"SendHeader": {sending: true, sends: 1},
		"Send":       {sending: true, sends: 2},
		"Finish":     {sending: true, sends: 3},
	} {
		if got[method] != want {
			t.Errorf("within %s: %+v, want %+v", method, got[method], want)
		}
	}
	if got, want := now(), (state{sends: 3}); got != want {
		t.Errorf("at the end: %+v, want %+v", got, want)
	}
}

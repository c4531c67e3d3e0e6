package bridge

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
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
	r := &running{call: &call{held: newEntry(1 << 20), progress: progress{clock: newProgress().clock}}}
	p := &r.call.progress
	now := func() state { return state{p.receiving.Load(), p.sending.Load() > 0, p.sends.Load()} }
	got := map[string]state{}
	r.down = &lookingDown{look: func(method string) {
		got[method] = now()
		if method != "Recv" {
			p.sentPiece() // as a WebSocket does, of a large frame
		}
	}}
	_, _ = r.recv() // io.EOF
	_ = r.sendHeader(nil, false)
	if p.sending.Load() != 0 {
		t.Error("a header that was sent counts as under way")
	}
	_ = r.send(nil, false)
	if p.sending.Load() != 0 {
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

// TestWaitForTheBackendIsNoted while the backend reads nothing.
func TestWaitForTheBackendIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		q, _ := repliesOf(t, func(ss grpc.ServerStream) error {
			<-goOn
			return echo(ss)
		})
		r := &running{call: &call{held: newEntry(1 << 20), progress: progress{clock: newProgress().clock}}, up: q.up}
		var sent atomic.Int64
		var sending sync.WaitGroup
		const messages = 10
		sending.Go(func() {
			for range messages {
				if err := r.pass(mem.BufferSlice{mem.SliceBuffer(make([]byte, 100<<10))}); err != nil {
					t.Error(err)
				}
				sent.Add(1)
			}
		})
		synctest.Wait()
		if r.call.progress.passing.Load() == 0 || sent.Load() == messages {
			t.Errorf("after %d messages no wait is noted", sent.Load())
		}
		close(goOn)
		for range messages { // the backend waits for the client in its turn
			m, err := q.up.Recv()
			if err != nil {
				t.Fatal(err)
			}
			m.Free()
		}
		sending.Wait()
		if r.call.progress.passing.Load() != 0 {
			t.Error("a message that was sent counts as under way")
		}
	})
}

// TestTakenMovesOnWhatIsUnderWay, and nothing that began since.
func TestTakenMovesOnWhatIsUnderWay(t *testing.T) {
	p := newProgress()
	p.beginSend()
	began := p.sending.Load()
	p.clock.Add(5)
	p.taken(began)
	if got, want := p.sending.Load(), began+5; got != want {
		t.Errorf("the client took something: under way since %d, want %d", got, want)
	}
	p.clock.Add(5)
	p.taken(began)
	if got, want := p.sending.Load(), began+5; got != want {
		t.Errorf("a write of before: under way since %d, want %d", got, want)
	}
	p.endSend()
	p.taken(began)
	if got := p.sending.Load(); got != 0 {
		t.Errorf("nothing is under way, and it says since %d", got)
	}
}

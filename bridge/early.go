package bridge

import (
	"errors"
	"io"
	"sync/atomic"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// maxEarly is how many reads may be made early: a message, the half-close behind it,
// and the client's end behind that.
const maxEarly = 3

// earlyReads reads from the client while the Authenticator is asked. A WebSocket's
// close frame is seen only by reading, and most clients have sent their one message
// and their half-close before it. The pump gets what was read. At most two messages
// are held. If the client has sent more, its close frame isn't seen before the
// Authenticator returns, but the end of its connection is.
type earlyReads struct {
	stopped atomic.Bool
	came    chan earlyRead // closed when no more is read early; it has room for all
}

// An earlyRead is what Recv returned.
type earlyRead struct {
	m   mem.BufferSlice
	err error
}

// read is the goroutine. It ends the call if the client goes away. Finish makes a read
// that waits return.
func (e *earlyReads) read(r *running) {
	defer close(e.came)
	ended := false
	for n := range maxEarly {
		if n > 0 && e.stopped.Load() || n == maxEarly-1 && !ended {
			return
		}
		m, err := r.recvNow()
		e.came <- earlyRead{m, err}
		var f *report.Fault
		switch {
		case errors.As(err, &f) && f.Reason == report.ReasonClientGone:
			r.cancel(err)
			return
		case err != nil && (ended || !errors.Is(err, io.EOF)):
			return // the pump acts on it
		}
		ended = err != nil
	}
}

// readEarly reads early while do runs.
func (r *running) readEarly(do func()) {
	r.early = &earlyReads{came: make(chan earlyRead, maxEarly)}
	go r.early.read(r) // endEarly waits for it
	defer r.early.stopped.Store(true)
	do()
}

// endEarly waits until nothing is read early any more, after Finish, and frees what
// nobody took.
func (r *running) endEarly() {
	if r.early == nil {
		return
	}
	for got := range r.early.came {
		got.m.Free()
	}
}

package opamp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/tasks"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

const keySessions = "routes[].message.sessions"

// A stream is a call as the backend's method sees it.
type stream struct {
	*Session
	ctx      context.Context
	in, out  chan string
	returned chan struct{}  // closed when the method has returned
	result   *status.Status // what it returned; then out is closed
	unread   atomic.Int64   // bytes of replies that are on their way
	passing  sync.WaitGroup // pass
}

// recv returns the text of the next message, or "" at the end.
func (s *stream) recv() string {
	select {
	case m := <-s.in:
		return m
	case <-s.ctx.Done():
		return ""
	}
}

// pass passes the agent's messages on to the method, as long as it runs.
func (s *stream) pass() error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			close(s.in)
			return nil
		}
		if err != nil {
			return err
		}
		text := said(m)
		m.Free()
		select {
		case <-s.returned:
			return nil
		default:
		}
		select {
		case <-s.returned:
			return nil
		case s.in <- text:
		case <-s.ctx.Done():
		}
	}
}

// receive sends the agent the method's replies, and returns the status of their end.
func (s *stream) receive() (*status.Status, error) {
	if s.ctx.Err() != nil {
		return status.New(codes.Canceled, ""), context.Cause(s.ctx)
	}
	for {
		select {
		case reply, ok := <-s.out:
			if !ok {
				return s.result, nil
			}
			err := s.Send(mem.BufferSlice{mem.SliceBuffer(reply)}, false)
			s.unread.Add(-int64(len(reply)) - prefixBytes)
			if err != nil {
				return status.New(codes.Canceled, ""), err
			}
		case <-s.ctx.Done():
			return status.New(codes.Canceled, ""), context.Cause(s.ctx)
		}
	}
}

func (s *stream) send(reply string) error {
	s.unread.Add(int64(len(reply)) + prefixBytes)
	select {
	case s.out <- reply:
		return nil
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
}

// said is what an agent's message has after its id.
func said(m mem.BufferSlice) string {
	return string(m.Materialize()[len(nothing(agent(0)).Materialize()):])
}

// A world has a table, and the calls of its sessions.
type world struct {
	t       *testing.T
	table   *Table
	account *memory.Account
	method  func(s *stream) *status.Status
	window  int           // how many messages are on their way to a method that reads none
	ahead   int           // how many of its replies are on their way back
	delay   time.Duration // until a call is open
	calls   sync.WaitGroup

	mu     sync.Mutex
	opened int
	ends   []error // why calls ended early, or what Finish returned
}

// newWorld returns a world whose backend has this method.
func newWorld(t *testing.T, method func(s *stream) *status.Status) *world {
	w := &world{t: t, table: NewTable(DefaultOptions(nil, func() int { return 100 }, keySessions)), account: memory.New(256<<20, 0), method: method, window: 16, ahead: 16}
	t.Cleanup(func() {
		w.calls.Wait()
		if n := w.table.Sessions(); n != 0 || len(w.table.sessions) != 0 || w.table.idle.first != nil {
			t.Errorf("%d sessions are left, and %d ids", n, len(w.table.sessions))
		}
		if held := w.account.Held(); held != 0 {
			t.Errorf("%d bytes are left in the account", held)
		}
	})
	return w
}

// start starts the call of a session. As in bridge, the end of the replies or of the
// context ends the call.
func (w *world) start(s *Session) error {
	w.mu.Lock()
	w.opened++
	w.mu.Unlock()
	ctx, cancel := context.WithCancelCause(context.Background())
	st := &stream{Session: s, ctx: ctx, in: make(chan string, w.window), out: make(chan string, w.ahead), returned: make(chan struct{})}
	conclude := func(end *status.Status) {
		defer w.calls.Done()
		defer s.held.Settle()
		err := context.Cause(ctx)
		if failed := s.Finish(end, nil); err == nil {
			err = failed
		}
		cancel(nil)
		st.passing.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ends = append(w.ends, err)
	}
	w.calls.Add(1)
	w.calls.Go(func() {
		s.Bind(ctx, cancel)
		_ = s.Prepare(ctx)
		_ = s.SendHeader(metadata.MD{}, true)
		select {
		case <-time.After(w.delay):
		case <-ctx.Done():
			conclude(status.New(codes.Canceled, ""))
			return
		}
		s.Park(
			func(done func(error)) { st.passing.Go(func() { done(st.pass()) }) },
			func(parked func()) {
				go func() { // w.calls waits for the call
					end, err := st.receive()
					if errors.Is(err, tasks.ErrParked) {
						parked()
						return
					}
					conclude(end)
				}()
			}, st.unread.Load)
		st.result = w.method(st)
		close(st.returned)
		close(st.out)
	})
	return nil
}

func agent(n byte) codec.OpAMPUID { return codec.OpAMPUID(bytes.Repeat([]byte{n}, 16)) }

// message is an agent's message with some text, for the test's backend, after its id.
func message(u codec.OpAMPUID, text string) mem.BufferSlice {
	return mem.BufferSlice{mem.SliceBuffer(append(codec.AppendServerToAgent(nil, u), text...))}
}

// poll is a poll of an agent.
func (w *world) poll(n byte, text string) Poll {
	return Poll{
		Scope: "/v1/opamp", Agent: codec.AgentToServer{UID: agent(n)}, Owner: NewOwner("token"),
		Message: message(agent(n), text), Held: w.account.NewEntry(), Start: w.start,
	}
}

// post polls, and returns the reply.
func (w *world) post(p Poll) (reply string, err error) {
	p.Deliver = func(m mem.BufferSlice) error {
		reply = string(m.Materialize())
		return nil
	}
	err = w.table.Post(w.t.Context(), p)
	return reply, err
}

// hears polls, and checks the reply and the time until then.
func (w *world) hears(p Poll, want string, after time.Duration) {
	w.t.Helper()
	begin := time.Now()
	if got, err := w.post(p); got != want || err != nil || time.Since(begin) != after {
		w.t.Errorf("the reply %q (%v) after %v, want %q after %v", got, err, time.Since(begin), want, after)
	}
}

// refused polls, and checks the fault and the time until then.
func (w *world) refused(p Poll, want report.Reason, retry, after time.Duration) {
	w.t.Helper()
	begin := time.Now()
	got, err := w.post(p)
	f := (*report.Fault)(nil)
	if !errors.As(err, &f) || f.Reason != want || f.Retry != retry || got != "" || time.Since(begin) != after {
		w.t.Errorf("the reply %q and the error %v after %v, want %s after %v, and to retry after %v", got, err, time.Since(begin), want, after, retry)
	}
}

// expire lets the time pass in which sessions end that nobody polls.
func (w *world) expire() {
	time.Sleep(w.table.options.Expiry)
	w.calls.Wait()
}

// ended checks why the calls ended so far. Two may end at the same moment, in any order.
func (w *world) ended(want ...report.Reason) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := make([]report.Reason, len(w.ends))
	for i, err := range w.ends {
		if f := (*report.Fault)(nil); errors.As(err, &f) {
			got[i] = f.Reason
		} else if err != nil {
			got[i] = report.Reason(err.Error())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		w.t.Errorf("calls ended with %q (%v), want %q", got, w.ends, want)
	}
}

func nothingFor(n byte) string { return string(nothing(agent(n)).Materialize()) }

var ok = status.New(codes.OK, "")

// silent is a method that reads and says nothing.
func silent(s *stream) *status.Status {
	for s.recv() != "" {
	}
	return ok
}

// echo is a method that answers each message with its text.
func echo(s *stream) *status.Status {
	for m := s.recv(); m != ""; m = s.recv() {
		if s.send(m) != nil {
			break
		}
	}
	return ok
}

package opamp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// inBubble runs a test whose time stands still while anything runs.
func inBubble(t *testing.T, method func(s *stream) *status.Status, test func(w *world)) {
	synctest.Test(t, func(t *testing.T) { test(newWorld(t, method)) })
}

func TestPollsShareOneCall(t *testing.T) {
	inBubble(t, echo, func(w *world) {
		for i := range 5 {
			text := fmt.Sprintf("message %d", i)
			w.hears(w.poll(1, text), text, 0)
			time.Sleep(Interval)
		}
		w.hears(w.poll(2, "another's"), "another's", 0)
		w.expire()
		if w.opened != 2 {
			t.Errorf("%d calls for two agents", w.opened)
		}
		w.ended(report.ReasonClientGone, report.ReasonClientGone)
	})
}

func TestPollWithoutReplyWaitsASecond(t *testing.T) {
	inBubble(t, silent, func(w *world) {
		w.hears(w.poll(1, "hello"), nothingFor(1), time.Second)
		w.hears(w.poll(1, "again"), nothingFor(1), time.Second)
		w.expire()
	})
}

// TestLateRepliesComeInOrder: each later poll gets one at once, the oldest first.
func TestLateRepliesComeInOrder(t *testing.T) {
	inBubble(t, func(s *stream) *status.Status {
		for m := s.recv(); m != ""; m = s.recv() {
			for part := range strings.SplitSeq(m, " ") {
				if part == "wait" {
					time.Sleep(3 * time.Second)
				} else {
					_ = s.send(part)
				}
			}
		}
		return ok
	}, func(w *world) {
		w.hears(w.poll(1, "a b wait c"), "a", 0)
		time.Sleep(Interval)
		w.hears(w.poll(1, "d"), "b", 0)
		w.hears(w.poll(1, "wait e"), "c", 0)
		time.Sleep(Interval)
		w.hears(w.poll(1, "f"), "d", 0)
		w.expire()
	})
}

// TestRepliesStayWithTheBackend: a session reads a reply only for a poll that waits, and
// has no goroutine otherwise.
func TestRepliesStayWithTheBackend(t *testing.T) {
	sent := 0
	inBubble(t, func(s *stream) *status.Status {
		s.recv()
		for s.send(strings.Repeat("x", 20<<10)) == nil {
			sent++
		}
		return ok
	}, func(w *world) {
		w.ahead = 0
		for polls := 1; polls < 5; polls++ {
			w.hears(w.poll(1, "hello"), strings.Repeat("x", 20<<10), 0)
			synctest.Wait()
			if sent != polls {
				t.Errorf("the backend could send %d replies for %d polls", sent, polls)
			}
			w.table.mu.Lock()
			s := w.table.sessions[key{"/v1/opamp", NewOwner("token"), agent(1)}]
			if s.state != (state{parked, parked, away}) || len(s.replies) > 0 {
				t.Errorf("a goroutine or a reply is left after poll %d", polls)
			}
			w.table.mu.Unlock()
		}
		w.expire()
		w.ended(report.ReasonClientGone)
	})
}

// TestSessionExpires: 90 s after the last poll, at that very moment.
func TestSessionExpires(t *testing.T) {
	inBubble(t, echo, func(w *world) {
		expiry := w.table.options.Expiry
		for range 4 {
			w.hears(w.poll(1, "hello"), "hello", 0)
			w.hears(w.poll(2, "hello"), "hello", 0)
			time.Sleep(expiry - time.Nanosecond)
		}
		w.hears(w.poll(2, "hello"), "hello", 0)
		if n := w.table.Sessions(); n != 2 {
			t.Fatalf("%d sessions a moment before one expires", n)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		w.ended(report.ReasonClientGone)
		w.hears(w.poll(1, "back"), "back", 0)
		w.expire()
		if w.opened != 3 {
			t.Errorf("%d calls, want 3", w.opened)
		}
	})
}

// TestForeignPollReachesNothing: neither the replies of another's session, nor its time.
// It has a session of its own, at once: an agent whose token changes looks like that.
func TestForeignPollReachesNothing(t *testing.T) {
	inBubble(t, func(s *stream) *status.Status {
		s.recv()
		_ = errors.Join(s.send("first"), s.send("secret"))
		return silent(s)
	}, func(w *world) {
		w.hears(w.poll(1, "hello"), "first", 0)
		time.Sleep(w.table.options.Expiry / 2)
		foreign := w.poll(1, "what is there?")
		foreign.Owner = NewOwner("another token")
		w.hears(foreign, "first", 0)
		elsewhere := w.poll(1, "hello")
		elsewhere.Scope, elsewhere.Owner = "/another", foreign.Owner
		w.hears(elsewhere, "first", 0)
		w.hears(w.poll(1, "hello"), "secret", 0)
		foreign = w.poll(1, "and now?")
		foreign.Owner = NewOwner("another token")
		w.hears(foreign, "secret", 0)
		if w.opened != 3 {
			t.Errorf("%d calls, want 3", w.opened)
		}
		w.expire()
	})
}

// TestOnePollAtATime: the next one waits for a moment.
func TestOnePollAtATime(t *testing.T) {
	inBubble(t, func(s *stream) *status.Status {
		s.recv()
		time.Sleep(600 * time.Millisecond)
		_ = s.send("late")
		return echo(s)
	}, func(w *world) {
		var first sync.WaitGroup
		first.Go(func() { w.hears(w.poll(1, "hello"), "late", 600*time.Millisecond) })
		synctest.Wait()
		w.hears(w.poll(1, "next"), "next", 600*time.Millisecond)
		first.Wait()

		slow := w.poll(1, "slow")
		slow.Deliver = func(mem.BufferSlice) error {
			time.Sleep(2 * time.Second)
			return nil
		}
		first.Go(func() {
			if err := w.table.Post(w.t.Context(), slow); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		w.refused(w.poll(1, "too soon"), report.ReasonLimitExceeded, report.AnyMoment, time.Second)
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Millisecond)
		defer cancel()
		if err := w.table.Post(ctx, w.poll(1, "gone")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a poll whose client went away: %v", err)
		}
		first.Wait()
		w.hears(w.poll(1, "then"), "then", 0)
		w.expire()
	})
}

// renaming is a reply that gives the agent a new id.
func renaming(n byte) string {
	u := agent(n)
	return "\x42\x12\x0a\x10" + string(u)
}

// TestNewInstanceID: the agent is found by both ids until it uses the new one.
func TestNewInstanceID(t *testing.T) {
	inBubble(t, func(s *stream) *status.Status {
		for m := s.recv(); m != ""; m = s.recv() {
			if strings.HasPrefix(m, "rename") {
				m = renaming(m[len("rename")])
			}
			_ = s.send(m)
		}
		return ok
	}, func(w *world) {
		w.hears(w.poll(1, "rename\x07"), renaming(7), 0)
		w.hears(w.poll(1, "reply was lost"), "reply was lost", 0)
		w.hears(w.poll(1, "rename\x08"), renaming(8), 0)
		w.hears(w.poll(8, "got it"), "got it", 0)
		if w.opened != 1 {
			t.Errorf("%d calls for one agent", w.opened)
		}
		w.hears(w.poll(1, "another"), "another", 0)
		w.hears(w.poll(7, "a third"), "a third", 0)
		w.hears(w.poll(7, "rename\x01"), renaming(1), 0) // which is taken
		w.hears(w.poll(1, "not the third"), "not the third", 0)
		if w.opened != 3 {
			t.Errorf("%d calls for three agents", w.opened)
		}
		foreign := w.poll(8, "what is there?")
		foreign.Owner = NewOwner()
		w.hears(foreign, "what is there?", 0)
		w.hears(w.poll(7, "rename\x09"), renaming(9), 0)
		foreign = w.poll(9, "what is there?")
		foreign.Owner = NewOwner()
		w.hears(foreign, "what is there?", 0)
		if w.opened != 5 {
			t.Errorf("%d calls, want 5", w.opened)
		}
		w.hears(w.poll(9, "mine"), "mine", 0)
		w.expire()
	})
}

func TestTableIsFull(t *testing.T) {
	inBubble(t, echo, func(w *world) {
		w.table.options.Sessions = func() int { return 2 }
		w.hears(w.poll(1, "hello"), "hello", 0)
		w.hears(w.poll(2, "hello"), "hello", 0)
		w.refused(w.poll(3, "hello"), report.ReasonOverloaded, Retry, 0)
		w.hears(w.poll(1, "hello"), "hello", 0)
		w.expire()
		w.hears(w.poll(3, "hello"), "hello", 0)
		w.expire()
	})
}

// from is a poll of an agent at an address.
func (w *world) from(address uint64, n byte, text string) Poll {
	p := w.poll(n, text)
	p.Address = address
	return p
}

// wantSessions checks which agents have sessions.
func (w *world) wantSessions(want ...byte) {
	w.t.Helper()
	w.table.mu.Lock()
	defer w.table.mu.Unlock()
	counts := map[uint64]int{}
	for _, n := range want {
		s := w.table.sessions[key{"/v1/opamp", NewOwner("token"), agent(n)}]
		if s == nil {
			w.t.Errorf("agent %d has no session", n)
			continue
		}
		counts[s.address.key]++
	}
	if len(w.table.sessions) != len(want) || w.table.count != len(want) || len(w.table.addresses) != len(counts) || len(w.table.most) != len(counts) {
		w.t.Errorf("%d sessions of %d addresses, want those of %d", w.table.count, len(w.table.addresses), want)
	}
	for a, n := range counts {
		if got := w.table.addresses[a].count; got != n {
			w.t.Errorf("address %d has %d sessions, want %d", a, got, n)
		}
	}
}

// TestAddressesShareTheSessions: an address with fewer sessions takes the place of one that
// has waited longest, where most are.
func TestAddressesShareTheSessions(t *testing.T) {
	inBubble(t, echo, func(w *world) {
		w.table.options.Sessions = func() int { return 6 }
		for n := range byte(6) {
			w.hears(w.from(1, n, "hello"), "hello", 0)
			time.Sleep(time.Second)
		}
		w.refused(w.from(1, 6, "hello"), report.ReasonOverloaded, Retry, 0) // an address takes nothing from itself
		w.hears(w.from(1, 0, "hello"), "hello", 0)
		w.hears(w.from(2, 10, "hello"), "hello", 0)
		synctest.Wait()
		w.ended(report.ReasonOverloaded)
		w.wantSessions(0, 2, 3, 4, 5, 10)
		w.hears(w.from(2, 11, "hello"), "hello", 0)
		w.hears(w.from(3, 20, "hello"), "hello", 0)
		w.wantSessions(0, 4, 5, 10, 11, 20)
		w.hears(w.from(3, 21, "hello"), "hello", 0)
		w.wantSessions(0, 5, 10, 11, 20, 21)
		for a := range uint64(3) { // all have two
			w.refused(w.from(a+1, 50, "hello"), report.ReasonOverloaded, Retry, 0)
		}
		w.hears(w.from(4, 30, "hello"), "hello", 0)
		w.refused(w.from(4, 31, "hello"), report.ReasonOverloaded, Retry, 0) // it would take, and lose, by turns
		w.hears(w.from(4, 30, "goodbye and back"), "goodbye and back", 0)
		w.expire()
		if w.opened != 11 || len(w.table.addresses) != 0 || len(w.table.most) != 0 {
			t.Errorf("%d calls, want 11; %d addresses are left", w.opened, len(w.table.addresses))
		}
	})
}

// TestBusySessionsMakeRoom: polls that follow each other, or whose answers nobody reads,
// keep no place from other addresses. A poll that still waits is told.
func TestBusySessionsMakeRoom(t *testing.T) {
	inBubble(t, silent, func(w *world) {
		w.table.options.Sessions = func() int { return 4 }
		stalled, read := make(chan struct{}), make(chan struct{})
		p := w.from(1, 0, "hello")
		p.Deliver = func(mem.BufferSlice) error {
			close(stalled)
			<-read
			return nil
		}
		var polls sync.WaitGroup
		polls.Go(func() {
			if err := w.table.Post(w.t.Context(), p); err != nil {
				t.Error(err)
			}
		})
		<-stalled
		polls.Go(func() {
			got, err := w.post(w.from(1, 1, "hello"))
			if end := (*Ended)(nil); !errors.As(err, &end) || got != "" {
				t.Errorf("%q, %v, want the end of the session", got, err)
			}
		})
		synctest.Wait()
		for n := byte(2); n < 4; n++ {
			polls.Go(func() { w.hears(w.from(1, n, "hello"), nothingFor(n), time.Second) })
		}
		synctest.Wait()
		for n := byte(10); n < 12; n++ {
			polls.Go(func() { w.hears(w.from(2, n, "hello"), nothingFor(n), time.Second) })
			synctest.Wait()
		}
		w.ended(report.ReasonOverloaded, report.ReasonOverloaded)
		w.wantSessions(2, 3, 10, 11)
		close(read)
		polls.Wait()
		w.expire()
	})
}

// TestCallEnds: the poll that waits gets the status, the next one another call.
func TestCallEnds(t *testing.T) {
	inBubble(t, func(s *stream) *status.Status {
		for {
			switch m := s.recv(); m {
			case "fail":
				return status.New(codes.PermissionDenied, "not you")
			case "leave", "":
				return ok
			case "leave soon":
				_ = s.send("bye")
				return ok
			default:
				_ = s.send(m)
			}
		}
	}, func(w *world) {
		got, err := w.post(w.poll(1, "fail"))
		if end := (*Ended)(nil); !errors.As(err, &end) || end.Status.Message() != "not you" || got != "" {
			t.Errorf("%q, %v", got, err)
		}
		w.hears(w.poll(1, "leave"), nothingFor(1), 0)
		w.hears(w.poll(1, "hello"), "hello", 0)
		w.hears(w.poll(1, "leave soon"), "bye", 0)
		w.hears(w.poll(1, "hello"), "hello", 0) // it finds that the call has ended
		synctest.Wait()
		w.ended("", "", "")
		w.expire()
	})
}

// TestRepliesOutliveTheirCall: they wait for the next polls, whose messages another call
// takes.
func TestRepliesOutliveTheirCall(t *testing.T) {
	calls, replies := 0, "abc"
	inBubble(t, func(s *stream) *status.Status {
		calls++
		if calls > 1 {
			return echo(s)
		}
		s.recv()
		for _, reply := range replies {
			_ = s.send(string(reply))
		}
		return ok
	}, func(w *world) {
		w.hears(w.poll(1, "hello"), "a", 0)
		synctest.Wait()
		w.ended() // it waits
		w.hears(w.poll(1, "d"), "b", 0)
		w.hears(w.poll(1, "e"), "c", 0)
		w.hears(w.poll(1, "f"), "d", 0)
		synctest.Wait()
		w.ended("")
		w.expire()
		calls, replies = 0, "ab"
		p := w.poll(2, "goodbye")
		p.Agent.Disconnects = true
		w.hears(p, "a", 0)
		w.expire()
		w.ended("", report.ReasonClientGone, report.Reason(errLeft.Error()))
	})
}

// TestCallEndsBetweenPolls: a message that the call has not taken goes to the next one.
func TestCallEndsBetweenPolls(t *testing.T) {
	calls := 0
	inBubble(t, func(s *stream) *status.Status {
		calls++
		if calls > 1 {
			return echo(s)
		}
		s.recv()
		_ = s.send("reads no more")
		time.Sleep(Interval + 3*time.Second/2)
		return status.New(codes.Unavailable, "gone")
	}, func(w *world) {
		w.window = 0
		w.hears(w.poll(1, "hello"), "reads no more", 0)
		time.Sleep(Interval)
		w.hears(w.poll(1, "on its way"), nothingFor(1), time.Second)
		w.hears(w.poll(1, "survives"), "survives", time.Second/2)
		w.expire()
	})
}

// TestUndeliveredReplyStays: for the next poll.
func TestUndeliveredReplyStays(t *testing.T) {
	inBubble(t, echo, func(w *world) {
		broken := errors.New("broken pipe")
		p := w.poll(1, "a")
		p.Deliver = func(mem.BufferSlice) error { return broken }
		if err := w.table.Post(w.t.Context(), p); !errors.Is(err, broken) {
			t.Errorf("%v, want %v", err, broken)
		}
		w.hears(w.poll(1, "b"), "a", 0)
		w.hears(w.poll(1, "c"), "b", 0)
		w.expire()
	})
}

// TestAgentSaysGoodbye: the backend gets the end of the messages after the last one.
func TestAgentSaysGoodbye(t *testing.T) {
	inBubble(t, func(s *stream) *status.Status {
		for m := s.recv(); m != "stay"; m = s.recv() {
			if m == "" {
				_ = s.send("goodbye")
				return ok
			}
		}
		<-s.ctx.Done()
		return ok
	}, func(w *world) {
		p := w.poll(1, "last")
		p.Agent.Disconnects = true
		w.hears(p, "goodbye", 0)
		synctest.Wait()
		w.ended("")
		p = w.poll(1, "stay")
		p.Agent.Disconnects = true
		w.hears(p, nothingFor(1), time.Second) // the backend stays
		p = w.poll(1, "back already")
		p.Agent.Disconnects = true
		w.hears(p, "goodbye", 0)
		synctest.Wait()
		w.ended("", report.ReasonClientGone, "")
	})
}

// TestAgentGoesAway: a reply that comes too late for a poll waits for the next one.
func TestAgentGoesAway(t *testing.T) {
	inBubble(t, func(s *stream) *status.Status {
		for m := s.recv(); m != ""; m = s.recv() {
			time.Sleep(100 * time.Millisecond)
			_ = s.send(m)
		}
		return ok
	}, func(w *world) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := w.table.Post(ctx, w.poll(1, "a")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		time.Sleep(Interval)
		w.hears(w.poll(1, "b"), "a", 0)
		w.expire()
	})
}

// TestBackendReadsNothing: the poll gets its message back, and other polls go on.
func TestBackendReadsNothing(t *testing.T) {
	inBubble(t, func(s *stream) *status.Status {
		if s.recv() == "sleep" {
			time.Sleep(Interval)
		}
		return echo(s)
	}, func(w *world) {
		w.window = 0
		w.hears(w.poll(1, "sleep"), nothingFor(1), time.Second)
		w.hears(w.poll(1, "on its way"), nothingFor(1), time.Second)
		w.refused(w.poll(1, "lost"), report.ReasonOverloaded, Retry, time.Second)
		w.hears(w.poll(2, "hello"), nothingFor(2), time.Second)
		time.Sleep(Interval)
		w.hears(w.poll(1, "hello"), "on its way", 0)
		w.hears(w.poll(1, "then"), "hello", 0)
		w.expire()
	})
}

// TestOpeningTakesItsTime: a second isn't enough for a backend that is far away. An agent
// that goes away meanwhile takes its message with it.
func TestOpeningTakesItsTime(t *testing.T) {
	inBubble(t, echo, func(w *world) {
		w.delay = 5 * time.Second
		w.hears(w.poll(1, "hello"), "hello", 5*time.Second)
		ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
		defer cancel()
		if err := w.table.Post(ctx, w.poll(2, "withdrawn")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		w.hears(w.poll(2, "again"), "again", 4*time.Second)
		w.expire()
	})
}

var errClosed = report.New(report.ReasonDraining, "closed")

// TestNoCall: a session that can't start, and a table that is closed.
func TestNoCall(t *testing.T) {
	inBubble(t, echo, func(w *world) {
		p := w.poll(1, "hello")
		p.Start = func(*Session) error { return report.New(report.ReasonDraining, "no") }
		w.refused(p, report.ReasonDraining, 0, 0)
		if w.table.Sessions() != 0 || len(w.table.sessions) != 0 {
			t.Error("a session without a call is left")
		}
		w.hears(w.poll(1, "hello"), "hello", 0)
		late := w.poll(2, "is answered")
		late.Deliver = func(mem.BufferSlice) error {
			w.table.Close(errClosed)
			synctest.Wait()
			w.ended(report.ReasonDraining) // the call of the first agent, whose poll is over
			return nil
		}
		if err := w.table.Post(w.t.Context(), late); err != nil {
			t.Error(err)
		}
		w.calls.Wait()
		w.ended(report.ReasonDraining, report.ReasonDraining)
		w.refused(w.poll(2, "hello"), report.ReasonDraining, 0, 0)
		w.table.Close(errClosed)
	})
}

// TestManyPolls: agents that poll and say goodbye at once lose no message and no reply.
func TestManyPolls(t *testing.T) {
	w := newWorld(t, echo)
	var agents sync.WaitGroup
	for n := range byte(8) {
		agents.Go(func() {
			for i := 1; i <= 200; i++ {
				text := fmt.Sprintf("%d of %d", i, n)
				p := w.poll(n, text)
				p.Agent.Disconnects = i%20 == 0
				if got, err := w.post(p); got != text || err != nil {
					t.Errorf("%q, %v, want %q", got, err, text)
				}
			}
		})
	}
	agents.Wait()
	w.table.Close(errClosed)
	if w.opened != 80 {
		t.Errorf("%d calls, want 80", w.opened)
	}
}

func TestOwners(t *testing.T) {
	seen := map[Owner][]string{}
	for _, credentials := range [][]string{nil, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}} {
		o := NewOwner(credentials...)
		if other, taken := seen[o]; taken {
			t.Errorf("%q and %q are one owner", credentials, other)
		}
		if o != NewOwner(credentials...) {
			t.Errorf("%q are two owners", credentials)
		}
		seen[o] = credentials
	}
}

// TestAbortedCall: the poll that waits gets a status of culvert's own.
func TestAbortedCall(t *testing.T) {
	inBubble(t, silent, func(w *world) {
		p := w.poll(1, "hello")
		p.Start = func(s *Session) error {
			w.calls.Go(func() {
				defer s.held.Settle()
				s.Abort()
			})
			return nil
		}
		var ended *Ended
		if _, err := w.post(p); !errors.As(err, &ended) || ended.Reason != report.ReasonInternal || ended.Status.Code() != codes.Internal {
			w.t.Fatalf("the poll ended with %v, want %s", err, report.ReasonInternal)
		}
		if info, ok := ended.Status.Details()[0].(*errdetails.ErrorInfo); !ok || info.GetDomain() != report.ErrorDomain || info.GetReason() != string(report.ReasonInternal) {
			w.t.Errorf("the status has the details %v", ended.Status.Details())
		}
	})
}

// TestAbortedCallKeepsNoMessage: one that comes back behind Abort has no session to wait in.
func TestAbortedCallKeepsNoMessage(t *testing.T) {
	inBubble(t, silent, func(w *world) {
		p := w.poll(1, "hello")
		var session *Session
		p.Start = func(s *Session) error {
			session = s
			s.Bind(context.WithCancelCause(context.Background()))
			w.calls.Go(func() {
				defer s.held.Settle()
				s.Park(func(done func(error)) {
					w.calls.Go(func() {
						m, err := s.Recv()
						s.Abort()
						m.Free()
						done(err)
					})
				}, func(func()) {}, func() int64 { return 0 })
			})
			return nil
		}
		if _, err := w.post(p); err == nil {
			t.Error("the poll got a reply")
		}
		w.calls.Wait()
		if session.first != nil || session.message != nil || session.lent != nil {
			t.Error("the session still has the message")
		}
	})
}

// TestPollThatPanics leaves no lock, no turn and no message, wherever it does.
func TestPollThatPanics(t *testing.T) {
	for name, spoil := range map[string]func(p *Poll){
		"as the call starts":  func(p *Poll) { p.Start = func(*Session) error { panic("no call") } },
		"as it tells a reply": func(p *Poll) { p.Deliver = func(mem.BufferSlice) error { panic("no client") } },
		"as it counts what waits": func(p *Poll) {
			start := p.Start
			p.Start = func(s *Session) error {
				s.waiting = func() int64 {
					s.waiting = nil
					panic("no count")
				}
				return start(s)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, echo, func(w *world) {
				p := w.poll(1, "hello")
				p.Deliver = func(mem.BufferSlice) error { return nil }
				spoil(&p)
				want, after := "again", time.Duration(0)
				switch name {
				case "as it tells a reply":
					want = "hello" // the next poll gets it
				case "as it counts what waits":
					w.delay, after = time.Second, time.Second // until then the count is the test's
				}
				func() {
					defer func() {
						if recover() == nil {
							t.Error("it doesn't panic")
						}
					}()
					_ = w.table.Post(w.t.Context(), p)
				}()
				w.hears(w.poll(1, "again"), want, after)
				w.expire()
			})
		})
	}
}

package bridgetest

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
)

var deadlineScenarios = []scenario{
	{"deadline reaches the backend as what is left", 0, deadlineReachesBackend},
	{"no deadline", 0, noDeadline},
	{"deadline passes", 0, deadlinePasses},
	{"deadline passes between messages", streamedReplies, deadlinePassesBetweenMessages},
	{"deadline passes while the client sends nothing", fullDuplex | leavesOpen, deadlinePassesBeforeHalfClose},
	{"deadline passes inside a message", halfMessages, deadlinePassesInsideMessage},
	{"deadline expired on arrival", rawHeaders, expiredDeadline},
	{"deadline beyond all times", rawHeaders, absurdDeadline},
	{"malformed deadline", rawHeaders, malformedDeadline},
	{"deadline and the backend's status together", 0, deadlineAndStatus},
}

func deadlineReachesBackend(t *trial) {
	t.serve(echo)
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "20S": 20 * time.Second, "30000m": 30 * time.Second,
		"30000000u": 30 * time.Second, "99999999u": 99999999 * time.Microsecond,
	} {
		began := time.Now()
		t.wantOK(t.unary(call{timeout: text}, hello), hello)
		c := t.nextCall()
		if least := want - time.Since(began) - time.Second; !c.hasDeadline || c.remaining > want || c.remaining < least {
			t.Errorf("asked for %s: backend has %v left (%v), want at most %v and at least %v", text, c.remaining, c.hasDeadline, want, least)
		}
	}
}

func noDeadline(t *trial) {
	t.serve(echo)
	t.wantOK(t.unary(call{}, hello), hello)
	if c := t.nextCall(); c.hasDeadline {
		t.Errorf("the backend has a deadline in %v, want none", c.remaining)
	}
}

// soon is a deadline that a test can wait for.
const soon = "1000m"

// callUntil makes calls whose deadline passes until one has come far enough before it did:
// each has twice the time of the one before, since a busy machine may need long.
func (t *trial) callUntil(one func(call) (r result, enough bool)) {
	t.Helper()
	for seconds := 1; ; seconds *= 2 {
		r, enough := one(call{timeout: strconv.Itoa(seconds) + "S"})
		t.wantDeadline(r)
		if enough || t.Failed() {
			return
		}
		if seconds > 60 {
			t.Fatalf("a deadline of %d s is too short: %v after %d messages", seconds, r.status, len(r.messages))
		}
	}
}

// unaryUntil makes unary calls as callUntil does.
func (t *trial) unaryUntil(reached func(result) bool) {
	t.Helper()
	t.callUntil(func(c call) (result, bool) {
		r := t.unary(c, hello)
		return r, reached(r)
	})
}

func deadlinePasses(t *trial) {
	t.serve(hold)
	t.unaryUntil(func(result) bool { return len(t.backend.began) > 0 })
	t.awaitEvent("the backend's context ends", t.nextCall().ctx().Done())
}

// wantDeadline expects DEADLINE_EXCEEDED, from whichever clock was first: the
// client's, culvert's or the backend's.
func (t *trial) wantDeadline(r result) {
	t.Helper()
	if r.status.Code() != codes.DeadlineExceeded {
		t.Errorf("status %v, want DEADLINE_EXCEEDED", r.status)
	}
	if info := r.info(); info != nil && info.GetReason() != string(report.ReasonDeadlineExceeded) {
		t.Errorf("reason %s, want %s", info.GetReason(), report.ReasonDeadlineExceeded)
	}
}

func deadlinePassesBetweenMessages(t *trial) {
	t.serve(func(c *backendCall) error {
		if err := c.send(hello); err != nil {
			return err
		}
		return hold(c)
	})
	t.unaryUntil(func(r result) bool { return len(r.messages) == 1 })
}

func deadlinePassesBeforeHalfClose(t *trial) {
	t.serve(echo)
	t.callUntil(func(c call) (result, bool) {
		s := t.open(c)
		err := s.stream.send(hello)
		return s.end(), err == nil
	})
}

// deadlinePassesInsideMessage: the client has sent half of its request when the
// deadline passes; the client must get that status.
func deadlinePassesInsideMessage(t *trial) {
	t.serve(untilCancelled)
	s := t.open(call{timeout: soon})
	s.sendHalf()
	t.wantDeadline(s.end())
	t.neverWhole(t.backend.seen(), 0)
	t.nextServed()
}

func expiredDeadline(t *trial) {
	t.serve(echo)
	for _, text := range []string{"0m", "0n", "0H", "1n"} {
		t.wantCulvert(t.unary(call{timeout: text}, hello), codes.DeadlineExceeded, report.ReasonDeadlineExceeded)
	}
}

func absurdDeadline(t *trial) {
	t.serve(echo)
	for _, text := range []string{"99999999H", "99999999M", "99999999S"} {
		t.wantOK(t.unary(call{timeout: text}, hello), hello)
		if c := t.nextCall(); c.hasDeadline && c.remaining < 24*time.Hour {
			t.Errorf("asked for %s: backend has %v left", text, c.remaining)
		}
	}
}

func malformedDeadline(t *trial) {
	t.serve(echo)
	name, bad := "grpc-timeout", []string{"1", "S", "123456789S", "5s", "-1S", "+5S", "1.5S", "1 S", "0x1S", "1S2", "nonsense", "１S"}
	if t.transport.dialect().isConnect() {
		name, bad = "connect-timeout-ms", []string{"12345678901", "5s", "-1", "+5", "1.5", "1 0", "0x1", "nonsense", "１"}
	}
	for _, text := range bad {
		t.wantRefused(call{timeout: text}, codes.InvalidArgument, report.ReasonBadRequest)
	}
	t.wantRefused(call{lines: [][2]string{{name, ""}}}, codes.InvalidArgument, report.ReasonBadRequest)
	t.noneReached()
}

// wantRefused expects a call to end with culvert's own status. The scenario ends
// with noneReached.
func (t *trial) wantRefused(c call, code codes.Code, reason report.Reason) {
	t.Helper()
	t.wantCulvert(t.unary(c, hello), code, reason)
}

// noneReached checks that no call reached the backend except one that it makes now:
// a refusal costs the sender its call, and nobody else anything.
func (t *trial) noneReached() {
	t.Helper()
	t.nextServed()
	if n := len(t.backend.seen()); n != 1 {
		t.Errorf("%d refused calls reached the backend", n-1)
	}
}

// deadlineAndStatus: the backend ends the call itself at the moment of the
// deadline. Either end is correct; any other is not.
func deadlineAndStatus(t *trial) {
	t.serve(func(c *backendCall) error {
		ctx, cancel := context.WithDeadline(context.Background(), c.deadline)
		defer cancel()
		<-ctx.Done() // its own clock: the call's context may end by other means
		return status.Error(codes.Aborted, "at the last moment")
	})
	for range 3 {
		var calls []*callT
		for range 10 {
			calls = append(calls, t.tryAsk(t.client, call{timeout: "50m"}, hello)) // the deadline may have passed
		}
		for _, s := range calls {
			r := s.end()
			if r.status.Code() == codes.Aborted {
				t.wantUpstream(r, codes.Aborted, "at the last moment")
			} else {
				t.wantDeadline(r)
			}
		}
	}
}

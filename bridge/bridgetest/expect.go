package bridgetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// wantUpstream expects a status from the backend.
func (t *trial) wantUpstream(r result, code codes.Code, message string) {
	t.Helper()
	if got := r.status; got.Code() != code || got.Message() != message {
		t.Errorf("status %v %q, want %v %q", got.Code(), got.Message(), code, message)
	}
	if info := r.info(); info != nil {
		t.Errorf("the backend's status is said to be culvert's: %v", info)
	}
}

// wantOK expects the backend's OK and these messages.
func (t *trial) wantOK(r result, messages ...[]byte) {
	t.Helper()
	t.wantUpstream(r, codes.OK, "")
	if !slices.EqualFunc(r.messages, messages, bytes.Equal) {
		t.Errorf("messages %s, want %s", abridged(r.messages), abridged(messages))
	}
}

// wantCulvert expects a status of culvert's own with the reason.
func (t *trial) wantCulvert(r result, code codes.Code, reason report.Reason) {
	t.Helper()
	info := r.info()
	if r.status.Code() != code || info.GetReason() != string(reason) {
		t.Errorf("status %v %q with %v, want %v for %s", r.status.Code(), r.status.Message(), info, code, reason)
		return
	}
	if info.GetMetadata()["call_id"] == "" {
		t.Errorf("status %v for %s has no call_id", code, reason)
	}
	sent := info.GetMetadata()["sent"]
	if code == codes.Unavailable != (sent == "no" || sent == "maybe") {
		t.Errorf("status %v for %s says sent=%q", code, reason, sent)
	}
}

// wantReason is wantCulvert for one of many calls, named, of which only the reason counts.
func (t *trial) wantReason(name string, r result, code codes.Code, reason report.Reason) {
	t.Helper()
	if r.status.Code() != code || r.info().GetReason() != string(reason) {
		t.Errorf("%q: status %v with %v, want %v for %s", name, r.status, r.info(), code, reason)
	}
}

// nextCall waits for the backend to see a call.
func (t *trial) nextCall() *backendCall {
	t.Helper()
	select {
	case c := <-t.backend.began:
		t.calls = append(t.calls, c)
		return c
	case <-time.After(patience):
		t.Fatalf("no call reached the backend within %v", patience)
		return nil
	}
}

// awaitEvent waits for an event that should come at once.
func (t *trial) awaitEvent(what string, signal <-chan struct{}) {
	t.Helper()
	t.awaitWithin(patience, what, signal)
}

func (t *trial) awaitWithin(d time.Duration, what string, signal <-chan struct{}) {
	t.Helper()
	if !happens(d, signal) {
		t.Fatalf("not within %v: %s", d, what)
	}
}

func happens(within time.Duration, signal <-chan struct{}) bool {
	select {
	case <-signal:
		return true
	case <-time.After(within):
		return false
	}
}

// The absence of something is no event: these two watch a number until it has stood
// still for stillFor.
const (
	stillFor  = 200 * time.Millisecond
	lookEvery = 5 * time.Millisecond
)

// awaitStall waits until the number has risen and then stood still, and
// returns it.
func (t *trial) awaitStall(number func() int64) int64 {
	t.Helper()
	return t.awaitStill(number, func(n int64) bool { return n > 0 })
}

// settledGoroutines waits until the number of the scenario's goroutines stands
// still, and returns it.
func (t *trial) settledGoroutines() int {
	t.Helper()
	running := func() int64 { n, _ := t.label.running(); return int64(n) }
	return int(t.awaitStill(running, func(int64) bool { return true }))
}

func (t *trial) awaitStill(number func() int64, counts func(int64) bool) int64 {
	t.Helper()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	last, since, looks := number(), time.Now(), 0 // looks that saw the same: on a busy machine both wait
	for {
		select {
		case now := <-look.C:
			if n := number(); n != last {
				last, since, looks = n, now, 0
			} else if looks++; counts(n) && now.Sub(since) > stillFor && looks > int(stillFor/lookEvery/2) {
				return n
			}
		case <-t.ctx.Done():
			t.Fatalf("a number never stood still: %d", last)
		}
	}
}

// endsWithin runs f, and fails the test if f doesn't end in time.
func (t *trial) endsWithin(d time.Duration, what string, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if took := time.Since(begin); took > d {
		t.Errorf("took %v, want at most %v: %s", took, d, what)
	}
}

// abridged prints messages by their beginnings.
func abridged(messages [][]byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", len(messages))
	for i, m := range messages {
		if i == 5 {
			b.WriteString(" …")
			break
		}
		fmt.Fprintf(&b, " %.20q(%d)", m, len(m))
	}
	return b.String()
}

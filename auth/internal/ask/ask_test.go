package ask

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestSlots(t *testing.T) {
	s := make(Slots, 1)
	ended, end := context.WithCancel(t.Context())
	end()
	for range 100 { // select chooses at random
		if s.Take(ended) {
			t.Fatal("a question has a slot whose context has ended")
		}
	}
	if !s.Take(t.Context()) || s.Take(ended) {
		t.Error("not one question has a slot")
	}
	s.Give()
	s.Close()
	if s.Take(ended) {
		t.Error("a question has a slot after Close")
	}
}

func TestTimes(t *testing.T) {
	var times Times
	if asked, mean := times.Load(); asked != 0 || mean != 0 {
		t.Errorf("nobody asked: %d, %v", asked, mean)
	}
	times.Add(time.Second)
	times.Add(2 * time.Second)
	if asked, mean := times.Load(); asked != 2 || mean != 1500*time.Millisecond {
		t.Errorf("got %d, %v", asked, mean)
	}
}

func TestLower(t *testing.T) {
	for name, want := range map[string]string{"": "", "x-a": "x-a", "X-User-Id": "x-user-id", "x-A\u212a": "x-a\u212a"} {
		if got := Lower(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

// overdue is a context whose time is up, and which doesn't know it yet.
type overdue struct{ context.Context }

func (overdue) Deadline() (time.Time, bool) { return time.Now().Add(-time.Nanosecond), true }

func TestEnd(t *testing.T) {
	late, why := errors.New("late"), errors.New("why")
	ended, end := context.WithCancelCause(t.Context())
	end(why)
	inTime, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		want error
	}{
		"it goes on":        {t.Context(), nil},
		"in time":           {inTime, nil},
		"overdue":           {overdue{t.Context()}, late},
		"ended":             {ended, why},
		"ended and overdue": {overdue{ended}, why},
	} {
		if got := End(c.ctx, late); !errors.Is(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

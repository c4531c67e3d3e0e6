package ask

import (
	"context"
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

package reflection

import (
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// TestDescribed: a backend is asked once, by whoever is first.
func TestDescribed(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	b := bookOf(t, ln.Addr().String())
	if known, certain := b.Knows(checkHealth); known || certain {
		t.Errorf("knows %v, certain %v before anything was asked", known, certain)
	}
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			m, err := b.Described(within(t, patience), checkHealth)
			if err != nil || m.ServerStreams || m.Request.Name() != "grpc.health.v1.HealthCheckRequest" {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	asking.Wait()
	if m, err := b.Described(within(t, patience), watchHealth); err != nil || !m.ServerStreams {
		t.Errorf("another method of the service: %+v, %v", m, err)
	}
	if n := streams.Load(); n != 1 {
		t.Errorf("asked by %d streams, want 1", n)
	}
	for path, want := range map[string]bool{checkHealth: true, "/grpc.health.v1.Health/None": false, "/none.v1.None/None": false} {
		if known, certain := b.Knows(path); known != want || !certain {
			t.Errorf("%s: knows %v, certain %v; want %v for certain", path, known, certain, want)
		}
	}
}

// TestInventedNamesAskNobody: a client can't have culvert ask a backend again and again.
func TestInventedNamesAskNobody(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	b := bookOf(t, ln.Addr().String())
	for _, path := range []string{"/a.B/C", "/a.B/D", "/b.C/D", "/grpc.health.v1.Health/None", "/", "", "/grpc.health.v1.Health"} {
		if m, err := b.Described(within(t, patience), path); !errors.Is(err, descriptor.ErrUnknown) {
			t.Errorf("%q: %+v, %v; want %v", path, m, err, descriptor.ErrUnknown)
		}
	}
	if n := streams.Load(); n > 2 { // one for the list, one for Health
		t.Errorf("asked by %d streams, want at most 2", n)
	}
}

// TestDescribedWithoutReflection is an error for who needs it, which is remembered.
func TestDescribedWithoutReflection(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	describing(t, ln, withHealth)
	b := bookOf(t, ln.Addr().String())
	for range 3 {
		if _, err := b.Described(within(t, patience), checkHealth); !errors.Is(err, ErrNoReflection) {
			t.Errorf("%v, want %v", err, ErrNoReflection)
		}
	}
	if known, certain := b.Knows(checkHealth); known || certain {
		t.Errorf("knows %v, certain %v without reflection", known, certain)
	}
}

// TestFailingReflectionDelaysNobodyAgain: with descriptors from before, only the first
// attempt behind a connection keeps calls waiting.
func TestFailingReflectionDelaysNobodyAgain(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	describing(t, ln, withHealth, withHangingReflection)
	b := bookOf(t, ln.Addr().String())
	source := listen(t, "127.0.0.1:0")
	describing(t, source, withHealth, withReflection)
	set, err := bookOf(t, source.Addr().String()).Descriptors(within(t, patience), "grpc.health.v1.Health")
	if err != nil {
		t.Fatal(err)
	}
	conns := b.backend.Readied()
	long := time.Now().Add(-time.Minute)
	b.mu.Lock() // what an answer and a later attempt in vain have left
	b.names = map[string]bool{"grpc.health.v1.Health": true}
	b.services["grpc.health.v1.Health"] = &service{attempt: attempt{at: long, conns: conns}, set: set}
	b.listing = attempt{at: long, conns: conns, err: errors.New("no answer")}
	b.mu.Unlock()
	before := time.Now()
	if _, err := b.Described(within(t, patience), checkHealth); err != nil || time.Since(before) >= askPatience {
		t.Errorf("%v after %v", err, time.Since(before))
	}
	if _, err := b.Described(within(t, patience), watchHealth); err != nil || time.Since(before) >= askPatience {
		t.Errorf("%v after %v", err, time.Since(before))
	}
}

// TestDescriptorsThatPanic end the question, and not those that come later.
func TestDescriptorsThatPanic(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	describing(t, ln, withHealth, withReflection)
	panics := report.NewPanics(slog.New(slog.DiscardHandler))
	b := bookOf(t, ln.Addr().String())
	b.panics, b.reading = panics, nil
	if _, err := b.Described(within(t, patience), checkHealth); !report.IsPanic(err) {
		t.Errorf("%v, want a panic's fault", err)
	}
	b.reading = rate.NewLimiter(readingRate, readingBurst)
	if _, err := b.Described(within(t, patience), reflects); err != nil {
		t.Errorf("another service: %v", err)
	}
	if got := panics.Count(); got != 1 {
		t.Errorf("%d panics are counted, want 1", got)
	}
}

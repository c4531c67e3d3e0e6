package upstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// The calls of culvert's own, by which a test backend knows them. The room reflection tests
// a Book behind one connection; the tests here have several connections, or none.
const (
	checkHealth = parts.CheckHealth
	reflects    = parts.Reflects
)

var (
	describing            = parts.ServeDescribed
	withHealth            = parts.WithHealth
	withReflection        = parts.WithReflection
	withHangingReflection = parts.WithHangingReflection
)

// Bounds of the questions.
const (
	askAgain      = 5 * time.Second // after a failure
	maxAsked      = 10              // times a minute for the same, behind new connections
	maxNamedAsked = 10              // times a minute for types that messages name
)

func typeNamed(name string) descriptor.Unknown { return descriptor.Unknown{Name: name} }

// askedOften reports whether an error is about too many questions.
func askedOften(err error) bool {
	var f *report.Fault
	return errors.As(err, &f) && f.Reason == report.ReasonLimitExceeded
}

// TestGoneBackendIsUnreachable also for a question about its methods.
func TestGoneBackendIsUnreachable(t *testing.T) {
	gone := upstreamTo(t, report.Backend{Target: "passthrough:///nowhere", Dial: func(context.Context, string) (net.Conn, error) {
		return nil, errors.New("nobody is there")
	}})
	var f *report.Fault
	if _, err := gone.Described(within(t, patience), checkHealth); !errors.As(err, &f) || f.Reason != report.ReasonUpstreamUnreachable {
		t.Errorf("a backend that isn't there: %v, want %s", err, report.ReasonUpstreamUnreachable)
	}
}

// A bubbleBackend is a backend in a bubble, whose program is replaced by another one.
type bubbleBackend struct {
	t    *testing.T
	here atomic.Pointer[parts.PipeListener]
}

func (b *bubbleBackend) backend() report.Backend {
	return report.Backend{Target: "passthrough:///bubble", Dial: func(ctx context.Context, _ string) (net.Conn, error) {
		if ln := b.here.Load(); ln != nil {
			return ln.DialContext(ctx)
		}
		return nil, errors.New("connection refused")
	}}
}

func (b *bubbleBackend) serve(register ...func(*grpc.Server)) (streams *atomic.Int32, stop func()) {
	b.t.Helper()
	ln := parts.ListenPipe(b.t)
	streams, stop = describing(b.t, ln, register...)
	b.here.Store(ln)
	return streams, stop
}

// TestAnotherProgramDescribesItself: behind a new connection may be another program. One
// that says nothing leaves what is known in use, and the log says so once.
func TestAnotherProgramDescribesItself(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	_, stop := describing(t, ln, withHealth, withReflection)
	var warned atomic.Int32
	u := upstreamTo(t, report.Backend{Target: address, Logger: slog.New(slog.NewTextHandler(writerFunc(func(b []byte) {
		if strings.Contains(string(b), "descriptors can't be fetched again") {
			warned.Add(1)
		}
	}), nil))})
	replace := func(register ...func(*grpc.Server)) {
		t.Helper()
		before := u.pool.Readied()
		stop()
		next, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, stop = describing(t, next, register...)
		poll(t, func() string {
			if u.pool.Readied() == before {
				return "no new connection"
			}
			return ""
		})
	}
	for _, path := range []string{checkHealth, reflects} {
		if _, err := u.Described(within(t, patience), path); err != nil {
			t.Fatal(err)
		}
	}
	replace(withReflection)
	if _, err := u.Described(within(t, patience), checkHealth); !errors.Is(err, descriptor.ErrUnknown) {
		t.Errorf("a service that the new program doesn't have: %v, want %v", err, descriptor.ErrUnknown)
	}
	replace(withHealth) // without reflection
	for range 3 {
		if _, err := u.Described(within(t, patience), reflects); err != nil {
			t.Errorf("what was known: %v", err)
		}
	}
	poll(t, func() string { // the log is written after the answer
		if warned.Load() == 0 {
			return "no warning"
		}
		return ""
	})
	replace(withHealth, withReflection)
	if _, err := u.Described(within(t, patience), checkHealth); err != nil {
		t.Errorf("a service that came: %v", err)
	}
	if n := warned.Load(); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}

// TestReturnedBackendIsAsked at once, also after many questions in vain in the same minute.
func TestReturnedBackendIsAsked(t *testing.T) {
	for name, before := range map[string][]func(*grpc.Server){
		"a backend that was away":        nil,
		"a backend without the service":  {withReflection},
		"a backend without reflection":   {withHealth},
		"a backend that gives no answer": {withHealth, withHangingReflection},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bubbleBackend{t: t}
				u := upstreamTo(t, b.backend())
				stop := func() {}
				if before != nil {
					_, stop = b.serve(before...)
				}
				for start := time.Now(); time.Since(start) < 50*time.Second; elapse(askAgain) {
					if m, err := u.Described(t.Context(), checkHealth); err == nil {
						t.Fatalf("before: %+v", m)
					}
				}
				conns := u.pool.Readied()
				stop()
				_, stop = b.serve(withHealth, withReflection)
				for start := time.Now(); u.pool.Readied() == conns; elapse(10 * time.Millisecond) {
					if time.Since(start) > 2*time.Second {
						t.Fatal("no connection 2 s after the backend's return")
					}
				}
				if known, certain := u.Knows(checkHealth); known || certain {
					t.Errorf("knows %v, certain %v before the new backend was asked", known, certain)
				}
				if _, err := u.Described(t.Context(), checkHealth); err != nil {
					t.Errorf("after the return: %v", err)
				}
				stop()
			})
		})
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

// TestDescribedWaitsNoLongerThanItsCall, nor does the end of the upstream.
func TestDescribedWaitsNoLongerThanItsCall(t *testing.T) {
	asked := make(chan struct{}, 10) // more than come
	address := startBackend(t, func(ss grpc.ServerStream) error {
		asked <- struct{}{}
		<-ss.Context().Done()
		return nil
	})
	u, err := New(report.Backend{Target: address}, testMessages, testHeaderBytes, memory.New(1<<30, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the client went away")
	ctx, cancel := context.WithCancelCause(t.Context())
	results := make(chan error, 2)
	go func() {
		_, err := u.Described(ctx, checkHealth)
		results <- err
	}()
	await(t, "the question", asked)
	cancel(gone)
	if err := await(t, "the call that gives up", results); !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
	go func() {
		_, err := u.Described(within(t, patience), checkHealth)
		results <- err
	}()
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	if err := await(t, "the call whose upstream closes", results); err == nil {
		t.Error("a closed upstream has descriptors")
	}
	if _, err := u.Described(within(t, patience), checkHealth); err == nil {
		t.Error("a closed upstream has descriptors")
	}
}

// aSource has the descriptors of another backend.
type aSource struct{ set *descriptor.Set }

func (s *aSource) Descriptors() report.Descriptors { return s.set }

// TestDescribedByASource asks no backend.
func TestDescribedByASource(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	set, err := upstreamTo(t, report.Backend{Target: ln.Addr().String()}).Descriptors(within(t, patience), "grpc.health.v1.Health")
	if err != nil {
		t.Fatal(err)
	}
	before := streams.Load()
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String(), Descriptors: &aSource{set}})
	if _, err := u.Described(t.Context(), checkHealth); err != nil {
		t.Error(err)
	}
	if _, err := u.Described(t.Context(), reflects); !errors.Is(err, descriptor.ErrUnknown) {
		t.Errorf("%v, want %v", err, descriptor.ErrUnknown)
	}
	if known, certain := u.Knows(reflects); known || !certain {
		t.Errorf("knows %v, certain %v by a source without it", known, certain)
	}
	if n := streams.Load(); n != before {
		t.Errorf("a source was there, and the backend was asked")
	}
}

// TestServicesWaitsForTheBackend, and no longer than it may.
func TestServicesWaitsForTheBackend(t *testing.T) {
	gs := grpc.NewServer()
	withReflection(gs)
	backend, stop := InProcess(gs)
	t.Cleanup(stop)
	t.Cleanup(gs.Stop)
	var there atomic.Bool
	tried := make(chan struct{}, 64) // more than come
	direct := backend.Dial
	backend.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		tried <- struct{}{}
		if !there.Load() {
			return nil, io.ErrClosedPipe
		}
		return direct(ctx, address)
	}
	u := upstreamTo(t, backend)
	var names []string
	var err error
	var asking sync.WaitGroup
	asking.Go(func() { names, err = u.Services(within(t, patience)) })
	for range 3 {
		await(t, "an attempt to connect", tried)
	}
	there.Store(true)
	asking.Wait()
	if err != nil || len(names) != 2 {
		t.Errorf("got %q, %v; want reflection's two", names, err)
	}

	gone := upstreamTo(t, report.Backend{Target: "passthrough:///nowhere", Dial: func(context.Context, string) (net.Conn, error) {
		return nil, errors.New("nobody is there")
	}})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := gone.Services(ctx); err == nil {
		t.Errorf("got %q of a backend that isn't there", got)
	}
}

// TestReconnectingBackend: calls go on by what is known.
func TestReconnectingBackend(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	address := ln.Addr().String()
	streams, stop := describing(t, ln, withHealth, withReflection)
	u := upstreamTo(t, report.Backend{Target: address})
	asked, began := int32(0), time.Now()
	for range maxAsked + 5 {
		if _, err := u.Described(within(t, patience), checkHealth); err != nil {
			t.Fatal(err)
		}
		before := u.pool.Readied()
		stop()
		asked += streams.Load()
		next, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		streams, stop = describing(t, next, withHealth, withReflection)
		poll(t, func() string {
			if u.pool.Readied() == before {
				return "no new connection"
			}
			return ""
		})
	}
	if asked > maxAsked+2 && time.Since(began) < time.Minute {
		t.Errorf("asked %d times, want at most %d a minute", asked, maxAsked)
	}
}

// TestReconnectsAskSeldom: what a message has named and the backend knew is asked for
// again after new connections, and no more often than the rest. Until then messages are
// converted by the descriptors from before, also while the backend doesn't answer.
func TestReconnectsAskSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubbleBackend{t: t}
		streams, stop := b.serve(withHealth, withReflection)
		u := upstreamTo(t, b.backend())
		m, err := u.Described(t.Context(), checkHealth)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{"ErrorResponse", "ExtensionRequest", "FileDescriptorResponse", "ListServiceResponse", "ServerReflectionRequest", "ServiceResponse"}
		addresses := make([]memory.Address, 4)
		learn := func(name string, by int) error {
			return u.Learn(t.Context(), &addresses[by], typeNamed("grpc.reflection.v1."+name))
		}
		for i, name := range names {
			if err := learn(name, i%2); err != nil {
				t.Fatal(err)
			}
		}
		elapse(time.Minute)
		asked := int32(0)
		for range 5 { // connections, in seconds
			conns := u.pool.Readied()
			stop()
			streams, stop = b.serve(withHealth, withReflection)
			for u.pool.Readied() == conns {
				elapse(10 * time.Millisecond)
			}
			for _, name := range names {
				for by := range addresses {
					if err := learn(name, by); err != nil {
						t.Errorf("%s by %d: %v", name, by, err)
					}
				}
			}
			for by := range addresses {
				if err := learn("Invented", by); !errors.Is(err, descriptor.ErrUnknown) && !askedOften(err) {
					t.Error(err)
				}
			}
			if m.Request.Now() == m.Request {
				t.Error("nothing is in use from before")
			}
			asked += streams.Load()
		}
		if asked != maxNamedAsked {
			t.Errorf("asked %d times within a minute, want %d", asked, maxNamedAsked)
		}

		elapse(time.Minute)
		before := streams.Load()
		if m.Request.Now() != m.Request {
			t.Error("a minute later the descriptors from before are still in use")
		}
		if err := learn(names[0], 0); err != nil || streams.Load() != before+1 || m.Request.Now() == m.Request {
			t.Errorf("a minute later: %v, after %d questions", err, streams.Load()-before)
		}

		elapse(time.Minute)
		conns := u.pool.Readied()
		stop()
		streams, stop = b.serve(withHealth, withHangingReflection)
		for u.pool.Readied() == conns {
			elapse(10 * time.Millisecond)
		}
		for _, name := range names[:2] {
			if err := learn(name, 0); err != nil || m.Request.Now() == m.Request {
				t.Errorf("%s of a backend that doesn't answer: %v", name, err)
			}
		}
		if err := learn("Invented", 0); err == nil || errors.Is(err, descriptor.ErrUnknown) {
			t.Errorf("a name that wasn't known: %v", err)
		}
		if n := streams.Load(); n != 1 {
			t.Errorf("%d questions wait for a backend that doesn't answer, want 1", n)
		}
		stop()
	})
}

// TestQuestionThatPanics is counted, and the descriptors' memory is given back.
func TestQuestionThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bubbleBackend{t: t}
		backend, account, panics := b.backend(), memory.New(1<<30, 0), report.NewPanics(slog.New(slog.DiscardHandler))
		backend.Logger = slog.New(slog.NewTextHandler(writerFunc(func(line []byte) {
			if strings.Contains(string(line), "descriptors can't be fetched again") {
				panic("a test panics in a Logger")
			}
		}), nil))
		_, stop := b.serve(withHealth, withReflection)
		u, err := New(backend, testMessages, testHeaderBytes, account, panics)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Described(t.Context(), checkHealth); err != nil {
			t.Error(err)
		}
		conns := u.pool.Readied()
		stop()
		_, stop = b.serve(withHealth)
		for u.pool.Readied() == conns {
			elapse(10 * time.Millisecond)
		}
		if _, err := u.Described(t.Context(), checkHealth); err != nil {
			t.Errorf("what was known: %v", err)
		}
		synctest.Wait()
		if err := u.Close(); err != nil || account.Held() != 0 || panics.Count() != 1 {
			t.Errorf("closed with %v, %d bytes held and %d panics", err, account.Held(), panics.Count())
		}
		stop()
	})
}

package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	healthserver "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/culvert-grpc/culvert/bridge/bridgetest/parts"
	"github.com/culvert-grpc/culvert/bridge/descriptor"
	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

const (
	checkHealth = "/grpc.health.v1.Health/Check"
	watchHealth = "/grpc.health.v1.Health/Watch"
	reflects    = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
)

// describing serves a gRPC server, and counts the streams of reflection.
func describing(t *testing.T, ln net.Listener, register ...func(*grpc.Server)) (streams *atomic.Int32, stop func()) {
	t.Helper()
	streams = new(atomic.Int32)
	gs := grpc.NewServer(grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		streams.Add(1)
		return h(srv, ss)
	}))
	for _, r := range register {
		r(gs)
	}
	served := make(chan error, 1)
	go func() { served <- gs.Serve(ln) }()
	stop = sync.OnceFunc(func() {
		gs.Stop()
		_ = await(t, "the server's end", served)
	})
	t.Cleanup(stop)
	return streams, stop
}

func withHealth(gs *grpc.Server) { healthpb.RegisterHealthServer(gs, healthserver.NewServer()) }

func withReflection(gs *grpc.Server) { reflection.Register(gs) }

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

// TestDescribed: a backend is asked once, by whoever is first.
func TestDescribed(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	if known, certain := u.Knows(checkHealth); known || certain {
		t.Errorf("knows %v, certain %v before anything was asked", known, certain)
	}
	var asking sync.WaitGroup
	for range 20 {
		asking.Go(func() {
			m, err := u.Described(within(t, patience), checkHealth)
			if err != nil || m.ServerStreams || m.Request.Name() != "grpc.health.v1.HealthCheckRequest" {
				t.Errorf("%+v, %v", m, err)
			}
		})
	}
	asking.Wait()
	if m, err := u.Described(within(t, patience), watchHealth); err != nil || !m.ServerStreams {
		t.Errorf("another method of the service: %+v, %v", m, err)
	}
	if n := streams.Load(); n != 1 {
		t.Errorf("asked by %d streams, want 1", n)
	}
	for path, want := range map[string]bool{checkHealth: true, "/grpc.health.v1.Health/None": false, "/none.v1.None/None": false} {
		if known, certain := u.Knows(path); known != want || !certain {
			t.Errorf("%s: knows %v, certain %v; want %v for certain", path, known, certain, want)
		}
	}
}

// TestInventedNamesAskNobody: a client can't have culvert ask a backend again and again.
func TestInventedNamesAskNobody(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	streams, _ := describing(t, ln, withHealth, withReflection)
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	for _, path := range []string{"/a.B/C", "/a.B/D", "/b.C/D", "/grpc.health.v1.Health/None", "/", "", "/grpc.health.v1.Health"} {
		if m, err := u.Described(within(t, patience), path); !errors.Is(err, descriptor.ErrUnknown) {
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
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	for range 3 {
		if _, err := u.Described(within(t, patience), checkHealth); !errors.Is(err, ErrNoReflection) {
			t.Errorf("%v, want %v", err, ErrNoReflection)
		}
	}
	if known, certain := u.Knows(checkHealth); known || certain {
		t.Errorf("knows %v, certain %v without reflection", known, certain)
	}
	gone := upstreamTo(t, report.Backend{Target: "passthrough:///nowhere", Dial: func(context.Context, string) (net.Conn, error) {
		return nil, errors.New("nobody is there")
	}})
	var f *report.Fault
	if _, err := gone.Described(within(t, patience), checkHealth); !errors.As(err, &f) || f.Reason != report.ReasonUpstreamUnreachable {
		t.Errorf("a backend that isn't there: %v, want %s", err, report.ReasonUpstreamUnreachable)
	}
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
		before := u.pool.readied.Load()
		stop()
		next, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, stop = describing(t, next, register...)
		poll(t, func() string {
			if u.pool.readied.Load() == before {
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
				conns := u.pool.readied.Load()
				stop()
				_, stop = b.serve(withHealth, withReflection)
				for start := time.Now(); u.pool.readied.Load() == conns; elapse(10 * time.Millisecond) {
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

// withHangingReflection has reflection that never answers.
func withHangingReflection(gs *grpc.Server) {
	gs.RegisterService(&grpc.ServiceDesc{ServiceName: "grpc.reflection.v1.ServerReflection", HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
		StreamName: "ServerReflectionInfo", ServerStreams: true, ClientStreams: true,
		Handler: func(_ any, ss grpc.ServerStream) error {
			<-ss.Context().Done()
			return ss.Context().Err()
		},
	}}}, nil)
}

// TestFailingReflectionDelaysNobodyAgain: with descriptors from before, only the first
// attempt behind a connection keeps calls waiting.
func TestFailingReflectionDelaysNobodyAgain(t *testing.T) {
	ln := listen(t, "127.0.0.1:0")
	describing(t, ln, withHealth, withHangingReflection)
	u := upstreamTo(t, report.Backend{Target: ln.Addr().String()})
	source := listen(t, "127.0.0.1:0")
	describing(t, source, withHealth, withReflection)
	set, err := upstreamTo(t, report.Backend{Target: source.Addr().String()}).Descriptors(within(t, patience), "grpc.health.v1.Health")
	if err != nil {
		t.Fatal(err)
	}
	conns := u.pool.readied.Load()
	long := time.Now().Add(-time.Minute)
	l := u.learned
	l.mu.Lock() // what an answer and a later attempt in vain have left
	l.names = map[string]bool{"grpc.health.v1.Health": true}
	l.services["grpc.health.v1.Health"] = &service{attempt: attempt{at: long, conns: conns}, set: set}
	l.listing = attempt{at: long, conns: conns, err: errors.New("no answer")}
	l.mu.Unlock()
	before := time.Now()
	if _, err := u.Described(within(t, patience), checkHealth); err != nil || time.Since(before) >= askPatience {
		t.Errorf("%v after %v", err, time.Since(before))
	}
	if _, err := u.Described(within(t, patience), watchHealth); err != nil || time.Since(before) >= askPatience {
		t.Errorf("%v after %v", err, time.Since(before))
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

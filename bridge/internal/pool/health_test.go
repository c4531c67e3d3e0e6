package pool

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// A scriptedHealth is a health service that says what a test wants.
type scriptedHealth struct {
	mu      sync.Mutex
	now     healthpb.HealthCheckResponse_ServingStatus
	changed chan struct{} // closed when now changes
	watches int           // so far
	names   []string      // that were asked for

	instead func(grpc.ServerStream) error // if not nil, what it does
}

const (
	serving    = healthpb.HealthCheckResponse_SERVING
	notServing = healthpb.HealthCheckResponse_NOT_SERVING
)

func newScriptedHealth() *scriptedHealth {
	return &scriptedHealth{now: serving, changed: make(chan struct{})}
}

// say changes the answer.
func (h *scriptedHealth) say(s healthpb.HealthCheckResponse_ServingStatus) {
	h.set(s)
	synctest.Wait()
}

func (h *scriptedHealth) set(s healthpb.HealthCheckResponse_ServingStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = s
	close(h.changed)
	h.changed = make(chan struct{})
}

// act replaces the service; nil brings it back.
func (h *scriptedHealth) act(instead func(grpc.ServerStream) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.instead = instead
}

func (h *scriptedHealth) asked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.watches
}

// watch serves a call of the service.
func (h *scriptedHealth) watch(ss grpc.ServerStream) error {
	var in []byte
	if err := ss.RecvMsg(&in); err != nil {
		return err
	}
	var request healthpb.HealthCheckRequest
	if err := proto.Unmarshal(in, &request); err != nil {
		return err
	}
	h.mu.Lock()
	h.watches++
	h.names = append(h.names, request.GetService())
	instead := h.instead
	h.mu.Unlock()
	if instead != nil {
		return instead(ss)
	}
	for {
		h.mu.Lock()
		now, changed := h.now, h.changed
		h.mu.Unlock()
		if err := sayHealth(ss, now); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ss.Context().Done():
			return status.FromContextError(ss.Context().Err()).Err()
		}
	}
}

func sayHealth(ss grpc.ServerStream, s healthpb.HealthCheckResponse_ServingStatus) error {
	out, err := proto.Marshal(&healthpb.HealthCheckResponse{Status: s})
	if err != nil {
		return err
	}
	return ss.SendMsg(out)
}

// logText is what was logged.
type logText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func addressesOf(p *Pool) []report.AddressState {
	addresses := p.State().Addresses
	return addresses
}

// These say in a test what an AddressState tells about its health.
const (
	accepting        = "accepts calls"
	unhealthyAddress = "unhealthy"
	undecided        = "no connection, or no answer yet"
)

// healthOf returns the health of each address.
func healthOf(p *Pool) (all []string) {
	for _, a := range addressesOf(p) {
		switch {
		case a.Accepts:
			all = append(all, accepting)
		case a.Unhealthy:
			all = append(all, unhealthyAddress)
		default:
			all = append(all, undecided)
		}
	}
	return all
}

func wantUnhealthy(t *testing.T, p *Pool, cause string) {
	t.Helper()
	e := makeCall(t.Context(), t, p)
	if e.status.Code() != codes.Unavailable || e.reason != report.ReasonUpstreamUnhealthy || !strings.Contains(e.cause, cause) {
		t.Errorf("got %v for %s (%s), want UNAVAILABLE for %s (%s)", e.status, e.reason, e.cause, report.ReasonUpstreamUnhealthy, cause)
	}
	if got := errorInfo(t, e.status).GetMetadata()["sent"]; got != "no" {
		t.Errorf("sent=%s, want no", got)
	}
}

// TestUnhealthyAddress gets no new calls until it has recovered, and keeps those that
// run.
func TestUnhealthyAddress(t *testing.T) {
	for _, p := range policies {
		t.Run(p.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newSeveral(t, 2, 100)
				b.Balance, b.HealthCheck = p.name, report.HealthCheck{Enabled: true, Service: "orders"}
				p := poolTo(t, b.Backend)
				synctest.Wait()
				holding(t, p, 4)
				before := b.calls()
				b.each[0].health.say(notServing)
				if got, want := healthOf(p), []string{unhealthyAddress, accepting}; !slices.Equal(got, want) {
					t.Errorf("health %v, want %v", got, want)
				}
				holding(t, p, 10)
				if got, want := b.calls(), []int{before[0], before[1] + 10}; !slices.Equal(got, want) {
					t.Errorf("%v calls with an unhealthy address, want %v", got, want)
				}
				b.each[1].health.say(notServing)
				wantUnhealthy(t, p, `health check: the service "orders" is NOT_SERVING`)
				b.each[0].health.say(serving)
				wantUnhealthy(t, p, "") // it may change its mind
				time.Sleep(recoveryPause)
				synctest.Wait()
				holding(t, p, 3)
				if got, want := b.calls(), []int{before[0] + 3, before[1] + 10}; !slices.Equal(got, want) {
					t.Errorf("%v calls after the recovery, want %v", got, want)
				}
				if got := b.each[0].health.names; !slices.Equal(got, []string{"orders"}) {
					t.Errorf("asked for %q", got)
				}
			})
		})
	}
}

// TestHealthCheckHasAPlace: its stream counts under MAX_CONCURRENT_STREAMS, and a
// connection with one stream is left to the calls.
func TestHealthCheckHasAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 3)
		b.HealthCheck.Enabled, b.MaxConnections, b.QueueTimeout = true, 2, -1
		p := poolTo(t, b.Backend)
		synctest.Wait()
		b.QueueTimeout = 0
		ends := holding(t, p, 2)
		p.config.queueTimeout = time.Second
		ends = append(ends, holding(t, p, 2)...)
		p.config.queueTimeout = 0
		if e := makeCall(t.Context(), t, p); e.reason != report.ReasonOverloaded {
			t.Errorf("a fifth call on two connections with two places each: %v (%s)", e.status, e.cause)
		}
		endAll(ends)
		if got := healthOf(p); !slices.Equal(got, []string{accepting}) {
			t.Errorf("health %v", got)
		}
		time.Sleep(3 * trimInterval)
		if got := b.Connections(); got != 1 { // a Watch alone keeps none open
			t.Errorf("%d connections without calls, want 1", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 1)
		var log logText
		b.HealthCheck.Enabled, b.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
		p := poolTo(t, b.Backend)
		synctest.Wait()
		holding(t, p, 3)
		if got := strings.Count(log.String(), "two streams on a connection"); got != 1 {
			t.Errorf("%d lines in\n%s", got, log.String())
		}
		if got := healthOf(p); !slices.Equal(got, []string{accepting}) {
			t.Errorf("health %v", got)
		}
	})
}

// TestGrowthAwaitsTheHealthOfConnections: a connection whose health isn't known yet is
// counted, so that calls that wait don't open one each.
func TestGrowthAwaitsTheHealthOfConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 3)
		b.HealthCheck.Enabled = true
		p := poolTo(t, b.Backend)
		synctest.Wait()
		ends := holding(t, p, 2) // all places beside the check's
		b.health.act(func(ss grpc.ServerStream) error {
			time.Sleep(time.Second)
			return errors.Join(sayHealth(ss, serving), hold(ss))
		})
		var calls sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for i, want := range []int{2, 2, 3, 3, 4} {
			calls.Go(func() {
				if _, err := openCall(ctx, p); err != nil {
					t.Errorf("call %d: %v", i, err)
				}
			})
			if got := b.Connections(); got != want {
				t.Errorf("%d connections for %d calls that wait, want %d", got, i+1, want)
			}
		}
		calls.Wait()
		cancel()
		endAll(ends)
	})
}

// TestUnhealthyConnection of an address: another one may reach another server behind a
// load balancer. It takes no call, and is closed.
func TestUnhealthyConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 3)
		b.HealthCheck.Enabled = true
		p := poolTo(t, b.Backend)
		synctest.Wait()
		ends := holding(t, p, 2)
		b.health.act(func(ss grpc.ServerStream) error {
			b.health.act(nil)
			return errors.Join(sayHealth(ss, notServing), hold(ss))
		})
		ends = append(ends, holding(t, p, 1)...)
		if got, want := b.CallsBy(), []int{2, 0, 1}; !slices.Equal(got, want) {
			t.Errorf("%v calls by connection, want %v", got, want)
		}
		time.Sleep(trimInterval + time.Second)
		if got := b.Connections(); got != 2 {
			t.Errorf("%d connections, want 2: the unhealthy one is closed", got)
		}
		endAll(ends)
	})
}

// TestFurtherConnectionsThatAreUnhealthy are bounded, and culvert goes on to try.
func TestFurtherConnectionsThatAreUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 3)
		b.HealthCheck.Enabled, b.MaxConnections, b.QueueTimeout = true, -1, time.Minute
		p := poolTo(t, b.Backend)
		synctest.Wait()
		ends := holding(t, p, 2)
		b.health.act(func(ss grpc.ServerStream) error { return errors.Join(sayHealth(ss, notServing), hold(ss)) })
		queued := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer close(queued)
			if _, err := openCall(ctx, p); err != nil {
				t.Error(err)
			}
		}()
		if got := b.Connections(); got != 2+excessUnhealthy {
			t.Errorf("%d connections, want one that is healthy and %d", got, 1+excessUnhealthy)
		}
		b.health.act(nil)
		<-queued // the next trim made room
		cancel()
		endAll(ends)
	})
}

// TestBackendWithoutHealthService counts as healthy, which is said once.
func TestBackendWithoutHealthService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSeveral(t, 2, 2)
		var log logText
		b.HealthCheck.Enabled, b.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
		for _, each := range b.each {
			each.health.act(func(grpc.ServerStream) error { return status.Error(codes.Unimplemented, "unknown service") })
		}
		p := poolTo(t, b.Backend)
		synctest.Wait()
		holding(t, p, 8) // all places of two connections each
		if got := strings.Count(log.String(), "add the health service"); got != 1 {
			t.Errorf("%d lines in\n%s", got, log.String())
		}
		if got := healthOf(p); !slices.Equal(got, []string{accepting, accepting}) {
			t.Errorf("health %v", got)
		}
	})
}

// TestHealthThatIsSilent: a Watch without an answer fails after its patience, and is
// asked again.
func TestHealthThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSeveral(t, 2, 100)
		b.HealthCheck.Enabled = true
		silent := b.each[0].health
		silent.act(hold)
		p := poolTo(t, b.Backend)
		synctest.Wait()
		holding(t, p, 2)
		if got, want := healthOf(p), []string{undecided, accepting}; !slices.Equal(got, want) {
			t.Errorf("health %v, want %v", got, want)
		}
		time.Sleep(healthPatience)
		synctest.Wait()
		if got, want := healthOf(p), []string{unhealthyAddress, accepting}; !slices.Equal(got, want) {
			t.Errorf("health %v, want %v", got, want)
		}
		if got := addressesOf(p)[0].Failure; !strings.Contains(got, "no answer within 5s") {
			t.Errorf("failure %q", got)
		}
		time.Sleep(time.Hour)
		if got, most := silent.asked(), int(time.Hour/maxHealthPause)+5; got < most-10 || got > most {
			t.Errorf("asked %d times in an hour, want about %d", got, most-5)
		}
		silent.act(nil)
		time.Sleep(maxHealthPause + recoveryPause)
		synctest.Wait()
		if got, want := healthOf(p), []string{accepting, accepting}; !slices.Equal(got, want) {
			t.Errorf("health %v, want %v", got, want)
		}
		if got, want := b.calls(), []int{0, 2}; !slices.Equal(got, want) {
			t.Errorf("%v calls, want %v", got, want)
		}
	})
}

// TestSilentHealthOfOneAddress: calls wait for the answer, and end when it doesn't
// come.
func TestSilentHealthOfOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 100)
		b.HealthCheck.Enabled = true
		b.health.act(hold)
		p := poolTo(t, b.Backend)
		start := time.Now()
		e := makeCall(t.Context(), t, p)
		if took := time.Since(start); e.status.Code() != codes.Unavailable || took != healthPatience {
			t.Errorf("got %v for %s (%s) after %v", e.status, e.reason, e.cause, took)
		}
		wantUnhealthy(t, p, "no answer within 5s")
	})
}

// TestWatchThatEnds, as behind a proxy that bounds streams: the last answer counts
// until the next.
func TestWatchThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 100)
		b.HealthCheck.Enabled = true
		b.health.act(func(ss grpc.ServerStream) error {
			err := sayHealth(ss, serving)
			time.Sleep(10 * time.Millisecond)
			return errors.Join(err, status.Error(codes.Unavailable, "time is up"))
		})
		p := poolTo(t, b.Backend)
		synctest.Wait()
		for range 100 {
			endAll(holding(t, p, 1))
			time.Sleep(100 * time.Millisecond)
		}
		if got := b.health.asked(); got < 9 || got > 11 {
			t.Errorf("asked %d times in 10 s, want one a second", got)
		}
		b.health.act(func(grpc.ServerStream) error { return status.Error(codes.Internal, "broken") })
		time.Sleep(2 * time.Second)
		wantUnhealthy(t, p, "broken")
		b.health.act(nil)
		time.Sleep(maxHealthPause + recoveryPause)
		endAll(holding(t, p, 1))
	})
}

// TestHealthThatFlaps: an address gets calls only after it has been healthy for a
// while, and the log isn't flooded.
func TestHealthThatFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSeveral(t, 2, 100)
		var log logText
		b.HealthCheck.Enabled, b.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
		p := poolTo(t, b.Backend)
		synctest.Wait()
		for range 1000 {
			b.each[0].health.say(notServing)
			b.each[0].health.say(serving)
			time.Sleep(recoveryPause / 2)
			endAll(holding(t, p, 1))
		}
		calls := b.each[0].CallsBy()[0]
		if calls != 0 {
			t.Errorf("%d calls at the address that flaps", calls)
		}
		if got := strings.Count(log.String(), "\n"); got != 1 {
			t.Errorf("%d lines of log, want 1:\n%.1000s", got, log.String())
		}
		time.Sleep(2 * recoveryPause)
		holding(t, p, 2)
		if got, want := b.calls(), []int{1, 1}; !slices.Equal(got, want) {
			t.Errorf("%v calls, want %v", got, want)
		}
		if got := strings.Count(log.String(), "\n"); got != 2 {
			t.Errorf("%d lines of log, want 2:\n%.1000s", got, log.String())
		}
	})
}

// TestHealthFlood: a service that sends without a pause holds up nothing.
func TestHealthFlood(t *testing.T) {
	b := newCountedBackend(t, 100)
	b.HealthCheck.Enabled = true
	b.health.act(func(ss grpc.ServerStream) error {
		for i := 0; ; i++ {
			s := serving
			if i%2 > 0 && i < 20_000 {
				s = notServing
			}
			if err := sayHealth(ss, s); err != nil {
				return err
			}
		}
	})
	p := poolTo(t, b.Backend)
	for ctx := within(t, patience); ; {
		_, err := openCall(ctx, p)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

// TestAnswersOfHealth that aren't SERVING or NOT_SERVING.
func TestAnswersOfHealth(t *testing.T) {
	for _, c := range []struct {
		what, cause string
		act         func(grpc.ServerStream) error
	}{
		{"the service is unknown", "is health_check.service right?", func(ss grpc.ServerStream) error {
			_ = sayHealth(ss, healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
			return hold(ss)
		}},
		{"unknown", "the server is UNKNOWN", func(ss grpc.ServerStream) error {
			_ = sayHealth(ss, healthpb.HealthCheckResponse_UNKNOWN)
			return hold(ss)
		}},
		{"a status of the future", "the server is 77", func(ss grpc.ServerStream) error {
			_ = sayHealth(ss, 77)
			return hold(ss)
		}},
		{"no protobuf", "health check: ", func(ss grpc.ServerStream) error { _ = ss.SendMsg([]byte("\xff\xff")); return hold(ss) }},
		{"a huge answer", "larger than max", func(ss grpc.ServerStream) error { _ = ss.SendMsg(make([]byte, 1<<20)); return hold(ss) }},
		{"an end without an answer", "ended it without an answer", func(grpc.ServerStream) error { return nil }},
		{"an error", "the database is away", func(grpc.ServerStream) error { return status.Error(codes.FailedPrecondition, "the database is away") }},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newCountedBackend(t, 100)
				b.HealthCheck.Enabled = true
				b.health.act(c.act)
				p := poolTo(t, b.Backend)
				time.Sleep(time.Second / 2)
				wantUnhealthy(t, p, c.cause)
			})
		})
	}
}

// TestHealthAndConnections: the check follows connections that are lost, and lets
// those that drain end.
func TestHealthAndConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 100, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: time.Minute, MaxConnectionAgeGrace: 24 * time.Hour}))
		b.HealthCheck.Enabled = true
		p := poolTo(t, b.Backend)
		for range 10 {
			time.Sleep(time.Minute)
			endAll(holding(t, p, 1))
			if got := b.Connections(); got != 1 {
				t.Fatalf("%d connections, want 1: a Watch keeps a drained one open", got)
			}
		}
		b.Crash()
		time.Sleep(time.Second)
		wantUnreachable(t, makeCall(t.Context(), t, p))
		b.health.say(notServing)
		b.Up()
		time.Sleep(2 * time.Second)
		wantUnhealthy(t, p, "NOT_SERVING")
		b.Crash()
		time.Sleep(time.Second)
		wantUnreachable(t, makeCall(t.Context(), t, p))
		b.health.say(serving)
		b.Up()
		time.Sleep(2 * time.Second)
		endAll(holding(t, p, 1))
	})
}

// TestQueuedCallsOfAnUnhealthyBackend end when its last address fails the check.
func TestQueuedCallsOfAnUnhealthyBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t, 2)
		b.HealthCheck.Enabled, b.MaxConnections, b.QueueTimeout = true, 1, time.Hour
		p := poolTo(t, b.Backend)
		ends := holding(t, p, 1)
		ended := make(chan ending, 1)
		go func() { ended <- makeCall(t.Context(), t, p) }()
		synctest.Wait()
		b.health.say(notServing)
		synctest.Wait()
		select {
		case e := <-ended:
			if e.reason != report.ReasonUpstreamUnhealthy {
				t.Errorf("ended with %v for %s", e.status, e.reason)
			}
		default:
			t.Error("the call still waits")
		}
		endAll(ends)
	})
}

// TestCloseDuringHealthChecks leaves nothing running.
func TestCloseDuringHealthChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newSeveral(t, 3, 100)
		b.HealthCheck.Enabled = true
		b.each[0].health.act(hold)
		b.each[1].health.act(func(grpc.ServerStream) error { return status.Error(codes.Internal, "broken") })
		poolTo(t, b.Backend)
		time.Sleep(3 * time.Second)
		b.resolveTo(0, 1)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		<-ctx.Done()
	})
}

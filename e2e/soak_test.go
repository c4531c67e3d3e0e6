package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/relay"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

var soakTime = flag.Duration("soak", 15*time.Second, "how long TestSoak loads culvert")

// A soak is a running test of endurance.
type soak struct {
	t        *testing.T
	b        *backend
	c        *culvert
	upstream *relay.Relay // between culvert and the backend
	faulty   *relay.Relay // between clients and culvert: cuts every connection

	mu     sync.Mutex
	faults []fault // of the backend, in order
	cut    []*soakResult

	calls, ok, told, canceled, unheard, carried atomic.Int64
	unjudged                                    atomic.Int64 // OK calls whose record went with the backend
	kinds                                       sync.Map     // of clients, to *atomic.Int64: their calls that ended OK
}

// A fault is a time in which the backend, or the way to it, fails, and the time
// that culvert may take to be over it.
type fault struct{ from, to time.Time }

// faultGrace is that time: culvert tries again after a second at most.
const faultGrace = 2 * time.Second

// Mixed load, cuts, stalls and a backend that comes and goes, in rounds. Nothing
// is lost, doubled, reordered or altered, no cut call is OK, and after each round
// culvert is where it was.
func TestSoak(t *testing.T) {
	b := startBackend(t, backendOptions{})
	upstream, err := relay.New(b.address, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Close)
	c := startCulvert(t, upstream.Addr(), culvertOptions{})
	warm(t, c)
	seed := uint64(time.Now().UnixNano())
	t.Logf("the plans are those of the seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	faulty, err := relay.New(c.address, func(int) relay.Fate {
		return relay.Fate{AfterUp: 1000 + rand.Int64N(300<<10), AfterDown: 1000 + rand.Int64N(300<<10), Reset: rand.IntN(2) == 0}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(faulty.Close)
	s := &soak{t: t, b: b, c: c, upstream: upstream, faulty: faulty}

	descriptors := c.descriptors(t)
	var sizes []int64
	began, said := time.Now(), time.Now()
	for round := 1; time.Since(began) < *soakTime; round++ {
		s.round(dice, min(max(*soakTime/20, 5*time.Second), 30*time.Second))
		if t.Failed() {
			return
		}
		s.rest(descriptors)
		sizes = append(sizes, c.rss(t))
		if time.Since(said) > 29*time.Second || time.Since(began) > *soakTime {
			said = time.Now()
			t.Logf("%v: %s; resident %d MiB, %d threads, %d descriptors",
				time.Since(began).Round(time.Second), s.tally(), c.rss(t)/mib, c.threads(t), c.descriptors(t))
		}
	}
	t.Logf("%d faults; resident after each round, MiB: %v", len(s.faults), inMiB(sizes))
	s.kinds.Range(func(kind, n any) bool {
		t.Logf("%7d calls by %s were OK", n.(*atomic.Int64).Load(), kind)
		return true
	})
	for _, kind := range soakKinds() {
		if n, ok := s.kinds.Load(kind.name); !ok || n.(*atomic.Int64).Load() == 0 {
			t.Errorf("no call by %s was OK", kind.name)
		}
	}
	wantFlat(t, sizes)
	for _, line := range c.output.all() { // net/http catches what panics
		if strings.Contains(line, "panic") {
			t.Errorf("culvert's log: %s", line)
		}
	}
	rest := goroutinesAtRest(t, b)
	wantGoroutines(t, c, rest)
}

// wantFlat compares what culvert held after the last rounds with the first ones:
// growth that goes on, not the size that the load needs.
func wantFlat(t *testing.T, sizes []int64) {
	t.Helper()
	third := max(1, len(sizes)/3)
	first, last := slices.Max(sizes[:third]), slices.Max(sizes[len(sizes)-third:])
	if grown := last - first; grown > first/4+16*mib {
		t.Errorf("culvert grew from %d to %d KiB", first/kib, last/kib)
	}
}

func inMiB(sizes []int64) []int64 {
	out := make([]int64, len(sizes))
	for i, n := range sizes {
		out[i] = n / mib
	}
	return out
}

func (s *soak) tally() string {
	return fmt.Sprintf("%d calls: %d OK (%d not judged at the backend), %d with a status, %d cancelled, %d cut; %d MiB",
		s.calls.Load(), s.ok.Load(), s.unjudged.Load(), s.told.Load(), s.canceled.Load(), s.unheard.Load(), s.carried.Load()/mib)
}

// round is clients at work for so long, and faults meanwhile.
func (s *soak) round(dice *rand.Rand, long time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	var clients sync.WaitGroup
	for _, kind := range soakKinds() {
		for range 2 {
			seed := dice.Uint64()
			clients.Go(func() { s.client(ctx, kind, rand.New(rand.NewPCG(seed, 0))) })
		}
	}
	for ctx.Err() == nil {
		select {
		case <-time.After(time.Duration(500+dice.IntN(5000)) * time.Millisecond):
			s.fail(dice)
		case <-ctx.Done():
		}
	}
	clients.Wait()
}

// fail makes one fault, and mends it.
func (s *soak) fail(dice *rand.Rand) {
	from := time.Now()
	s.mu.Lock()
	s.faults = append(s.faults, fault{from: from}) // it goes on
	s.mu.Unlock()
	switch dice.IntN(4) {
	case 0:
		s.upstream.Cut(true)
	case 1:
		s.upstream.Cut(false)
	case 2:
		s.b.kill(s.t)
		<-time.After(time.Duration(dice.IntN(500)) * time.Millisecond)
		s.b.restart(s.t)
	case 3:
		s.b.signal(s.t, syscall.SIGSTOP)
		<-time.After(time.Duration(dice.IntN(1500)) * time.Millisecond)
		s.b.signal(s.t, syscall.SIGCONT)
	}
	s.mu.Lock()
	s.faults[len(s.faults)-1].to = time.Now().Add(faultGrace)
	s.mu.Unlock()
}

// failed reports whether the backend failed between from and now.
func (s *soak) failed(from time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range slices.Backward(s.faults) {
		if f.to.IsZero() || f.to.After(from) {
			return true
		}
	}
	return false
}

// client is connections one after the other, with calls beside and after each
// other on each.
func (s *soak) client(ctx context.Context, kind soakKind, r *rand.Rand) {
	for ctx.Err() == nil && !s.t.Failed() {
		address, cut := s.c.address, false
		if r.IntN(8) == 0 {
			address, cut = s.faulty.Addr(), true
		}
		dialled, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		conn, err := kind.dial(dialled, address)
		cancel()
		if err != nil {
			if !cut {
				s.t.Errorf("%s: %v", kind.name, err)
			}
			continue
		}
		conn.SetDeadline(time.Now().Add(time.Minute)) // one that hangs shall fail
		end := conn.Close
		var cutting *time.Timer
		if !cut && r.IntN(10) == 0 { // the client goes
			cut = true
			if r.IntN(2) == 0 {
				end = conn.Reset
			}
			cutting = time.AfterFunc(time.Duration(r.IntN(300))*time.Millisecond, end)
		}
		rounds, width := 1, 1
		if kind.multiplexed {
			rounds, width = 1+r.IntN(4), 1+r.IntN(6)
		}
		for range rounds {
			var calls sync.WaitGroup
			for range width {
				plan := newPlan(r)
				calls.Go(func() { s.judge(kind, play(context.Background(), conn, newID(s.t), plan), cut) })
			}
			calls.Wait()
		}
		if cutting != nil {
			cutting.Stop()
		}
		conn.Close()
	}
}

// judge counts a call, and complains of what may not be. cut is whether its
// connection is one that is cut.
func (s *soak) judge(kind soakKind, res *soakResult, cut bool) {
	s.calls.Add(1)
	s.carried.Add(atomic.LoadInt64(&res.carried))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	r, err := s.b.control.Wait(ctx, res.id, probe.Now)
	failed := s.failed(res.began)
	late := res.plan.timeout > 0 && time.Since(res.began) > res.plan.timeout
	known := err == nil && r.Attempts > 0
	if err := res.wrong(r, known); err != nil {
		s.complain(kind, res, r, err.Error())
		return
	}
	switch {
	case res.status != nil && res.status.Code == codes.OK:
		s.ok.Add(1)
		n, _ := s.kinds.LoadOrStore(kind.name, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		if known {
			return
		}
		s.unjudged.Add(1)
		if !failed {
			s.complain(kind, res, r, fmt.Sprintf("OK, and the backend doesn't know it (%v)", err))
		}
	case res.canceled:
		s.canceled.Add(1)
		s.mu.Lock()
		s.cut = append(s.cut, res)
		s.mu.Unlock()
	case res.status != nil:
		s.told.Add(1)
		if !(late && res.status.Code == codes.DeadlineExceeded) && !failed && !cut {
			s.complain(kind, res, r, "it ended for no reason")
		}
	default:
		s.unheard.Add(1)
		if !cut && !late { // a message under way when the deadline passes is given a moment
			s.complain(kind, res, r, "it was not told how it ended")
		}
	}
}

// complain fails the test with all that is known of a call.
func (s *soak) complain(kind soakKind, res *soakResult, r probe.Record, what string) {
	r.Metadata = nil // it holds what the plan says
	line := "no line"
	for _, l := range s.c.output.all() {
		if strings.Contains(l, `"call_id":"`+logID(res.id)+`"`) {
			line = l
		}
	}
	s.t.Errorf("%s: %s\n%v\nthe backend: %+v\nculvert's log: %s", kind.name, what, res, r, line)
}

// rest waits until nothing of a round is left, and looks at what was cancelled.
func (s *soak) rest(descriptors int) {
	s.t.Helper()
	s.b.idle(s.t, 30*time.Second)
	all := s.b.records(s.t)
	s.mu.Lock()
	for _, res := range s.cut {
		if r, ok := all[res.id]; ok {
			if err := res.wrong(r, true); err != nil {
				s.t.Errorf("call %s %+v, cancelled: %v", res.id, res.plan, err)
			}
		}
	}
	s.cut = nil
	s.mu.Unlock()
	if err := eventually(15*time.Second, func() error { // culvert may wait before it connects again
		return works(s.t, wire.Web, s.c.address, 5*time.Second)
	}); err != nil {
		s.t.Fatal(err)
	}
	if err := eventually(15*time.Second, func() error { return sameDescriptors(s.t, s.c, descriptors) }); err != nil {
		s.t.Fatal(err)
	}
}

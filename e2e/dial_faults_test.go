package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/relay"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

var dialFaultsTime = flag.Duration("dial-faults", 0, "how long TestDialFaults repeats its faults; 0: each once")

const (
	faultStreams = 200 // twice what a connection to culvert carries by default

	// noticedWithin bounds how long a call hears nothing, also of its end. A machine that is
	// busy is late: see lateness.
	noticedWithin = 15 * time.Second
)

// lateness measures by how much the machine's timers are late at most, until the test ends.
func lateness(t *testing.T) func() time.Duration {
	var most atomic.Int64
	over := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for {
			due := time.Now().Add(50 * time.Millisecond)
			select {
			case <-time.After(time.Until(due)):
				most.Store(max(most.Load(), int64(time.Since(due))))
			case <-over:
				return
			}
		}
	})
	t.Cleanup(func() { close(over); work.Wait() })
	return func() time.Duration { return time.Duration(most.Load()) }
}

// TestDialFaults: stock clients hold 200 bidirectional streams through culvert dial while the
// network between it and the service fails. Nothing is lost, doubled or reordered in a call. A
// call that breaks has one definite end, with culvert's reason. Once the network works, so do
// new calls, on the same local connection. Nothing is left behind.
func TestDialFaults(t *testing.T) {
	b := startBackend(t, backendOptions{})
	for _, way := range append([]string{"auto"}, ways...) {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			runFaults(t, b, way)
		})
	}
}

// A dialPair is culvert dial and the culvert behind it, with a relay in between.
type dialPair struct {
	dial  *dialled
	edge  *culvert
	relay *relay.Relay
}

// startPair starts both, and uses as many streams as the test once.
func startPair(t *testing.T, b *backend, way string) *dialPair {
	t.Helper()
	authority := newIssuer(t, "edge")
	certFile, keyFile := writePair(t, t.TempDir(), "edge", authority.issue("edge"))
	p := &dialPair{edge: startCulvert(t, b.address, culvertOptions{
		args:   []string{"--tls-cert", certFile, "--tls-key", keyFile},
		config: "limits: {address: {connections: 100000, calls: 100000, handshakes_per_second: 100000, calls_per_second: 100000}}\n",
	})}
	var err error
	if p.relay, err = relay.New(p.edge.address, func(int) relay.Fate { return relay.Fate{Troubled: true} }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.relay.Close)
	p.dial = startDial(t, "https://"+p.edge.address, "--connect", p.relay.Addr(), "--via", way, "--ca", authority.file)
	return p
}

// use holds the streams for a moment, and returns what both processes are left with.
func (p *dialPair) use(t *testing.T, b *backend) {
	t.Helper()
	load := newFaultLoad(t, b)
	load.start(p.dial.address)
	load.await("streams", func(s *faultStream) bool { return s.echoes.Load() > 0 })
	load.stop()
	settled(t, func() int64 { return int64(p.dial.descriptors(t) + p.edge.descriptors(t)) })
}

func runFaults(t *testing.T, b *backend, way string) {
	// What another pair is left with after as many streams.
	rest := startPair(t, b, way)
	rest.use(t, b)
	dialKinds, edgeKinds := rest.dial.goroutines(t), rest.edge.goroutines(t)

	p := startPair(t, b, way)
	p.use(t, b)
	dialFiles, edgeFiles := p.dial.descriptors(t), p.edge.descriptors(t)
	load := newFaultLoad(t, b)
	load.start(p.dial.address)
	var dialSizes, edgeSizes []int64 // the largest of each round: some ways need more than others
	began := time.Now()
	for once := true; !t.Failed() && (once || time.Since(began) < *dialFaultsTime); once = false {
		var dialSize, edgeSize int64
		for _, f := range networkFaults {
			load.meet(p.relay, f)
			dialSize, edgeSize = max(dialSize, p.dial.rss(t)), max(edgeSize, p.edge.rss(t))
			if t.Failed() {
				break
			}
		}
		dialSizes, edgeSizes = append(dialSizes, dialSize), append(edgeSizes, edgeSize)
	}
	load.stop()
	t.Logf("%v: %d calls, %d OK, %d broken, %d messages; the longest silence was %v, timers were up to %v late", time.Since(began).Round(time.Second),
		load.calls.Load(), load.ok.Load(), load.broken.Load(), load.messages.Load(), time.Duration(load.silence.Load()).Round(time.Millisecond), load.late().Round(time.Millisecond))
	t.Logf("resident in each round, MiB: dial %v, serve %v", inMiB(dialSizes), inMiB(edgeSizes))
	if t.Failed() {
		return
	}
	wantFlat(t, dialSizes)
	wantFlat(t, edgeSizes)
	if err := eventually(patience, func() error {
		if d, e := p.dial.descriptors(t), p.edge.descriptors(t); d > dialFiles || e > edgeFiles {
			return fmt.Errorf("dial has %d descriptors and serve %d, had %d and %d", d, e, dialFiles, edgeFiles)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	allowed := 2
	if way == "auto" {
		allowed = 8 // of a way with more, and of those that were tried
	}
	wantNoMore(t, "dial", p.dial.goroutines(t), dialKinds, allowed)
	wantNoMore(t, "serve", p.edge.goroutines(t), edgeKinds, allowed)
}

// wantNoMore compares goroutines with those at rest, of which each kind may have some more.
func wantNoMore(t *testing.T, who string, got, want map[string]int, allowed int) {
	t.Helper()
	for _, kind := range slices.Sorted(maps.Keys(got)) {
		if got[kind] > want[kind]+allowed && !strings.HasPrefix(kind, "runtime.") {
			t.Errorf("%s: %d goroutines created by %s, had %d", who, got[kind], kind, want[kind])
		}
	}
}

// A networkFault is something that happens to the network, and ends.
type networkFault struct {
	name   string
	breaks bool // calls
	do     func(f *faultLoad, r *relay.Relay)
}

var networkFaults = []networkFault{
	{"RST", true, func(_ *faultLoad, r *relay.Relay) { r.Cut(true) }},
	{"FIN", true, func(_ *faultLoad, r *relay.Relay) { r.Cut(false) }},
	{"a stall", false, func(_ *faultLoad, r *relay.Relay) {
		r.Stall()
		<-time.After(5 * time.Second)
	}},
	{"a slow link", false, func(f *faultLoad, r *relay.Relay) {
		r.Slow()
		f.await("echoes by the slow link", f.further())
	}},
	{"refused connections", true, func(_ *faultLoad, r *relay.Relay) {
		r.Refuse()
		<-time.After(3 * time.Second)
	}},
	{"a black hole", true, func(f *faultLoad, r *relay.Relay) {
		before := f.ended()
		r.Swallow()
		f.await("ends in the black hole", func(s *faultStream) bool { return s.ends.Load() > before[s] })
	}},
}

// A faultLoad is streams that a client holds on one connection: whenever a call ends, the next
// one begins.
type faultLoad struct {
	t       *testing.T
	b       *backend
	late    func() time.Duration
	conn    soakConn
	streams []*faultStream
	cancel  context.CancelFunc
	work    sync.WaitGroup

	failing atomic.Bool // calls may break
	changed chan struct{}

	calls, ok, broken, messages, silence atomic.Int64
}

// A faultStream is one of its streams.
type faultStream struct {
	echoes atomic.Int64
	ends   atomic.Int64
}

func newFaultLoad(t *testing.T, b *backend) *faultLoad {
	return &faultLoad{t: t, b: b, late: lateness(t), changed: make(chan struct{}, 1)} // one that is waiting looks at all
}

func (f *faultLoad) start(address string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if f.conn, err = dialGRPCGo("", "")(ctx, address); err != nil {
		f.t.Fatal(err)
	}
	ctx, f.cancel = context.WithCancel(context.Background())
	for range faultStreams {
		s := &faultStream{}
		f.streams = append(f.streams, s)
		f.work.Go(func() {
			for ctx.Err() == nil && !f.t.Failed() {
				f.call(ctx, s)
			}
		})
	}
	f.t.Cleanup(func() { f.conn.Close(); f.work.Wait() })
}

// stop ends all calls in good order.
func (f *faultLoad) stop() {
	f.t.Helper()
	f.cancel()
	f.work.Wait()
	f.conn.Close()
	f.b.idle(f.t, patience)
}

// meet has the network fail, and waits until all streams work again.
func (f *faultLoad) meet(r *relay.Relay, fault networkFault) {
	f.t.Helper()
	f.await("echoes before "+fault.name, f.further())
	broken := f.broken.Load()
	f.failing.Store(fault.breaks)
	began := time.Now()
	fault.do(f, r)
	if err := r.Mend(); err != nil {
		f.t.Fatal(err)
	}
	mended := time.Now()
	f.await("echoes after "+fault.name, f.further())
	f.failing.Store(false)
	broken = f.broken.Load() - broken
	f.t.Logf("%s for %v: %d calls broke; all streams worked %v later", fault.name, mended.Sub(began).Round(time.Millisecond), broken, time.Since(mended).Round(time.Millisecond))
	if fault.breaks && broken < faultStreams/2 {
		f.t.Errorf("%s broke %d calls: is it one?", fault.name, broken)
	}
}

// further reports whether a stream has had an echo since now. One is under way perhaps: two.
func (f *faultLoad) further() func(s *faultStream) bool {
	before := map[*faultStream]int64{}
	for _, s := range f.streams {
		before[s] = s.echoes.Load()
	}
	return func(s *faultStream) bool { return s.echoes.Load() >= before[s]+2 }
}

// ended returns how many calls of each stream have ended.
func (f *faultLoad) ended() map[*faultStream]int64 {
	ends := map[*faultStream]int64{}
	for _, s := range f.streams {
		ends[s] = s.ends.Load()
	}
	return ends
}

// await waits until all streams are as wanted.
func (f *faultLoad) await(what string, wanted func(s *faultStream) bool) {
	f.t.Helper()
	deadline := time.After(time.Minute + noticedWithin)
	for {
		missing := 0
		for _, s := range f.streams {
			if !wanted(s) {
				missing++
			}
		}
		if missing == 0 || f.t.Failed() {
			return
		}
		select {
		case <-f.changed:
		case <-deadline:
			f.t.Fatalf("%d of %d streams have no %s in time", missing, len(f.streams), what)
		}
	}
}

func (f *faultLoad) note() {
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// A faultCall is one call of a stream.
type faultCall struct {
	*faultLoad
	wire.Call
	id       string
	sent     int
	received int
	heard    time.Time
}

func (c *faultCall) String() string {
	return fmt.Sprintf("call %s, %d messages sent and %d received", c.id, c.sent, c.received)
}

// call makes one call of at most a hundred messages. The context's end ends it with its
// half-close.
func (f *faultLoad) call(ctx context.Context, s *faultStream) {
	c := &faultCall{faultLoad: f, id: newID(f.t), heard: time.Now()}
	f.calls.Add(1)
	defer f.note()
	defer s.ends.Add(1)
	var err error
	if c.Call, err = f.conn.Open(context.Background(), wire.Bidi, http.Header{probe.IDKey: {c.id}, probe.ScriptKey: {probe.Script{Echo: true}.String()}}); err != nil {
		f.t.Errorf("%v: %v", c, err)
		return
	}
	defer c.Close()
	last := 20 + rand.IntN(80)
	for c.sent < last && ctx.Err() == nil {
		burst := 1 + rand.IntN(3)
		c.heard = time.Now() // it was waiting for us
		for range burst {
			if c.Send(wire.Request(uint64(c.sent), soakSizes[rand.IntN(4)])) != nil {
				break // Recv has the reason
			}
			c.sent++
		}
		for range burst {
			if !c.receive(s) {
				return
			}
		}
		select {
		case <-time.After(time.Duration(100+rand.IntN(600)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
	c.heard = time.Now()
	_ = c.CloseSend() // Recv has the reason
	c.receive(s)
}

// receive receives one message, or the end, and looks whether it is right.
func (c *faultCall) receive(s *faultStream) (more bool) {
	_, err := wire.RecvReply(c.Call, uint64(c.received))
	silence := time.Since(c.heard)
	c.heard = time.Now()
	if most := c.silence.Load(); int64(silence) > most {
		c.silence.Store(int64(silence))
	}
	if late := c.late(); silence > noticedWithin+late {
		c.t.Errorf("%v heard nothing for %v; at most %v is allowed, and timers were %v late", c, silence, noticedWithin, late)
	}
	if err == nil {
		c.received++
		c.messages.Add(1)
		s.echoes.Add(1)
		c.note()
		return true
	}
	c.judge(err)
	return false
}

// judge looks at the end of a call.
func (c *faultCall) judge(err error) {
	st := c.Status()
	if !errors.Is(err, io.EOF) || st == nil {
		c.t.Errorf("%v: %v", c, err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch r, err := c.b.control.Wait(ctx, c.id, probe.Now); {
	case err != nil:
		c.t.Errorf("%v: %v", c, err)
	case r.Fault != "" || r.Attempts > 1 || r.Received > int64(c.sent) || r.Sent < int64(c.received):
		r.Metadata = nil // it holds what the plan says
		c.t.Errorf("%v, ended with %v; at the backend: %+v", c, st, r)
	case st.Code == codes.OK && (c.received != c.sent || r.Received != int64(c.sent) || !r.HalfClosed):
		c.t.Errorf("%v, and ended with OK", c)
	case st.Code == codes.OK:
		c.ok.Add(1)
	case st.Code != codes.Unavailable || st.Reason() == "":
		c.t.Errorf("%v ended with %v, want %v and culvert's reason", c, st, codes.Unavailable)
	case !c.failing.Load():
		c.t.Errorf("%v ended with %v, and no fault breaks calls now", c, st)
	default:
		c.broken.Add(1)
	}
}

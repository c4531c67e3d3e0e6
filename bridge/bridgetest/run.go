package bridgetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge"
)

// A scenario is one thing that must hold, written once.
type scenario struct {
	name  string
	needs need
	run   func(t *T)
}

// Run runs every scenario over every transport. Transports run beside each
// other; the scenarios of one run after one another.
func Run(t *testing.T) {
	t.Cleanup(noneLinger) // for a goleak at the end of the whole test
	for _, tr := range transports {
		t.Run(strings.ReplaceAll(tr.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			for _, sc := range scenarios {
				if why := tr.lacks(sc.needs); why != "" {
					t.Logf("not carried: %s: %s", sc.name, why)
					continue
				}
				t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) { surround(t, tr, sc) })
			}
		})
	}
}

// lacks returns why the transport can't carry the needs, or "".
func (tr transport) lacks(needs need) string {
	var why []string
	for n, reason := range tr.cannot {
		if needs&n != 0 && !slices.Contains(why, reason) {
			why = append(why, reason)
		}
	}
	slices.Sort(why)
	return strings.Join(why, "; ")
}

// patience is how long an event may take that ought to come at once. It is
// long, since two cores under the race detector are slow now and then.
const patience = 10 * time.Second

// A T is a test that one scenario runs in.
type T struct {
	*testing.T
	transport transport
	ctx       context.Context // the scenario's life
	label     goroutineLabel

	backend  *backend // nil with a fake one
	server   *bridge.Server
	observer *observer
	address  string // of culvert
	d        *dialer
	client   client
	log      syncBuffer

	calls []*backendCall // that the scenario asked for
	onEnd []func()       // run backwards
}

// surround runs a scenario, then holds what must hold after every one: culvert
// told of an end for each beginning, the backend has no call left, and no
// goroutine is left of all that the scenario started.
func surround(t *testing.T, tr transport, sc scenario) {
	label := newLabel()
	defer func() {
		if left := label.atMost(0); left != "" && !t.Failed() {
			t.Errorf("goroutines left behind:\n%s", left)
		}
	}()
	label.do(func() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		st := &T{T: t, transport: tr, ctx: ctx, label: label}
		defer st.end()
		sc.run(st)
	})
}

// end undoes what the scenario set up.
func (t *T) end() {
	for _, f := range slices.Backward(t.onEnd) {
		f()
	}
	if !t.Failed() {
		return
	}
	t.Logf("culvert's log:\n%s", t.log.String())
	if t.observer != nil {
		calls, _, _ := t.observer.ended()
		for _, c := range calls[max(0, len(calls)-10):] {
			t.Logf("culvert told of %s: %v by %s, %s, cause %q", c.ID, c.Code, c.Origin, c.Reason, c.Cause)
		}
	}
}

// serve starts a backend with the handler, culvert in front of it, and a client.
func (t *T) serve(h handler, configure ...func(*bridge.Config)) {
	t.Helper()
	t.startBackend("", h)
	t.startCulvert(t.backend.address, configure...)
	t.startClient(t.address)
}

// serveFake does the same with a backend made of frames.
func (t *T) serveFake(script func(c *fakeConn, stream uint32), configure ...func(*bridge.Config)) {
	t.Helper()
	f, err := startFake(script)
	if err != nil {
		t.Fatal(err)
	}
	t.atEnd(f.stop)
	t.startCulvert(f.address, configure...)
	t.startClient(t.address)
}

// serveScripts does the same with a script for each call, given before it.
func (t *T) serveScripts(configure ...func(*bridge.Config)) (next func(func(c *fakeConn, stream uint32))) {
	t.Helper()
	scripts := make(chan func(c *fakeConn, stream uint32), 2) // a call's script, and that of its retry
	t.serveFake(func(c *fakeConn, stream uint32) {
		select {
		case script := <-scripts:
			script(c, stream)
		default:
			c.headers(stream, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "13", "grpc-message", "one call too many")
		}
	}, configure...)
	return func(script func(c *fakeConn, stream uint32)) { scripts <- script }
}

func (t *T) atEnd(f func()) { t.onEnd = append(t.onEnd, f) }

func (t *T) startBackend(address string, h handler) {
	t.Helper()
	b, err := startBackend(address, h)
	if err != nil {
		t.Fatal(err)
	}
	t.backend = b
	t.atEnd(b.stop)
}

func (t *T) startCulvert(target string, configure ...func(*bridge.Config)) {
	t.Helper()
	t.observer = newObserver()
	cfg := bridge.Config{
		Backend:  bridge.Backend{Target: target},
		Logger:   slog.New(slog.NewTextHandler(&t.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Observer: t.observer,
	}
	for _, f := range configure {
		f(&cfg)
	}
	s, err := bridge.New(cfg)
	if err != nil {
		t.Fatalf("bridge.New: %v", err)
	}
	t.server = s
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.address = ln.Addr().String()
	if t.transport.tls {
		ln = tlsListener(ln)
	}
	served := make(chan error, 1) // the goroutine ends though nobody may ask
	var serving sync.WaitGroup
	serving.Go(func() { served <- s.Serve(ln) })
	o := t.observer
	t.atEnd(func() {
		t.stopCulvert(s, o)
		serving.Wait()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v, want %v", err, http.ErrServerClosed)
		}
	})
}

// stopCulvert judges the end of a scenario.
func (t *T) stopCulvert(s *bridge.Server, o *observer) {
	if !t.Failed() {
		t.allEnded(o)
	}
	// Shutdown is the drain's scenarios' concern: it waits for connections
	// that were just accepted, and there are a thousand scenarios.
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}()
	if !happens(patience, closed) {
		t.Errorf("Close still waits after %v", patience)
	}
}

// allEnded waits until culvert has told of every call's end, and looks that
// the backend runs none.
func (t *T) allEnded(o *observer) {
	deadline := time.After(patience)
	for {
		calls, began, next := o.ended()
		if len(calls) > began {
			t.Errorf("%d calls began and %d ended", began, len(calls))
		}
		if len(calls) >= began {
			break
		}
		select {
		case <-next:
		case <-deadline:
			t.Errorf("%d calls began and only %d ended", began, len(calls))
			return
		}
	}
	if t.backend == nil {
		return
	}
	for _, c := range append(t.calls, t.backend.seen()...) {
		if !happens(patience, c.ended) {
			t.Errorf("the backend's call of %s hasn't ended %v after its client has gone", c.method, patience)
		}
	}
}

func (t *T) startClient(address string) {
	t.Helper()
	t.d = &dialer{address: address}
	t.client = t.dial(t.d)
}

// dial starts a client of the scenario's transport.
func (t *T) dial(d *dialer) client {
	t.Helper()
	c, err := t.transport.dial(d, clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	t.atEnd(c.close)
	return c
}

// defaultMethod is what calls ask for unless they say otherwise.
const defaultMethod = "/culvert.test.Scenario/Call"

// open begins a call with the scenario's client.
func (t *T) open(c call) *callT {
	t.Helper()
	return t.openWith(t.client, c)
}

func (t *T) openWith(cl client, c call) *callT {
	t.Helper()
	if c.method == "" {
		c.method = defaultMethod
	}
	s, err := cl.open(t.ctx, c)
	if err != nil {
		t.Fatalf("open %s: %v", c.method, err)
	}
	return &callT{t: t, stream: s}
}

// unary makes a call with one message and returns its end.
func (t *T) unary(c call, message []byte) result {
	t.Helper()
	s := t.open(c)
	// The answer may come before all is sent, and then it says more than the
	// error of sending.
	_ = s.stream.send(message)
	_ = s.stream.closeSend()
	return s.end()
}

// A callT is a stream whose slips fail the test.
type callT struct {
	t *T
	stream
}

func (s *callT) send(b []byte) {
	s.t.Helper()
	if err := s.stream.send(b); err != nil {
		s.t.Fatalf("send %d bytes: %v", len(b), err)
	}
}

// sendHalf sends half a frame; a client whose body has a length has announced
// the whole.
func (s *callT) sendHalf() {
	s.t.Helper()
	half := frame(0, patterned(100))[:60]
	var err error
	switch h := s.stream.(type) {
	case *http1Stream:
		err = h.sendPart(half)
	case *http2Stream:
		err = h.sendPart(half)
	default:
		err = s.stream.sendRaw(half)
	}
	if err != nil {
		s.t.Fatalf("send half a message: %v", err)
	}
}

func (s *callT) closeSend() {
	s.t.Helper()
	if err := s.stream.closeSend(); err != nil {
		s.t.Fatalf("half-close: %v", err)
	}
}

func (s *callT) header() metadata.MD {
	s.t.Helper()
	md, err := s.stream.header()
	if err != nil {
		s.t.Fatalf("header: %v", err)
	}
	return md
}

// recv wants a message.
func (s *callT) recv() []byte {
	s.t.Helper()
	b, err := s.stream.recv()
	if err != nil {
		s.t.Fatalf("receive: %v, status %v, want a message", err, s.stream.status())
	}
	return b
}

// end reads to the call's end, which must be a status.
func (s *callT) end() result {
	s.t.Helper()
	r := s.anyEnd()
	if r.status == nil {
		s.t.Fatalf("the call ended without a status: %v", r.err)
	}
	return r
}

// anyEnd reads to the call's end, which may be a cut.
func (s *callT) anyEnd() (r result) {
	s.t.Helper()
	r.header, r.err = s.stream.header()
	if r.err != nil {
		return r
	}
	for {
		b, err := s.stream.recv()
		if err != nil {
			r.err = err
			break
		}
		r.messages = append(r.messages, b)
	}
	r.status, r.trailer, r.compressed = s.stream.status(), s.stream.trailer(), s.stream.compressed()
	return r
}

// A result is all that a client saw of a call.
type result struct {
	header, trailer metadata.MD
	messages        [][]byte
	status          *status.Status // nil: the call was cut
	err             error          // io.EOF with a status
	compressed      int
}

// reason returns the reason that culvert gave for a status of its own, or "".
func (r result) info() *errdetails.ErrorInfo {
	for _, d := range r.status.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == "culvert" {
			return info
		}
	}
	return nil
}

// wantUpstream wants a status that the backend made.
func (t *T) wantUpstream(r result, code codes.Code, message string) {
	t.Helper()
	if got := r.status; got.Code() != code || got.Message() != message {
		t.Errorf("status %v %q, want %v %q", got.Code(), got.Message(), code, message)
	}
	if info := r.info(); info != nil {
		t.Errorf("the backend's status is said to be culvert's: %v", info)
	}
}

// wantOK wants the backend's OK and these messages.
func (t *T) wantOK(r result, messages ...[]byte) {
	t.Helper()
	t.wantUpstream(r, codes.OK, "")
	if !slices.EqualFunc(r.messages, messages, bytes.Equal) {
		t.Errorf("messages %s, want %s", abridged(r.messages), abridged(messages))
	}
}

// wantCulvert wants a status that culvert made, for the reason.
func (t *T) wantCulvert(r result, code codes.Code, reason bridge.Reason) {
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

// nextCall waits for the backend to see a call.
func (t *T) nextCall() *backendCall {
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

// awaitEvent waits for what ought to come at once.
func (t *T) awaitEvent(what string, signal <-chan struct{}) {
	t.Helper()
	t.awaitWithin(patience, what, signal)
}

func (t *T) awaitWithin(d time.Duration, what string, signal <-chan struct{}) {
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

// Absence is no event: these two watch a number until it has stood still for
// stillFor.
const (
	stillFor  = 200 * time.Millisecond
	lookEvery = 5 * time.Millisecond
)

// awaitStall waits until the number has risen and then stood still, and
// returns it.
func (t *T) awaitStall(number func() int64) int64 {
	t.Helper()
	return t.awaitStill(number, func(n int64) bool { return n > 0 })
}

// settledGoroutines waits until the number of the scenario's goroutines stands
// still, and returns it.
func (t *T) settledGoroutines() int {
	t.Helper()
	running := func() int64 { n, _ := t.label.running(); return int64(n) }
	return int(t.awaitStill(running, func(int64) bool { return true }))
}

func (t *T) awaitStill(number func() int64, counts func(int64) bool) int64 {
	t.Helper()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	last, since := number(), time.Now()
	for {
		select {
		case now := <-look.C:
			if n := number(); n != last {
				last, since = n, now
			} else if counts(n) && now.Sub(since) > stillFor {
				return n
			}
		case <-t.ctx.Done():
			t.Fatalf("a number never stood still: %d", last)
		}
	}
}

// endsWithin runs f, which ends by itself, and wants it to do so in time.
func (t *T) endsWithin(d time.Duration, what string, f func()) {
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

// A syncBuffer is a bytes.Buffer for a logger.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

package bridgetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// A scenario is one requirement, written once.
type scenario struct {
	name  string
	needs need
	run   func(t *trial)
}

// Run runs every scenario over every transport, and those on HTTP/2 also with
// net/http's HTTP/2 server. The transports run at the same time, since a scenario
// mostly waits; the scenarios of one transport run one after another. With whole it runs
// only the scenarios that are parted, and all of each. SetStages comes before.
func Run(t *testing.T, whole bool) {
	t.Cleanup(noneLinger) // for a goleak at the end of the whole test
	var rows sync.WaitGroup
	defer rows.Wait()
	for i, tr := range withStandardHTTP2(transports) {
		tr.row, tr.whole = i, whole
		rows.Go(func() { t.Run(strings.ReplaceAll(tr.name, " ", "_"), tr.runAll) })
	}
}

// runAll runs the scenarios over one transport. If the transport can't carry one,
// runAll prints it with the reason.
func (tr transport) runAll(t *testing.T) {
	for _, sc := range scenarios {
		if tr.whole && sc.needs&parted == 0 {
			continue
		}
		why := tr.lacks(sc.needs)
		if why == "" && sc.needs&tr.only != tr.only {
			why = tr.why
		}
		why = cmp.Or(why, tr.lacking[sc.name])
		if tr.standard && why == "" {
			why = standardLacks[sc.name]
		}
		if why != "" {
			t.Logf("not carried: %s: %s", sc.name, why)
			continue
		}
		t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) { surround(t, tr, sc) })
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

const patience = parts.Patience

// A trial is one scenario over one transport, with its surroundings.
type trial struct {
	*testing.T
	transport transport
	ctx       context.Context // the scenario's life
	label     goroutineLabel

	backend              *backend // nil with a fake one
	fake                 bool     // the backend is made of frames
	server               *bridge.Server
	observer             *observer
	address              string      // of culvert
	serverTLS, clientTLS *tls.Config // nil: in plaintext
	d                    *dialer
	client               client
	log                  syncBuffer

	staged bool        // the server has stages
	stages StagePanics // of the server

	calls []*backendCall // that the scenario asked for
	onEnd []func()       // run backwards
}

// processors has a place for each scenario that may keep a processor busy.
var processors = make(chan struct{}, runtime.GOMAXPROCS(0))

// surround runs a scenario, and then checks the rules for all of them: culvert
// reported an end for each beginning, the backend has no call left, and no
// goroutine of the scenario is left.
func surround(t *testing.T, tr transport, sc scenario) {
	if sc.needs&processor != 0 {
		processors <- struct{}{} // the scenario's time begins when it has one
		defer func() { <-processors }()
	}
	label := newLabel()
	defer func() {
		if left := label.atMost(0); left != "" && !t.Failed() {
			t.Errorf("goroutines left behind:\n%s", left)
		}
	}()
	label.do(func() {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		one := &trial{T: t, transport: tr, ctx: ctx, label: label}
		defer one.end()
		sc.run(one)
	})
}

// end undoes what the scenario set up.
func (t *trial) end() {
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
func (t *trial) serve(h handler, configure ...func(*bridge.Config)) {
	t.Helper()
	t.startBackend("", h)
	t.startCulvert(t.backend.address, configure...)
	t.startClient(t.address)
}

// serveFake does the same with a backend made of frames.
func (t *trial) serveFake(s script, configure ...func(*bridge.Config)) {
	t.Helper()
	t.fake = true
	f := &fakeBackend{script: s}
	f.start(t, f.serve)
	t.atEnd(f.close)
	t.startCulvert(f.address, configure...)
	t.startClient(t.address)
}

// serveScripts does the same with a script for each call. answered makes a call with
// hello, for which there may be a second script, and returns its end.
func (t *trial) serveScripts(configure ...func(*bridge.Config)) (answered func(...script) result) {
	t.Helper()
	scripts := make(chan script, 2) // a call's script, and that of its retry
	t.serveFake(func(c *fakeConn, stream uint32) {
		select {
		case script := <-scripts:
			script(c, stream)
		default:
			headOnly("grpc-status", "13", "grpc-message", "one call too many")(c, stream)
		}
	}, configure...)
	return func(next ...script) result {
		t.Helper()
		for _, s := range next {
			scripts <- s
		}
		return t.unary(call{}, hello)
	}
}

// part returns the first case of the transport's part of a row, and the step to the next
// one. One case in step is its part, and as many transports in a row have all of them.
func (t *trial) part(of int) (first, step int) {
	if t.transport.whole {
		return 0, 1
	}
	return t.transport.row % of, of
}

func (t *trial) atEnd(f func()) { t.onEnd = append(t.onEnd, f) }

func (t *trial) startCulvert(target string, configure ...func(*bridge.Config)) {
	t.Helper()
	if t.transport.tls {
		authority := parts.NewAuthority(t)
		t.serverTLS = &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{authority.Server(t)},
			NextProtos:   []string{"h2", "http/1.1"}, // as usual: HTTP/1.1 is for WebSockets
		}
		t.clientTLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authority.Pool}
	}
	t.observer = &observer{Observer: report.Discard(), changed: make(chan struct{})}
	cfg := bridge.Config{
		Backend:  bridge.Backend{Target: target},
		Logger:   slog.New(slog.NewTextHandler(&t.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Observer: t.observer,
		Words:    rules.InFile,

		StandardHTTP2: t.transport.standard,
	}
	if t.transport.framing != nil {
		t.transport.framing.configure(&cfg)
	}
	for _, f := range configure {
		f(&cfg)
	}
	s, err := bridge.New(cfg)
	if err != nil {
		t.Fatalf("bridge.New: %v", err)
	}
	t.server = s
	if t.staged {
		t.stages = newStagePanics(s)
	}
	ln := t.listen()
	t.address = ln.Addr().String()
	ended := t.whileServing(func() error { return s.Serve(ln) })
	o := t.observer
	t.atEnd(func() {
		t.stopCulvert(s, o)
		ended()
	})
}

// listen listens for clients of the scenario's transport.
func (t *trial) listen() net.Listener {
	t.Helper()
	ln := parts.Listen(t, "127.0.0.1:0")
	if t.serverTLS != nil {
		return tls.NewListener(ln, t.serverTLS)
	}
	return ln
}

// whileServing runs a Serve of culvert's and returns a function that waits for its
// end.
func (t *trial) whileServing(serve func() error) (ended func()) {
	served := make(chan error, 1) // the goroutine ends though nobody may ask
	var serving sync.WaitGroup
	serving.Go(func() { served <- serve() })
	return func() {
		serving.Wait()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve returned %v, want %v", err, http.ErrServerClosed)
		}
	}
}

// listenAlso opens one more address of culvert's and returns it.
func (t *trial) listenAlso(l bridge.Listener) string {
	t.Helper()
	ln := t.listen()
	t.serveAlso(ln, l)
	return ln.Addr().String()
}

// serveAlso serves one more listener until culvert is stopped.
func (t *trial) serveAlso(ln net.Listener, l bridge.Listener) {
	s := t.server
	ended := t.whileServing(func() error { return s.ServeListener(ln, l) })
	t.onEnd = slices.Insert(t.onEnd, 0, ended) // after culvert has been stopped
}

// stopCulvert checks the end of a scenario.
func (t *trial) stopCulvert(s *bridge.Server, o *observer) {
	if !t.Failed() {
		t.allEnded(o)
	}
	// The scenarios of the drain test Shutdown. Others use Close: Shutdown waits
	// for connections that were just accepted, and there are a thousand scenarios.
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

// allEnded waits until culvert has reported every call's end, and checks that the
// backend runs none.
func (t *trial) allEnded(o *observer) {
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

func (t *trial) startClient(address string) {
	t.Helper()
	t.d = &dialer{address: address}
	t.client = t.dial(t.d)
}

// dial starts a client of the scenario's transport.
func (t *trial) dial(d *dialer) client {
	t.Helper()
	d.typed = t.fake && t.transport.framing != nil && t.transport.framing.described
	c, err := t.transport.dial(d, t.clientTLS)
	if err != nil {
		t.Fatal(err)
	}
	t.atEnd(c.close)
	return c
}

// defaultMethod is the method of calls that don't name one.
const defaultMethod = "/culvert.test.Scenario/Call"

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

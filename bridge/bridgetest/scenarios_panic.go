package bridgetest

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// panicScenarios have a panic in each stage of a call, in culvert's own code and in what an
// embedder gives culvert. It ends that call, and nothing else.
var panicScenarios = []scenario{
	{"a panic in each stage of a call", 0, panicsInStages},
	{"a panic in each callback of a call", 0, panicsInCallbacks},
	{"a panic in events that end no call", 0, panicsBesideCalls},
	{"a panic in each operation of a client's connection", 0, panicsOfClientConns},
	{"a panic in each operation of a backend's connection", 0, panicsOfBackendConns},
}

// A panicker panics at one stage at a time.
type panicker struct {
	report.Observer
	stage atomic.Pointer[string]
	hits  atomic.Int64
}

func (p *panicker) panicAt(stage string) { p.stage.Store(&stage) }

// reach panics if the stage is that one.
func (p *panicker) reach(stage string) {
	if at := p.stage.Load(); at != nil && *at == stage {
		p.hits.Add(1)
		panic("a test panics in " + stage)
	}
}

// CallBegan implements report.Observer.
func (p *panicker) CallBegan(ctx context.Context, c *report.CallInfo, md metadata.MD) report.CallObserver {
	p.reach("CallBegan")
	return panickerOfCall{p.Observer.CallBegan(ctx, c, md), p}
}

// ConnEnded implements report.Observer.
func (p *panicker) ConnEnded(c report.ConnInfo) {
	p.Observer.ConnEnded(c)
	p.reach("ConnEnded")
}

// Refused implements report.Observer.
func (p *panicker) Refused(r report.Refusal) {
	p.Observer.Refused(r)
	p.reach("Refused")
}

type panickerOfCall struct {
	report.CallObserver
	p *panicker
}

func (o panickerOfCall) Header(md metadata.MD) {
	o.p.reach("Header")
	o.CallObserver.Header(md)
}

func (o panickerOfCall) Message(d report.Direction, bytes int) {
	o.p.reach(map[report.Direction]string{report.Request: "Message in", report.Response: "Message out"}[d])
	o.CallObserver.Message(d, bytes)
}

func (o panickerOfCall) Ended(c *report.CallInfo) {
	o.CallObserver.Ended(c)
	o.p.reach("Ended")
}

// Authenticate implements bridge.Authenticator.
func (p *panicker) Authenticate(context.Context, *bridge.AuthRequest) (*bridge.Identity, error) {
	p.reach("Authenticate")
	return nil, nil
}

// install puts the panicker in the place of an embedder's parts.
func (p *panicker) install(c *bridge.Config) {
	p.Observer = c.Observer
	c.Observer, c.Authenticator = p, p
}

// StagePanics lets a server's calls panic in culvert's own code, at one stage at a time. The
// tests of package bridge have one, since they know the stages.
type StagePanics interface {
	Arm(stage string) // empty: nowhere
	Hits() int64
	Left() string // what calls have left that no Snapshot shows
}

var newStagePanics func(*bridge.Server) StagePanics

// SetStages sets what returns the panics in the stages of a server's calls. The tests of package
// bridge have that.
func SetStages(stages func(*bridge.Server) StagePanics) { newStagePanics = stages }

// panicsInStages has places for one call at a time, so one that isn't given back would let no
// other call in.
func panicsInStages(t *trial) {
	t.startBackend("", echo, grpc.MaxConcurrentStreams(1))
	t.staged = true
	t.startCulvert(t.backend.address, func(c *bridge.Config) { c.Backend.MaxConnections, c.Limits.Address.Calls = 1, 1 })
	t.startClient(t.address)
	pooled := patterned(4 << 10)
	for _, stage := range []struct {
		name   string
		some   bool // only some transports have it
		untold bool // the client may be told anything
	}{
		{name: "admit"},
		{name: "read"},
		{name: "Prepare"},
		{name: "authenticate"},
		{name: "authorize"},
		{name: "route"},
		{name: "describe"},
		{name: "open"},
		{name: "Open", some: true},
		{name: "Recv"},
		{name: "convert request", some: true},
		{name: "SendHeader"},
		{name: "convert reply", some: true},
		{name: "Send"},
		{name: "free", untold: true},
		{name: "Finish", untold: true},
		{name: "Abort", untold: true},
		{name: "end", untold: true},
	} {
		before := t.stages.Hits()
		t.stages.Arm(stage.name)
		parts.Poll(t, func() string {
			if stage.untold {
				t.tryUnary(t.address, pooled)
			} else if r := t.unary(call{}, pooled); r.status.Code() == codes.ResourceExhausted {
				return "the call before has kept its place: " + r.status.Message()
			} else if t.stages.Hits() > before {
				t.wantCulvert(r, codes.Internal, report.ReasonInternal)
			}
			if t.stages.Hits() == before && !stage.some {
				return "no call reaches the stage " + stage.name
			}
			return ""
		})
		t.stages.Arm("")
		t.awaitOK()
		parts.Poll(t, func() string {
			if counted, hits := t.server.Snapshot().Panics, t.stages.Hits(); counted != hits {
				return fmt.Sprintf("%s: %d panics are counted, want %d", stage.name, counted, hits)
			}
			return cmp.Or(t.left(""), t.stages.Left())
		})
	}
}

func panicsInCallbacks(t *trial) {
	p := new(panicker)
	t.serve(echo, p.install)
	t.wantOK(t.unary(call{}, hello), hello)
	for _, stage := range []string{"CallBegan", "Authenticate", "Message in", "Header", "Message out"} {
		p.panicAt(stage)
		before := p.hits.Load()
		r := t.unary(call{}, hello)
		if p.hits.Load() == before {
			t.Errorf("the stage %s was not reached", stage)
		}
		if r.status.Code() != codes.Internal || r.info().GetReason() != string(report.ReasonInternal) || strings.Contains(r.status.Message(), "a test") {
			t.Errorf("a panic in %s: status %v with %v, want INTERNAL for %s and nothing of the panic", stage, r.status, r.info(), report.ReasonInternal)
		}
		p.panicAt("")
		t.wantOK(t.unary(call{}, hello), hello)
	}
	t.wantPanics(p)
}

// panicsBesideCalls: the calls end as they would without the panic.
func panicsBesideCalls(t *trial) {
	p := new(panicker)
	t.serve(echo, p.install, func(c *bridge.Config) { c.DenyMethods = []string{"culvert.test.Denied/*"} })
	p.panicAt("Ended")
	t.wantOK(t.unary(call{}, hello), hello)
	if t.transport.lacks(anyMethod) == "" {
		p.panicAt("Refused")
		t.wantCulvert(t.unary(call{method: "/culvert.test.Denied/Call"}, hello), codes.Unimplemented, report.ReasonNoRoute)
	}
	p.panicAt("ConnEnded")
	t.client.cut(cutFIN)
	t.startClient(t.address)
	t.wantOK(t.unary(call{}, hello), hello)
	t.wantPanics(p)
}

// wantPanics waits until nothing of the calls is left, and each panic is counted and logged
// with its stack.
func (t *trial) wantPanics(p *panicker) {
	t.Helper()
	parts.Poll(t, func() string {
		hits, counted, log := p.hits.Load(), t.server.Snapshot().Panics, t.log.String()
		lines, stacks := strings.Count(log, `level=ERROR msg="culvert panicked"`), strings.Count(log, "(*panicker).reach")
		if hits == 0 || counted != hits || int64(lines) != hits || int64(stacks) < hits {
			return fmt.Sprintf("of %d panics %d are counted, %d are lines of the log, and %d stacks", hits, counted, lines, stacks)
		}
		return t.left("")
	})
}

// A poison makes one operation of connections panic, from the nth on.
type poison struct {
	net.Listener // nil: the connections are a dialer's

	mu   sync.Mutex
	op   string
	from int64
	n    int64
}

// arm sets the operation.
func (p *poison) arm(op string, from int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.op, p.from, p.n = op, from, 0
}

func (p *poison) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &poisonedConn{c, p}, nil
}

func (p *poison) reach(op string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if op != p.op {
		return
	}
	p.n++
	if p.n >= p.from {
		panic("a test panics in " + op)
	}
}

// dial is the Dial of a backend.
func (p *poison) dial(ctx context.Context, address string) (net.Conn, error) {
	p.reach("Dial")
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &poisonedConn{c, p}, nil
}

// A poisonedConn isn't a socket to culvert, which then can't look under it.
type poisonedConn struct {
	net.Conn
	p *poison
}

func (c *poisonedConn) Read(b []byte) (int, error) {
	c.p.reach("Read")
	return c.Conn.Read(b)
}

func (c *poisonedConn) Write(b []byte) (int, error) {
	c.p.reach("Write")
	return c.Conn.Write(b)
}

func (c *poisonedConn) Close() error {
	_ = c.Conn.Close()
	c.p.reach("Close")
	return nil
}

func (c *poisonedConn) SetDeadline(t time.Time) error {
	c.p.reach("SetDeadline")
	return c.Conn.SetDeadline(t)
}

func (c *poisonedConn) SetReadDeadline(t time.Time) error {
	c.p.reach("SetDeadline")
	return c.Conn.SetReadDeadline(t)
}

func (c *poisonedConn) SetWriteDeadline(t time.Time) error {
	c.p.reach("SetDeadline")
	return c.Conn.SetWriteDeadline(t)
}

// panicsOfClientConns: the panic ends its connection. Others go on.
func panicsOfClientConns(t *trial) {
	t.serve(echo)
	for _, op := range []string{"Read", "Write", "Close", "SetDeadline"} {
		for from := range int64(2) {
			ln := parts.Listen(t, "127.0.0.1:0")
			p := &poison{Listener: ln}
			p.arm(op, from+1)
			t.serveAlso(p, bridge.Listener{Name: "poisoned", TLS: t.serverTLS})
			t.tryUnary(ln.Addr().String(), hello)
			t.wantOK(t.unary(call{}, hello), hello)
		}
	}
	parts.Poll(t, func() string { return t.left("poisoned") })
}

// panicsOfBackendConns: the panic ends its connection, and calls open another one.
func panicsOfBackendConns(t *trial) {
	p := new(poison)
	t.serve(echo, func(c *bridge.Config) {
		c.Backend.Target, c.Backend.Dial = "passthrough:///"+c.Backend.Target, p.dial
	})
	t.wantOK(t.unary(call{}, hello), hello)
	for _, op := range []string{"Read", "Write", "Close"} {
		for from := range int64(2) {
			p.arm(op, from+1)
			t.tryUnary(t.address, hello)
			p.arm("", 0)
			t.awaitOK()
		}
	}
	p.arm("Read", 1)
	t.tryUnary(t.address, hello)
	p.arm("Dial", 1)
	t.tryUnary(t.address, hello)
	p.arm("", 0)
	t.awaitOK()
	parts.Poll(t, func() string { return t.left("") })
	if log := t.log.String(); !strings.Contains(log, "a test panics in Read") || !strings.Contains(log, "a test panics in Write") {
		t.Error("the panics are not in the log")
	}
}

// awaitOK makes calls until one succeeds: the first may still use the lost connection.
func (t *trial) awaitOK() {
	t.Helper()
	parts.Poll(t, func() string {
		if r := t.unary(call{}, hello); r.status.Code() != codes.OK {
			return "no call succeeds any more: " + r.status.String()
		}
		return ""
	})
}

// tryUnary makes a call that may fail in any way, but must end.
func (t *trial) tryUnary(address string, message []byte) {
	t.Helper()
	c, err := t.transport.dial(&dialer{address: address}, t.clientTLS)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	s, err := c.open(ctx, call{method: defaultMethod})
	if err != nil {
		return
	}
	defer s.cancel()
	_ = s.send(message) // it may have ended
	_ = s.closeSend()
	for err == nil {
		_, err = s.recv()
	}
	if ctx.Err() != nil {
		t.Errorf("a call over a poisoned connection hasn't ended after %v", patience)
	}
}

// left says what culvert has left of calls, and of connections on a listener with a name.
func (t *trial) left(listener string) string {
	now := t.server.Snapshot()
	calls, conns := len(now.Calls), 0
	for _, u := range now.Upstreams {
		calls += u.Calls + u.Waiting
	}
	for _, c := range now.Connections {
		if listener != "" && c.Listener == listener {
			conns += c.Open
		}
	}
	if calls == 0 && conns == 0 && now.HeldBytes == 0 {
		return ""
	}
	return fmt.Sprintf("%d calls run, %d connections are open, and %d bytes are held", calls, conns, now.HeldBytes)
}

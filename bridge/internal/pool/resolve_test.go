package pool

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A nameServer is a DNS server on loopback that knows one set of addresses
// under every name.
type nameServer struct {
	conn    net.PacketConn
	serving sync.WaitGroup

	mu        sync.Mutex
	addresses []netip.Addr
	code      dnsmessage.RCode // of each answer
	silent    bool
	asked     chan struct{} // closed and replaced with each question for A
}

func startNameServer(t *testing.T, addresses ...string) *nameServer {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, asked: make(chan struct{})}
	s.set(addresses...)
	s.serving.Go(s.serve)
	t.Cleanup(func() {
		_ = conn.Close() // ends serve
		s.serving.Wait()
	})
	return s
}

// target names host and port, to be resolved by the server.
func (s *nameServer) target(port string) string {
	return "dns://" + s.conn.LocalAddr().String() + "/backend.test:" + port
}

func (s *nameServer) set(addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses = nil
	for _, a := range addresses {
		s.addresses = append(s.addresses, netip.MustParseAddr(a))
	}
}

func (s *nameServer) fail(code dnsmessage.RCode, silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.silent = code, silent
}

// question returns a channel that is closed with the next question for A.
func (s *nameServer) question() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *nameServer) serve() {
	packet := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(packet)
		if err != nil {
			return
		}
		if answer := s.answer(packet[:n]); answer != nil {
			_, _ = s.conn.WriteTo(answer, from) // who asked may be gone
		}
	}
}

func (s *nameServer) answer(packet []byte) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(packet); err != nil || len(m.Questions) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := m.Questions[0]
	if q.Type == dnsmessage.TypeA {
		close(s.asked)
		s.asked = make(chan struct{})
	}
	if s.silent {
		return nil
	}
	m.Header = dnsmessage.Header{ID: m.ID, Response: true, RecursionDesired: true, RecursionAvailable: true, RCode: s.code}
	m.Additionals = nil
	for _, a := range s.addresses {
		h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: dnsmessage.ClassINET, TTL: 1}
		switch {
		case s.code != dnsmessage.RCodeSuccess:
		case q.Type == dnsmessage.TypeA && a.Is4():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: a.As4()}})
		case q.Type == dnsmessage.TypeAAAA && a.Is6():
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AAAAResource{AAAA: a.As16()}})
		}
	}
	answer, err := m.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// A namedBackend is a backend on one address of a name. It counts its calls.
type namedBackend struct {
	calls atomic.Int64
	stop  func()
	port  string
}

// startNamed runs a backend on the address. The port is free if it is "0".
func startNamed(t *testing.T, address, port string, opts ...grpc.ServerOption) *namedBackend {
	t.Helper()
	ln := listen(t, net.JoinHostPort(address, port))
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	b := &namedBackend{port: port}
	b.stop = serveBackend(t, ln, func(ss grpc.ServerStream) error {
		b.calls.Add(1)
		return echo(ss)
	}, opts...)
	return b
}

func wantOK(t *testing.T, p *Pool) {
	t.Helper()
	if e := makeCall(within(t, patience), t, p); e.status.Code() != codes.OK {
		t.Fatalf("%v (%s)", e.status, e.cause)
	}
}

// soon is far more than a busy machine needs, and less than the 30 seconds that grpc-go
// leaves between two questions about a name that works.
const soon = 20 * time.Second

// TestAddressesThatMove: the backend's only address goes away, and the name has
// another one from before, or after that.
func TestAddressesThatMove(t *testing.T) {
	for name, late := range map[string]time.Duration{"before": 0, "after": 1500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old := startNamed(t, "127.0.0.2", "0")
			names := startNameServer(t, "127.0.0.2")
			p := poolTo(t, report.Backend{Target: names.target(old.port)})
			wantOK(t, p)
			moved := startNamed(t, "127.0.0.3", old.port)
			if late == 0 {
				names.set("127.0.0.3")
			}
			old.stop()
			if late > 0 {
				wantUnreachableSoon(t, p)
				<-names.question() // it asks on its own
				<-names.question()
				names.set("127.0.0.3")
			}
			since := time.Now()
			for moved.calls.Load() == 0 {
				makeCall(within(t, patience), t, p)
				if time.Since(since) > soon {
					t.Fatalf("no call came to the new address within %v", time.Since(since))
				}
			}
			t.Logf("served after %v", time.Since(since))
			for range 10 {
				wantOK(t, p)
			}
		})
	}
}

// wantUnreachableSoon waits until calls fail.
func wantUnreachableSoon(t *testing.T, p *Pool) {
	t.Helper()
	for ctx := within(t, patience); ; {
		e := makeCall(ctx, t, p)
		if e.reason == report.ReasonUpstreamUnreachable {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("the last call: %v", e.status)
		}
	}
}

// TestAddressThatIsAdded is used without any failure, and one that is removed
// is not.
func TestAddressThatIsAdded(t *testing.T) {
	first := startNamed(t, "127.0.0.2", "0")
	second := startNamed(t, "127.0.0.3", first.port)
	names := startNameServer(t, "127.0.0.2")
	p := poolTo(t, report.Backend{Target: names.target(first.port), ResolveInterval: 100 * time.Millisecond})
	wantOK(t, p)
	names.set("127.0.0.2", "127.0.0.3")
	for ctx := within(t, soon); second.calls.Load() == 0 && ctx.Err() == nil; {
		wantOK(t, p)
	}
	a, b := first.calls.Load(), second.calls.Load()
	for range 100 {
		wantOK(t, p)
	}
	if a, b = first.calls.Load()-a, second.calls.Load()-b; a != 50 || b != 50 {
		t.Errorf("%d and %d calls, want 50 each", a, b)
	}
	names.set("127.0.0.3")
	ctx := within(t, patience)
	for last := int64(-1); last != first.calls.Load() && ctx.Err() == nil; {
		last = first.calls.Load()
		for range 20 {
			wantOK(t, p)
		}
	}
	if ctx.Err() != nil {
		t.Error("an address that is gone is still called")
	}
}

// TestLookupThatFails changes nothing for a backend that answers.
func TestLookupThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		code   dnsmessage.RCode
		silent bool
	}{
		"no such name": {code: dnsmessage.RCodeNameError}, "server failure": {code: dnsmessage.RCodeServerFailure}, "no address": {}, "silence": {silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startNamed(t, "127.0.0.2", "0")
			names := startNameServer(t, "127.0.0.2")
			p := poolTo(t, report.Backend{Target: names.target(b.port), ResolveInterval: 20 * time.Millisecond})
			wantOK(t, p)
			names.set()
			names.fail(c.code, c.silent)
			for range 2 {
				<-names.question()
				wantOK(t, p)
			}
		})
	}
}

// TestCloseDuringALookup: nobody waits for a name server that is silent.
func TestCloseDuringALookup(t *testing.T) {
	names := startNameServer(t)
	names.fail(dnsmessage.RCodeSuccess, true)
	asked := names.question()
	p, err := newPool(report.Backend{Target: names.target("443")}, memory.New(1<<30, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	<-asked
	began := time.Now()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	// Go asks twice, and waits 5 s each time.
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestNameThatComesLate: a start before the name exists is no start for nothing.
func TestNameThatComesLate(t *testing.T) {
	b := startNamed(t, "127.0.0.2", "0")
	names := startNameServer(t)
	names.fail(dnsmessage.RCodeNameError, false)
	p := poolTo(t, report.Backend{Target: names.target(b.port)})
	e := makeCall(within(t, patience), t, p)
	wantUnreachable(t, e)
	if e.cause != "backend.test: no such host" {
		t.Errorf("the cause is %q, want that there is no such host", e.cause)
	}
	names.set("127.0.0.2")
	names.fail(dnsmessage.RCodeSuccess, false)
	start := time.Now()
	for b.calls.Load() == 0 {
		makeCall(within(t, patience), t, p)
		if time.Since(start) > soon {
			t.Fatal("no call comes through")
		}
	}
}

// TestFurtherConnectionIsMadeElsewhere: a further connection to one address fails,
// and a waiting call gets a place on one to another address.
func TestFurtherConnectionIsMadeElsewhere(t *testing.T) {
	first := listen(t, "127.0.0.2:0")
	_, port, _ := net.SplitHostPort(first.Addr().String())
	serveBackend(t, &firstConnListener{Listener: first}, hold, grpc.MaxConcurrentStreams(1))
	serveBackend(t, listen(t, net.JoinHostPort("127.0.0.3", port)), hold, grpc.MaxConcurrentStreams(1))
	names := startNameServer(t, "127.0.0.2", "127.0.0.3")
	p := poolTo(t, report.Backend{Target: names.target(port), MaxConnections: 2})
	ctx, cancel := context.WithCancel(within(t, patience))
	defer cancel()
	for i := range 3 {
		if _, err := openCall(ctx, p); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}

// A firstConnListener closes all connections but the first.
type firstConnListener struct {
	net.Listener
	accepted bool
}

func (l *firstConnListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	for err == nil && l.accepted {
		_ = conn.Close() // nothing was sent
		conn, err = l.Listener.Accept()
	}
	l.accepted = true
	return conn, err
}

// TestPlacesOnSeveralAddresses: a call goes to the address that has room.
func TestPlacesOnSeveralAddresses(t *testing.T) {
	var held [2]atomic.Int64
	var port string
	for i, streams := range []uint32{2, 6} {
		ln := listen(t, net.JoinHostPort([]string{"127.0.0.2", "127.0.0.3"}[i], portOr0(port)))
		_, port, _ = net.SplitHostPort(ln.Addr().String())
		serveBackend(t, ln, func(ss grpc.ServerStream) error {
			held[i].Add(1)
			if err := ss.SendHeader(nil); err != nil {
				return err
			}
			return hold(ss)
		}, grpc.MaxConcurrentStreams(streams))
	}
	names := startNameServer(t, "127.0.0.2", "127.0.0.3")
	p := poolTo(t, report.Backend{Target: names.target(port), MaxConnections: 1, QueueTimeout: -1})
	ctx, cancel := context.WithCancel(within(t, patience))
	defer cancel()
	for opened, refused := 0, 0; opened < 8; {
		call, err := openCall(ctx, p)
		if err != nil { // only one address is connected yet, and full
			if refused++; refused > 100_000 {
				t.Fatalf("%d calls have a place, then %v", opened, err)
			}
			continue
		}
		if md, err := call.Header(); len(md) == 0 {
			t.Fatalf("no header: %v", err)
		}
		opened++
	}
	if a, b := held[0].Load(), held[1].Load(); a != 2 || b != 6 {
		t.Errorf("%d and %d calls, want 2 and 6", a, b)
	}
}

func portOr0(port string) string {
	if port == "" {
		return "0"
	}
	return port
}

// A listeningConn takes what a resolver says.
type listeningConn struct {
	resolver.ClientConn

	states []resolver.State
	errs   []error
}

func (c *listeningConn) UpdateState(s resolver.State) error {
	c.states = append(c.states, s)
	return nil
}

func (c *listeningConn) ReportError(err error) { c.errs = append(c.errs, err) }

// TestTimesOfLookups: at the interval with a connection, every second without,
// less often while they fail.
func TestTimesOfLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var asked []time.Duration
		var fails atomic.Bool
		cc := &listeningConn{}
		r := &nameResolver{cc: cc, host: "h", port: "1", interval: 30 * time.Second, changed: make(chan struct{}, 1)}
		r.lookup = func(context.Context, string) ([]string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, time.Since(start))
			if fails.Load() {
				return nil, errors.New("it fails")
			}
			return []string{"192.0.2.2", "192.0.2.1", "192.0.2.2"}, nil
		}
		var ctx context.Context
		ctx, r.cancel = context.WithCancel(t.Context())
		r.watching.Go(func() { r.watch(ctx) })
		pass := func(d time.Duration, most, least int) {
			t.Helper()
			mu.Lock()
			before := len(asked)
			mu.Unlock()
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := len(asked) - before; got > most || got < least {
				t.Errorf("%d lookups in %v, want %d to %d: %v", got, d, least, most, asked[before:])
			}
		}
		pass(10*time.Second, 11, 9) // no connection
		r.connected(true)
		pass(10*time.Minute, 20, 18)
		last := func() time.Duration { // time since the last lookup
			mu.Lock()
			defer mu.Unlock()
			return time.Since(start) - asked[len(asked)-1]
		}
		for last() < 2*time.Second || last() > 20*time.Second {
			time.Sleep(time.Second)
		}
		r.connected(false)
		pass(0, 1, 1)             // at once
		pass(time.Second, 1, 0)   // and not again
		pass(9*time.Second, 9, 8) // every second
		fails.Store(true)
		pass(time.Minute, 15, 10)
		r.connected(true)
		pass(10*time.Minute, 21, 18)
		if len(cc.states) != 1 || len(cc.errs) != 0 {
			t.Errorf("%d states and %d errors, want one state: nothing has changed", len(cc.states), len(cc.errs))
		}
		if got := cc.states[0].Addresses; len(got) != 2 || got[0].Addr != "192.0.2.1:1" {
			t.Errorf("addresses %v, want two", got)
		}
		r.Close()
		for i := 1; i < len(asked); i++ {
			if pause := asked[i] - asked[i-1]; pause < time.Second {
				t.Errorf("lookups at %v and %v", asked[i-1], asked[i])
			}
		}
	})
}

// TestNoIntervalBetweenLookups: 0s in the configuration.
func TestNoIntervalBetweenLookups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lookups := 0
		r := &nameResolver{cc: &listeningConn{}, host: "h", port: "1", changed: make(chan struct{}, 1)}
		r.lookup = func(context.Context, string) ([]string, error) {
			lookups++
			return []string{"192.0.2.1"}, nil
		}
		r.connected(true)
		var ctx context.Context
		ctx, r.cancel = context.WithCancel(t.Context())
		r.watching.Go(func() { r.watch(ctx) })
		time.Sleep(time.Hour)
		r.connected(false)
		synctest.Wait()
		if lookups != 2 {
			t.Errorf("%d lookups, want one at the start and one without a connection", lookups)
		}
		r.Close()
	})
}

func TestSplitTarget(t *testing.T) {
	for target, want := range map[string][]string{
		"host:1":           {"host", "1"},
		"host":             {"host", "443"},
		"192.0.2.1":        {"192.0.2.1", "443"},
		"192.0.2.1:1":      {"192.0.2.1", "1"},
		"2001:db8::1":      {"2001:db8::1", "443"},
		"[2001:db8::1]":    {"2001:db8::1", "443"},
		"[2001:db8::1]:1":  {"2001:db8::1", "1"},
		"[fe80::1%eth0]:1": {"fe80::1%eth0", "1"},
		":1":               {"localhost", "1"},
		"":                 nil,
		"host:":            nil,
		"[::1]:":           nil,
		"a:b:c":            nil,
		"host:1:2":         nil,
		"[host":            nil,
	} {
		host, port, err := splitTarget(target, "443")
		if got := []string{host, port}; (err == nil) != (want != nil) || want != nil && !slices.Equal(got, want) {
			t.Errorf("%q is %q (%v), want %q", target, got, err, want)
		}
	}
}

// TestTargetsThatAreAddresses need no name server.
func TestTargetsThatAreAddresses(t *testing.T) {
	address := startBackend(t, echo)
	_, port, _ := net.SplitHostPort(address)
	for _, target := range []string{address, "dns:///" + address, "dns:" + address, "localhost:" + port, ":" + port} {
		wantOK(t, poolTo(t, report.Backend{Target: target}))
	}
	for _, target := range []string{"dns:///", "dns:///host:", "dns://[::1/host:1"} {
		if p, err := newPool(report.Backend{Target: target}, memory.New(1<<30, 0), nil); err == nil {
			e := makeCall(within(t, patience), t, p)
			wantUnreachable(t, e)
			_ = p.Close() // it never had a connection
		}
	}
}

// TestCauseOfNoAddress: a stream that waits for a connection says why there is none.
func TestCauseOfNoAddress(t *testing.T) {
	names := startNameServer(t)
	names.fail(dnsmessage.RCodeNameError, false)
	unnamed := poolTo(t, report.Backend{Target: names.target("443")})
	makeCall(within(t, patience), t, unnamed) // returns when the lookup has failed
	ctx := within(t, 50*time.Millisecond)
	if _, err := unnamed.Open(ctx, testMethod, true); status.Code(err) != codes.DeadlineExceeded || status.Convert(err).Message() != "backend.test: no such host" {
		t.Errorf("a wait for a backend without an address: got %v, want that there is no such host", err)
	}
}

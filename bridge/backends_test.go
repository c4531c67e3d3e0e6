package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// startNamed starts a backend that answers each message with its name.
func startNamed(t testing.TB, name string) Backend {
	return Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		for ss.RecvMsg(new([]byte)) == nil {
			if err := ss.SendMsg([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})}
}

// asksName returns which backend of startNamed answers a call.
func asksName(t testing.TB, cc *grpc.ClientConn) string {
	t.Helper()
	var name []byte
	if err := cc.Invoke(within(t, patience), testMethod, []byte("who?"), &name); err != nil {
		t.Fatal(err)
	}
	return string(name)
}

// TestWrongBackends: New refuses a list of backends that no call could be sent by.
func TestWrongBackends(t *testing.T) {
	for want, cfg := range map[string]Config{
		"both":            {Backend: nowhere, Backends: []NamedBackend{{Name: "a", Backend: nowhere}}},
		"both Backend":    {Backend: Backend{MaxConnections: 1}, Backends: []NamedBackend{{Name: "a", Backend: nowhere}}},
		"has no name":     {Backends: []NamedBackend{{Name: "", Backend: nowhere}}},
		`the name "a"`:    {Backends: []NamedBackend{{Name: "a", Backend: nowhere}, {Name: "default", Backend: nowhere}, {Name: "a", Backend: nowhere}}},
		"none of them":    {Backends: []NamedBackend{{Name: "a", Backend: nowhere}, {Name: "b", Backend: nowhere}}},
		`"b": no backend`: {Backends: []NamedBackend{{Name: DefaultBackend, Backend: nowhere}, {Name: "b", Backend: Backend{}}}},
		"no backend":      {},
	} {
		if s, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
			if err == nil {
				_ = s.Close()
			}
		}
	}
}

// TestCallsWithoutARouteGoToTheDefault, or to the only backend.
func TestCallsWithoutARouteGoToTheDefault(t *testing.T) {
	orders, users := startNamed(t, "orders"), startNamed(t, "users")
	for _, c := range []struct {
		cfg       Config
		name      string // of the backend that answers
		answer    string
		upstreams string
	}{
		{Config{Backend: users}, DefaultBackend, "users", "default"},
		{Config{Backends: []NamedBackend{{Name: "orders", Backend: orders}}}, "orders", "orders", "orders"},
		{Config{Backends: []NamedBackend{{Name: "orders", Backend: orders}, {Name: DefaultBackend, Backend: users}}}, DefaultBackend, "users", "default orders"},
	} {
		obs := newObserver()
		c.cfg.Observer = obs
		s := newServer(t, c.cfg)
		if got := asksName(t, dial(t, serve(t, s))); got != c.answer {
			t.Errorf("%s answers, want %s", got, c.answer)
		}
		if info := await(t, "the call's end", obs.ended); info.Backend != c.name {
			t.Errorf("the Observer is told of the backend %q, want %q", info.Backend, c.name)
		}
		if got := namesOf(s.Snapshot().Upstreams); got != c.upstreams {
			t.Errorf("the snapshot has the upstreams %q, want %q", got, c.upstreams)
		}
	}
}

func namesOf(states []report.UpstreamState) string {
	var names []string
	for _, u := range states {
		names = append(names, u.Name)
	}
	return strings.Join(names, " ")
}

// TestApplyChangesBackends under a running stream: the stream stays with the backend
// that it began with, until its end; new calls go to the new one. A backend whose
// settings are the same keeps its connection.
func TestApplyChangesBackends(t *testing.T) {
	one, other := startNamed(t, "one"), startNamed(t, "other")
	s := newServer(t, Config{Backends: []NamedBackend{{Name: "stays", Backend: one}, {Name: DefaultBackend, Backend: one}}})
	cc := dial(t, serve(t, s))
	stream := open(within(t, 2*patience), t, cc, testMethod)
	wantName := func(want string) {
		t.Helper()
		var name []byte
		if err := stream.SendMsg([]byte("who?")); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&name); err != nil || string(name) != want {
			t.Errorf("the stream has an answer of %q, %v; want %q", name, err, want)
		}
	}
	wantName("one")
	stays, err := s.upstreams.Acquire("stays", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stays.Release()
	for i, step := range []struct {
		backends []NamedBackend
		answers  string
		states   string // of upstreams, with the calls that they have
	}{
		{[]NamedBackend{{Name: "stays", Backend: one}, {Name: DefaultBackend, Backend: other}}, "other", "default 0, default 1 draining, stays 1"},
		{[]NamedBackend{{Name: DefaultBackend, Backend: other}, {Name: "new", Backend: one}, {Name: "stays", Backend: one}}, "other", "default 0, default 1 draining, new 0, stays 1"},
		{[]NamedBackend{{Name: "stays", Backend: one}}, "one", "default 1 draining, stays 1"},
		{[]NamedBackend{{Name: DefaultBackend, Backend: other}, {Name: "stays", Backend: one}}, "other", "default 0, default 1 draining, stays 1"},
	} {
		apply(t, s, Config{Backends: step.backends})
		if got := asksName(t, cc); got != step.answers {
			t.Errorf("step %d: %s answers, want %s", i, got, step.answers)
		}
		wantName("one")
		poll(t, func() string { // a call's end is told before its upstream is released
			if got := statesOf(s); got != step.states {
				return fmt.Sprintf("step %d: %s, want %s", i, got, step.states)
			}
			return ""
		})
		now, err := s.upstreams.Acquire("stays", 0)
		if err != nil {
			t.Fatal(err)
		}
		now.Release()
		if now != stays {
			t.Errorf("step %d: the backend that stays has another upstream", i)
		}
	}
	_ = stream.CloseSend() // the status comes from RecvMsg
	if err := stream.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	wantSnapshot(t, s, "after the last call of a backend that was replaced", func(n Snapshot) bool { return len(n.Upstreams) == 2 })
}

func statesOf(s *Server) string {
	var states []string
	for _, u := range s.Snapshot().Upstreams {
		state := fmt.Sprintf("%s %d", u.Name, u.Calls)
		if u.Draining {
			state += " draining"
		}
		states = append(states, state)
	}
	return strings.Join(states, ", ")
}

// TestWrongBackendsChangeNothing: neither the policy nor any of the backends.
func TestWrongBackendsChangeNothing(t *testing.T) {
	one := startNamed(t, "one")
	s := newServer(t, Config{Backend: one})
	cc := dial(t, serve(t, s))
	old, before := upstreamOf(t, s), s.policy.Load()
	for _, cfg := range []Config{
		{},
		{Backends: []NamedBackend{{Name: "a", Backend: one}, {Name: "b", Backend: one}}},
		{Backends: []NamedBackend{{Name: DefaultBackend, Backend: startNamed(t, "other")}, {Name: "b", Backend: Backend{}}}},
		{Backend: startNamed(t, "other"), AllowOrigins: []string{"nonsense"}},
		{Backend: startNamed(t, "other"), StandardHTTP2: true},
	} {
		if err := s.Apply(cfg); err == nil {
			t.Errorf("%+v: no error", cfg)
		}
		if s.policy.Load() != before || upstreamOf(t, s) != old || statesOf(s) != "default 0" {
			t.Errorf("%+v: changed something: %s", cfg, statesOf(s))
		}
	}
	if got := asksName(t, cc); got != "one" {
		t.Errorf("%s answers, want one", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(Config{Backend: startNamed(t, "other")}); err == nil {
		t.Error("a closed Server takes another backend")
	}
}

// TestBackendsChangeUnderLoad: no call fails while backends come, go and are replaced.
func TestBackendsChangeUnderLoad(t *testing.T) {
	const callers, changes = 4, 100
	backends := []Backend{startNamed(t, "one"), startNamed(t, "other")}
	s := newServer(t, Config{Backend: backends[0]})
	cc := dial(t, serve(t, s))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var load sync.WaitGroup
	for range callers {
		load.Go(func() {
			for ctx.Err() == nil {
				if err := unary(t.Context(), cc, testMethod); err != nil {
					t.Error(err)
				}
				select {
				case ended <- struct{}{}:
				case <-ctx.Done():
				}
			}
		})
	}
	for i := range changes {
		<-ended
		now := []NamedBackend{{Name: DefaultBackend, Backend: backends[i/2%2]}}
		if i%2 == 0 {
			now = append(now, NamedBackend{Name: "guest", Backend: backends[i/4%2]})
		}
		apply(t, s, Config{Backends: now})
	}
	stop()
	load.Wait()
	apply(t, s, Config{Backend: backends[0]})
	wantSnapshot(t, s, "after the last call", func(n Snapshot) bool { return len(n.Upstreams) == 1 && n.Upstreams[0].Calls == 0 })
}

// TestRemovedBackendServesWhoHasArrived: a request that arrived before its backend was
// removed gets an answer from it, although it asks only later. The backend stays until
// then, also if its name comes back meanwhile, and no longer.
func TestRemovedBackendServesWhoHasArrived(t *testing.T) {
	stays := NamedBackend{Name: DefaultBackend, Backend: startNamed(t, "stays")}
	goes := NamedBackend{Name: "goes", Backend: startNamed(t, "goes")}
	back := NamedBackend{Name: "goes", Backend: startNamed(t, "back")}
	to := func(backend string) []Route { return []Route{{Name: "all", Backend: backend}} }
	before := Config{Backends: []NamedBackend{stays, goes}, Routes: to("goes")}
	without := Config{Backends: []NamedBackend{stays}, Routes: to(DefaultBackend)}
	for _, c := range []struct {
		name   string
		then   []Config
		answer string // to the request that arrived before them
	}{
		{"removed", []Config{without}, "goes"},
		{"removed, then another change", []Config{without, without}, "goes"},
		{"removed and back", []Config{without, {Backends: []NamedBackend{stays, back}, Routes: to(DefaultBackend)}, without}, "back"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, before)
			address := serve(t, s)
			ctx := within(t, patience)
			ws, _, err := websocket.Dial(ctx, "ws://"+address+testMethod, &websocket.DialOptions{Subprotocols: []string{"grpc-websockets"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, cfg := range c.then {
				apply(t, s, cfg)
			}
			if got := asksName(t, dial(t, address)); got != "stays" {
				t.Errorf("a request that arrives after them has an answer from %q", got)
			}
			if got := asksOn(ctx, t, ws, "content-type: application/grpc-web+proto\r\n"); !strings.Contains(got, c.answer) {
				t.Errorf("the request has an answer of %q, want one from %q", got, c.answer)
			}
			wantSnapshot(t, s, "after its end", func(n Snapshot) bool { return namesOf(n.Upstreams) == DefaultBackend })
		})
	}
}

// TestRefusedRequestsKeepNoBackend, nor do those that aren't calls: a backend that is
// removed later is gone at once.
func TestRefusedRequestsKeepNoBackend(t *testing.T) {
	one := startNamed(t, "one")
	two := []NamedBackend{{Name: DefaultBackend, Backend: one}, {Name: "goes", Backend: one}}
	s := newServer(t, Config{Backends: two, Hosts: []string{"known.example.com"}})
	address := serve(t, s)
	for _, request := range []string{
		"GET / HTTP/1.1\r\nhost: localhost\r\n",
		"GET / HTTP/1.1\r\nhost: a b\r\n",
		"POST " + testMethod + " HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\norigin: https://evil.example\r\ncontent-length: 0\r\n",
		"POST " + testMethod + " HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ngrpc-timeout: nonsense\r\ncontent-length: 0\r\n",
		"POST " + testMethod + " HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ngrpc-encoding: nonsense\r\ncontent-length: 0\r\n",
		"POST " + testMethod + " HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n",
		"POST " + testMethod + " HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 0\r\n",
		"GET " + testMethod + "?connect=v1&encoding=proto&message= HTTP/1.1\r\nhost: localhost\r\n",
		"POST /x HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web\r\ncontent-length: 0\r\n",
		"OPTIONS " + testMethod + " HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\naccess-control-request-method: POST\r\n",
		"GET " + testMethod + " HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 8\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-protocol: grpc-websockets\r\n",
		"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: h2ts\r\n",
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience)) // a test that hangs fails
		if _, err := io.WriteString(conn, request+"connection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || len(answer) == 0 {
			t.Errorf("%q: %q, %v", request, answer, err)
		}
		_ = conn.Close()
	}
	tunnel := dialTunnel(t, address, nil) // open while the backend goes
	if err := unary(t.Context(), tunnel, testMethod); err != nil {
		t.Fatal(err)
	}
	poll(t, func() string { // a handler may end after its answer
		if n := s.policy.Load().users.n.Load(); n != 1 {
			return fmt.Sprintf("%d users are counted, want 1 for the policy", n)
		}
		return ""
	})
	apply(t, s, Config{Backends: two[:1], Hosts: []string{"known.example.com"}})
	if got := statesOf(s); got != "default 0" {
		t.Errorf("the backends are %s", got)
	}
}

// TestBackendsAreTheSame only with the same TLS, by identity.
func TestBackendsAreTheSame(t *testing.T) {
	source := new(aTLSSource)
	with := Backend{Target: "a:1", TLSSource: source}
	uncomparable := Backend{Target: "a:1", TLSSource: listSource{source}}
	for _, c := range []struct {
		a, b Backend
		want bool
	}{
		{with, with, true},
		{with, Backend{Target: "a:1", TLSSource: new(aTLSSource)}, false},
		{with, Backend{Target: "a:1"}, false},
		{uncomparable, uncomparable, false},
		{with, uncomparable, false},
		{Backend{TLS: &source.config}, Backend{TLS: &source.config}, true},
		{Backend{TLS: &source.config}, Backend{TLS: source.config.Clone()}, false},
	} {
		if got := upstream.Same(c.a, c.b); got != c.want {
			t.Errorf("%+v and %+v are the same: %v", c.a, c.b, got)
		}
	}
	server := grpc.NewServer()
	defer server.Stop()
	first, closeFirst := InProcess(server)
	defer closeFirst()
	second, closeSecond := InProcess(server)
	defer closeSecond()
	if upstream.Same(first, second) || !upstream.Same(first, first) {
		t.Error("two ways to servers in this process are the same")
	}
}

type listSource []*aTLSSource

func (l listSource) Config() *tls.Config { return l[0].Config() }

// TestCallsOfABackendAreBounded, each backend by its own limit, which a reload changes
// for the calls that run. The others' calls pass.
func TestCallsOfABackendAreBounded(t *testing.T) {
	one, other := startNamed(t, "one"), startNamed(t, "other")
	obs := newObserver()
	toOther := Route{Name: "other", Match: report.Match{Metadata: []report.Condition{{Name: "x-other"}}}, Backend: "other"}
	with := func(most int) Config {
		return Config{
			Observer: obs,
			Backends: []NamedBackend{{Name: DefaultBackend, Backend: one, MaxCalls: most}, {Name: "other", Backend: other}},
			Routes:   []Route{toOther, {Name: "rest", Backend: DefaultBackend}},
		}
	}
	s := newServer(t, with(2))
	cc := dial(t, serve(t, s))
	first := holdOpen(t, cc, testMethod)
	holdOpen(t, cc, testMethod)
	wantFull := func(most int) {
		t.Helper()
		err := unary(within(t, patience), cc, testMethod)
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), fmt.Sprintf("%d calls of the backend", most)) || !strings.Contains(err.Error(), report.KeyBackendCalls) {
			t.Errorf("a call over %d: %v, want %s named", most, err, report.KeyBackendCalls)
		}
		if info := errorInfo(t, status.Convert(err)); info.GetReason() != string(report.ReasonOverloaded) || info.GetMetadata()["limit"] != report.KeyBackendCalls {
			t.Errorf("the details are %v", info)
		}
		if r := await(t, "the refusal", obs.refused); r.Key != report.KeyBackendCalls {
			t.Errorf("refused for %s", r.Key)
		}
	}
	wantFull(2)
	if err := unary(metadata.AppendToOutgoingContext(within(t, patience), "x-other", "yes"), cc, testMethod); err != nil {
		t.Errorf("a call to the other backend: %v", err)
	}
	before := upstreamOf(t, s)
	apply(t, s, with(1))
	wantFull(1)
	apply(t, s, with(3))
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("a third call, of three: %v", err)
	}
	if upstreamOf(t, s) != before {
		t.Error("another limit made another upstream")
	}
	_ = first.CloseSend() // the status comes from RecvMsg
	if err := first.RecvMsg(new([]byte)); !errors.Is(err, io.EOF) {
		t.Errorf("the first stream ends with %v", err)
	}
	wantSnapshot(t, s, "after the first stream", func(n Snapshot) bool { return n.Upstreams[0].Calls == 1 })
	apply(t, s, with(2))
	if err := unary(within(t, patience), cc, testMethod); err != nil {
		t.Errorf("a call in the place of one that has ended: %v", err)
	}
}

package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/opamp"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// sessionsOf sets the options of a server's sessions that differ from the defaults.
func sessionsOf(s *Server, change func(*opamp.Options)) {
	o := opamp.DefaultOptions(nil, func() int { return 100 }, report.KeyConnections)
	change(&o)
	s.polls = opamp.NewTable(o)
}

// TestPollsOfASession: all polls of an agent share a call, which has the metadata of the
// first one. Each poll is authenticated, and the session's call isn't once more.
func TestPollsOfASession(t *testing.T) {
	asked := make(chan string, 10)
	began := make(chan metadata.MD, 10)
	s, address := serveAgents(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		began <- md
		return parts.Echo(ss)
	}, func(c *Config) {
		c.Authenticator = authenticator(func(_ context.Context, method string, _ Peer, md metadata.MD) (*Identity, error) {
			asked <- method
			md["x-agent"] = md["authorization"]
			delete(md, "authorization")
			return &Identity{Name: "agent"}, nil
		})
	})
	for i := range 3 {
		m := fromAgent(1, "hello")
		polled(t, newPoll(t, address, m, "Authorization", strings.Repeat("x", i+1), "X-Other", "Zoë"), m) // the token changes, the agent doesn't
		m = fromAgent(2, "hello")
		polled(t, newPoll(t, address, parts.Gzipped(m), "Content-Encoding", "gzip"), m)
	}
	if md := await(t, "a call", began); len(md["x-agent"]) != 1 || md["x-agent"][0] != "x" || len(md["authorization"]) > 0 {
		t.Errorf("the call's metadata is %v", md)
	}
	if len(began) != 1 || s.polls.Sessions() != 2 {
		t.Errorf("%d calls and %d sessions of 2 agents", len(began)+1, s.polls.Sessions())
	}
	for range 6 {
		if method := await(t, "the Authenticator", asked); method != agentsMethod {
			t.Errorf("asked for %s, want %s", method, agentsMethod)
		}
	}
	if len(asked) > 0 {
		t.Errorf("asked %d times for 6 polls", 6+len(asked))
	}
	if n := s.Snapshot().DroppedValues; n != 3 { // each once, though the session's call has the metadata, too
		t.Errorf("%d values were counted as dropped, want 3", n)
	}
	ws := dialMessages(t, address, agentsPath, nil)
	say(t, ws, coder.MessageBinary, "\x00\x0a\x00")
	hears(t, ws, coder.MessageBinary, "\x00\x0a\x00")
}

// TestRepliesOfASession: none, one that comes later, and several.
func TestRepliesOfASession(t *testing.T) {
	_, address := serveAgents(t, func(ss grpc.ServerStream) error {
		for n := 0; ; n++ {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return err
			}
			for range n * (2 - n) * 2 { // 0, 2, 0
				if err := ss.SendMsg(m); err != nil {
					return err
				}
			}
		}
	}, nil)
	nothing := codec.AppendServerToAgent(nil, agentID(1))
	begin := time.Now()
	polled(t, newPoll(t, address, fromAgent(1, "zero")), nothing)
	if took := time.Since(begin); took < time.Second || took > patience/2 { // the backend would owe the reply for ever
		t.Errorf("the poll took %v, want a second", took)
	}
	polled(t, newPoll(t, address, fromAgent(1, "one")), fromAgent(1, "one"))
	polled(t, newPoll(t, address, fromAgent(1, "two")), fromAgent(1, "one"))
}

// TestPollsCatchUp: after a message that the backend sent unasked, answers that say nothing
// yield, so that each poll has its own answer again.
func TestPollsCatchUp(t *testing.T) {
	reply := func(n byte) []byte { return append(codec.AppendServerToAgent(nil, agentID(1)), 7<<3, n) }
	push, pushed, answered := make(chan struct{}), make(chan error), make(chan struct{}, 100)
	_, address := serveAgents(t, func(ss grpc.ServerStream) error {
		go func() {
			<-push
			pushed <- ss.SendMsg(fromAgent(1, "pushed"))
		}()
		for n := byte(1); ; n++ {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return err
			}
			if err := ss.SendMsg(reply(n)); err != nil {
				return err
			}
			answered <- struct{}{}
		}
	}, nil)
	post := func() []byte { return []byte(do(t, newPoll(t, address, fromAgent(1, "hello"))).body) }
	for n := byte(1); n < 4; n++ {
		if got := post(); !bytes.Equal(got, reply(n)) {
			t.Fatalf("poll %d got %q", n, got)
		}
		await(t, "the answer", answered)
	}
	close(push)
	if err := await(t, "the message that nobody asked for", pushed); err != nil {
		t.Fatal(err)
	}
	seen := false
	for n := byte(4); ; n++ { // the moment when it has arrived at culvert can't be seen
		got := post()
		await(t, "the answer", answered)
		isPushed := bytes.Equal(got, fromAgent(1, "pushed"))
		seen = seen || isPushed
		if seen && bytes.Equal(got, reply(n)) {
			return
		}
		if n == 100 || !isPushed && !seen && !bytes.Equal(got, reply(n)) || !isPushed && seen && !bytes.Equal(got, reply(n-1)) {
			t.Fatalf("poll %d got %q", n, got)
		}
	}
}

// TestIdleSessionsHaveNoGoroutine: only grpc-go's own, for the stream.
func TestIdleSessionsHaveNoGoroutine(t *testing.T) {
	s, address := serveAgents(t, parts.Echo, nil)
	for n := range byte(20) {
		m := fromAgent(n, "hello")
		polled(t, newPoll(t, address, m), m)
	}
	if n := s.polls.Sessions(); n != 20 {
		t.Fatalf("%d sessions, want 20", n)
	}
	poll(t, func() string {
		var all strings.Builder
		if err := pprof.Lookup("goroutine").WriteTo(&all, 2); err != nil {
			return err.Error()
		}
		if n := strings.Count(all.String(), "bridge.(*Server).park.") + strings.Count(all.String(), "bridge.(*Server).resume("); n > 0 {
			return fmt.Sprintf("%d goroutines of sessions", n)
		}
		return ""
	})
}

// TestBackendEndsBetweenPolls: the next poll's message goes to another call.
func TestBackendEndsBetweenPolls(t *testing.T) {
	for _, end := range []error{nil, status.Error(codes.Unavailable, "restarting")} {
		ended := make(chan struct{})
		_, address := serveAgents(t, func(ss grpc.ServerStream) error {
			for {
				var m []byte
				if err := ss.RecvMsg(&m); err != nil {
					return err
				}
				if err := ss.SendMsg(m); err != nil {
					return err
				}
				if bytes.Contains(m, []byte("leave")) {
					defer close(ended)
					return end
				}
			}
		}, nil)
		for _, m := range [][]byte{fromAgent(1, "leave"), fromAgent(2, "hello"), fromAgent(2, "hello"), fromAgent(1, "hello")} {
			polled(t, newPoll(t, address, m), m) // the second agent's come after the end, by the same connection
			await(t, "the call's end", ended)
		}
	}
}

// TestForeignPoll: other credentials with the same instance id have a call of their own, at
// once, and get nothing that the other call's client waits for.
func TestForeignPoll(t *testing.T) {
	began := make(chan metadata.MD, 10)
	s, address := serveAgents(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		began <- md
		return parts.Echo(ss)
	}, nil)
	for i, fields := range [][]string{{"Authorization", "mine"}, {"Authorization", "another's"}, nil} {
		m := fromAgent(1, fmt.Sprint("hello ", i))
		polled(t, newPoll(t, address, m, fields...), m)
		if md := await(t, "a call", began); strings.Join(md["authorization"], " ") != strings.Join(fields[min(1, len(fields)):], " ") {
			t.Errorf("the call's metadata is %v, want that of %q", md, fields)
		}
	}
	m := fromAgent(1, "hello")
	polled(t, newPoll(t, address, m, "Authorization", "mine"), m)
	if n := s.polls.Sessions(); n != 3 || len(began) > 0 {
		t.Errorf("%d sessions and %d more calls, want 3 and none", n, len(began))
	}
}

// TestTwoPollsAtOnce: the second waits for a moment, and is refused.
func TestTwoPollsAtOnce(t *testing.T) {
	silent := listen(t, "127.0.0.1:0") // nobody accepts its connections
	s, address := serveAgents(t, parts.Echo, func(c *Config) { c.Backend.Target = silent.Addr().String() })
	sessionsOf(s, func(o *opamp.Options) { o.Patience = 200 * time.Millisecond })
	first := make(chan answer, 1)
	go func() { first <- do(t, newPoll(t, address, fromAgent(1, "first"))) }()
	poll(t, func() string {
		if s.polls.Sessions() == 0 {
			return "the first poll has no session"
		}
		return ""
	})
	begin := time.Now()
	do(t, newPoll(t, address, fromAgent(1, "second"))).refusedAs(t, 429, report.ReasonLimitExceeded)
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("the second poll was refused after %v", took)
	}
	_ = silent.Close()
	await(t, "the first answer", first).refusedAs(t, 503, report.ReasonUpstreamUnreachable)
}

// TestSessionExpires: the backend's call ends, and the next poll begins another.
func TestSessionExpires(t *testing.T) {
	obs := newObserver()
	s, address := serveAgents(t, parts.Echo, func(c *Config) { c.Observer = obs })
	sessionsOf(s, func(o *opamp.Options) { o.Expiry = time.Second })
	m := fromAgent(1, "hello")
	polled(t, newPoll(t, address, m), m)
	if end := await(t, "the poll's end", obs.ended); end.Code != codes.OK {
		t.Errorf("the poll ended %v", end.Code)
	}
	end := await(t, "the session's end", obs.ended)
	if end.Reason != report.ReasonClientGone || end.MessagesIn != 1 || end.MessagesOut != 1 || end.Route != "chat" || end.Method != agentsMethod {
		t.Errorf("the session ended as %+v", end)
	}
	polled(t, newPoll(t, address, m), m)
}

// TestAgentSaysGoodbyeByPoll: the backend gets the end of the messages after the last.
func TestAgentSaysGoodbyeByPoll(t *testing.T) {
	obs := newObserver()
	_, address := serveAgents(t, parts.Echo, func(c *Config) { c.Observer = obs })
	m := append(fromAgent(1, "bye"), 9<<3|2, 0)
	polled(t, newPoll(t, address, m), m)
	for range 2 {
		if end := await(t, "the end", obs.ended); end.Code != codes.OK {
			t.Errorf("ended %v %s", end.Code, end.Cause)
		}
	}
}

// TestSessionsAreBounded: a new agent is refused, and those that are there aren't.
func TestSessionsAreBounded(t *testing.T) {
	s, address := serveAgents(t, parts.Echo, nil)
	sessionsOf(s, func(o *opamp.Options) { o.Sessions = func() int { return 1 } })
	m := fromAgent(1, "hello")
	polled(t, newPoll(t, address, m), m)
	do(t, newPoll(t, address, fromAgent(2, "hello"))).refusedAs(t, 503, report.ReasonOverloaded)
	polled(t, newPoll(t, address, m), m)
}

// TestOneAddressLeavesSessionsToOthers: it may have all of them until another one needs some.
func TestOneAddressLeavesSessionsToOthers(t *testing.T) {
	obs := newObserver()
	s, address := serveAgents(t, parts.Echo, func(c *Config) {
		c.TrustedProxies = prefixes(t, "127.0.0.0/8")
		c.Observer = obs
	})
	sessionsOf(s, func(o *opamp.Options) { o.Sessions = func() int { return 20 } })
	from := func(client string, n byte) *http.Request {
		return newPoll(t, address, fromAgent(n, "hello"), "X-Forwarded-For", client)
	}
	for n := range byte(20) {
		polled(t, from("2001:db8::"+strconv.Itoa(int(n)), n), fromAgent(n, "hello")) // one network
		await(t, "the poll's end", obs.ended)
	}
	do(t, from("2001:db8::ffff", 100)).refusedAs(t, 503, report.ReasonOverloaded)
	await(t, "the poll's end", obs.ended)
	for n := range byte(10) {
		polled(t, from("192.0.2.1", 50+n), fromAgent(50+n, "hello"))
		displaced := false
		for range 2 {
			end := await(t, "the end of the poll, and of a session", obs.ended)
			displaced = displaced || end.Reason == report.ReasonOverloaded && end.Limit == report.KeyConnections && end.Peer != ""
		}
		if !displaced {
			t.Errorf("no session has ended for agent %d", 50+n)
		}
	}
	do(t, from("192.0.2.1", 100)).refusedAs(t, 503, report.ReasonOverloaded)
	if n := s.polls.Sessions(); n != 20 {
		t.Errorf("%d sessions, want 20", n)
	}
	polled(t, from("192.0.2.2", 101), fromAgent(101, "hello"))
}

// TestSessionWithoutACall: the poll has the status of a call that fails, whoever ends it.
func TestSessionWithoutACall(t *testing.T) {
	obs := newObserver()
	_, address := serveAgents(t, func(ss grpc.ServerStream) error {
		var m []byte
		_ = ss.RecvMsg(&m)
		return status.Error(codes.ResourceExhausted, "no more agents")
	}, func(c *Config) { c.Observer = obs })
	got := do(t, newPoll(t, address, fromAgent(1, "hello")))
	if want := `{"@status":{"code":8,"status":"RESOURCE_EXHAUSTED","message":"no more agents"}}` + "\n"; got.code != 429 || got.body != want || got.header.Get("Retry-After") != "30" {
		t.Errorf("%+v, want 429 and %s", got, want)
	}
	for range 2 {
		if end := await(t, "the end", obs.ended); end.Origin != report.OriginUpstream {
			t.Errorf("ended by %s", end.Origin)
		}
	}

	down := listen(t, "127.0.0.1:0")
	_ = down.Close()
	_, address = serveAgents(t, parts.Echo, func(c *Config) { c.Backend.Target, c.Observer = down.Addr().String(), obs })
	do(t, newPoll(t, address, fromAgent(1, "hello"))).refusedAs(t, 503, report.ReasonUpstreamUnreachable)
	for range 2 {
		if end := await(t, "the end", obs.ended); end.Origin != report.OriginCulvert || end.Reason != report.ReasonUpstreamUnreachable {
			t.Errorf("ended by %s with %q", end.Origin, end.Reason)
		}
	}
}

// TestDrainEndsSessions: at once those between two polls, and those of a poll with it.
func TestDrainEndsSessions(t *testing.T) {
	waits := make(chan struct{})
	s, address := serveAgents(t, func(ss grpc.ServerStream) error {
		var m []byte
		if err := ss.RecvMsg(&m); err != nil {
			return err
		}
		if bytes.Contains(m, []byte("wait")) {
			close(waits)
			return parts.Hold(ss)
		}
		return errors.Join(ss.SendMsg(m), parts.Hold(ss))
	}, nil)
	m := fromAgent(1, "hello")
	polled(t, newPoll(t, address, m), m)
	answered := make(chan answer, 1)
	go func() { answered <- do(t, newPoll(t, address, fromAgent(2, "wait"))) }()
	await(t, "the second poll", waits)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	drained := make(chan error, 1)
	go func() { drained <- s.Shutdown(ctx) }()
	if got := await(t, "the answer", answered); got.code != 200 || got.body != string(codec.AppendServerToAgent(nil, agentID(2))) {
		t.Errorf("%+v, want 200", got)
	}
	if err := await(t, "the drain", drained); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("the drain took %v", took)
	}
	if n := s.polls.Sessions(); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// TestPollWhileRefusing: the agent comes again later, to another instance.
func TestPollWhileRefusing(t *testing.T) {
	s, address := serveAgents(t, parts.Echo, nil)
	s.refusing.Store(true)
	do(t, newPoll(t, address, fromAgent(1, "hello"))).refusedAs(t, 503, report.ReasonDraining)
}

// TestAgentLeavesItsPoll: the reply waits for the next one.
func TestAgentLeavesItsPoll(t *testing.T) {
	got, send := make(chan struct{}), make(chan struct{})
	obs := newObserver()
	_, address := serveAgents(t, func(ss grpc.ServerStream) error {
		var m []byte
		err := ss.RecvMsg(&m)
		close(got)
		<-send
		return errors.Join(err, ss.SendMsg(m), parts.Echo(ss))
	}, func(c *Config) { c.Observer = obs })
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() {
		answer, err := http.DefaultClient.Do(newPoll(t, address, fromAgent(1, "first")).WithContext(ctx))
		if err == nil {
			_ = answer.Body.Close()
		}
		left <- err
	}()
	await(t, "the message", got)
	cancel()
	if err := await(t, "the client's end", left); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if end := await(t, "the poll's end", obs.ended); end.Reason != report.ReasonClientGone {
		t.Errorf("the poll ended with %q, want %s", end.Reason, report.ReasonClientGone)
	}
	close(send)
	polled(t, newPoll(t, address, fromAgent(1, "second")), fromAgent(1, "first"))
	polled(t, newPoll(t, address, fromAgent(1, "third")), fromAgent(1, "second"))
}

package bridge

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/path"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// overIdentity checks that a call is refused by a limit of identities.
func overIdentity(t *testing.T, what string, err error, key string) {
	t.Helper()
	if status.Code(err) != codes.ResourceExhausted || reasonFor(err) != report.ReasonLimitExceeded || !strings.Contains(status.Convert(err).Message(), "("+key+")") {
		t.Errorf("%s: %v, want it refused by %s", what, err, key)
	}
}

// TestLimitsOfIdentities: each identity has its own, whatever connections its calls come by. A call
// counts with that of its connection, too.
func TestLimitsOfIdentities(t *testing.T) {
	s := newServer(t, Config{
		Backend: Backend{Target: startBackend(t, hold)}, Authenticator: &doorman{nobody: true},
		Limits: Limits{Identity: Quota{Calls: 2}},
	})
	address := serve(t, s)
	native, tunnel := dial(t, address), dialTunnel(t, address, bearer("alice@home"))
	as := func(name string) context.Context {
		return metadata.AppendToOutgoingContext(within(t, patience), "authorization", "Bearer "+name)
	}
	running := func(want int) {
		t.Helper()
		poll(t, func() string {
			if n := s.RunningCalls(); n != want {
				return "the calls haven't begun or ended"
			}
			return ""
		})
	}
	const key = report.KeyIdentityLimits + "calls"
	ctx, stop := context.WithCancel(within(t, patience))
	open(ctx, t, tunnel, testMethod) // alice, of the connection
	running(1)
	open(as("bob@home"), t, tunnel, testMethod) // bob, on alice's connection
	running(2)
	overIdentity(t, "a third call of alice", unary(within(t, patience), tunnel, testMethod), key)
	overIdentity(t, "a third call of alice elsewhere", unary(as("alice@home"), native, testMethod), key)
	overIdentity(t, "carol on alice's connection", unary(as("carol@home"), tunnel, testMethod), key)
	open(as("bob@home"), t, native, testMethod)
	running(3)
	overIdentity(t, "a third call of bob", unary(as("bob@home"), native, testMethod), key)
	open(as("alice@work"), t, native, testMethod) // another issuer's
	for range 3 {
		open(within(t, patience), t, native, testMethod) // nobody's
	}
	running(7)
	stop()
	running(6)
	open(as("alice@home"), t, native, testMethod) // in the place of the one that has ended
	running(7)
}

// TestRateOfIdentities comes back with time, and doesn't count with limits that are tried out.
func TestRateOfIdentities(t *testing.T) {
	obs := newObserver()
	cfg := Config{
		Backend: Backend{Target: startBackend(t, echo)}, Authenticator: &doorman{}, Observer: obs,
		Limits: Limits{Identity: Quota{CallsPerSecond: 2}},
	}
	s := newServer(t, cfg)
	cc := dial(t, serve(t, s))
	as := func(name string) error {
		return unary(metadata.AppendToOutgoingContext(within(t, patience), "authorization", name), cc, testMethod)
	}
	burst := func(name string) (err error) {
		for range 50 {
			if err = as(name); err != nil {
				return err
			}
		}
		return nil
	}
	overIdentity(t, "many calls", burst("alice@home"), report.KeyIdentityLimits+"calls_per_second")
	if err := as("bob@home"); err != nil {
		t.Errorf("another one's call: %v", err)
	}
	poll(t, func() string {
		if err := as("alice@home"); err != nil {
			return err.Error()
		}
		return ""
	})
	cfg.TryLimits = true
	apply(t, s, cfg)
	if err := burst("carol@home"); err != nil {
		t.Errorf("over a limit that is tried out: %v", err)
	}
	poll(t, func() string {
		for len(obs.refused) > 0 {
			if r := <-obs.refused; r.ReportOnly && r.Key == report.KeyIdentityLimits+"calls_per_second" {
				return ""
			}
		}
		return "the Observer isn't told of the limit that is tried out"
	})
	cfg.TryLimits, cfg.Limits = false, Limits{}
	apply(t, s, cfg)
	if err := burst("alice@home"); err != nil {
		t.Errorf("without the limit: %v", err)
	}
}

// TestIdentityOverHTTP is told 429: the limit is the client's own.
func TestIdentityOverHTTP(t *testing.T) {
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}, Authenticator: &doorman{}, Limits: Limits{Identity: Quota{Calls: 1}}})
	address := serve(t, s)
	open(metadata.AppendToOutgoingContext(within(t, patience), "authorization", "alice@home"), t, dial(t, address), testMethod)
	poll(t, func() string {
		if s.RunningCalls() != 1 {
			return "the call hasn't begun"
		}
		return ""
	})
	r := newRequest(t, http.MethodPost, "http://"+address+testMethod, "")
	r.Header = http.Header{"Authorization": {"alice@home"}, "Content-Type": {"application/proto"}}
	if res, body := send(t, http.DefaultClient, r); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("%d %s, want 429", res.StatusCode, body)
	}
}

// TestPollsOfAnIdentity: the call of an agent's session counts until it ends, and so does each poll.
func TestPollsOfAnIdentity(t *testing.T) {
	s, address := serveAgents(t, parts.Echo, func(c *Config) {
		c.Authenticator, c.Limits.Identity = &doorman{}, Quota{Calls: 2}
	})
	polls := func(agent byte, name string) answer {
		return do(t, newPoll(t, address, fromAgent(agent, "hello"), "Authorization", name))
	}
	for range 3 {
		if got := polls(1, "alice@home"); got.code != http.StatusOK {
			t.Fatalf("a poll is answered %d %s", got.code, got.body)
		}
	}
	if got := polls(2, "alice@home"); got.code != http.StatusTooManyRequests { // the session's, this poll, and its session
		t.Errorf("a poll of another agent of alice is answered %d %s, want 429", got.code, got.body)
	}
	if got := polls(3, "bob@home"); got.code != http.StatusOK {
		t.Errorf("a poll of bob is answered %d %s", got.code, got.body)
	}
	s.polls.Close(errDraining)
	poll(t, func() string {
		if s.RunningCalls() > 0 {
			return "the sessions' calls haven't ended"
		}
		return ""
	})
	cc := dial(t, address)
	for range 2 {
		ctx := metadata.AppendToOutgoingContext(within(t, patience), "authorization", "alice@home")
		open(ctx, t, cc, path.Ticks)
	}
	poll(t, func() string {
		if s.RunningCalls() != 2 {
			return "behind the sessions two calls of alice don't run"
		}
		return ""
	})
}

// TestPollsOfOneNameAndTwoIssuers: a session is its identity's, and names are unique for an issuer
// only.
func TestPollsOfOneNameAndTwoIssuers(t *testing.T) {
	calls := make(chan string, 8)
	_, address := serveAgents(t, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		calls <- strings.Join(md["authorization"], "+")
		return parts.Echo(ss)
	}, func(c *Config) { c.Authenticator = &doorman{} })
	for _, who := range []string{"alice@home", "alice@elsewhere"} {
		if got := do(t, newPoll(t, address, fromAgent(1, "hello"), "Authorization", who)); got.code != http.StatusOK {
			t.Fatalf("a poll of %s is answered %d %s", who, got.code, got.body)
		}
		if got := await(t, "the session's call", calls); got != who {
			t.Errorf("the poll of %s is in the session of %s", who, got)
		}
	}
}

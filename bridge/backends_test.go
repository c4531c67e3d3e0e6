package bridge

import (
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/bridge/upstream"
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
		"both":            {Backend: nowhere, Backends: []NamedBackend{{"a", nowhere}}},
		"both Backend":    {Backend: Backend{MaxConnections: 1}, Backends: []NamedBackend{{"a", nowhere}}},
		"has no name":     {Backends: []NamedBackend{{"", nowhere}}},
		`the name "a"`:    {Backends: []NamedBackend{{"a", nowhere}, {"default", nowhere}, {"a", nowhere}}},
		"none of them":    {Backends: []NamedBackend{{"a", nowhere}, {"b", nowhere}}},
		`"b": no backend`: {Backends: []NamedBackend{{DefaultBackend, nowhere}, {"b", Backend{}}}},
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
		{Config{Backends: []NamedBackend{{"orders", orders}}}, "orders", "orders", "orders"},
		{Config{Backends: []NamedBackend{{"orders", orders}, {DefaultBackend, users}}}, DefaultBackend, "users", "default orders"},
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

func namesOf(states []upstream.State) string {
	var names []string
	for _, u := range states {
		names = append(names, u.Name)
	}
	return strings.Join(names, " ")
}

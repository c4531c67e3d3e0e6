package bridge

import (
	"context"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// newCallOf returns a call of testMethod.
func newCallOf(s *Server) *call {
	c := &call{auth: authenticationOf(s), caller: caller{s: s, policy: s.policy.Load()}, decision: decision{Method: testMethod}, ask: ask{Metadata: metadata.MD{}}, info: &report.CallInfo{ID: "1", Method: testMethod, Begin: time.Now()}, watched: watched{held: s.account.NewEntry(), limits: &s.policy.Load().limits}}
	c.use = s.quotas.Call(s.edge.Own().Scope(), nil, "192.0.2.1", nil)
	c.messages, c.headers = s.policy.Load().sizes(s.edge.Own(), nil, nil)
	c.progress.Clock = &s.registry.clock
	return c
}

// authenticationOf returns that of a call that came by itself.
func authenticationOf(s *Server) *authentication {
	if a := s.policy.Load().auth; a != nil {
		return &authentication{policyAuthenticator: a, own: true}
	}
	return nil
}

// TestFirstStepThatRefusesEndsTheCall: each case spoils one step and all that
// come after it. The status says what the first of them found, and the Observer
// is told of the call's beginning and of its end.
func TestFirstStepThatRefusesEndsTheCall(t *testing.T) {
	keep := func(*Config) {}
	leave := func(*Server, *channelDown, *call) {}
	spoil := map[string]struct {
		config func(*Config)
		call   func(*Server, *channelDown, *call)
		want   report.Reason
		cause  string // it has this in it
	}{
		"admit": {keep, func(s *Server, _ *channelDown, _ *call) { s.refusing.Store(true) }, report.ReasonDraining, ""},
		"read":  {keep, func(_ *Server, d *channelDown, _ *call) { d.refused = report.New(report.ReasonBadRequest, "spoiled") }, report.ReasonBadRequest, ""},
		"authenticate": {func(cfg *Config) {
			cfg.Authenticator = authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) {
				return nil, errors.New("spoiled")
			})
		}, leave, report.ReasonUnauthenticated, "spoiled"},
		"authorize": {func(cfg *Config) { cfg.DenyMethods = []string{"*/*"} }, leave, report.ReasonNoRoute, ""},
		"route": {keep, func(s *Server, _ *channelDown, _ *call) {
			if err := s.upstreams.Remove(DefaultBackend, s.upstreams.Get(DefaultBackend)); err != nil {
				t.Fatal(err)
			}
		}, report.ReasonUpstreamUnreachable, DefaultBackend},
		"describe": {keep, func(_ *Server, _ *channelDown, c *call) { c.json = plainJSON }, report.ReasonUpstreamUnreachable, "refused by the test"},
		"open":     {keep, leave, report.ReasonUpstreamUnreachable, "refused by the test"},
	}
	for i, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			obs := newObserver()
			cfg := Config{Backend: refusing, Observer: obs}
			for _, s := range steps[i:] {
				spoil[s.name].config(&cfg)
			}
			s := newServer(t, cfg)
			d := newChannelDown(t)
			c := newCallOf(s)
			for _, later := range steps[i:] {
				spoil[later.name].call(s, d, c)
			}
			c.handle(t.Context(), d, nil, nil)
			st := (<-d.end).status
			if got := reasonFor(st.Err()); got != spoil[step.name].want {
				t.Errorf("the call ended with %v, want the reason %s", st, spoil[step.name].want)
			}
			if info := await(t, "the call's end", obs.ended); info.Reason != spoil[step.name].want || info.Origin != report.OriginCulvert || !strings.Contains(info.Cause, spoil[step.name].cause) {
				t.Errorf("the Observer is told of %s by %s for %q, want %s for %q", info.Reason, info.Origin, info.Cause, spoil[step.name].want, spoil[step.name].cause)
			}
		})
	}
}

// TestStepsAreDocumented in their order.
func TestStepsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/how-it-works/calls.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, want []string
	for _, m := range regexp.MustCompile(`(?m)^ +- \*\*([a-z]+)\*\* `).FindAllSubmatch(page, -1) {
		documented = append(documented, string(m[1]))
	}
	for _, step := range steps {
		want = append(want, step.name)
	}
	if !slices.Equal(documented, want) {
		t.Errorf("docs/how-it-works/calls.md has the steps %q, want %q", documented, want)
	}
}

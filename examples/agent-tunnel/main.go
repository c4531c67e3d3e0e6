// The example agent-tunnel: web servers that nobody can connect to, and an edge that
// everybody can. An agent beside each web server calls the edge through culvert, and the
// edge forwards HTTP requests to the agents inside these calls.
package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/agent"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/edge"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
	"github.com/culvert-grpc/culvert/examples/internal/run"
)

const (
	renewAfter     = 200 * time.Millisecond // minutes in a real system: a move may take as long
	healthEvery    = 500 * time.Millisecond
	healthPatience = 10 * time.Second // a busy machine isn't a sick one
)

// The agents of the example. A firewall stands between the last two and culvert.
var (
	agents     = []string{"bern", "lima", "lisbon", "lyon", "oslo", "paris", "porto", "quito"}
	firewalled = []string{"cairo", "kyoto"}
)

func main() { run.Main(example) }

// example starts all parts, and ends them in reverse order: agents leave while the rest
// still serves.
func example(ctx context.Context, checking bool) error {
	e := edge.New(renewAfter)
	defer e.Wait()
	service := grpc.NewServer()
	tunnelpb.RegisterEdgeServer(service, e)
	state := health.NewServer()
	state.SetServingStatus(tunnelpb.Edge_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(service, state)
	backend, err := run.ServeGRPC(ctx, service)
	if err != nil {
		return err
	}
	defer backend.Stop()

	culvert, err := run.StartCulvert(ctx, "agent-tunnel/culvert.yaml", "EDGE="+backend.Address)
	if err != nil {
		return err
	}
	defer culvert.Stop()

	public, err := run.ServeHTTP(ctx, e.NewHandler())
	if err != nil {
		return err
	}
	defer public.Stop()
	control, err := run.ServeHTTP(ctx, newControl(e))
	if err != nil {
		return err
	}
	defer control.Stop()

	firewall, err := startFirewall(ctx, culvert.Address)
	if err != nil {
		return err
	}
	defer firewall.stop()

	running, stop := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer stop()
	parts.Go(func() { e.CheckAgents(running, healthEvery, healthPatience) })
	webs := make(map[string]*web)
	for _, name := range slices.Concat(agents, firewalled) {
		w, way := newWeb(name), culvert.Address
		if slices.Contains(firewalled, name) {
			way = firewall.address()
		}
		webs[name] = w
		parts.Go(func() { runAgent(running, w, way) })
	}

	run.Say("edge", "all agents: http://%s/  one agent: http://oslo.localhost:%s/", public.Address, port(public.Address))
	if checking {
		return newCheck(e, webs, firewall, culvert, public.Address).run(ctx)
	}
	run.Say("edge", "its agents: curl http://%s/agents", control.Address)
	run.Say("edge", "move half of them: curl -X POST 'http://%s/move?percent=50'", control.Address)
	return culvert.Wait(ctx)
}

// runAgent runs an agent and its web server until the context ends.
func runAgent(ctx context.Context, w *web, culvert string) {
	say := func(format string, args ...any) { run.Say(w.name, format, args...) }
	server, err := run.ServeHTTP(ctx, w.handler())
	if err != nil {
		say("%v", err)
		return
	}
	defer server.Stop()
	a := agent.Agent{Name: w.name, Culvert: culvert, Web: server.Address, Log: say}
	a.Run(ctx)
}

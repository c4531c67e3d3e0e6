// The example opamp has a fleet of agents of opamp-go before a gRPC backend, and a page
// that shows them and configures them.
package main

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/open-telemetry/opamp-go/client/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"github.com/culvert-grpc/culvert/examples/internal/run"
	"github.com/culvert-grpc/culvert/examples/opamp/fleetpb"
)

func main() { run.Main(example) }

func example(ctx context.Context, checking bool) error {
	f := newFleet()
	server := grpc.NewServer()
	fleetpb.RegisterAgentsServer(server, f)
	fleetpb.RegisterFleetServer(server, f)
	reflection.Register(server) // with it culvert converts the page's JSON
	backend, err := run.ServeGRPC(ctx, server)
	if err != nil {
		return err
	}
	defer backend.Stop()

	page, err := run.ServeHTTP(ctx, http.FileServer(http.Dir("opamp/page")))
	if err != nil {
		return err
	}
	defer page.Stop()

	culvert, err := run.StartCulvert(ctx, "opamp/culvert.yaml", "FLEET="+backend.Address, "PAGE="+page.Address)
	if err != nil {
		return err
	}
	defer culvert.Stop()

	beat, poll := 2*time.Second, 2*time.Second // 30 s in a real system
	if checking {
		beat, poll = 0, 200*time.Millisecond // without heartbeats, offers come by themselves
	}
	agents := make(map[string]*agent)
	for _, name := range []string{"web-1", "web-2", "web-3", "sensor-1", "sensor-2", "sensor-3"} {
		a := &agent{name: name, server: "ws://" + culvert.Address + "/v1/opamp", uid: types.InstanceUid(uuid.Must(uuid.NewV7())), heartbeat: beat}
		if strings.HasPrefix(name, "sensor") { // a proxy on its way lets no WebSocket pass
			a.server, a.heartbeat = "http://"+culvert.Address+"/v1/opamp", poll
		}
		if err := a.start(ctx); err != nil {
			return err
		}
		defer a.stop(ctx)
		agents[name] = a
	}
	if checking {
		return check(ctx, "http://"+culvert.Address, agents)
	}
	run.Say("page", "open http://%s/", culvert.Address)
	return culvert.Wait(ctx)
}

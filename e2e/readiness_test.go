package e2e

import (
	"context"
	"net/http"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestReadinessDependsOnABackend: /readyz and culvert's own grpc.health.v1 follow the
// backend that readiness depends on, and a drain.
func TestReadinessDependsOnABackend(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "health: {depends_on: [default]}"})
	talk := open(t, dial(t, wire.GRPC, c.address), wire.Bidi, probe.Script{Echo: true})
	say(t, talk, 0) // so that there is a connection to the backend

	cc, err := grpc.NewClient(c.health, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch := func(service string) func(what string, want healthpb.HealthCheckResponse_ServingStatus) {
		stream, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return func(what string, want healthpb.HealthCheckResponse_ServingStatus) {
			t.Helper()
			if got, err := stream.Recv(); err != nil || got.GetStatus() != want {
				t.Fatalf("%s: Watch of %q says %v, %v; want %v", what, service, got.GetStatus(), err, want)
			}
		}
	}
	whole, backend := watch(""), watch("default")
	all := func(what string, want healthpb.HealthCheckResponse_ServingStatus, readyz int) {
		t.Helper()
		whole(what, want)
		backend(what, want)
		if code := c.ask("/readyz"); code != readyz {
			t.Errorf("%s: readyz is %d, want %d", what, code, readyz)
		}
	}
	all("with the backend", healthpb.HealthCheckResponse_SERVING, http.StatusOK)
	b.kill(t)
	all("without the backend", healthpb.HealthCheckResponse_NOT_SERVING, http.StatusServiceUnavailable)
	b.restart(t)
	all("with the backend again", healthpb.HealthCheckResponse_SERVING, http.StatusOK)
	open(t, dial(t, wire.GRPC, c.address), wire.Bidi, probe.Script{Echo: true}) // so that the drain lasts
	c.signal(t, syscall.SIGTERM)
	all("in a drain", healthpb.HealthCheckResponse_NOT_SERVING, http.StatusServiceUnavailable)
}

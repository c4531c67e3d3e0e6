package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A backend gets no calls while its health service doesn't know the service, or says
// that it doesn't serve. The status names the reason, and the log the cause and the key.
// The backend gets calls again as soon as the service serves. Running calls continue.
func TestUnhealthyBackend(t *testing.T) {
	t.Parallel()
	const service = "shop.v1.Orders"
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "backend: {health_check: {enabled: true, service: " + service + "}}\nhealth: {depends_on: [default]}"})
	line := c.logged(t, "fails its health check", "cause")
	if cause, _ := line["cause"].(string); !strings.Contains(cause, `the service "`+service+`"`) || !strings.Contains(cause, "health_check.service") {
		t.Errorf("the log says %q", cause)
	}
	serves := func(serves bool) {
		t.Helper()
		if err := b.control.SetHealth(t.Context(), service, serves); err != nil {
			t.Fatal(err)
		}
	}
	calls := func(accepts bool) {
		t.Helper()
		readyz, state := http.StatusServiceUnavailable, "unhealthy"
		if accepts {
			readyz, state = http.StatusOK, "accepts"
		}
		if err := eventually(patience, func() error {
			n, code := c.metric(t, `culvert_backend_addresses{backend="default",state="`+state+`"}`), c.ask("/readyz")
			if n != 1 || code != readyz {
				return fmt.Errorf("%v addresses are in the state %s, and readyz is %d; want 1 and %d", n, state, code, readyz)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, transport := range wire.All {
			status, id := routed(t, transport, c.address, wire.Unary, false)
			_, reached := b.saw(t, id)
			switch {
			case accepts && (!reached || status.Code != codes.OK):
				t.Errorf("%s: %v, reached the healthy backend %v", transport, status, reached)
			case !accepts && (reached || status.Code != codes.Unavailable || status.Reason() != "UPSTREAM_UNHEALTHY"):
				t.Errorf("%s: %v, reached the backend %v, want UNAVAILABLE with UPSTREAM_UNHEALTHY", transport, status, reached)
			}
		}
	}
	calls(false)
	serves(true)
	calls(true)
	c.logged(t, "passes its health check again", "address")
	talk := open(t, dial(t, wire.GRPC, c.address), wire.Bidi, probe.Script{Echo: true})
	say(t, talk, 0)
	serves(false)
	calls(false)
	say(t, talk, 1)
	serves(true)
	calls(true)
	say(t, talk, 2)
}

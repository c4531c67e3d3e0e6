package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/wire"
)

// Two backends have one name. pick_first calls the first address alone, and the other
// one as soon as the first is gone. The next call works: none waits for the first.
func TestPickFirst(t *testing.T) {
	t.Parallel()
	first := startBackend(t, backendOptions{listen: "127.0.0.41:0"})
	second := startBackend(t, backendOptions{listen: "127.0.0.42:" + first.port(t)})
	names := startNameServer(t, "127.0.0.42", "127.0.0.41")
	c := startCulvert(t, names.target(t, first), culvertOptions{config: "backend: {balance: pick_first, health_check: {enabled: true}}"})
	reaches := func(b *backend, transport wire.Transport) error {
		status, id := routed(t, transport, c.address, wire.Unary, false)
		if _, ok := b.saw(t, id); status.Code != codes.OK || !ok {
			return fmt.Errorf("%s: %v, reached %s %v", transport, status, b.address, ok)
		}
		return nil
	}
	if err := eventually(5*time.Second, func() error { return reaches(first, wire.GRPC) }); err != nil {
		t.Fatal(err) // the second may be connected before the first
	}
	for _, transport := range wire.All {
		if err := reaches(first, transport); err != nil {
			t.Error(err)
		}
	}
	first.kill(t)
	if err := eventually(5*time.Second, func() error { // a call may still be written to its connection
		if n := c.metric(t, `culvert_backend_addresses{backend="default",state="accepts"}`); n != 1 {
			return fmt.Errorf("%v addresses accept calls", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, transport := range wire.All {
		if err := reaches(second, transport); err != nil {
			t.Errorf("without the first: %v", err)
		}
	}
}

// A backend whose health service doesn't know the service gets no calls. The status
// names the reason, and the log the cause and the key.
func TestUnhealthyBackend(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "backend: {health_check: {enabled: true, service: shop.v1.Gone}}"})
	line := c.logged(t, "fails its health check", "cause")
	if cause, _ := line["cause"].(string); !strings.Contains(cause, `the service "shop.v1.Gone"`) || !strings.Contains(cause, "health_check.service") {
		t.Errorf("the log says %q", cause)
	}
	for _, transport := range wire.All {
		status, id := routed(t, transport, c.address, wire.Unary, false)
		if _, ok := b.saw(t, id); ok || status.Code != codes.Unavailable || status.Reason() != "UPSTREAM_UNHEALTHY" {
			t.Errorf("%s: %v, want UNAVAILABLE with UPSTREAM_UNHEALTHY", transport, status)
		}
	}
}

package keys

import (
	"io"
	"log/slog"
	"testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

// TestBackendsKeepTheirCertificates: a reload makes another TLSSource for a backend with
// other settings alone, and one that fails takes everything back.
func TestBackendsKeepTheirCertificates(t *testing.T) {
	load := func(backends string) *config.Loaded { return cmdtest.Load(t, "backends: ["+backends+"]") }
	const (
		users  = "{name: default, address: users:9000, tls: {server_name: users.internal}}"
		orders = "{name: orders, address: orders:9000, tls: {server_name: orders.internal}}"
		other  = "{name: orders, address: orders:9000, tls: {server_name: other.internal}}"
		plain  = "{name: orders, address: orders:9000}"
	)
	first := load(users + "," + orders)
	k, err := Open(first, slog.New(slog.DiscardHandler), nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close(Patience) })
	sources := func(c *config.Loaded) map[string]bridge.TLSSource {
		backends, all := wiring.Bridge(c).Backends, map[string]bridge.TLSSource{}
		k.Secure(backends)
		for _, b := range backends {
			all[b.Name] = b.TLSSource
		}
		return all
	}
	before := sources(first)
	if before["default"] == nil || before["orders"] == nil || before["default"] == before["orders"] {
		t.Fatalf("the backends have %v", before)
	}
	for _, step := range []struct {
		what         string
		next         *config.Loaded
		users, order bool // whether the backend keeps its source
	}{
		{"another order", load(orders + "," + users), true, true},
		{"other settings", load(users + "," + other), true, false},
		{"plaintext", load(users + "," + plain), true, false},
		{"one less", load(users), true, false},
	} {
		_, undo, err := k.ChangeClients(first, step.next)
		if err != nil {
			t.Fatal(err)
		}
		now := sources(step.next)
		if got := now["default"] == before["default"]; got != step.users {
			t.Errorf("%s: default keeps its source: %v", step.what, got)
		}
		if got := now["orders"] == before["orders"]; got != step.order {
			t.Errorf("%s: orders keeps its source: %v", step.what, got)
		}
		if plaintext := now["orders"] == nil; plaintext != (step.what == "plaintext" || step.what == "one less") {
			t.Errorf("%s: orders is called in plaintext: %v", step.what, plaintext)
		}
		undo()
		if again := sources(first); again["default"] != before["default"] || again["orders"] != before["orders"] {
			t.Errorf("%s, undone: %v, want %v", step.what, again, before)
		}
	}
	commit, _, err := k.ChangeClients(first, load(users+","+other))
	if err != nil {
		t.Fatal(err)
	}
	commit()
	if now := sources(first); now["default"] != before["default"] || now["orders"] == before["orders"] || now["orders"] == nil {
		t.Errorf("committed: %v, before %v", now, before)
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestRoutes: a path, a method, metadata and the listener select one of two backends,
// over every transport. A rewrite opens no denied method, and a call without a route is told what
// was looked for.
func TestRoutes(t *testing.T) {
	t.Parallel()
	a, b := startBackend(t, backendOptions{}), startBackend(t, backendOptions{})
	c := startCulvert(t, "", culvertOptions{listen: listenByConfig, config: fmt.Sprintf(`
listen: [{name: public, address: "127.0.0.1:0"}, {name: inside, address: "127.0.0.1:0"}]
backends: [{name: a, address: "%s"}, {name: b, address: "%s"}]
methods: {deny: [culvert.e2e.v1.Probe/ServerStream]}
routes:
- {name: below, match: {path_prefix: /team}, rewrite: {path_prefix: /}, backend: a}
- {name: renamed, match: {path_prefix: /old.Probe}, rewrite: {path_prefix: /culvert.e2e.v1.Probe}, backend: a}
- {name: plain, match: {methods: [culvert.e2e.v1.Probe/*]}, backend: b}
- {name: inside, match: {methods: [culvert.e2e.v1.Probe/*], listeners: [inside]}, backend: a}
- {name: canary, match: {methods: [culvert.e2e.v1.Probe/*], metadata: [{name: x-canary, value: "yes"}]}, backend: a}
`, a.address, b.address)})
	public, inside := c.listener(t, "public"), c.listener(t, "inside")
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		for _, call := range []struct {
			address, path string
			canary        bool
			to            *backend // nil: refused
			text          string
		}{
			{public, wire.Unary, false, b, ""},
			{inside, wire.Unary, false, a, ""},
			{public, wire.Unary, true, a, ""},
			{public, "/team" + wire.Unary, false, a, ""},
			{inside, "/team" + wire.Unary, false, a, ""},
			{public, "/old.Probe/Unary", true, a, ""},
			{public, "/old.Probe/ServerStream", false, nil, "the method " + wire.ServerStream + " is not exposed here"},
			{public, "/gone.Probe/Unary", false, nil, `and the path "/gone.Probe/Unary"`},
			{public, "/gone" + wire.Unary, false, nil, "did you mean " + wire.Unary + "?"},
		} {
			status, id := routed(t, transport, call.address, call.path, call.canary)
			_, byA := a.saw(t, id)
			_, byB := b.saw(t, id)
			switch {
			case call.to == nil && (status.Code != codes.Unimplemented || status.Reason() != "NO_ROUTE" || !strings.Contains(status.Message, call.text) || byA || byB):
				t.Errorf("%s: %v, reached %v %v, want a refusal with %q", call.path, status, byA, byB, call.text)
			case call.to != nil && (status.Code != codes.OK || byA != (call.to == a) || byB != (call.to == b)):
				t.Errorf("%s on %s, canary %v: %v, reached a %v and b %v", call.path, call.address, call.canary, status, byA, byB)
			}
		}
	})
	c.loggedLike(t, func(line map[string]any) bool {
		return line["route"] == "renamed" && line["backend"] == "a" && line["method"] == wire.Unary
	})
}

// routed makes one call over a connection of its own.
func routed(t *testing.T, transport wire.Transport, address, path string, canary bool) (*wire.Status, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	id := newID(t)
	md := wire.Metadata(id, probe.Script{})
	if canary {
		md["x-canary"] = []string{"yes"}
	}
	c, err := dial(t, transport, address).Post(ctx, path, md, wire.Request(0, 16))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for {
		if _, err := c.Recv(); errors.Is(err, io.EOF) && c.Status() != nil {
			return c.Status(), id
		} else if err != nil {
			t.Fatalf("%s %s: %v", transport, path, err)
		}
	}
}

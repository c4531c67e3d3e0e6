package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// wantRetry wants the status of a refused call to say when to try again.
func wantRetry(t *testing.T, transport wire.Transport, e end) {
	t.Helper()
	if e.status == nil {
		return // wantLimit has said so
	}
	for _, detail := range e.status.Details.GetDetails() {
		var retry errdetails.RetryInfo
		if detail.MessageIs(&retry) && detail.UnmarshalTo(&retry) == nil {
			if d := retry.GetRetryDelay().AsDuration(); d <= 0 || d > time.Minute {
				t.Errorf("%s: the client is to try again after %v", transport, d)
			}
			return
		}
	}
	t.Errorf("%s: the status has no RetryInfo: %v", transport, e)
}

// asClient begins a call for a client behind a proxy.
func asClient(t *testing.T, transport wire.Transport, address, client, method string) *call {
	t.Helper()
	id := newID(t)
	md := wire.Metadata(id, probe.Script{Echo: true})
	md["x-forwarded-for"] = []string{client}
	conn := dial(t, transport, address)
	c, err := conn.Open(t.Context(), method, md)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &call{c, id, conn}
}

// limits.address is each client's own, as the proxy before culvert tells it:
// one that has all it may have is refused, and nobody else.
func TestAddressLimits(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "trusted_proxies: [127.0.0.1]\nlimits: {address: {calls: 2}}\n"})
	transports := []wire.Transport{wire.GRPC, wire.WebH2, wire.Web, wire.WebText}
	var running []*call
	for _, transport := range transports[1:3] {
		talk := asClient(t, transport, c.address, "2001:db8:1:2::1", wire.Bidi)
		say(t, talk, 0)
		running = append(running, talk)
	}
	for _, transport := range transports {
		e := finish(asClient(t, transport, c.address, "2001:db8:1:2:ffff::2", wire.Bidi), 0)
		wantLimit(t, transport, e, codes.ResourceExhausted, "LIMIT_EXCEEDED", "limits.address.calls")
		wantRetry(t, transport, e)
	}
	for _, other := range []string{"2001:db8:1:3::1", "192.0.2.1"} {
		talk := asClient(t, wire.GRPC, c.address, other, wire.Bidi)
		say(t, talk, 0)
		talk.Close()
	}
	c.loggedLike(t, func(l map[string]any) bool {
		return l["msg"] == "refused" && l["key"] == "limits.address.calls" && l["peer"] == "2001:db8:1:2:ffff::2"
	})
	for _, talk := range running {
		say(t, talk, 1)
		talk.Close()
		b.record(t, talk.id, probe.Ended, patience)
	}
	if err := eventually(patience, func() error {
		talk := asClient(t, wire.Web, c.address, "2001:db8:1:2::3", wire.Bidi)
		defer talk.Close()
		if err := talk.Send(wire.Request(0, 100)); err != nil {
			return err
		}
		_, err := wire.RecvReply(talk, 0)
		return err
	}); err != nil {
		t.Errorf("with a place free again: %v", err)
	}
}

// limits.methods bounds some methods, and limits.enforce: false only tells of
// what it would refuse.
func TestMethodLimits(t *testing.T) {
	b := startBackend(t, backendOptions{})
	for _, enforce := range []bool{true, false} {
		config := "limits:\n  methods:\n  - {pattern: \"*/Bidi\", calls: 1, message_bytes: 1KiB}\n"
		if !enforce {
			config += "  enforce: false\n"
		}
		c := startCulvert(t, b.address, culvertOptions{config: config})
		talk := open(t, dial(t, wire.WebSocket, c.address), wire.Bidi, probe.Script{Echo: true})
		say(t, talk, 0)
		for _, transport := range wire.All {
			second := open(t, dial(t, transport, c.address), wire.Bidi, probe.Script{Echo: true})
			if enforce {
				e := finish(second, 0)
				wantLimit(t, transport, e, codes.ResourceExhausted, "LIMIT_EXCEEDED", "limits.methods[].calls")
				wantRetry(t, transport, e)
			} else {
				say(t, second, 0)
			}
			second.Close()
			if err := unary(t.Context(), dial(t, transport, c.address), newID(t)); err != nil {
				t.Errorf("%s: another method: %v", transport, err)
			}
		}
		c.loggedLike(t, func(l map[string]any) bool {
			return mentions(l, "refused") && mentions(l, "would") != enforce && l["key"] == "limits.methods[].calls"
		})
		if err := talk.Send(wire.Request(1, 2*kib)); err != nil {
			t.Fatal(err)
		}
		// A size holds also where limits are tried out.
		wantLimit(t, wire.WebSocket, finish(talk, 1), codes.ResourceExhausted, "REQUEST_TOO_LARGE", "limits.methods[].message_bytes")
	}
}

// A call counts with the limits of its route and with the general ones. The status, the
// log and the metric name the limit that has no room. A refused call uses no place of
// its route.
func TestRouteLimitBesideGeneralLimit(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: `
limits: {calls: 3}
routes:
- {name: rest, backend: default}
- {name: one, match: {methods: ["*/Unary", "*/Bidi"]}, backend: default, limits: {calls: 2}}
`})
	hold := func(method string) *call {
		t.Helper()
		call := open(t, dial(t, wire.GRPC, c.address), method, probe.Script{Echo: true})
		b.record(t, call.id, probe.Began, patience)
		return call
	}
	const general, ofRoute = "limits.calls", "routes[].limits.calls"
	hits := map[string]int{}
	refused := func(key string) {
		t.Helper()
		for _, transport := range wire.All {
			e := finish(post(t, dial(t, transport, c.address), wire.Unary, probe.Script{}), 0)
			wantLimit(t, transport, e, codes.ResourceExhausted, "LIMIT_EXCEEDED", "("+key+")")
			if got := wire.Info(e.status.Details).GetMetadata()["limit"]; got != key {
				t.Errorf("%s: the ErrorInfo names the limit %q, want %q", transport, got, key)
			}
			hits[key]++
		}
		var want string
		for _, key := range []string{general, ofRoute} {
			if hits[key] > 0 {
				want += fmt.Sprintf("culvert_limits_hit_total{key=%q} %d\n", key, hits[key])
			}
		}
		if err := eventually(patience, func() error { // a call counts after the client got its end
			if got := strings.Join(limitsHit.FindAllString(c.metrics(t), -1), ""); got != want {
				return fmt.Errorf("the metric says\n%swant\n%s", got, want)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	hold(wire.Bidi)
	hold(wire.ClientStream)
	over := hold(wire.ClientStream)
	refused(general) // one of the route's two calls is running
	c.loggedLike(t, func(l map[string]any) bool { return l["msg"] == "refused" && l["key"] == general })
	over.Close()
	if err := eventually(patience, func() error {
		if n := c.metric(t, `culvert_backend_calls{backend="default"}`); n != 2 {
			return fmt.Errorf("%v calls are running, want 2", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	hold(wire.Bidi)
	refused(ofRoute) // the narrower of two that are full
}

var limitsHit = regexp.MustCompile(`(?m)^culvert_limits_hit_total\{.*\n`)

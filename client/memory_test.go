package client

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/parts/box"
)

// TestOrder: what is known to work comes first, and what went silent behind the other way with
// pings. gRPC-Web, which has none, is last then.
func TestOrder(t *testing.T) {
	for _, test := range []struct {
		pinned, works, silent Way
		want                  []Way
	}{
		{"", "", "", []Way{GRPC, WebSocket, GRPCWeb}},
		{"", WebSocket, "", []Way{WebSocket, GRPC, GRPCWeb}},
		{"", GRPCWeb, "", []Way{GRPCWeb, GRPC, WebSocket}},
		{"", GRPC, GRPC, []Way{WebSocket, GRPC, GRPCWeb}},
		{"", WebSocket, WebSocket, []Way{GRPC, WebSocket, GRPCWeb}},
		{"", GRPCWeb, WebSocket, []Way{GRPC, WebSocket, GRPCWeb}},
		{"", "", GRPCWeb, []Way{GRPC, WebSocket, GRPCWeb}},
		{WebSocket, GRPC, WebSocket, []Way{WebSocket}},
	} {
		if got := order(test.pinned, lesson{way: test.works, silent: test.silent}); !slices.Equal(got, test.want) {
			t.Errorf("pinned %q, works %q, silent %q: %q, want %q", test.pinned, test.works, test.silent, got, test.want)
		}
	}
}

// TestMemory: a lesson holds for an hour, for an edge, a proxy and a network, and there is a
// bound on all of them.
func TestMemory(t *testing.T) {
	const where = "https://memory.example proxy.example:3128"
	now := time.Now()
	at := func(remote string) *conn {
		return &conn{way: WebSocket, remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(remote))}
	}
	learn(where, at("127.0.0.1:443"), lesson{way: WebSocket}, now)
	distrust(where, at("127.0.0.1:443"), now.Add(30*time.Minute))
	for name, test := range map[string]struct {
		where string
		at    time.Time
		want  lesson
	}{
		"another edge":         {"https://other.example proxy.example:3128", now, lesson{}},
		"another proxy":        {"https://memory.example ", now, lesson{}},
		"at once":              {where, now.Add(31 * time.Minute), lesson{way: WebSocket, silent: WebSocket}},
		"renewed by a silence": {where, now.Add(89 * time.Minute), lesson{way: WebSocket, silent: WebSocket}},
		"after an hour":        {where, now.Add(91 * time.Minute), lesson{}},
	} {
		got := recall(test.where, test.at)
		if got.way != test.want.way || got.silent != test.want.silent {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
	if got := localPrefix(netip.MustParseAddrPort("127.0.0.1:443")); got != "127.0.0.0/24" {
		t.Errorf("the network towards loopback is %q", got)
	}
	for i := range 2 * maxRemembered {
		learn(where+string(rune('a'+i)), at("127.0.0.1:443"), lesson{way: GRPC}, now)
	}
	memory.Lock()
	defer memory.Unlock()
	if n, m := len(memory.lessons), len(memory.remotes); n > maxRemembered || m > maxRemembered {
		t.Errorf("%d lessons and %d edges are remembered, want at most %d", n, m, maxRemembered)
	}
}

// TestHintSkipsNoProof: a way that worked in this network has to prove itself all the same.
func TestHintSkipsNoProof(t *testing.T) {
	e := startEdge(t, parts.Echo)
	address := "127.0.0.1:0"
	for _, test := range []struct {
		box  box.Options
		want Way
	}{
		{box.Options{HTTP2: true}, GRPC},
		{box.Options{HTTP2: true, RefuseTypes: []string{"application/grpc"}}, WebSocket},
	} {
		test.box.Roots, test.box.Listener = e.authority.Pool, parts.Listen(t, address)
		b := box.Start(t, test.box)
		address = b.Address
		c := e.connect(t, WithProxy(b.Proxy), WithTLS(&tls.Config{RootCAs: b.CA}))
		if err := c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("x"), new([]byte)); err != nil || c.Status().Way != test.want {
			t.Errorf("%+v, %v, want %s", c.Status(), err, test.want)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		b.Close()
	}
}

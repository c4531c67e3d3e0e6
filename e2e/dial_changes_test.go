package e2e

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// waysWait is how long a call through culvert dial waits for a way.
const waysWait = 10 * time.Second

// TestDialInAnotherNetwork: this host's address towards the service goes, and later it has another.
func TestDialInAnotherNetwork(t *testing.T) { // not in parallel: see newNetwork
	n := newNetwork(t)
	b := startBackend(t, backendOptions{namespace: n.name, listen: n.inside + ":0"})
	edge := startCulvert(t, b.address, culvertOptions{namespace: n.name, listen: n.inside + ":0"})
	const another = "192.0.2.77" // RFC 5737 keeps it for documents
	outlive(t, func(way string) *dialled { return startDial(t, "http://"+edge.address, "--via", way) },
		func() { command(t, "ip", "address", "del", n.outside+"/30", "dev", n.cable) },
		func() {
			command(t, "ip", "-n", n.name, "route", "add", another, "dev", n.device)
			command(t, "ip", "address", "add", another+"/32", "dev", n.cable)
			command(t, "ip", "route", "add", n.inside, "dev", n.cable, "src", another)
		})
}

// TestDialProxyRestarts: the proxy on the way ends, and comes back.
func TestDialProxyRestarts(t *testing.T) {
	t.Parallel()
	edge, ca := startEdge(t, startBackend(t, backendOptions{}))
	address := freeAddress(t)
	conf := write(t, t.TempDir(), "tinyproxy.conf", fmt.Sprintf(tinyproxyConfig, port(address), ""))
	start := func() *process { return startPathProcess(t, "tinyproxy", address, "-d", "-c", conf) }
	proxy := start()
	outlive(t, func(way string) *dialled {
		return startDial(t, edge, "--proxy", "http://"+address, "--ca", ca, "--via", way)
	}, func() { proxy.kill(t) }, func() { start() })
}

// outlive holds a call through culvert dial by each way while the network fails. They end
// UNAVAILABLE with a reason. New calls wait for the network to be mended. The local connections
// stay.
func outlive(t *testing.T, start func(way string) *dialled, fail, mend func()) {
	t.Helper()
	late := lateness(t)
	var conns []*wire.Conn
	var calls []*call
	for _, way := range ways {
		conn := dial(t, wire.GRPC, start(way).address)
		c := open(t, conn, wire.Bidi, probe.Script{Echo: true})
		if err := converse(c, 0); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		conns, calls = append(conns, conn), append(calls, c)
	}
	fail()
	for i, e := range await(t, finishing(calls), patience, "the calls' ends") {
		if e.status == nil || e.status.Code != codes.Unavailable || e.status.Reason() == "" {
			t.Errorf("%s: %v, want %v with a reason", ways[i], e, codes.Unavailable)
		}
		if most := noticedWithin + late(); e.after > most {
			t.Errorf("%s: the call ended after %v, want at most %v", ways[i], e.after, most)
		}
		t.Logf("%s: %v, %v", ways[i], e.after, e)
	}
	began := time.Now()
	calls = nil
	for _, conn := range conns {
		calls = append(calls, post(t, conn, wire.Unary, probe.Script{}))
	}
	ends := finishing(calls)
	mend()
	for i, e := range await(t, ends, patience, "the new calls' ends") {
		// On a busy machine, the network is mended late.
		if !e.is(codes.OK, "") && (e.status == nil || e.status.Code != codes.Unavailable || e.status.Reason() == "" || time.Since(began) < waysWait) {
			t.Errorf("%s: a new call: %v after %v, want %v", ways[i], e, e.after, codes.OK)
		}
		t.Logf("%s: %v, %v", ways[i], e.after, e)
		if err := unary(t.Context(), conns[i], newID(t)); err != nil {
			t.Errorf("%s: by the same connection: %v", ways[i], err)
		}
	}
}

// TestDialWhileTheEdgeDrains: on SIGTERM to the edge, a call through culvert dial goes on to its
// own end, and new calls reach the edge that has taken the address. The second signal ends what
// is left, UNAVAILABLE. The local connection stays.
func TestDialWhileTheEdgeDrains(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			edge := startCulvert(t, b.address, culvertOptions{config: "drain_timeout: 10m\n"})
			conn := dial(t, wire.GRPC, startDial(t, "http://"+edge.address, "--via", way).address)
			talk, left := open(t, conn, wire.Bidi, probe.Script{Echo: true}), open(t, conn, wire.Bidi, probe.Script{Echo: true})
			for _, c := range []*call{talk, left} {
				if err := converse(c, 0); err != nil {
					t.Fatal(err)
				}
			}
			edge.signal(t, syscall.SIGTERM)
			if err := eventually(patience, func() error {
				ln, err := net.Listen("tcp", edge.address) // it listens no longer
				if err != nil {
					return err
				}
				return ln.Close()
			}); err != nil {
				t.Fatal(err)
			}
			next := startCulvert(t, b.address, culvertOptions{listen: edge.address})
			if err := eventually(patience, func() error { // dial may not have heard yet that the edge drains, which takes its calls
				if err := unary(t.Context(), conn, newID(t)); err != nil {
					t.Errorf("a new call: %v", err)
				}
				return next.said("call", "method")
			}); err != nil {
				t.Error(err)
			}
			if err := converse(talk, conversation); err != nil {
				t.Error(err)
			}
			if err := talk.CloseSend(); err != nil {
				t.Error(err)
			}
			if e := finish(talk, 2*conversation); !e.is(codes.OK, "") {
				t.Errorf("the call ended with %v", e)
			}
			edge.signal(t, syscall.SIGINT) // a second SIGTERM could be the first one's echo
			if e := finish(left, conversation); e.status == nil || e.status.Code != codes.Unavailable || e.status.Reason() == "" {
				t.Errorf("the call that was left ended %v, want %v with a reason", e, codes.Unavailable)
			}
			edge.wait(t, patience)
			if err := unary(t.Context(), conn, newID(t)); err != nil {
				t.Errorf("once the edge has ended: %v", err)
			}
		})
	}
}

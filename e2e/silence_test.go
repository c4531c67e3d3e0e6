package e2e

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A backend whose host falls silent (every packet is dropped, nobody is told)
// ends its calls with UNAVAILABLE within 30 seconds, those that wait as well as
// those with bytes under way, and calls work again when the host is back.
func TestSilentBackendHost(t *testing.T) {
	n := newNetwork(t)
	t.Parallel()
	b := startBackend(t, backendOptions{namespace: n.name, listen: n.inside + ":0"})
	busy := startCulvert(t, b.address, culvertOptions{})
	idle := startCulvert(t, b.address, culvertOptions{})

	// One culvert with bytes under way, one whose calls only wait: TCP watches
	// the two with different clocks.
	calls := every(t, busy.address)
	for range 3 {
		calls = append(calls, heldUpload(t, busy.address))
	}
	for _, transport := range wire.All {
		calls = append(calls, post(t, dial(t, transport, idle.address), wire.ServerStream, probe.Script{HeaderEarly: true, Hang: true}))
	}
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	ends := finishing(calls)
	n.silence(t)
	began := time.Now()

	// A new call meanwhile waits for its deadline or for the network's, not longer.
	late := post(t, dial(t, wire.Web, busy.address), wire.Unary, probe.Script{})
	lateEnd := finishing([]*call{late})

	for i, e := range await(t, ends, patience, "the calls' ends") {
		if e.status == nil || e.status.Code != codes.Unavailable {
			t.Errorf("%s %s: %v, want UNAVAILABLE", calls[i].conn.Transport, calls[i].id, e)
		} else if e.after > 30*time.Second {
			t.Errorf("%s %s: ended after %v, want within 30 s", calls[i].conn.Transport, calls[i].id, e.after)
		}
	}
	t.Logf("the last call ended after %v", time.Since(began).Round(100*time.Millisecond))
	if e := await(t, lateEnd, patience, "the end of a call begun in the silence")[0]; e.status == nil || e.status.Code != codes.Unavailable || e.after > 35*time.Second {
		t.Errorf("a call begun in the silence: %v after %v", e, e.after)
	}

	n.restore(t)
	for _, c := range []*culvert{busy, idle} {
		if err := eventually(patience, func() error { return works(t, wire.GRPC, c.address, 20*time.Second) }); err != nil {
			t.Errorf("after the host's return: %v", err)
		}
	}
}

// heldUpload opens an upload to a backend that reads nothing, and fills what lies
// between.
func heldUpload(t *testing.T, address string) *call {
	t.Helper()
	up := open(t, dial(t, wire.GRPC, address), wire.Bidi, probe.Script{Read: probe.ReadNone, Hang: true})
	go func() { // ends with the connection
		for i := uint64(0); up.Send(wire.Request(i, 64*kib)) == nil; i++ {
		}
	}()
	return up
}

// A client that falls silent has its calls cancelled at the backend within 45
// seconds, whether culvert reads from it, writes to it or holds it back.
func TestSilentClient(t *testing.T) {
	n := newNetwork(t)
	t.Parallel()
	// culvert and its backend are on the silent side of the cable, so that they
	// still have each other.
	b := startBackend(t, backendOptions{namespace: n.name})
	c := startCulvert(t, b.address, culvertOptions{namespace: n.name, listen: n.inside + ":0"})
	calls := every(t, c.address)
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	// Their clients read, as clients do, so that pings are answered until then.
	finishing(calls)
	calls = append(calls, heldBack(t, b, c.address)...)
	n.silence(t)
	wantCancelled(t, b, calls, time.Now(), 45*time.Second)
	for _, call := range calls {
		call.conn.Reset() // nobody would answer a goodbye
	}
}

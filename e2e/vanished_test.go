package e2e

import (
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A client that vanishes behind a box that acknowledges in its place is noticed a minute
// later although little data still goes to it. Before that, it may only be paused.
func TestClientsGoneBehindABox(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	ca := newIssuer(t, "vanished")
	cert, key := writePair(t, t.TempDir(), "server", ca.issue("127.0.0.1", "127.0.0.1"))
	plain := startCulvert(t, b.address, culvertOptions{})
	secure := startCulvert(t, b.address, culvertOptions{args: []string{"--tls-cert", cert, "--tls-key", key}})
	plainPath, securePath := newPath(t, plain.address), newPath(t, secure.address)
	var calls []*call
	for _, transport := range []wire.Transport{wire.GRPC, wire.WebSocket, wire.Tunnel} {
		script := probe.Script{Replies: 100, ReplyBytes: 100, ReplyEvery: 5000}
		calls = append(calls, post(t, dial(t, transport, plainPath.ln.Addr().String()), wire.ServerStream, script))
		calls = append(calls, post(t, dialTLS(t, transport, securePath.ln.Addr().String(), ca.trusting()), wire.ServerStream, script))
	}
	finishing(calls) // their clients read until then
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	plainPath.still.Lock()
	securePath.still.Lock()
	began := time.Now()
	defer plainPath.still.Unlock()
	defer securePath.still.Unlock()
	for i, call := range calls {
		r := b.record(t, call.id, probe.Cancelled, 100*time.Second)
		if after := r.Cancelled.Sub(began); after < 20*time.Second {
			t.Errorf("%s (TLS %v): given up after %v, want 45 s after it was last heard", call.conn.Transport, i%2 == 1, after)
		}
	}
	for _, call := range calls {
		call.conn.Reset() // nobody would answer a goodbye
	}
}

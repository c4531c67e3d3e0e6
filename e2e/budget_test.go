package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// 1,000 calls that stall inside a message of 16 MiB, with twice of what
// limits.buffered_bytes allows sent, hold no more than that together, and let
// others through.
func TestStalledLargeMessagesStayWithinTheBudget(t *testing.T) {
	const calls, limit, each = 1000, 256 * mib, 512 * kib
	b := startBackend(t, backendOptions{})
	transports := []wire.Transport{wire.GRPC, wire.Web, wire.WebSocket}
	perTransport(t, transports, func(t *testing.T, transport wire.Transport) {
		c := startCulvert(t, b.address, culvertOptions{})
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		before, descriptors := c.rss(t), c.descriptors(t)
		c.resetPeak(t)

		var conns []*wire.Conn
		var sent atomic.Int64
		var work sync.WaitGroup
		for i := range calls {
			if i%100 == 0 || !transport.Multiplexed() {
				conns = append(conns, dial(t, transport, c.address))
			}
			call := open(t, conns[len(conns)-1], wire.ClientStream, probe.Script{})
			work.Go(func() { // ends when its connection does
				chunk := probe.Payload(0, 32*kib)
				if call.Write(wire.Prefix(16*mib)) != nil {
					return
				}
				for range each / len(chunk) {
					if call.Write(chunk) != nil {
						return
					}
					sent.Add(int64(len(chunk)))
				}
			})
		}
		stalled := settled(t, sent.Load)
		grown := c.peak(t) - before
		t.Logf("%d MiB were sent, culvert grew by %d MiB", stalled/mib, grown/mib)
		if grown > limit {
			t.Errorf("culvert grew by %d MiB, want up to %d", grown/mib, limit/mib)
		}
		// What is left for others is little, but never nothing.
		if err := works(t, transport, c.address, 20*time.Second); err != nil {
			t.Errorf("an ordinary call meanwhile: %v", err)
		}

		for _, conn := range conns {
			conn.Reset()
		}
		work.Wait()
		b.idle(t, 45*time.Second)
		if err := eventually(patience, func() error {
			if n := c.descriptors(t); n > descriptors+8 {
				return fmt.Errorf("%d file descriptors are open, %d were", n, descriptors)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		// The budget is whole again: the largest message passes.
		conn := dial(t, transport, c.address)
		call := open(t, conn, wire.ClientStream, probe.Script{})
		if err := call.Send(wire.Request(0, 16*mib-64)); err != nil {
			t.Error(err)
		}
		if err := call.CloseSend(); err != nil {
			t.Error(err)
		}
		if e := finish(call, 0); e.status == nil || e.status.Code != 0 {
			t.Errorf("a message of 16 MiB afterwards: %v", e)
		}
	})
}

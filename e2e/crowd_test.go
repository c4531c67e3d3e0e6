package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// crowd has n streams opened, each on a connection of its own, and returns what
// closes them.
func crowd(t *testing.T, address string, n int) (leave func()) {
	t.Helper()
	calls := make([]*call, n)
	inParallel(64, n, func(i int) {
		conn, err := wire.Dial(t.Context(), wire.WebSocket, address)
		if err != nil {
			t.Errorf("stream %d: %v", i, err)
			return
		}
		conn.SetDeadline(time.Now().Add(2 * time.Minute))
		id := fmt.Sprintf("%s/%d", t.Name(), i)
		c, err := conn.Open(t.Context(), wire.Bidi, wire.Metadata(id, probe.Script{Echo: true}))
		if err == nil {
			calls[i] = &call{c, id, conn}
			err = c.Send(wire.Request(0, kib))
		}
		if err == nil {
			_, err = wire.RecvReply(c, 0)
		}
		if err != nil {
			t.Errorf("stream %d: %v", i, err)
		}
	})
	return func() {
		inParallel(64, n, func(i int) {
			if calls[i] != nil {
				calls[i].conn.Close()
			}
		})
	}
}

// A crowd's memory goes back to the system soon after the crowd has gone, and not
// only when Go collects garbage for the next time.
func TestMemoryComesBackAfterACrowd(t *testing.T) {
	const streams, patience, most = 6000, 20 * time.Second, 36 * mib
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	warm(t, c)
	before := c.rss(t)
	leave := crowd(t, c.address, streams)
	if t.Failed() {
		t.FailNow()
	}
	full := c.rss(t)
	leave()
	b.idle(t, attackTime)
	gone, used := time.Now(), c.processor(t)
	if err := eventually(patience, func() error {
		if grown := c.rss(t) - before; grown > most {
			return fmt.Errorf("culvert is larger than before by %d MiB, want up to %d", grown/mib, most/mib)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	t.Logf("culvert has %d MiB at first, %d with %d streams, and %d %v after them, with %v of CPU time",
		before/mib, full/mib, streams, c.rss(t)/mib, time.Since(gone).Round(time.Second), c.processor(t)-used)
}

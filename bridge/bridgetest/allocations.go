package bridgetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge"
)

// Allocations returns how many allocations a unary call takes over each transport, by the
// transport's name: those of the client, of culvert and of the backend together, since they
// share the process. The client of HTTP/1.1 and of WebSockets has a connection for each call.
// Nothing else may run beside it.
func Allocations(t *testing.T) map[string]int {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection would empty the pools
	all := make(map[string]int)
	for _, tr := range transports {
		if tr.only&leavesOpen != 0 { // its call doesn't end
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		all[tr.name] = (&trial{T: t, transport: tr, ctx: ctx, label: newLabel()}).allocations()
		cancel()
		runtime.GC()
	}
	return all
}

func (t *trial) allocations() int {
	defer t.end()
	t.serve(answerLast, func(c *bridge.Config) { c.Observer, c.Logger = nil, nil })
	const warm, rounds, calls = 30, 4, 40
	do := func() {
		t.wantOK(t.unary(call{}, hello), hello)
		<-t.nextCall().ended
		for t.server.RunningCalls() > 0 {
			runtime.Gosched()
		}
	}
	for range warm {
		do()
	}
	least := uint64(math.MaxUint64)
	var before, after runtime.MemStats
	for range rounds {
		runtime.ReadMemStats(&before)
		for range calls {
			do()
		}
		runtime.ReadMemStats(&after)
		least = min(least, (after.Mallocs-before.Mallocs)/calls)
	}
	return int(least)
}

// answerLast echoes a call's only message, behind the half-close. A reply before that would
// spare culvert a part of its work, in some calls and not in others.
func answerLast(c *backendCall) error {
	m, err := c.recv()
	if err != nil {
		return err
	}
	if _, err := c.recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("behind the only message comes %w", err)
	}
	return c.send(m)
}

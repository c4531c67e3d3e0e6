package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"google.golang.org/grpc"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestRestartsFailNoCallOfKeptConnections replaces culvert twice on sockets that a holder
// keeps, while grpc-go clients call without a pause, each on one connection or tunnel. None of the
// calls fails: the clients hear of the drain in time, and new connections get to the next
// culvert.
func TestRestartsFailNoCallOfKeptConnections(t *testing.T) {
	const clients, callers = 8, 4 // of each client, at once
	b := startBackend(t, backendOptions{})
	var h holder
	address := h.hold(t, "public", "tcp", "127.0.0.1:0")
	h.hold(t, "health", "tcp", "127.0.0.1:0")
	config := "listen:\n- {name: public, address: '" + address + "'}\n"
	old := h.generation(t, b.address, config)

	var answered [clients]atomic.Int64
	var dials atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	var calling sync.WaitGroup
	defer func() {
		stop()
		calling.Wait()
	}()
	for i := range clients {
		dial := func(ctx context.Context, address string) (net.Conn, error) {
			dials.Add(1)
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
			if err != nil || i%2 == 0 {
				return conn, err
			}
			return wire.DialTunnel(ctx, conn)
		}
		cc := grpcClient(t, address, grpc.WithContextDialer(dial))
		for range callers {
			calling.Go(func() {
				for ctx.Err() == nil {
					in := new(e2epb.Request)
					if err := cc.Invoke(ctx, wire.Unary, in, new(e2epb.Reply)); err == nil {
						answered[i].Add(1)
					} else if !errors.Is(ctx.Err(), context.Canceled) {
						t.Errorf("client %d: %v", i, err)
					}
				}
			})
		}
	}
	more := func() {
		t.Helper()
		var before [clients]int64
		for i := range answered {
			before[i] = answered[i].Load()
		}
		if err := eventually(patience, func() error {
			for i := range answered {
				if n := answered[i].Load() - before[i]; n < 100 {
					return fmt.Errorf("%d calls of the client %d were answered", n, i)
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	for generation := range int64(3) {
		more()
		if n := dials.Load(); n != clients*(generation+1) {
			t.Errorf("%d clients have made %d connections to %d culverts, want one to each", clients, n, generation+1)
		}
		next := h.generation(t, b.address, config)
		old.signal(t, syscall.SIGTERM)
		if code := old.wait(t, patience); code != 0 { // the clients call all the time
			t.Errorf("exit code %d, want 0", code)
		}
		old = next
	}
	more()
	t.Logf("%d calls were answered by the first client", answered[0].Load())
}

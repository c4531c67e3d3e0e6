package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A churning backend has real servers on addresses of loopback that come and go.
type churning struct {
	t       testing.TB
	servers []*grpc.Server
	serving []*sync.WaitGroup
	where   []string
}

func newChurning(t testing.TB, net, n int) (*churning, report.Backend) {
	c := &churning{t: t, servers: make([]*grpc.Server, n), serving: make([]*sync.WaitGroup, n), where: make([]string, n)}
	for i := range n {
		c.where[i] = fmt.Sprintf("127.0.%d.%d:0", net, i+1)
		c.start(i)
	}
	t.Cleanup(func() {
		for i := range n {
			c.stop(i, (*grpc.Server).Stop)
		}
	})
	return c, severalAt(t, c.where...)
}

// start begins to serve, and stop ends it.
func (c *churning) start(i int) {
	ln := listen(c.t, c.where[i])
	c.where[i] = ln.Addr().String()
	gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.WaitForHandlers(true),
		grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error { return echo(ss) }))
	c.servers[i], c.serving[i] = gs, new(sync.WaitGroup)
	c.serving[i].Go(func() { _ = gs.Serve(ln) }) // it always returns the error of a stopped server
}

func (c *churning) stop(i int, how func(*grpc.Server)) {
	how(c.servers[i])
	c.serving[i].Wait()
}

// TestAddressesThatComeAndGo: one server after the other is stopped and started again
// while calls run. A call that a server may have seen ends if the server is cut off,
// and no other one does.
func TestAddressesThatComeAndGo(t *testing.T) {
	const (
		callers = 16
		rounds  = 3
	)
	net := 0 // each test has its own: a port that is free for a while isn't taken by another
	for _, how := range []struct {
		what string
		stop func(*grpc.Server)
		cuts bool // calls that run end
	}{{"drain", (*grpc.Server).GracefulStop, false}, {"cut", (*grpc.Server).Stop, true}} {
		for _, balance := range balances {
			t.Run(how.what+" "+balance, func(t *testing.T) {
				net++
				c, b := newChurning(t, net, 3)
				t.Parallel()
				b.Balance = balance
				u := upstreamTo(t, b)
				var calls atomic.Int64
				stop := make(chan struct{})
				var running sync.WaitGroup
				defer running.Wait()
				defer close(stop)
				for i := range callers {
					running.Go(func() {
						big := parts.Pattern(20 << 10 * (i % 2)) // more than grpc-go keeps for a second attempt
						for {
							select {
							case <-stop:
								return
							default:
							}
							calls.Add(1)
							err := echoOnce(t.Context(), u, big)
							var f *report.Fault
							switch {
							case err == nil:
							case !errors.As(err, &f):
								t.Errorf("a call ended with %v", err)
							case !how.cuts || f.Sent != "maybe":
								t.Errorf("a call of %d bytes ended with %s, sent %q: %v (%v)", len(big), f.Reason, f.Sent, f, f.Cause)
							}
						}
					})
				}
				for round := range rounds {
					before := calls.Load()
					c.stop(round%3, how.stop)
					poll(t, func() string {
						if calls.Load() < before+200 {
							return "the other servers take no calls"
						}
						return ""
					})
					c.start(round % 3)
					poll(t, func() string {
						if addresses := u.pool.State().Addresses; !addresses[round%3].Accepts {
							return "there is no connection to the server that is back"
						}
						return ""
					})
				}
			})
		}
	}
}

// echoOnce is a call of one message, which must come back.
func echoOnce(ctx context.Context, u *Upstream, message []byte) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errFinished)
	stream, err := openWith(ctx, u, cancel, Request{Method: testMethod})
	if err != nil {
		return err
	}
	if err := stream.Send(mem.BufferSlice{mem.SliceBuffer(message)}); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	stream.CloseSend()
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if m.Len() != len(message) {
			return fmt.Errorf("%d bytes came back of %d", m.Len(), len(message))
		}
		m.Free()
	}
}

// TestAddressThatRefuses calls that it was sent: another address takes them, also with
// pick_first, and later calls go there at once.
func TestAddressThatRefuses(t *testing.T) {
	for _, balance := range balances {
		t.Run(balance, func(t *testing.T) {
			refusing := startFrames(t, reset(http2.ErrCodeRefusedStream))
			b := severalAt(t, refusing.address, startBackend(t, echo))
			b.Balance = balance
			u := upstreamTo(t, b)
			poll(t, func() string {
				if a := u.pool.State().Addresses; !a[0].Accepts || !a[1].Accepts {
					return "there is no connection to each address"
				}
				return ""
			})
			for i := range 100 {
				if err := echoOnce(within(t, patience), u, []byte("hello")); err != nil {
					t.Fatalf("call %d: %v", i, err)
				}
			}
		})
	}
}

// TestBackendThatRefusesAll is called as before: the next call may be taken.
func TestBackendThatRefusesAll(t *testing.T) {
	var refused atomic.Int64
	refusing := startFrames(t, func(c *frameConn, id uint32) {
		if refused.Add(1) <= 10 {
			reset(http2.ErrCodeRefusedStream)(c, id)
			return
		}
		c.ok(id)
		c.end(id, "grpc-status", "0")
	})
	u := upstreamTo(t, report.Backend{Target: refusing.address})
	for range 5 { // each is tried twice
		if e := callUpstream(within(t, patience), t, u, nil); e.reason != report.ReasonUpstreamReset {
			t.Errorf("got %v for %s, want %s", e.status, e.reason, report.ReasonUpstreamReset)
		}
	}
	if e := callUpstream(within(t, patience), t, u, nil); e.status.Code() != codes.OK {
		t.Errorf("got %v for %s", e.status, e.reason)
	}
}

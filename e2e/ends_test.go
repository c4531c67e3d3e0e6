package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/relay"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// every opens calls of several kinds over every transport: one that waits, one
// that is sent to, one that sends, one that converses. All go on for ever.
func every(t testing.TB, address string) []*call {
	t.Helper()
	var calls []*call
	for _, transport := range wire.All {
		conn := dial(t, transport, address)
		next := func() *wire.Conn {
			if !transport.Multiplexed() {
				conn = dial(t, transport, address)
			}
			return conn
		}
		calls = append(calls,
			post(t, next(), wire.ServerStream, probe.Script{Hang: true}),
			post(t, next(), wire.ServerStream, probe.Script{HeaderEarly: true, Hang: true}),
			post(t, next(), wire.ServerStream, probe.Script{Replies: 1 << 30, ReplyBytes: kib, ReplyEvery: 50}),
			post(t, next(), wire.Unary, probe.Script{Hang: true}),
			open(t, next(), wire.ClientStream, probe.Script{}),
			open(t, next(), wire.Bidi, probe.Script{Echo: true}))
	}
	return calls
}

// await waits for what comes from a channel, but not for ever.
func await[T any](t testing.TB, from <-chan T, patience time.Duration, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
		panic("unreachable")
	}
}

// name says which call it is that a test complains of.
func (c *call) name(b *backend, t testing.TB) string {
	r, _ := b.saw(t, c.id)
	return fmt.Sprintf("%s %s (%s)", c.conn.Transport, r.Method, c.id)
}

// servedAgain bounds the time until calls work after the backend's return: an attempt to
// connect each second, on a busy machine. grpc-go's own pauses become two minutes long.
const servedAgain = 20 * time.Second

// A backend that is killed ends all its calls with UNAVAILABLE, before culvert would ask
// for a sign of life, and calls work soon after its return, also after a pause that has
// let every back-off grow.
func TestKilledBackend(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{listen: "127.0.0.31:0"}) // nobody else listens there while it is away
	c := startCulvert(t, b.address, culvertOptions{})
	calls := every(t, c.address)
	names := make([]string, len(calls))
	for i, call := range calls {
		b.record(t, call.id, probe.Began, patience)
		names[i] = call.name(b, t)
	}
	ends := finishing(calls)
	began := time.Now()
	b.kill(t)
	for i, e := range await(t, ends, patience, "the calls' ends") {
		if !e.is(codes.Unavailable, "UPSTREAM_RESET") {
			t.Errorf("%s: %v, want UNAVAILABLE with UPSTREAM_RESET", names[i], e)
		} else if sent := wire.Info(e.status.Details).GetMetadata()["sent"]; sent != "maybe" {
			t.Errorf("%s: sent=%q, want maybe", names[i], sent)
		}
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("the last call ended %v after the backend, want at once", took)
	}

	// While it is away, calls are refused soon, and told that they were not sent.
	away := time.After(6 * time.Second)
	pace := time.NewTicker(500 * time.Millisecond)
	defer pace.Stop()
	for waiting := true; waiting; {
		select {
		case <-away:
			waiting = false
		case <-pace.C:
			began := time.Now()
			e := finish(post(t, dial(t, wire.Web, c.address), wire.Unary, probe.Script{}), 0)
			if !e.is(codes.Unavailable, "UPSTREAM_UNREACHABLE") {
				t.Errorf("a call without a backend: %v, want UNAVAILABLE with UPSTREAM_UNREACHABLE", e)
			} else if sent := wire.Info(e.status.Details).GetMetadata()["sent"]; sent != "no" {
				t.Errorf("a call without a backend: sent=%q, want no", sent)
			}
			if took := time.Since(began); took > cutIsSeen {
				t.Errorf("a call without a backend took %v", took)
			}
		}
	}
	b.restart(t)
	began = time.Now()
	for _, transport := range wire.All {
		if err := eventually(servedAgain-time.Since(began), func() error {
			return works(t, transport, c.address, 20*time.Second)
		}); err != nil {
			t.Errorf("%s, after the backend's return: %v", transport, err)
		}
	}
	t.Logf("calls worked %v after the backend's return", time.Since(began).Round(time.Millisecond))
}

// culvert starts without its backend and needs no restart when that comes.
func TestBackendThatComesLater(t *testing.T) {
	b := startBackend(t, backendOptions{})
	b.kill(t)
	c := startCulvert(t, b.address, culvertOptions{})
	for _, transport := range wire.All {
		conn := dial(t, transport, c.address)
		if e := finish(post(t, conn, wire.Unary, probe.Script{}), 0); !e.is(codes.Unavailable, "UPSTREAM_UNREACHABLE") {
			t.Errorf("%s: %v, want UNAVAILABLE with UPSTREAM_UNREACHABLE", transport, e)
		}
	}
	b.restart(t)
	if err := eventually(patience, func() error { return works(t, wire.Web, c.address, 20*time.Second) }); err != nil {
		t.Errorf("after the backend came: %v", err)
	}
}

// A stopped process's kernel goes on acknowledging. Deadlines end calls in time.
// The others end within 30 s of something being sent to it, because it answers
// no ping. Calls work again, on a new connection, once the process goes on.
func TestStoppedBackend(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	calls := every(t, c.address)
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	b.signal(t, syscall.SIGSTOP)
	for _, transport := range wire.All {
		calls = append(calls, post(t, dial(t, transport, c.address), wire.Unary, probe.Script{}))
	}
	ends := finishing(calls)

	for _, transport := range wire.All {
		md := wire.Metadata(newID(t), probe.Script{})
		md["grpc-timeout"] = []string{"1500m"}
		began := time.Now()
		call, err := dial(t, transport, c.address).Post(context.Background(), wire.Unary, md, wire.Request(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		e := finish(call, 0)
		if took := time.Since(began); e.status == nil || e.status.Code != codes.DeadlineExceeded || took > 15*time.Second { // the silence ends calls after 20 s
			t.Errorf("%s: a call with a deadline of 1.5 s: %v after %v", transport, e, took)
		}
		call.Close()
	}

	longest := time.Duration(0)
	for i, e := range await(t, ends, patience, "the calls' ends") {
		longest = max(longest, e.after)
		if !e.is(codes.Unavailable, "UPSTREAM_SILENT") || e.after > 30*time.Second {
			t.Errorf("%s: %v after %v, want UNAVAILABLE with UPSTREAM_SILENT within 30 s", calls[i].conn.Transport, e, e.after)
		}
	}
	t.Logf("the last call ended after %v", longest.Round(100*time.Millisecond))
	b.signal(t, syscall.SIGCONT)
	if err := eventually(patience, func() error { return works(t, wire.GRPC, c.address, 20*time.Second) }); err != nil {
		t.Errorf("after the backend went on: %v", err)
	}
}

// A stopped backend that nothing is sent to is noticed with backend.keepalive.
func TestStoppedBackendWithKeepalive(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{config: "backend:\n  keepalive: 10s\n"})
	calls := every(t, c.address)
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	ends := finishing(calls)
	b.signal(t, syscall.SIGSTOP)
	for i, e := range await(t, ends, patience, "the ends of the calls with keepalive") {
		if !e.is(codes.Unavailable, "UPSTREAM_SILENT") || e.after > 30*time.Second {
			t.Errorf("%s with keepalive: %v after %v, want UNAVAILABLE with UPSTREAM_SILENT within 30 s", calls[i].conn.Transport, e, e.after)
		}
	}
	b.signal(t, syscall.SIGCONT)
	if err := eventually(patience, func() error { return works(t, wire.GRPC, c.address, 20*time.Second) }); err != nil {
		t.Errorf("after the backend went on: %v", err)
	}
}

// Streams on which nothing happens make culvert ask a stock backend whether it
// is there. That costs no stream and no connection.
func TestQuietStreamsOnAStockBackend(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	var connections atomic.Int64
	between, err := relay.New(b.address, func(int) relay.Fate {
		connections.Add(1)
		return relay.Fate{}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(between.Close)
	c := startCulvert(t, between.Addr(), culvertOptions{})
	conn := dial(t, wire.GRPC, c.address)
	var calls []*call
	every := time.NewTicker(13 * time.Second) // a header that nothing answers for more than 10 s
	defer every.Stop()
	for range 6 {
		call := open(t, conn, wire.Bidi, probe.Script{Echo: true})
		b.record(t, call.id, probe.Began, patience)
		calls = append(calls, call)
		<-every.C
	}
	for _, call := range calls {
		if err := call.Send(wire.Request(0, 16)); err != nil {
			t.Fatal(err)
		}
		if _, err := wire.RecvReply(call, 0); err != nil {
			t.Errorf("a quiet stream afterwards: %v, %v", err, call.Status())
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("culvert made %d connections, want one that lasts", n)
	}
}

// A client that goes with a FIN or RST ends its calls at the backend within five
// seconds while culvert reads from it.
func TestClientThatGoes(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	for _, reset := range []bool{false, true} {
		t.Run(map[bool]string{false: "FIN", true: "RST"}[reset], func(t *testing.T) {
			calls := every(t, c.address)
			for _, call := range calls {
				b.record(t, call.id, probe.Began, patience)
			}
			for _, call := range calls {
				if reset {
					_ = call.conn.TCP.SetLinger(0) // closed already if it carries several calls
				}
				_ = call.conn.TCP.Close()
			}
			wantCancelled(t, b, calls, time.Now(), 5*time.Second)
		})
	}
}

// A client that goes while culvert holds it back, because its backend reads
// nothing or because it read nothing itself, is noticed within 45 seconds.
func TestClientThatGoesWhileItIsHeldBack(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	calls := heldBack(t, b, c.address)
	for i, call := range calls {
		if i%2 == 0 {
			_ = call.conn.TCP.SetLinger(0) // open
		}
		_ = call.conn.TCP.Close()
	}
	wantCancelled(t, b, calls, time.Now(), 45*time.Second)
}

// heldBack opens calls over every transport that culvert doesn't read from, two of
// each kind: uploads to a backend that reads nothing, and downloads that the client
// doesn't read.
func heldBack(t *testing.T, b *backend, address string) []*call {
	t.Helper()
	var calls []*call
	for _, transport := range wire.All {
		for range 2 {
			up := open(t, dial(t, transport, address), wire.Bidi, probe.Script{Read: probe.ReadNone, Hang: true})
			go func() { // ends with the connection
				for i := uint64(0); up.Send(wire.Request(i, 64*kib)) == nil; i++ {
				}
			}()
			calls = append(calls, up,
				post(t, dial(t, transport, address), wire.ServerStream, probe.Script{Replies: 1 << 30, ReplyBytes: 64 * kib}))
		}
	}
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	settled(t, func() int64 {
		var n int64
		for _, call := range calls {
			r, _ := b.saw(t, call.id)
			n += r.Sent
		}
		return n
	})
	return calls
}

// wantCancelled wants every call cancelled at the backend within so long.
func wantCancelled(t *testing.T, b *backend, calls []*call, began time.Time, within time.Duration) {
	t.Helper()
	var work sync.WaitGroup
	var slowest atomic.Int64
	for _, call := range calls {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Until(began.Add(within+5*time.Second)))
			defer cancel()
			r, err := b.control.Wait(ctx, call.id, probe.Cancelled)
			ended := r.Cancelled
			if ended.IsZero() && r.Code != codes.OK.String() {
				ended = r.Ended // what it was doing failed at the same moment
			}
			after := ended.Sub(began)
			if err != nil || ended.IsZero() || after > within {
				r, _ = b.saw(t, call.id)
				t.Errorf("%s %s: not cancelled within %v (but after %v; %v); the backend has read %d, sent %d", call.conn.Transport, r.Method, within, after, err, r.Received, r.Sent)
				return
			}
			if r.HalfClosed {
				t.Errorf("%s %s: the cut reached the backend as a half-close", call.conn.Transport, call.id)
			}
			for seen := slowest.Load(); int64(after) > seen && !slowest.CompareAndSwap(seen, int64(after)); seen = slowest.Load() {
			}
		})
	}
	work.Wait()
	t.Logf("%d calls were cancelled, the last after %v", len(calls), time.Duration(slowest.Load()).Round(time.Millisecond))
}

// One call that nobody reads never stops the others on its connection: neither
// uploads that the backend doesn't read nor downloads that the client doesn't.
func TestUnreadCallsLeaveTheirConnectionAlone(t *testing.T) {
	const unread = 49 // of each kind; one connection carries 100 calls
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	for _, transport := range wire.All {
		if !transport.Multiplexed() {
			continue
		}
		t.Run(strings.ReplaceAll(string(transport), " ", "_"), func(t *testing.T) {
			conn := dial(t, transport, c.address)
			var writers sync.WaitGroup
			var calls []*call
			for range unread {
				up := open(t, conn, wire.Bidi, probe.Script{Read: probe.ReadNone, Hang: true})
				writers.Go(func() { // ends with the call
					for i := uint64(0); up.Send(wire.Request(i, 64*kib)) == nil; i++ {
					}
				})
				down := post(t, conn, wire.ServerStream, probe.Script{Replies: 1 << 30, ReplyBytes: 64 * kib})
				calls = append(calls, up, down)
			}
			settled(t, func() int64 { return b.sent(t) })
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for range 20 {
				if err := unary(ctx, conn, newID(t)); err != nil {
					t.Fatalf("a call on the same connection: %v", err)
				}
			}
			big := open(t, conn, wire.Bidi, probe.Script{Echo: true})
			for i := range uint64(32) {
				if err := big.Send(wire.Request(i, 256*kib)); err != nil {
					t.Fatal(err)
				}
				if _, err := wire.RecvReply(big, i); err != nil {
					t.Fatalf("a large conversation on the same connection: %v", err)
				}
			}
			big.Close()
			for _, call := range calls {
				call.Close()
			}
			writers.Wait()
			b.idle(t, cutIsSeen)
		})
	}

	// The same with grpc-go, whose windows are its own.
	for name, cc := range map[string]*grpc.ClientConn{
		"grpc-go h2c":  grpcClient(t, c.address),
		"grpc-go h2ts": grpcClient(t, "culvert", throughTunnel(c.address)),
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			for range 2 * unread {
				s := scenario{method: "ServerStream", script: probe.Script{Replies: 1 << 30, ReplyBytes: 64 * kib}, requests: []jobRequest{{}}}
				j := s.job(t, name)
				stream, err := cc.NewStream(withMetadata(ctx, j), &grpc.StreamDesc{ServerStreams: true}, wire.ServerStream)
				if err != nil {
					t.Fatal(err)
				}
				if err := stream.SendMsg(j.request(0)); err != nil {
					t.Fatal(err)
				}
				if err := stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
			}
			settled(t, func() int64 { return b.sent(t) })
			for range 20 {
				j := scenarios[0].job(t, name)
				if o := runGRPC(cc, j); o.Code != 0 || o.Millis > 5000 {
					t.Fatalf("a call on the same connection: %v %s after %d ms", o.Code, o.Message, o.Millis)
				}
			}
			cancel()
			b.idle(t, cutIsSeen)
		})
	}
}

// A cancelled call is cancelled at the backend within a round trip, on every
// transport, and costs its connection nothing.
func TestCancelReachesTheBackendAtOnce(t *testing.T) {
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	calls := every(t, c.address)
	for _, call := range calls {
		b.record(t, call.id, probe.Began, patience)
	}
	for _, call := range calls {
		began := time.Now()
		closed := make(chan struct{})
		go func() { call.Close(); close(closed) }() // a WebSocket's waits for the answer
		r := b.record(t, call.id, probe.Cancelled, cutIsSeen)
		if after := r.Cancelled.Sub(began); r.Cancelled.IsZero() || after > cutIsSeen {
			t.Errorf("%s: cancelled after %v (%+v)", call.name(b, t), after, r)
		}
		await(t, closed, patience, "the end of Close")
	}
	b.idle(t, cutIsSeen)
	for _, call := range calls {
		if call.conn.Transport.Multiplexed() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if err := unary(ctx, call.conn, newID(t)); err != nil {
				t.Errorf("%s: a call on the connection of a cancelled one: %v", call.conn.Transport, err)
			}
			cancel()
		}
	}
}

// A grpc-go client sees what culvert says of a backend that is away as what it is.
func TestStatusOfCulvertInGRPCGo(t *testing.T) {
	b := startBackend(t, backendOptions{})
	b.kill(t)
	c := startCulvert(t, b.address, culvertOptions{})
	for name, cc := range map[string]*grpc.ClientConn{
		"h2c":  grpcClient(t, c.address),
		"h2ts": grpcClient(t, "culvert", throughTunnel(c.address)),
	} {
		j := scenarios[0].job(t, name)
		err := cc.Invoke(withMetadata(context.Background(), j), wire.Unary, j.request(0), j.request(0))
		st := status.Convert(err)
		if st.Code() != codes.Unavailable || wire.Info(st.Proto()).GetReason() != "UPSTREAM_UNREACHABLE" {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(st.Message(), b.address) || strings.Contains(st.Message(), "refused") {
			t.Errorf("%s: the message tells the inside: %q", name, st.Message())
		}
	}
}

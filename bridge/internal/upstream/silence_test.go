package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/rules"
)

// TestSilentBackendEndsItsCalls: a backend that reads and answers nothing, and
// later calls go elsewhere.
func TestSilentBackendEndsItsCalls(t *testing.T) {
	for _, keepalive := range []time.Duration{0, 10 * time.Second, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			silent, living := parts.ListenPipe(t), parts.ListenPipe(t)
			var pings atomic.Int64
			var serving sync.WaitGroup
			serving.Go(func() { countPings(silent, &pings) })
			t.Cleanup(func() { // after the upstream's connections are closed
				_ = silent.Close() // nobody dials any more
				serving.Wait()
			})
			serveBackend(t, living, echo)
			b := inBubble(living)
			b.Keepalive = keepalive
			var dialled atomic.Int64
			b.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
				if dialled.Add(1) == 1 {
					return silent.DialContext(ctx)
				}
				return living.DialContext(ctx)
			}
			u := upstreamTo(t, b)
			start := time.Now()
			e := callUpstream(t.Context(), t, u, nil)
			if got, want := time.Since(start), silencePatience+rules.PingTimeout; got != want || e.reason != report.ReasonUpstreamSilent || e.status.Code() != codes.Unavailable {
				t.Errorf("with keep-alive %v the call ended after %v with %v (%s), want %s after %v", keepalive, got, e.status, e.cause, report.ReasonUpstreamSilent, want)
			}
			if got := u.state("").LostPings; got != 1 {
				t.Errorf("with keep-alive %v %d connections count as lost, want 1", keepalive, got)
			}
			if e := callUpstream(t.Context(), t, u, nil); e.status.Code() != codes.OK {
				t.Errorf("the next call: %v (%s)", e.status, e.cause)
			}
		})
	}
}

// TestSilenceBesideKeepalive: a backend that hangs once it has answered ends its calls as
// without backend.keepalive, long before the PING for that is due.
func TestSilenceBesideKeepalive(t *testing.T) {
	for _, keepalive := range []time.Duration{0, 5 * time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ln := parts.ListenPipe(t)
			serveBackend(t, ln, echo)
			var hangs atomic.Bool
			b := inBubble(ln)
			b.Keepalive = keepalive
			b.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
				conn, err := ln.DialContext(ctx)
				return &hangingConn{conn, &hangs}, err
			}
			call, err := openCall(t.Context(), upstreamTo(t, b), Request{Method: testMethod})
			if err != nil {
				t.Fatal(err)
			}
			send := func() {
				if err := call.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); err != nil {
					t.Error(err)
				}
			}
			send()
			m, err := call.Recv()
			if err != nil {
				t.Fatal(err)
			}
			m.Free()
			elapse(20 * time.Second) // what was sent so far is forgotten
			hangs.Store(true)
			start := time.Now()
			send()
			_, err = call.Recv()
			if got, want := time.Since(start), silencePatience+rules.PingTimeout; got != want || judge(err).reason != report.ReasonUpstreamSilent {
				t.Errorf("with keep-alive %v the call ended after %v with %v, want %s after %v", keepalive, got, err, report.ReasonUpstreamSilent, want)
			}
		})
	}
}

// A hangingConn loses what is written while the backend hangs.
type hangingConn struct {
	net.Conn
	hangs *atomic.Bool
}

func (c *hangingConn) Write(p []byte) (int, error) {
	if c.hangs.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// TestStockServerToleratesPings: grpc-go's server, as it is without options,
// never answers GOAWAY, whatever its calls do or don't for hours.
func TestStockServerToleratesPings(t *testing.T) {
	const hours = 4 * time.Hour
	for name, c := range map[string]struct {
		every  time.Duration // a message from the client
		answer int           // each how many-th is answered; 0: none
	}{
		"a quiet stream":                  {hours, 0},
		"messages that nobody answers":    {15 * time.Second, 0},
		"messages of which few":           {31 * time.Second, 9},
		"messages that are answered late": {61 * time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testStockServer(t, hours, c.every, c.answer) })
		})
	}
}

func testStockServer(t *testing.T, hours, every time.Duration, answer int) {
	t.Helper()
	ln := parts.ListenPipe(t)
	serveBackend(t, ln, func(ss grpc.ServerStream) error {
		for n := 1; ; n++ {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return nil // the half-close
			}
			if answer > 0 && n%answer == 0 {
				if err := ss.SendMsg(m); err != nil {
					return err
				}
			}
		}
	}, grpc.InitialWindowSize(1<<20), grpc.InitialConnWindowSize(1<<20)) // without, its own pings would answer each message
	var dialled, pings atomic.Int64
	b := inBubble(ln)
	b.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
		dialled.Add(1)
		conn, err := ln.DialContext(ctx)
		return &pingCounter{Conn: conn, pings: &pings}, err
	}
	u := upstreamTo(t, b)
	call, err := openCall(t.Context(), u, Request{Method: testMethod})
	if err != nil {
		t.Fatal(err)
	}
	var receiving sync.WaitGroup
	receiving.Go(func() {
		for {
			m, err := call.Recv()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Errorf("the call ended after: %v", err)
				return
			}
			m.Free()
		}
	})
	elapse(time.Second) // past the handshake's last frames, which are heard, too
	sent := 0
	for start := time.Now(); time.Since(start) < hours; elapse(every) {
		if err := call.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); err != nil {
			t.Fatalf("after %v: %v", time.Since(start), err)
		}
		sent++
	}
	call.CloseSend()
	receiving.Wait()
	if dialled.Load() != 1 {
		t.Errorf("%d connections, want one that lasts", dialled.Load())
	}
	if pings.Load() == 0 {
		t.Error("no ping was sent: nothing was tested")
	}
	t.Logf("%d messages, %d pings in %v", sent, pings.Load(), hours)
}

// pingCounter counts culvert's pings on their way out.
type pingCounter struct {
	net.Conn
	pings *atomic.Int64
}

func (c *pingCounter) Write(p []byte) (int, error) {
	if bytes.Equal(p, silencePing) {
		c.pings.Add(1)
	}
	return c.Conn.Write(p)
}

// TestSlowBackendIsNotSilent: its transport answers while it computes, also
// with several calls, and the call ends as if nobody had asked.
func TestSlowBackendIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := parts.ListenPipe(t)
		serveBackend(t, ln, func(ss grpc.ServerStream) error {
			<-time.After(2 * time.Hour)
			return echo(ss)
		})
		u := upstreamTo(t, inBubble(ln))
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if e := callUpstream(t.Context(), t, u, nil); e.status.Code() != codes.OK {
					t.Errorf("a call of two hours: %v (%s)", e.status, e.cause)
				}
			})
			elapse(time.Minute)
		}
		calls.Wait()
	})
}

// TestKeepalive: a backend that answered all that was sent ends its calls once it doesn't
// answer the PING of backend.keepalive.
func TestKeepalive(t *testing.T) {
	for keepalive, want := range map[time.Duration]time.Duration{time.Second: wire.MinKeepalive, time.Minute: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			ln := parts.ListenPipe(t)
			var serving sync.WaitGroup
			serving.Go(func() { answerHeaderAlone(ln) })
			t.Cleanup(func() { // after the upstream's connections are closed
				_ = ln.Close() // nobody dials any more
				serving.Wait()
			})
			b := inBubble(ln)
			b.Keepalive = keepalive
			u, start := upstreamTo(t, b), time.Now()
			e := callUpstream(t.Context(), t, u, nil)
			if e.reason != report.ReasonUpstreamSilent || e.cause != "keepalive ping failed to receive ACK within timeout" {
				t.Errorf("got %v, %s (%s); want %s by keepalive", e.status, e.reason, e.cause, report.ReasonUpstreamSilent)
			}
			if got := time.Since(start); got != want+rules.PingTimeout {
				t.Errorf("with keep-alive %v the call ended after %v, want %v", keepalive, got, want+rules.PingTimeout)
			}
			if got := u.state("").LostPings; got != 1 {
				t.Errorf("%d connections count as lost, want 1", got)
			}
		})
	}
}

// answerHeaderAlone serves one connection. It answers a request that has ended
// with a header, and no ping.
func answerHeaderAlone(ln net.Listener) {
	conn, err := ln.Accept()
	if err != nil {
		return
	}
	c := &frameConn{Conn: conn}
	c.framer = http2.NewFramer(&c.out, conn)
	c.hpack = hpack.NewEncoder(&c.block)
	_, _ = io.ReadFull(conn, make([]byte, len(http2.ClientPreface))) // ReadFrame fails then, too
	_ = c.framer.WriteSettings()                                     // to memory
	for c.flush() == nil {
		f, err := c.framer.ReadFrame()
		if err != nil {
			break
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = c.framer.WriteSettingsAck()
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				c.ok(f.StreamID)
			}
		}
	}
	_ = conn.Close() // it is broken
}

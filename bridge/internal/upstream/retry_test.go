package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// A flaky backend notes each attempt, and answers it as the test says.
type flaky struct {
	mu       sync.Mutex
	attempts []time.Time
	previous []string // grpc-previous-rpc-attempts of each
}

func (f *flaky) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.attempts)
}

// startFlaky serves in a bubble. attempt counts from 1.
func startFlaky(t *testing.T, answer func(attempt int, ss grpc.ServerStream) error) (*flaky, *Upstream) {
	t.Helper()
	f := new(flaky)
	ln := parts.ListenPipe(t)
	stop := serveBackend(t, ln, func(ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		f.mu.Lock()
		f.attempts = append(f.attempts, time.Now())
		f.previous = append(f.previous, strings.Join(md["grpc-previous-rpc-attempts"], ","))
		n := len(f.attempts)
		f.mu.Unlock()
		return answer(n, ss)
	})
	t.Cleanup(stop)
	return f, upstreamTo(t, inBubble(ln))
}

// failing fails the first n attempts with the code, after it has read one message.
func failing(n int, code codes.Code) func(int, grpc.ServerStream) error {
	return func(attempt int, ss grpc.ServerStream) error {
		if attempt > n {
			return echo(ss)
		}
		var m []byte
		_ = ss.RecvMsg(&m)
		return status.Error(code, "not now")
	}
}

// retryThrice is what most tests use.
var retryThrice = &report.Retry{Attempts: 3, Codes: []codes.Code{codes.Unavailable}}

// callRetried is a call of one message with an entry that counts it.
func callRetried(ctx context.Context, t *testing.T, u *Upstream, r *report.Retry, message []byte) (e ending) {
	t.Helper()
	account := memory.New(1<<30, 0)
	entry := account.NewEntry()
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		cancel(errFinished)
		synctest.Wait()
		entry.Settle()
		wantUsed(t, account, 0)
	}()
	up, err := openWith(ctx, u, cancel, Request{Method: testMethod, Metadata: metadata.MD{"x-request-id": {"a"}, "x-own": {"b"}}, Held: entry, ID: "a", Retry: r})
	if err != nil {
		return ending{outcome: judge(err)}
	}
	if err := up.Send(mem.BufferSlice{mem.SliceBuffer(message)}); err != nil && !errors.Is(err, io.EOF) {
		t.Errorf("send: %v", err)
	}
	up.CloseSend()
	e.header, e.hasHead = up.Header()
	for {
		m, err := up.Recv()
		if err == nil {
			e.messages = append(e.messages, m.Materialize())
			up.Sent(1, m.Len())
			m.Free()
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		e.outcome, e.trailer = judge(err), up.Trailer()
		return e
	}
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, u := startFlaky(t, failing(2, codes.Unavailable))
		e := callRetried(t.Context(), t, u, retryThrice, []byte("hello"))
		if e.status.Code() != codes.OK || len(e.messages) != 1 || string(e.messages[0]) != "hello" {
			t.Errorf("got %v and %q", e.status, e.messages)
		}
		if got := u.state("").Retries; got != (report.Retries{ByPolicy: 2}) {
			t.Errorf("counted %+v, want 2 retries", got)
		}
		if want := []string{"", "1", "2"}; !slices.Equal(f.previous, want) {
			t.Errorf("grpc-previous-rpc-attempts %q, want %q", f.previous, want)
		}
		for i, first := range []time.Duration{defaultBackoff, 2 * defaultBackoff} {
			if got := f.attempts[i+1].Sub(f.attempts[i]); got < first*8/10 || got > first*12/10 {
				t.Errorf("the pause after attempt %d is %v, want %v ±20 %%", i+1, got, first)
			}
		}
	})
}

// TestNoRetry: the backend's own status reaches the client, after the first attempt or
// the last one that is allowed.
func TestNoRetry(t *testing.T) {
	for _, c := range []struct {
		what   string
		answer func(int, grpc.ServerStream) error
		retry  *report.Retry
		bytes  int
		want   int // attempts
		code   codes.Code
	}{
		{"no policy", failing(9, codes.Unavailable), nil, 5, 1, codes.Unavailable},
		{"one attempt", failing(9, codes.Unavailable), &report.Retry{Attempts: 1, Codes: retryThrice.Codes}, 5, 1, codes.Unavailable},
		{"another code", failing(9, codes.Internal), retryThrice, 5, 1, codes.Internal},
		{"all attempts fail", failing(9, codes.Unavailable), retryThrice, 5, 3, codes.Unavailable},
		{"OK", failing(0, codes.OK), retryThrice, 5, 1, codes.OK},
		{"OK without a message", func(int, grpc.ServerStream) error { return nil }, retryThrice, 5, 1, codes.OK},
		{"a header came", func(_ int, ss grpc.ServerStream) error {
			_ = ss.SendHeader(metadata.Pairs("a", "b"))
			return status.Error(codes.Unavailable, "not now")
		}, retryThrice, 5, 1, codes.Unavailable},
		{"a message came", func(_ int, ss grpc.ServerStream) error {
			_ = ss.SendMsg([]byte("hello"))
			return status.Error(codes.Unavailable, "not now")
		}, retryThrice, 5, 1, codes.Unavailable},
		{"a large request", failing(9, codes.Unavailable), retryThrice, maxRetriedBytes, 1, codes.Unavailable},
		{"a request that is just not large", failing(9, codes.Unavailable), retryThrice, maxRetriedBytes - keptMessageBytes, 3, codes.Unavailable},
		{"pushback below 0", pushing("-1"), retryThrice, 5, 1, codes.Unavailable},
		{"pushback that is no number", pushing("soon"), retryThrice, 5, 1, codes.Unavailable},
		{"a very long pushback", pushing("99999999"), retryThrice, 5, 1, codes.Unavailable},
		{"two pushbacks", pushing("1", "2"), retryThrice, 5, 1, codes.Unavailable},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, u := startFlaky(t, c.answer)
				e := callRetried(t.Context(), t, u, c.retry, make([]byte, c.bytes))
				if e.status.Code() != c.code || e.origin != report.OriginUpstream || f.count() != c.want {
					t.Errorf("%v by %s after %d attempts, want %v after %d", e.status, e.origin, f.count(), c.code, c.want)
				}
			})
		})
	}
}

// pushing fails with pushback.
func pushing(ms ...string) func(int, grpc.ServerStream) error {
	return func(_ int, ss grpc.ServerStream) error {
		ss.SetTrailer(metadata.MD{"grpc-retry-pushback-ms": ms})
		return status.Error(codes.Unavailable, "not now")
	}
}

func TestPushback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, u := startFlaky(t, pushing("7000"))
		callRetried(t.Context(), t, u, retryThrice, nil)
		if f.count() != 3 {
			t.Fatalf("%d attempts, want 3", f.count())
		}
		for i := range 2 {
			if got := f.attempts[i+1].Sub(f.attempts[i]); got != 7*time.Second {
				t.Errorf("the pause after attempt %d is %v, want 7s", i+1, got)
			}
		}
	})
}

// TestRetryAndDeadline: a pause that outlasts the deadline isn't begun, and a client
// that goes away during one ends the call at once.
func TestRetryAndDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, u := startFlaky(t, pushing("7000"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		e := callRetried(ctx, t, u, retryThrice, nil)
		if took := time.Since(start); e.status.Code() != codes.Unavailable || e.origin != report.OriginUpstream || took != 7*time.Second || f.count() != 2 {
			t.Errorf("got %v after %v and %d attempts, want the backend's status after 7s and 2", e.status, took, f.count())
		}
		gone, leave := context.WithCancelCause(t.Context())
		away := time.AfterFunc(3*time.Second, func() { leave(report.New(report.ReasonClientGone, "gone")) })
		defer away.Stop()
		start = time.Now()
		e = callRetried(gone, t, u, retryThrice, nil)
		if took := time.Since(start); e.reason != report.ReasonClientGone || took != 3*time.Second || f.count() != 3 {
			t.Errorf("got %v for %s after %v, want %s after 3s", e.status, e.reason, took, report.ReasonClientGone)
		}
	})
}

// TestRetryOfAStream: the messages sent so far are sent again in their order, also
// while the client goes on.
func TestRetryOfAStream(t *testing.T) {
	const messages = 200
	for range 20 {
		address := startBackend(t, func() func(grpc.ServerStream) error {
			var attempts atomic.Int64
			return func(ss grpc.ServerStream) error {
				if n := attempts.Add(1); n < 4 {
					for range 10 * n {
						var m []byte
						if err := ss.RecvMsg(&m); err != nil {
							break
						}
					}
					return status.Error(codes.Unavailable, "not now")
				}
				var got []string
				for {
					var m []byte
					err := ss.RecvMsg(&m)
					if errors.Is(err, io.EOF) {
						return ss.SendMsg([]byte(strings.Join(got, " ")))
					}
					if err != nil {
						return err
					}
					got = append(got, string(m))
				}
			}
		}())
		u := upstreamTo(t, report.Backend{Target: address})
		ctx, cancel := context.WithCancelCause(within(t, patience))
		up, err := openWith(ctx, u, cancel, Request{Method: testMethod, Retry: &report.Retry{Attempts: 5, Codes: []codes.Code{codes.Unavailable}, Backoff: time.Millisecond}})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := range messages {
			want = append(want, fmt.Sprint(i))
		}
		var sender sync.WaitGroup
		sender.Go(func() {
			for _, m := range want {
				if err := up.Send(mem.BufferSlice{mem.SliceBuffer(m)}); err != nil {
					t.Errorf("message %s: %v", m, err)
				}
			}
			up.CloseSend()
		})
		m, err := up.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := string(m.Materialize()); got != strings.Join(want, " ") {
			t.Errorf("got %s", got)
		}
		m.Free()
		sender.Wait()
		cancel(errFinished)
	}
}

// TestRetryOfALostConnection: a call that the backend may have seen is sent again only
// if UNAVAILABLE is one of the codes, and one that it hasn't seen in any case.
func TestRetryOfALostConnection(t *testing.T) {
	for _, c := range []struct {
		what   string
		script func(*frameConn, uint32)
		codes  []codes.Code
		want   int64
	}{
		{"cut", func(c *frameConn, _ uint32) { _ = c.Close() }, retryThrice.Codes, 4},
		{"cut, another code", func(c *frameConn, _ uint32) { _ = c.Close() }, []codes.Code{codes.Aborted}, 1},
		{"refused, another code", reset(http2.ErrCodeRefusedStream), []codes.Code{codes.Aborted}, 8}, // grpc-go tries each attempt twice
	} {
		t.Run(c.what, func(t *testing.T) {
			var attempts atomic.Int64
			b := startFrames(t, func(conn *frameConn, id uint32) {
				attempts.Add(1)
				c.script(conn, id)
			})
			u := upstreamTo(t, report.Backend{Target: b.address})
			ctx, cancel := context.WithCancelCause(within(t, patience))
			defer cancel(errFinished)
			up, err := openWith(ctx, u, cancel, Request{Method: testMethod, Retry: &report.Retry{Attempts: 4, Codes: c.codes, Backoff: time.Millisecond}})
			if err != nil {
				t.Fatal(err)
			}
			up.CloseSend()
			if _, ok := up.Header(); ok {
				t.Error("there is a header")
			}
			_, err = up.Recv()
			if f := (*report.Fault)(nil); !errors.As(err, &f) || f.Reason != report.ReasonUpstreamReset && f.Reason != report.ReasonUpstreamUnreachable {
				t.Errorf("ended with %v", err)
			}
			if got := attempts.Load(); got > c.want || got < min(2, c.want) {
				t.Errorf("%d attempts, want %d", got, c.want)
			}
		})
	}
}

// TestRetryUntilThereIsABackend: the first attempt may find none.
func TestRetryUntilThereIsABackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t)
		b.Crash()
		u := upstreamTo(t, b.Backend)
		time.Sleep(100 * time.Millisecond)
		up := time.AfterFunc(2*time.Second, b.Up)
		defer up.Stop()
		r := &report.Retry{Attempts: 5, Codes: retryThrice.Codes, Backoff: time.Second, MaxBackoff: time.Second}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(errFinished)
		if _, err := openWith(ctx, u, cancel, Request{Method: testMethod, Retry: r}); err != nil {
			t.Error(err)
		}
	})
}

// TestRetriedCallWasSent: the last attempt finds no backend, but the one before reached
// it, so the client must not take the call for one that a retry can't double.
func TestRetriedCallWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t)
		u := upstreamTo(t, b.Backend)
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(errFinished)
		r := &report.Retry{Attempts: 3, Codes: retryThrice.Codes, Backoff: time.Second, MaxBackoff: time.Second}
		up, err := openWith(ctx, u, cancel, Request{Method: testMethod, Retry: r})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := b.CallsBy(); !slices.Equal(got, []int{1}) {
			t.Fatalf("calls by connection: %v, want 1 on one", got)
		}
		b.Crash()
		_, err = up.Recv()
		if f := (*report.Fault)(nil); !errors.As(err, &f) || f.Reason != report.ReasonUpstreamUnreachable || f.Sent != "maybe" {
			t.Errorf("ended with %#v, want %s, sent: maybe", err, report.ReasonUpstreamUnreachable)
		}
		if got := u.state("").Retries; got != (report.Retries{}) {
			t.Errorf("counted %+v, but no connection was left to send the call again", got)
		}
	})
}

// TestFullWhileACallIsSentAgain: Full doesn't wait for the connection, but says that Send
// would.
func TestFullWhileACallIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newCountedBackend(t)
		connect := b.Dial
		var away atomic.Bool
		b.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if away.Load() {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return connect(ctx, address)
		}
		u := upstreamTo(t, b.Backend)
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		up, err := openWith(ctx, u, cancel, Request{Method: testMethod, Retry: retryThrice})
		if err != nil {
			t.Fatal(err)
		}
		if up.Full() {
			t.Error("full before any message")
		}
		synctest.Wait()
		away.Store(true)
		b.Crash()
		var receiver sync.WaitGroup
		receiver.Go(func() { _, _ = up.Recv() }) // the call is given up below
		time.Sleep(time.Second)                  // the call waits for a connection
		start := time.Now()
		if full := up.Full(); !full || time.Since(start) > 0 {
			t.Errorf("full: %v after %v, want true at once", full, time.Since(start))
		}
		cancel(errFinished)
		receiver.Wait()
	})
}

// TestRetriesHaveABudget: while most calls fail, none is sent again, and they are again
// once calls succeed.
func TestRetriesHaveABudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fails atomic.Bool
		fails.Store(true)
		f, u := startFlaky(t, func(_ int, ss grpc.ServerStream) error {
			if fails.Load() {
				return status.Error(codes.Unavailable, "not now")
			}
			return echo(ss)
		})
		for range 100 {
			callRetried(t.Context(), t, u, retryThrice, nil)
		}
		if got := f.count(); got > 110 {
			t.Errorf("%d attempts of 100 calls that fail", got)
		}
		fails.Store(false)
		for range 100 {
			callRetried(t.Context(), t, u, retryThrice, nil)
		}
		fails.Store(true)
		before := f.count()
		callRetried(t.Context(), t, u, retryThrice, nil)
		if got := f.count() - before; got != 3 {
			t.Errorf("%d attempts after 100 calls that succeeded, want 3", got)
		}
	})
}

// FuzzPushback: any value ends in a pause within the bound, or in no other attempt.
func FuzzPushback(f *testing.F) {
	for _, s := range []string{"0", "1000", "-1", "", "60001", "9223372036854775808", "0x10", " 5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if pause, ok := pushback(metadata.MD{"grpc-retry-pushback-ms": {s}}); ok && (pause < 0 || pause > maxPushback) {
			t.Errorf("%q: a pause of %v", s, pause)
		}
	})
}

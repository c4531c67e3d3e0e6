package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// refusals are the ways to refuse a call unseen.
var refusals = map[string]func(*frameConn, uint32){"REFUSED_STREAM": reset(http2.ErrCodeRefusedStream), "GOAWAY": leaveOut}

// framesInBubble returns a backend with an address for each of the scripts.
func framesInBubble(t *testing.T, scripts ...func(*frameConn, uint32)) report.Backend {
	t.Helper()
	var all []*parts.PipeListener
	var addresses []string
	for i, script := range scripts {
		l := parts.ListenPipe(t)
		all = append(all, l)
		startFramesOn(t, l, script)
		addresses = append(addresses, fmt.Sprint(i))
	}
	b := severalAt(t, addresses...)
	b.Dial = func(ctx context.Context, address string) (net.Conn, error) {
		var i int
		if _, err := fmt.Sscan(address, &i); err != nil {
			return nil, err
		}
		return all[i].DialContext(ctx)
	}
	return b
}

// TestSlowRefusals: a call asks no address twice, however long an address takes to
// refuse it, before it has asked all.
func TestSlowRefusals(t *testing.T) {
	for what, refuse := range refusals {
		for _, balance := range balances {
			for _, n := range []int{2, 3, 6} {
				t.Run(fmt.Sprintf("%s/%s/%d", what, balance, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var attempts atomic.Int64
						var scripts []func(*frameConn, uint32)
						for range n - 1 {
							scripts = append(scripts, func(c *frameConn, id uint32) {
								attempts.Add(1)
								time.Sleep(2 * avoidedPause)
								refuse(c, id)
							})
						}
						b := framesInBubble(t, append(scripts, answer(framed(0, []byte("hello"))))...)
						b.Balance = balance
						u := upstreamTo(t, b)
						synctest.Wait()
						e := callRetried(t.Context(), t, u, nil, []byte("hello"))
						if e.status.Code() != codes.OK || len(e.messages) != 1 {
							t.Errorf("ended with %v after %d refusals", e.status, attempts.Load())
						}
						if got := attempts.Load(); got >= int64(n) {
							t.Errorf("%d refusals of %d addresses", got, n-1)
						}
					})
				})
			}
		}
	}
}

// TestManyAddressesRefuse: each is asked, up to a bound, and the status tells how many
// there were.
func TestManyAddressesRefuse(t *testing.T) {
	for what, refuse := range refusals {
		for n, want := range map[int]int{2: 2, 50: 50, 120: 100} {
			t.Run(fmt.Sprintf("%s/%d", what, n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var attempts atomic.Int64
					var scripts []func(*frameConn, uint32)
					for range n {
						scripts = append(scripts, func(c *frameConn, id uint32) {
							attempts.Add(1)
							refuse(c, id)
						})
					}
					u := upstreamTo(t, framesInBubble(t, scripts...))
					synctest.Wait()
					e := callRetried(t.Context(), t, u, nil, []byte("hello"))
					if e.status.Code() != codes.Unavailable || e.reason != report.ReasonUpstreamReset || errorInfo(t, e.status).GetMetadata()["sent"] != "no" {
						t.Errorf("ended with %v for %s", e.status, e.reason)
					}
					if got := int(attempts.Load()); got < want || got > want+1 { // grpc-go makes each second one by itself
						t.Errorf("%d attempts, want %d", got, want)
					}
					if text := fmt.Sprintf("%d addresses", want); !strings.Contains(e.status.Message(), text) {
						t.Errorf("%q doesn't tell of %s", e.status.Message(), text)
					}
				})
			})
		}
	}
}

// A held call of a frameBackend is answered, or refused, by the test.
type heldFrames struct {
	c  *frameConn
	id uint32
}

// holdFrames is a script that hands calls to the test.
func holdFrames(held chan heldFrames) func(*frameConn, uint32) {
	return func(c *frameConn, id uint32) { held <- heldFrames{c, id} }
}

// end ends a held call as the script does.
func (h heldFrames) end(script func(*frameConn, uint32)) {
	h.c.mu.Lock()
	script(h.c, h.id)
	_ = h.c.flush() // a lost connection shows in the call
	h.c.mu.Unlock()
	synctest.Wait()
}

// only allows n calls at once on a connection.
func (h heldFrames) only(n uint32) {
	h.end(func(c *frameConn, _ uint32) {
		_ = c.framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: n})
	})
}

// start opens a call, and has the result of its first Recv sent.
func start(ctx context.Context, t *testing.T, u *Upstream) <-chan error {
	t.Helper()
	result := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		defer cancel(errFinished)
		up, err := openWith(ctx, u, cancel, Request{Method: testMethod})
		if err == nil {
			up.CloseSend()
			m, recvErr := up.Recv()
			m.Free()
			err = recvErr
		}
		result <- err
	}()
	synctest.Wait()
	return result
}

// TestRefusedCallWaitsForAPlace at an address that hasn't refused it, and calls behind it
// don't wait for that. Other connections to the address that refused it are of no use.
func TestRefusedCallWaitsForAPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := make(chan heldFrames, 9), make(chan heldFrames, 9)
		b := framesInBubble(t, holdFrames(first), holdFrames(second))
		connect := b.Dial
		var dials [2]atomic.Int64
		b.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if n := dials[address[0]-'0'].Add(1); n > 1 && address == "1" {
				return nil, errors.New("there is no other connection")
			}
			return connect(ctx, address)
		}
		u := upstreamTo(t, b)
		synctest.Wait()
		hello := answer(framed(0, []byte("hello")))
		start(t.Context(), t, u)
		start(t.Context(), t, u)
		x, y := <-first, <-second
		y.only(1)
		refused := start(t.Context(), t, u)
		(<-first).end(reset(http2.ErrCodeRefusedStream))
		time.Sleep(2 * avoidedPause)
		if n := dials[0].Load(); n > 1 {
			t.Errorf("%d connections to the address that refused the call", n)
		}
		behind := start(t.Context(), t, u)
		select {
		case h := <-first:
			h.end(hello)
		default:
			t.Fatal("a call waits although the first address has room")
		}
		if err := <-behind; err != nil {
			t.Errorf("the call behind: %v", err)
		}
		y.end(hello)
		select {
		case h := <-second:
			h.end(hello)
		default:
			t.Fatal("the refused call isn't at the second address, which has room")
		}
		if err := <-refused; err != nil {
			t.Errorf("the refused call: %v", err)
		}
		x.end(hello)
	})
}

// TestWaitingCallsLeaveARefusingAddress: with pick_first they wait at one address, and go
// to the next as soon as that one refuses a call. Here the sender is the first to learn
// of it, and grpc-go releases the call's place without the reason.
func TestWaitingCallsLeaveARefusingAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := make(chan heldFrames, 9), make(chan heldFrames, 9)
		b := framesInBubble(t, holdFrames(first), holdFrames(second))
		b.MaxConnections, b.Balance = 1, "pick_first"
		u := upstreamTo(t, b)
		synctest.Wait()
		start(t.Context(), t, u)
		(<-first).only(2)
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(errFinished)
		up, err := openWith(ctx, u, cancel, Request{Method: testMethod})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 3 {
			start(t.Context(), t, u)
		}
		if waiting := u.pool.State().Waiting; waiting != 3 {
			t.Fatalf("%d calls wait, want 3", waiting)
		}
		(<-first).end(reset(http2.ErrCodeRefusedStream))
		if err := up.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); err != nil {
			t.Errorf("send: %v", err)
		}
		synctest.Wait()
		if waiting := u.pool.State().Waiting; waiting != 0 || len(second) < 3 {
			t.Errorf("%d calls wait, and %d are at the second address", waiting, len(second))
		}
	})
}

// TestOpenWhileAnotherBackendServes: a call that may go elsewhere neither waits for a
// connection for long, nor tries again to get one. It isn't given up.
func TestOpenWhileAnotherBackendServes(t *testing.T) {
	for what, c := range map[string]struct {
		dial func(context.Context, string) (net.Conn, error)
		want time.Duration
	}{
		"nothing listens": {func(context.Context, string) (net.Conn, error) { return nil, errors.New("it is gone") }, 0},
		"nothing answers": {func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }, connectGrace},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := upstreamTo(t, report.Backend{Target: "passthrough:///bubble", Dial: c.dial})
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(errFinished)
				start := time.Now()
				_, err := openWith(ctx, u, cancel, Request{Method: testMethod, Retry: retryThrice, Elsewhere: true})
				var f *report.Fault
				if !errors.As(err, &f) || f.Reason != report.ReasonUpstreamUnreachable || !f.Unseen() || errors.Is(err, io.EOF) {
					t.Errorf("ended with %v", err)
				}
				if took := time.Since(start); took != c.want || ctx.Err() != nil {
					t.Errorf("after %v, with the call ended by %v, want %v", took, context.Cause(ctx), c.want)
				}
			})
		})
	}
}

// waitForTheFull has a call refused by all addresses but the last, which is full, so that
// the call waits for a place there. held has the calls of each address.
func waitForTheFull(t *testing.T, u *Upstream, held []chan heldFrames) (full heldFrames, waiting <-chan error) {
	t.Helper()
	for range held {
		start(t.Context(), t, u)
	}
	for _, calls := range held {
		full = <-calls
	}
	full.only(1)
	waiting = start(t.Context(), t, u)
	for again := true; again; {
		again = false
		for _, calls := range held {
			if len(calls) > 0 {
				(<-calls).end(reset(http2.ErrCodeRefusedStream))
				again = true
			}
		}
	}
	if n := queued(); n != 1 {
		t.Fatalf("%d calls wait for a place, want the refused one", n)
	}
	time.Sleep(2 * avoidedPause)
	return full, waiting
}

// holdingFrames returns a backend with n addresses, and the calls of each, which the test
// ends.
func holdingFrames(t *testing.T, n int) (b report.Backend, held []chan heldFrames) {
	t.Helper()
	var scripts []func(*frameConn, uint32)
	for range n {
		calls := make(chan heldFrames, 1000)
		held, scripts = append(held, calls), append(scripts, holdFrames(calls))
	}
	b = framesInBubble(t, scripts...)
	b.MaxConnections, b.QueueTimeout = 1, time.Hour
	return b, held
}

// TestRotationBesideARefusedCall: a call that waits for a full address doesn't change
// whose turn it is.
func TestRotationBesideARefusedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, held := holdingFrames(t, 3)
		u := upstreamTo(t, b)
		synctest.Wait()
		waitForTheFull(t, u, held)
		for range 10 {
			start(t.Context(), t, u)
		}
		if a, b, c := len(held[0]), len(held[1]), len(held[2]); a != 5 || b != 5 || c != 0 {
			t.Errorf("the addresses got %d, %d and %d calls, want 5, 5 and 0", a, b, c)
		}
	})
}

// TestWaitForAPlaceThatIsLost: a call that waits for a place when the last connection is
// lost waits for another one only as long as a new call does.
func TestWaitForAPlaceThatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, held := holdingFrames(t, 1)
		connect, gone := b.Dial, false
		b.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if gone {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return connect(ctx, address)
		}
		u := upstreamTo(t, b)
		synctest.Wait()
		start(t.Context(), t, u)
		full := <-held[0]
		full.only(1)
		gone = true
		lost := time.AfterFunc(2*connectPatience, func() {
			full.end(func(c *frameConn, id uint32) { _ = c.framer.WriteGoAway(id, http2.ErrCodeNo, nil) })
		})
		defer lost.Stop()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(errFinished)
		begin := time.Now()
		_, err := openWith(ctx, u, cancel, Request{Method: testMethod})
		if took := time.Since(begin) - 2*connectPatience; !Unreached(err) || took != connectPatience {
			t.Errorf("ended with %v, %v after the loss, want %v", err, took, connectPatience)
		}
	})
}

// TestCallBehindManyRefusedOnes gets the room that these can't use, however many of them
// wait.
func TestCallBehindManyRefusedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, held := holdingFrames(t, 2)
		u := upstreamTo(t, b)
		synctest.Wait()
		_, first := waitForTheFull(t, u, held)
		for range maxPassed - 1 {
			start(t.Context(), t, u)
			(<-held[0]).end(reset(http2.ErrCodeRefusedStream))
		}
		time.Sleep(2 * avoidedPause)
		if n := queued(); n != maxPassed || len(first) > 0 {
			t.Fatalf("%d calls wait, want %d", n, maxPassed)
		}
		start(t.Context(), t, u)
		if len(held[0]) != 1 {
			t.Error("a call waits although the first address has room")
		}
	})
}

// TestRefusedCallOutlastsItsAddresses: all of them refuse it, and the name then has
// others, as in a restart of one replica after the other.
func TestRefusedCallOutlastsItsAddresses(t *testing.T) {
	for what, refuse := range refusals {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, held := holdingFrames(t, 8)
				name := parts.NamesAt(b.Target)
				u := upstreamTo(t, b)
				synctest.Wait()
				name.ResolveTo("0", "1", "2", "3")
				synctest.Wait()
				ended := start(t.Context(), t, u)
				for n := range 4 { // grpc-go makes each second attempt by itself, whatever MayBeServed says
					for _, calls := range held[:4] {
						if len(calls) == 0 {
							continue
						}
						if n == 3 {
							name.ResolveTo("4", "5", "6", "7")
							synctest.Wait()
							time.Sleep(time.Second)
						}
						(<-calls).end(refuse)
						break
					}
				}
				for _, calls := range held[4:] {
					if len(calls) > 0 {
						(<-calls).end(answer(framed(0, []byte("hello"))))
					}
				}
				select {
				case err := <-ended:
					if err != nil {
						t.Errorf("ended with %v", err)
					}
				default:
					t.Error("the call hasn't ended")
				}
			})
		})
	}
}

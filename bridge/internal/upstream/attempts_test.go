package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

func leaveOut(c *frameConn, _ uint32) { _ = c.framer.WriteGoAway(0, http2.ErrCodeNo, nil) }

// refusing are the addresses of backends that refuse each call unseen, and of one that
// serves, if serves is set. attempts counts the calls of all.
func refusing(t *testing.T, n int, serves bool, refuse func(*frameConn, uint32)) (addresses []string, attempts *atomic.Int64) {
	t.Helper()
	attempts = new(atomic.Int64)
	for i := range n {
		script := refuse
		if serves && i == n/2 {
			script = answer(framed(0, []byte("hello")))
		}
		addresses = append(addresses, startFrames(t, func(c *frameConn, id uint32) {
			attempts.Add(1)
			script(c, id)
		}).address)
	}
	return addresses, attempts
}

// connected returns when the upstream has a connection to each of n addresses.
func connected(t *testing.T, u *Upstream, n int) {
	t.Helper()
	poll(t, func() string {
		up := 0
		for _, a := range u.pool.State().Addresses {
			if a.Accepts {
				up++
			}
		}
		if up < n {
			return fmt.Sprintf("%d of %d addresses accept calls", up, n)
		}
		return ""
	})
}

// TestRefusedCallGoesElsewhere, from address to address, until one serves it.
func TestRefusedCallGoesElsewhere(t *testing.T) {
	for what, refuse := range map[string]func(*frameConn, uint32){"REFUSED_STREAM": reset(http2.ErrCodeRefusedStream), "GOAWAY": leaveOut} {
		for _, balance := range balances {
			for _, n := range []int{2, 3, 5} {
				for _, retry := range []*report.Retry{nil, {Attempts: 2, Codes: []codes.Code{codes.Aborted}}} {
					t.Run(fmt.Sprintf("%s/%s/%d/%v", what, balance, n, retry != nil), func(t *testing.T) {
						addresses, _ := refusing(t, n, true, refuse)
						b := severalAt(t, addresses...)
						b.Balance = balance
						u := upstreamTo(t, b)
						connected(t, u, n)
						account := memory.New(1<<30, 0)
						entry := account.NewEntry()
						ctx, cancel := context.WithCancelCause(within(t, patience))
						up, err := openWith(ctx, u, cancel, Request{Method: testMethod, Retry: retry, Held: entry, ID: "a"})
						if err != nil {
							t.Fatal(err)
						}
						for range 3 {
							if err := up.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); err != nil && !errors.Is(err, io.EOF) {
								t.Error(err)
							}
						}
						up.CloseSend()
						m, err := up.Recv()
						if err != nil || string(m.Materialize()) != "hello" {
							t.Fatalf("got %q and %v, want the answer of the address that serves", m, err)
						}
						up.Sent(1, m.Len())
						m.Free()
						if _, err := up.Recv(); !errors.Is(err, io.EOF) {
							t.Errorf("ended with %v", err)
						}
						cancel(errFinished)
						entry.Settle()
						wantUsed(t, account, 0)
					})
				}
			}
		}
	}
}

// TestCallThatAllAddressesRefuse ends once each has refused it.
func TestCallThatAllAddressesRefuse(t *testing.T) {
	for what, refuse := range map[string]func(*frameConn, uint32){"REFUSED_STREAM": reset(http2.ErrCodeRefusedStream), "GOAWAY": leaveOut} {
		t.Run(what, func(t *testing.T) {
			const n = 5
			addresses, attempts := refusing(t, n, false, refuse)
			u := upstreamTo(t, severalAt(t, addresses...))
			connected(t, u, n)
			e := callUpstream(within(t, patience), t, u, nil)
			if e.status.Code() != codes.Unavailable || e.reason != report.ReasonUpstreamReset || errorInfo(t, e.status).GetMetadata()["sent"] != "no" {
				t.Errorf("ended with %v for %s", e.status, e.reason)
			}
			if got := attempts.Load(); got < n || got > n+1 { // grpc-go makes each second one by itself
				t.Errorf("%d attempts, want one for each of the %d addresses", got, n)
			}
			if got := u.state("").Retries; got != (report.Retries{Elsewhere: n / 2}) {
				t.Errorf("counted %+v", got)
			}
		})
	}
}

// TestDataOfARefusedAttempt doesn't count with the call any more: the window would wait until its
// client takes it.
func TestDataOfARefusedAttempt(t *testing.T) {
	for range 5 { // grpc-go's own second attempt, or culvert's
		first := startFrames(t, func(c *frameConn, id uint32) {
			c.data(id, false, append(prefixOf(4<<20), make([]byte, 1000)...))
			reset(http2.ErrCodeRefusedStream)(c, id)
		})
		b := severalAt(t, first.address, startFrames(t, answer(framed(0, []byte("hello")))).address)
		b.Balance = "pick_first"
		u := upstreamTo(t, b)
		connected(t, u, 2)
		held := memory.New(64<<20, 0).NewEntry()
		up, err := openCall(within(t, patience), u, Request{Method: testMethod, Held: held, ID: "one", Metadata: metadata.Pairs("x-request-id", "one")})
		if err != nil {
			t.Fatal(err)
		}
		up.CloseSend()
		m, err := up.Recv()
		if err != nil {
			t.Fatal(err)
		}
		up.Sent(1, m.Len())
		m.Free()
		if n := up.Waiting(); n != 0 {
			t.Errorf("%d bytes wait for a client that has taken all", n)
		}
		held.Settle()
	}
}

// TestAnswerDuringAReplay arrives whole: the second address answers before grpc-go, or
// culvert, has sent it all messages again.
func TestAnswerDuringAReplay(t *testing.T) {
	for what, script := range map[string]func(*frameConn, uint32){
		"OK": answer(framed(0, []byte("hello")), "x-a", "1"),
		"trailers only": func(c *frameConn, id uint32) {
			c.headers(id, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "16")
		},
	} {
		for _, headerFirst := range []bool{true, false} {
			for n := 2; n <= 3; n++ {
				t.Run(fmt.Sprintf("%s/%v/%d", what, headerFirst, n), func(t *testing.T) {
					for range 5 {
						answerDuringAReplay(t, script, headerFirst, n, what == "OK")
					}
				})
			}
		}
	}
}

func answerDuringAReplay(t *testing.T, script func(*frameConn, uint32), headerFirst bool, n int, ok bool) {
	sent := make(chan struct{})
	first := startFrames(t, func(c *frameConn, id uint32) {
		<-sent
		reset(http2.ErrCodeRefusedStream)(c, id)
	})
	addresses := []string{first.address}
	for range n - 1 {
		addresses = append(addresses, startFrames(t, script).address)
	}
	b := severalAt(t, addresses...)
	b.Balance = "pick_first"
	u := upstreamTo(t, b)
	connected(t, u, n)
	ctx, cancel := context.WithCancelCause(within(t, patience))
	defer cancel(errFinished)
	up, err := openWith(ctx, u, cancel, Request{Method: testMethod})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 { // so that it takes a while to send them again
		if err := up.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); err != nil {
			t.Error(err)
		}
	}
	up.CloseSend()
	close(sent)
	if headerFirst {
		if md, has := up.Header(); has != ok || ok && md.Get("x-a")[0] != "1" {
			t.Errorf("header %v, want one: %v", md, ok)
		}
	}
	m, err := up.Recv()
	if ok {
		if err != nil || string(m.Materialize()) != "hello" {
			t.Fatalf("got %q and %v, want the answer", m, err)
		}
		m.Free()
		m, err = up.Recv()
	}
	e := judge(err)
	if errors.Is(err, io.EOF) {
		e = judge(nil)
	}
	if want := map[bool]codes.Code{true: codes.OK, false: codes.Unauthenticated}[ok]; e.status.Code() != want || e.origin != report.OriginUpstream {
		t.Errorf("ended with %q and %v by %s, want %v of the backend", m, e.status, e.origin, want)
	}
}

// TestSendThatCantBeReplayed leaves the end of the call to Recv: grpc-go replays the call
// for the sender, and there is no connection any more.
func TestSendThatCantBeReplayed(t *testing.T) {
	b := startFrames(t, leaveOut)
	var dials atomic.Int64
	u := upstreamTo(t, report.Backend{Target: b.address, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		if dials.Add(1) > 1 {
			return nil, errors.New("it is gone")
		}
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}})
	ctx, cancel := context.WithCancelCause(within(t, patience))
	defer cancel(errFinished)
	up, err := openWith(ctx, u, cancel, Request{Method: testMethod})
	if err != nil {
		t.Fatal(err)
	}
	poll(t, func() string {
		if u.pool.Serves() {
			return "the backend isn't known to be gone"
		}
		return ""
	})
	if err := up.Send(mem.BufferSlice{mem.SliceBuffer("hello")}); !errors.Is(err, io.EOF) {
		t.Errorf("send: %v, want io.EOF", err)
	}
	_, err = up.Recv()
	var f *report.Fault
	if !errors.As(err, &f) || f.Reason != report.ReasonUpstreamReset || !f.Unseen() {
		t.Errorf("ended with %v, want a refusal that the backend hasn't seen", err)
	}
}

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/relay"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// startRelay starts a relay that goes with the test.
func startRelay(t testing.TB, target string, fate func(n int) relay.Fate) *relay.Relay {
	t.Helper()
	r, err := relay.New(target, fate)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// A call is a download of downloadReplies replies, which its client can count.
const downloadReplies = 40

// downloads makes n calls one after the other, each over a connection of its own
// where a connection was cut, and returns how they ended.
func downloads(transport wire.Transport, address, prefix string, n int) (ends []end, err error) {
	var conn *wire.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for i := range n {
		if conn == nil {
			if conn, err = wire.Dial(context.Background(), transport, address); err != nil {
				return ends, err
			}
			conn.SetDeadline(time.Now().Add(patience))
		}
		md := wire.Metadata(fmt.Sprintf("%s/%d", prefix, i), probe.Script{
			Replies: downloadReplies, ReplyBytes: 2 * kib, Trailer: []probe.Field{{Name: "x-tail", Value: strings.Repeat("t", 100)}},
		})
		var e end
		call, openErr := conn.Post(context.Background(), wire.ServerStream, md, wire.Request(0, 0))
		if openErr != nil {
			e = end{err: openErr}
		} else {
			e = finish(call, 0)
			call.Close()
		}
		ends = append(ends, e)
		if e.status == nil || !transport.Multiplexed() {
			conn.Close()
			conn = nil
		}
	}
	return ends, nil
}

// countEnds judges ends: none may be OK without all of its replies, and what was
// not told is counted.
func countEnds(t *testing.T, transport wire.Transport, ends []end) (ok, failed, untold int) {
	t.Helper()
	for _, e := range ends {
		switch {
		case e.status == nil:
			untold++
		case e.status.Code != codes.OK:
			failed++
		case e.replies != downloadReplies || len(e.status.Trailer["x-tail"]) == 0:
			t.Errorf("%s: OK with %d replies of %d and the trailers %v", transport, e.replies, downloadReplies, e.status.Trailer)
		default:
			ok++
		}
	}
	return ok, failed, untold
}

// The connection to the backend is cut again and again at any byte, with FIN and
// with RST, while calls run over every transport. None is OK short of its replies,
// and each client is told a status.
func TestCutBackendIsNeverOK(t *testing.T) {
	const calls, callers = 100, 2 // for each transport
	b := startBackend(t, backendOptions{})
	cuts := startRelay(t, b.address, func(n int) relay.Fate {
		random := rand.New(rand.NewPCG(uint64(n), 1)) // the same cuts in every run
		f := relay.Fate{Reset: n%2 == 0}
		switch {
		case n%5 == 0:
			f.AfterUp = 100 + random.Int64N(3000)
		case n%3 == 0: // calls of all transports share a connection, and some of each shall end
			f.AfterDown = 50 + random.Int64N(6<<20)
		default:
			f.AfterDown = 50 + random.Int64N(300*kib)
		}
		return f
	})
	c := startCulvert(t, cuts.Addr(), culvertOptions{})
	var mu sync.Mutex
	all := map[wire.Transport][]end{}
	var work sync.WaitGroup
	for _, transport := range wire.All {
		for k := range callers {
			work.Go(func() {
				ends, err := downloads(transport, c.address, fmt.Sprintf("%s/%s/%d", t.Name(), transport, k), calls/callers)
				if err != nil {
					t.Errorf("%s: %v", transport, err)
				}
				mu.Lock()
				defer mu.Unlock()
				all[transport] = append(all[transport], ends...)
			})
		}
	}
	work.Wait()
	for transport, ends := range all {
		ok, failed, untold := countEnds(t, transport, ends)
		t.Logf("%s: %d OK, %d failed, %d untold", transport, ok, failed, untold)
		for _, e := range ends {
			if e.status == nil {
				t.Errorf("%s: the client was not told: %v", transport, e)
			} else if e.status.Code != codes.OK && e.status.Code != codes.Unavailable {
				t.Errorf("%s: %v, want UNAVAILABLE", transport, e)
			}
		}
		if failed == 0 || ok == 0 {
			t.Errorf("%s: the cuts have tested nothing", transport)
		}
	}
}

// The connection of the client is cut at any byte. None of its calls is OK short
// of its replies.
func TestCutClientIsNeverOK(t *testing.T) {
	t.Parallel()
	const calls = 60 // for each transport
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		cuts := startRelay(t, c.address, func(n int) relay.Fate {
			random := rand.New(rand.NewPCG(uint64(n), 2))
			return relay.Fate{AfterDown: 200 + random.Int64N(100*kib), Reset: n%2 == 0}
		})
		var ends []end
		for i := range calls {
			e, err := downloads(transport, cuts.Addr(), fmt.Sprintf("%s/%d", t.Name(), i), 1)
			if err != nil { // the handshake of a tunnel may have been cut
				continue
			}
			ends = append(ends, e...)
		}
		ok, failed, untold := countEnds(t, transport, ends)
		t.Logf("%d OK, %d failed, %d untold", ok, failed, untold)
		if untold == 0 {
			t.Error("the cuts have tested nothing")
		}
		b.idle(t, cutIsSeen)
	})
}

// An upload that is cut at any byte never looks to the backend like one that its
// client ended: a half-close means that every request came.
func TestCutUploadIsNeverAHalfClose(t *testing.T) {
	t.Parallel()
	const calls, requests = 60, 40 // for each transport
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		cuts := startRelay(t, c.address, func(n int) relay.Fate {
			random := rand.New(rand.NewPCG(uint64(n), 3))
			return relay.Fate{AfterUp: 300 + random.Int64N(100*kib), Reset: n%2 == 0}
		})
		told := map[string]bool{} // calls that ended with OK for their client
		for i := range calls {
			id := fmt.Sprintf("%s/%d", t.Name(), i)
			conn, err := wire.Dial(t.Context(), transport, cuts.Addr())
			if err != nil {
				continue // the handshake of a tunnel was cut
			}
			conn.SetDeadline(time.Now().Add(patience))
			told[id] = upload(conn, id, requests)
			conn.Close()
		}
		b.idle(t, cutIsSeen)
		began, cut := 0, 0
		for id, r := range b.records(t) {
			if _, ours := told[id]; !ours {
				continue
			}
			began++
			if r.Fault != "" {
				t.Errorf("%s: at the backend %s", id, r.Fault)
			}
			if r.HalfClosed && r.Received != requests {
				t.Errorf("%s: the half-close came after %d requests of %d", id, r.Received, requests)
			}
			if told[id] && !r.HalfClosed {
				t.Errorf("%s: OK without the whole upload", id)
			}
			if !r.HalfClosed {
				cut++
			}
		}
		t.Logf("%d calls came to the backend, %d of them cut", began, cut)
		if cut == 0 {
			t.Error("the cuts have tested nothing")
		}
	})
}

// upload sends requests in one call and reports whether that ended with OK.
func upload(conn *wire.Conn, id string, requests int) bool {
	call, err := conn.Open(context.Background(), wire.ClientStream, wire.Metadata(id, probe.Script{}))
	if err != nil {
		return false
	}
	defer call.Close()
	for i := range uint64(requests) {
		if call.Send(wire.Request(i, 2*kib)) != nil {
			return false
		}
	}
	if call.CloseSend() != nil {
		return false
	}
	e := finish(call, 0)
	return e.status != nil && e.status.Code == codes.OK
}

// The backend is killed, again and again, under hundreds of calls over every
// transport. None is OK short of its replies.
func TestBackendKilledUnderLoadIsNeverOK(t *testing.T) {
	const kills = 5
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var mu sync.Mutex
	all := map[wire.Transport][]end{}
	var work sync.WaitGroup
	for _, transport := range wire.All {
		for k := range 2 {
			work.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					ends, err := downloads(transport, c.address, fmt.Sprintf("%s/%s/%d/%d", t.Name(), transport, k, i), 1)
					if err != nil {
						t.Errorf("%s: %v", transport, err)
						return
					}
					mu.Lock()
					all[transport] = append(all[transport], ends...)
					mu.Unlock()
				}
			})
		}
	}
	for range kills {
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(all[wire.GRPC]) }
		before := count()
		if err := eventually(patience, func() error {
			if n := count() - before; n < 20 {
				return fmt.Errorf("%d calls since the last kill", n)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		b.kill(t)
		b.restart(t)
	}
	stop()
	work.Wait()
	for transport, ends := range all {
		ok, failed, untold := countEnds(t, transport, ends)
		t.Logf("%s: %d OK, %d failed, %d untold", transport, ok, failed, untold)
		if untold > 0 {
			t.Errorf("%s: %d clients were not told how their call ended", transport, untold)
		}
	}
}

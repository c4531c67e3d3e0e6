package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A flaky backend fails the first attempt of each call, as the call's metadata says.
type flaky struct {
	address string
	read    chan int      // messages of a held attempt so far
	fail    chan struct{} // ends a held attempt

	mu       sync.Mutex
	attempts map[string][]string // grpc-previous-rpc-attempts of each, by x-call
}

func startFlaky(t *testing.T) *flaky {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{address: ln.Addr().String(), read: make(chan int, 100), fail: make(chan struct{}), attempts: make(map[string][]string)}
	s := grpc.NewServer(grpc.UnknownServiceHandler(f.serve))
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) }) // until it is stopped
	t.Cleanup(func() {
		s.Stop()
		serving.Wait()
	})
	return f
}

func (f *flaky) serve(_ any, ss grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(ss.Context())
	name := strings.Join(md["x-call"], "")
	f.mu.Lock()
	first := len(f.attempts[name]) == 0
	f.attempts[name] = append(f.attempts[name], strings.Join(md["grpc-previous-rpc-attempts"], ""))
	f.mu.Unlock()
	failure := status.Error(codes.Unavailable, "not now")
	if plan := strings.Join(md["x-plan"], ""); first && plan == "fail" {
		return failure
	} else if first && plan == "fail after a message" {
		return errors.Join(ss.SendMsg(new(e2epb.Reply)), failure)
	} else if first && plan == "hold" {
		for n := 1; ss.RecvMsg(new(e2epb.Request)) == nil; n++ {
			f.read <- n
		}
		<-f.fail
		return failure
	}
	for {
		var in e2epb.Request
		if err := ss.RecvMsg(&in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := ss.SendMsg(&e2epb.Reply{Sequence: in.GetSequence(), Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}

func (f *flaky) saw(name string) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempts[name]
}

const retryConfig = "routes: [{name: all, backend: default, retry: {attempts: 3, backoff: 10ms}}]"

// TestRetry: a call whose first attempt fails is sent again, unless a message of its
// answer has reached the client.
func TestRetry(t *testing.T) {
	t.Parallel()
	f := startFlaky(t)
	perTransport(t, wire.All, func(t *testing.T, transport wire.Transport) {
		c := startCulvert(t, f.address, culvertOptions{config: retryConfig}) // with a budget of its own
		for _, plan := range []struct {
			name     string
			code     codes.Code
			attempts []string
		}{
			{"fail after a message", codes.Unavailable, []string{""}},
			{"fail", codes.OK, []string{"", "1"}},
			{"", codes.OK, []string{""}},
		} {
			name := fmt.Sprint(transport, plan.name)
			call, err := dial(t, transport, c.address).Post(context.Background(), wire.Bidi, http.Header{"X-Plan": {plan.name}, "X-Call": {name}}, wire.Request(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			if e := finish(call, 0); e.replies != 1 || e.status == nil || e.status.Code != plan.code || e.status.Reason() != "" {
				t.Errorf("%q: %v, want %v of the backend after 1", plan.name, e, plan.code)
			}
			call.Close()
			if got := f.saw(name); !slices.Equal(got, plan.attempts) {
				t.Errorf("%q: grpc-previous-rpc-attempts of the attempts %q, want %q", plan.name, got, plan.attempts)
			}
		}
	})
}

// TestRetriedMessagesCount: what culvert keeps for another attempt counts as held, and
// reaches the backend again.
func TestRetriedMessagesCount(t *testing.T) {
	t.Parallel()
	f := startFlaky(t)
	c := startCulvert(t, f.address, culvertOptions{config: retryConfig})
	call, err := dial(t, wire.GRPC, c.address).Open(context.Background(), wire.Bidi, http.Header{"X-Plan": {"hold"}, "X-Call": {"a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer call.Close()
	const messages, size = 16, 1500 // and a little for each message
	for i := range messages {
		if err := call.Send(wire.Request(uint64(i), size)); err != nil {
			t.Fatal(err)
		}
	}
	for n := 0; n < messages; n = <-f.read {
	}
	held := func(wanted func(bytes float64) bool) error {
		return eventually(patience, func() error {
			if got := c.metric(t, "culvert_message_memory_bytes"); !wanted(got) {
				return fmt.Errorf("%v bytes are held", got)
			}
			return nil
		})
	}
	if err := held(func(bytes float64) bool { return bytes >= messages*size && bytes <= 28<<10 }); err != nil {
		t.Error("while the backend has answered nothing:", err)
	}
	if err := call.CloseSend(); err != nil {
		t.Fatal(err)
	}
	close(f.fail)
	if e := finish(call, 0); e.replies != messages || e.status == nil || e.status.Code != codes.OK {
		t.Errorf("%v, want OK after %d", e, messages)
	}
	if err := held(func(bytes float64) bool { return bytes == 0 }); err != nil {
		t.Error("after the call:", err)
	}
	if got := c.metric(t, `culvert_backend_retries_total{backend="default",outcome="sent"}`); got != 1 {
		t.Errorf("%v retries are counted, want 1", got)
	}
}

// metrics returns what /metrics says.
func (c *culvert) metrics(t testing.TB) string {
	t.Helper()
	answer, err := http.Get("http://" + c.health + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }() // it has been read
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// metric returns the value of a line of /metrics.
func (c *culvert) metric(t testing.TB, line string) float64 {
	t.Helper()
	body := c.metrics(t)
	_, after, ok := strings.Cut("\n"+body, "\n"+line+" ")
	value, _, _ := strings.Cut(after, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if !ok || err != nil {
		t.Fatalf("no %s in\n%s", line, body)
	}
	return n
}

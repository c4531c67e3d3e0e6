package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/routing"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

const splitQueueTimeout = 7 * time.Second

// A half is one backend of a split in a bubble. It answers a call with its name, and holds
// those with "hold" in their metadata.
type half struct {
	name string
	kind string // see newHalf
	held chan struct{}
	fail chan struct{} // closed: no further connection can be made
}

// newHalf returns a half. "calls" has room for one by MaxCalls, "streams" for one by
// MAX_CONCURRENT_STREAMS, "growing" for that and one on a second connection. "away" can't
// be reached, "free" has room.
func newHalf(t *testing.T, name, kind string) (*half, NamedBackend) {
	h := &half{name: name, kind: kind, held: make(chan struct{}, 8), fail: make(chan struct{})}
	b := NamedBackend{Name: name, Backend: Backend{Target: "passthrough:///" + name, QueueTimeout: splitQueueTimeout}}
	var opts []grpc.ServerOption
	switch kind {
	case "calls":
		b.MaxCalls = 1
	case "streams", "growing":
		opts = append(opts, grpc.MaxConcurrentStreams(1))
		b.MaxConnections = map[string]int{"streams": 1, "growing": 2}[kind]
	}
	ln := parts.ListenPipe(t)
	t.Cleanup(parts.ServeBackend(t, ln, func(ss grpc.ServerStream) error {
		if md, _ := metadata.FromIncomingContext(ss.Context()); len(md["hold"]) > 0 {
			h.held <- struct{}{}
			return hold(ss)
		}
		return status.Error(codes.Aborted, name)
	}, opts...))
	b.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
		select {
		case <-h.fail:
			return nil, errors.New("connection refused")
		default:
			return ln.DialContext(ctx)
		}
	}
	if kind == "away" {
		close(h.fail)
	}
	return h, b
}

// begin runs a call with the metadata on a route. end ends it from the client's side, and
// returns how it ended.
func beginOn(t *testing.T, s *Server, r *route, md metadata.MD) (call *call, ended <-chan string, end func()) {
	d, c, done := newChannelDown(t), newCallOf(s), make(chan string, 1)
	c.route, c.Metadata = r, md
	go func() {
		c.handle(t.Context(), d, nil, nil)
		d.over.Store(true)
		done <- (<-d.end).status.Message()
	}()
	return c, done, func() {
		d.gone <- errors.New("the client has gone")
		<-done
	}
}

// TestSplitTakesTheRoomThatThereIs: a call whose backend is full, by either limit, begins
// at once at another one with room, with and without a key and a retry policy. If none has
// room, the call waits for one queue_timeout, or not at all if no call may wait.
func TestSplitTakesTheRoomThatThereIs(t *testing.T) {
	const tooLate, atOnce = "all connections to the backend are full", "calls of the backend are running"
	for _, c := range []struct {
		halves []string // kinds; the last one isn't full
		full   bool     // or is it
		want   string   // the names of those that may answer, or the text
		after  time.Duration
	}{
		{[]string{"calls", "free"}, false, "b", 0},
		{[]string{"streams", "free"}, false, "b", 0},
		{[]string{"calls", "streams", "free"}, false, "c", 0},
		{[]string{"streams", "streams", "streams"}, false, "c", 0},
		{[]string{"calls", "calls", "calls"}, false, "c", 0},
		{[]string{"calls", "away", "free"}, false, "c", 0},
		{[]string{"streams", "away", "free"}, false, "c", 0},
		{[]string{"growing", "free"}, false, "ab", 0},
		{[]string{"streams", "streams"}, true, tooLate, splitQueueTimeout},
		{[]string{"streams", "away"}, true, tooLate, splitQueueTimeout},
		{[]string{"calls", "streams"}, true, tooLate, splitQueueTimeout},
		{[]string{"streams", "calls", "streams"}, true, tooLate, splitQueueTimeout},
		{[]string{"calls", "calls"}, true, atOnce, 0},
		{[]string{"calls", "away"}, true, atOnce, 0},
	} {
		for _, retries := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,full=%v,retries=%v", strings.Join(c.halves, ","), c.full, retries), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					obs := newObserver()
					cfg := Config{Backends: []NamedBackend{{Name: DefaultBackend, Backend: nowhere}}, Observer: obs}
					var halves []*half
					var targets []report.Target
					for i, kind := range c.halves {
						h, b := newHalf(t, string(rune('a'+i)), kind)
						halves, cfg.Backends = append(halves, h), append(cfg.Backends, b)
						targets = append(targets, report.Target{Backend: h.name, Weight: 1 + i%2})
					}
					s := newServer(t, cfg)
					time.Sleep(connectGraceOfTests) // "away" no longer counts as about to connect
					for i, h := range halves {
						if h.kind == "away" || h.kind == "free" || i == len(halves)-1 && !c.full {
							continue
						}
						_, _, end := beginOn(t, s, &route{backend: h.name, treatment: &plain}, metadata.MD{"hold": {"1"}})
						defer end()
						<-h.held
					}
					split, err := routing.NewSplit(targets)
					if err != nil {
						t.Fatal(err)
					}
					r := &route{treatment: &treatment{split: split, sticky: "x-user"}}
					if retries {
						r.retry = &Retry{Attempts: 3, Codes: []codes.Code{codes.Unavailable}, Backoff: time.Hour}
					}
					for i := range 20 {
						md := metadata.MD{}
						if i%2 == 0 {
							md["x-user"] = []string{fmt.Sprint("user-", i)}
						}
						start := time.Now()
						call, ended, _ := beginOn(t, s, r, md)
						got := <-ended
						if names := len(c.want) <= len(halves); names != (len(got) == 1) || names && !strings.Contains(c.want, got) || !names && !strings.Contains(got, c.want) {
							t.Errorf("call %d ended with %q, want %q", i, got, c.want)
						}
						if len(got) == 1 && call.info.Backend != got {
							t.Errorf("call %d is said to be of %s, but %s answered", i, call.info.Backend, got)
						}
						if took := time.Since(start); took != c.after {
							t.Errorf("call %d took %v, want %v", i, took, c.after)
						}
						if n := len(obs.refused); n != 0 && c.want != atOnce || n != 1 && c.want == atOnce {
							t.Errorf("call %d: the Observer is told of %d refusals", i, n)
						}
						for len(obs.refused) > 0 {
							if r := <-obs.refused; r.Key != report.KeyBackendCalls {
								t.Errorf("refused by %s", r.Key)
							}
						}
					}
				})
			})
		}
	}
}

// connectGraceOfTests is longer than a backend counts as about to connect.
const connectGraceOfTests = 2 * time.Second

// TestSplitOpensConnectionsFirst: a backend that may have another connection isn't full. A
// call waits for it, but goes elsewhere at once when the connection can't be made. Calls
// come back when there is room again.
func TestSplitOpensConnectionsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, growing := newHalf(t, "a", "growing")
		_, other := newHalf(t, "b", "free")
		dials := make(chan chan bool)
		connect, first := growing.Dial, true
		growing.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			if first {
				first = false
				return connect(ctx, address)
			}
			answer := make(chan bool)
			select {
			case dials <- answer:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if !<-answer {
				return nil, errors.New("connection refused")
			}
			return connect(ctx, address)
		}
		s := newServer(t, Config{Backends: []NamedBackend{{Name: DefaultBackend, Backend: nowhere}, growing, other}})
		synctest.Wait()
		split, err := routing.NewSplit([]report.Target{{Backend: "a", Weight: 1}, {Backend: "b", Weight: 1}})
		if err != nil {
			t.Fatal(err)
		}
		r := &route{treatment: &treatment{split: split, sticky: "x-user"}}
		user := ""
		for i := 0; split.PickFor([]string{user}, func(string) bool { return true }) != "a"; i++ {
			user = fmt.Sprint("user-", i)
		}
		_, _, endFirst := beginOn(t, s, r, metadata.MD{"x-user": {user}, "hold": {"1"}})
		<-a.held
		wait := func(what string, ended <-chan string, want string) {
			t.Helper()
			if got := <-ended; got != want {
				t.Errorf("%s ended with %q, want %q", what, got, want)
			}
		}
		_, waiting, _ := beginOn(t, s, r, metadata.MD{"x-user": {user}})
		answer := <-dials
		synctest.Wait()
		if len(waiting) > 0 {
			t.Errorf("the call doesn't wait for the connection: it ended with %q", <-waiting)
		}
		start := time.Now()
		answer <- false
		wait("a call whose connection failed", waiting, "b")
		_, next, _ := beginOn(t, s, r, metadata.MD{"x-user": {user}})
		wait("the next call", next, "b")
		if took := time.Since(start); took != 0 {
			t.Errorf("the calls took %v", took)
		}
		endFirst()
		synctest.Wait()
		_, back, _ := beginOn(t, s, r, metadata.MD{"x-user": {user}})
		wait("a call after the end of the first", back, "a")
	})
}

// TestSplitOfManyCallsAtOnce: of calls that begin together, as many stay at a backend as
// it takes, and none fails beside one with room.
func TestSplitOfManyCallsAtOnce(t *testing.T) {
	for _, kind := range []string{"calls", "streams"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, few := newHalf(t, "a", kind)
				_, free := newHalf(t, "b", "free")
				s := newServer(t, Config{Backends: []NamedBackend{{Name: DefaultBackend, Backend: nowhere}, few, free}})
				synctest.Wait()
				split, err := routing.NewSplit([]report.Target{{Backend: "a", Weight: 3}, {Backend: "b", Weight: 1}})
				if err != nil {
					t.Fatal(err)
				}
				start, answers := time.Now(), map[string]int{}
				for range 20 {
					var all []<-chan string
					for range 50 {
						_, ended, _ := beginOn(t, s, &route{treatment: &treatment{split: split}}, metadata.MD{})
						all = append(all, ended)
					}
					for _, ended := range all {
						answers[<-ended]++
					}
				}
				names := make([]string, 0, len(answers))
				for name := range answers {
					names = append(names, name)
				}
				if slices.Sort(names); !slices.Equal(names, []string{"a", "b"}) {
					t.Errorf("the calls ended with %v", answers)
				}
				if took := time.Since(start); took != 0 {
					t.Errorf("the calls took %v", took)
				}
			})
		})
	}
}

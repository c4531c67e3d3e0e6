package bridge

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// oldest selects all calls, oldest first.
func oldest(c *OpenCall) (key int64, selected bool) { return -c.Begin.UnixNano(), true }

// wantCall waits until the only open call is as wanted, and returns it.
func wantCall(t testing.TB, s *Server, what string, as func(OpenCall) bool) (found OpenCall) {
	t.Helper()
	poll(t, func() string {
		calls := s.OpenCalls().Top(10, oldest)
		if len(calls) != 1 || !as(calls[0]) {
			return fmt.Sprintf("%s: %+v", what, calls)
		}
		found = calls[0]
		return ""
	})
	return found
}

// TestOpenCallsSayWhatIsKnown of a call, while it runs.
func TestOpenCallsSayWhatIsKnown(t *testing.T) {
	s := newServer(t, Config{
		Backends: []NamedBackend{{Name: "orders", Backend: Backend{Target: startBackend(t, echo)}}},
		Routes:   []Route{{Name: "tests", Match: report.Match{Methods: []string{"test.Service/*"}}, Backend: "orders"}},
		Authenticator: authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) {
			return &Identity{Name: "alice"}, nil
		}),
	})
	near := serveListener(t, s, listen(t, "127.0.0.1:0"), Listener{Name: "near"})
	before := time.Now()
	stream := open(metadata.AppendToOutgoingContext(within(t, patience), "x-request-id", "mine"), t, dial(t, near), testMethod)
	for range 3 {
		var reply []byte
		if err := stream.SendMsg(pattern(100)); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&reply); err != nil {
			t.Fatal(err)
		}
	}
	got := wantCall(t, s, "with three messages each way", func(c OpenCall) bool { return c.MessagesOut == 3 })
	if got.Begin.Before(before) || got.Begin.After(time.Now()) || got.LastMessage.Before(before.Truncate(time.Second)) || got.LastMessage.After(time.Now()) || got.HeldBytes < memory.CallBytes || got.Peer == "" {
		t.Errorf("got %+v, which began at %v", got, before)
	}
	want := OpenCall{
		ID: "mine", Method: testMethod, Route: "tests", Backend: "orders", Transport: "grpc", Listener: "near", Peer: got.Peer, Identity: "alice", Begin: got.Begin,
		MessagesIn: 3, MessagesOut: 3, BytesIn: 300, BytesOut: 300, HeldBytes: got.HeldBytes, LastMessage: got.LastMessage, WaitsFor: got.WaitsFor, WaitsSince: got.WaitsSince,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	poll(t, func() string {
		if calls := s.OpenCalls().Top(10, oldest); len(calls) > 0 {
			return fmt.Sprintf("after the end: %+v", calls)
		}
		return ""
	})
}

// TestLastMessageIsThatOfTheLook: it stays while none passes, and moves when one does.
func TestLastMessageIsThatOfTheLook(t *testing.T) {
	g := &registry{}
	g.clock.Store(1)
	w := &watched{registry: g, held: newEntry(1 << 20), began: 1, progress: progress.Record{Clock: parts.StandingClock()}}
	w.lastSeen.Store(1)
	look := func(at int64) int64 {
		g.clock.Add(1)
		w.noteWait(at, false, false)
		return w.looked.message.Load()
	}
	if got := look(1000); got != 0 {
		t.Errorf("no message has passed, and the last one is of %d", got)
	}
	w.in.messages.Add(1)
	w.lastSeen.Store(g.now())
	for _, step := range []struct {
		at, want int64
		passes   bool
	}{{1001, 1001, false}, {1002, 1001, false}, {1010, 1001, true}, {1011, 1011, false}} {
		if got := look(step.at); got != step.want {
			t.Errorf("at %d the last message is of %d, want %d", step.at, got, step.want)
		}
		if step.passes {
			w.lastSeen.Store(g.now())
		}
	}
}

// TestCallsSayWhatTheyWaitFor: each wait, from its cause to what people see.
func TestCallsSayWhatTheyWaitFor(t *testing.T) {
	waits := func(c OpenCall, what Wait) bool {
		return c.WaitsFor == what && (what == WaitsNot || !c.WaitsSince.IsZero() && !c.WaitsSince.After(time.Now()))
	}
	want := func(t *testing.T, s *Server, what Wait) {
		t.Helper()
		wantCall(t, s, fmt.Sprintf("want it to wait for %d", what), func(c OpenCall) bool { return waits(c, what) })
	}
	flood := func(ss grpc.ServerStream) error {
		for {
			if err := ss.SendMsg(pattern(64 << 10)); err != nil {
				return err
			}
		}
	}
	t.Run("the client", func(t *testing.T) {
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, flood)}})
		open(within(t, patience), t, dial(t, serve(t, s)), testMethod)
		want(t, s, WaitsForClient)
	})
	t.Run("the backend", func(t *testing.T) {
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}})
		stream := open(within(t, patience), t, dial(t, serve(t, s)), testMethod)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for stream.SendMsg(pattern(64<<10)) == nil {
			}
		}()
		want(t, s, WaitsForBackend)
		_ = s.Close()
		await(t, "the end of the upload", sent)
	})
	t.Run("the answer", func(t *testing.T) {
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}})
		stream := open(within(t, patience), t, dial(t, serve(t, s)), testMethod)
		want(t, s, WaitsNot) // the backend has no message yet
		if err := stream.SendMsg([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		want(t, s, WaitsForAnswer)
	})
	t.Run("a place", func(t *testing.T) {
		s := newServer(t, Config{Backend: Backend{Target: nowhere.Target, ConnectTimeout: patience}})
		open(within(t, patience), t, dial(t, serve(t, s)), testMethod)
		want(t, s, WaitsForPlace)
	})
	t.Run("memory", func(t *testing.T) {
		w := &watched{held: newEntry(1 << 20)}
		w.held.NoteWaiting(1)
		if got := w.waitsFor(true, false); got != WaitsForMemory {
			t.Errorf("got %d, want %d", got, WaitsForMemory)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		s := newServer(t, Config{Backend: Backend{Target: startBackend(t, echo)}})
		stream := open(within(t, patience), t, dial(t, serve(t, s)), testMethod)
		var reply []byte
		if err := stream.SendMsg(pattern(100)); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&reply); err != nil {
			t.Fatal(err)
		}
		looks := s.registry.now() + 2
		poll(t, func() string {
			if now := s.registry.now(); now < looks {
				return fmt.Sprintf("the look %d hasn't run, want %d", now, looks)
			}
			return ""
		})
		want(t, s, WaitsNot)
	})
}

// TestTopCallsAreInOrder: the first by the key, and of the same key the oldest.
func TestTopCallsAreInOrder(t *testing.T) {
	s, calls := manyCalls(t, 100)
	bytes := func(c *OpenCall) (int64, bool) { return c.BytesIn, c.BytesIn != 970 }
	for _, most := range []int{0, 1, 7, 100, 1000} {
		got := s.OpenCalls().Top(most, bytes)
		var want []string
		for i := len(calls) - 1; i >= 0 && len(want) < most; i-- {
			if i != 97 {
				want = append(want, calls[i].info.ID)
			}
		}
		ids := make([]string, len(got))
		for i := range got {
			ids[i] = got[i].ID
		}
		if !slices.Equal(ids, want) {
			t.Errorf("the first %d: got %v, want %v", most, ids, want)
		}
	}
	same := s.OpenCalls().Top(3, func(*OpenCall) (int64, bool) { return 1, true })
	if len(same) != 3 || same[0].ID != calls[0].info.ID || same[2].ID != calls[2].info.ID {
		t.Errorf("of the same key: got %+v, want the oldest", same)
	}
}

// manyCalls returns a Server with that many open calls without clients, which doesn't look at
// them.
func manyCalls(t testing.TB, n int) (*Server, []*call) {
	t.Helper()
	s, err := New(Config{Backend: nowhere})
	if err != nil {
		t.Fatal(err)
	}
	s.registry.looking = true // so that no look runs beside the test
	calls := make([]*call, n)
	for i := range calls {
		c := &call{watched: watched{held: s.account.NewEntry(), cancel: func(error) {}, limits: &s.policy.Load().limits}}
		c.held.Call = c
		c.progress.Clock = &s.registry.clock
		c.info = &report.CallInfo{ID: fmt.Sprintf("id-%06d", i), Method: testMethod, Transport: "grpc", Peer: "192.0.2.1:1234", Begin: time.Unix(int64(i), 0)}
		c.in.messages.Store(1)
		c.in.bytes.Store(int64(i) * 10)
		s.registry.add(&c.watched, trafficKey{"", "grpc"})
		calls[i] = c
	}
	t.Cleanup(func() {
		for _, c := range calls {
			s.registry.remove(&c.watched)
		}
		s.registry.looking = false
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, calls
}

// TestManyOpenCallsAreCheapToList: an open call takes no allocation to look at.
func TestManyOpenCallsAreCheapToList(t *testing.T) {
	s, _ := manyCalls(t, 50_000)
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const most = 100
	if got := testing.AllocsPerRun(3, func() { s.OpenCalls().Top(most, oldest) }); got > 4*most {
		t.Errorf("%.0f allocations", got)
	}
}

// TestStoppedCallsAreTold: client and Observer get the reason.
func TestStoppedCallsAreTold(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}, Observer: obs})
	addr := serve(t, s)
	for name, cc := range map[string]*grpc.ClientConn{"native": dial(t, addr), "in a tunnel": dialTunnel(t, addr, http.Header{})} {
		stream := open(within(t, patience), t, cc, testMethod)
		c := wantCall(t, s, name, func(OpenCall) bool { return true })
		if found := s.OpenCalls().Stop("other", time.Time{}); len(found) != 0 {
			t.Errorf("%s: another id: %+v", name, found)
		}
		if found := s.OpenCalls().Stop(c.ID, c.Begin.Add(1)); len(found) != 0 {
			t.Errorf("%s: another begin: %+v", name, found)
		}
		if found := s.OpenCalls().Stop(c.ID, c.Begin); len(found) != 1 || found[0].ID != c.ID {
			t.Errorf("%s: stopped %+v", name, found)
		}
		err := stream.RecvMsg(new([]byte))
		if st := status.Convert(err); st.Code() != codes.Aborted || errorInfo(t, st).GetReason() != string(report.ReasonStopped) {
			t.Errorf("%s: got %v, want ABORTED with STOPPED", name, err)
		}
		if info := await(t, "the end", obs.ended); info.Origin != report.OriginCulvert || info.Reason != report.ReasonStopped || info.Limit != "" {
			t.Errorf("%s: the Observer got %+v", name, info)
		}
	}
}

// TestOneOfSeveralCallsIsStopped: an id alone doesn't select one of two calls.
func TestOneOfSeveralCallsIsStopped(t *testing.T) {
	s := newServer(t, Config{Backend: Backend{Target: startBackend(t, hold)}})
	cc := dial(t, serve(t, s))
	ctx := metadata.AppendToOutgoingContext(within(t, patience), "x-request-id", "same")
	open(ctx, t, cc, testMethod)
	open(ctx, t, cc, testMethod)
	poll(t, func() string {
		if n := len(s.OpenCalls().Top(10, oldest)); n != 2 {
			return fmt.Sprintf("%d calls", n)
		}
		return ""
	})
	found := s.OpenCalls().Stop("same", time.Time{})
	if len(found) != 2 {
		t.Fatalf("found %+v, want both", found)
	}
	if stopped := s.OpenCalls().Stop("same", found[1].Begin); len(stopped) != 1 {
		t.Fatalf("stopped %+v, want one", stopped)
	}
	wantCall(t, s, "the other one", func(c OpenCall) bool { return c.Begin.Equal(found[0].Begin) })
}

// TestNamesAreReadBesideTheCall: nothing races with calls that begin, settle and end.
func TestNamesAreReadBesideTheCall(t *testing.T) {
	s := newServer(t, Config{
		Backends: []NamedBackend{{Name: "orders", Backend: Backend{Target: startBackend(t, echo)}}},
		Routes:   []Route{{Name: "tests", Match: report.Match{Methods: []string{"test.Service/*"}, Metadata: []report.Condition{{Name: "x-a", Value: "1"}}}, Backend: "orders"}, {Name: "rest", Match: report.Match{Methods: []string{"test.Service/*"}}, Backend: "orders"}},
		Authenticator: authenticator(func(context.Context, string, Peer, metadata.MD) (*Identity, error) {
			return &Identity{Name: "alice"}, nil
		}),
	})
	addr := serve(t, s)
	ctx, stop := context.WithCancel(within(t, patience))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			s.OpenCalls().Top(10, oldest)
		}
	}()
	for _, cc := range []*grpc.ClientConn{dial(t, addr), dialTunnel(t, addr, http.Header{})} {
		for i := range 50 {
			if err := unary(metadata.AppendToOutgoingContext(within(t, patience), "x-a", fmt.Sprint(i%2)), cc, testMethod); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop()
	await(t, "the reader", done)
}

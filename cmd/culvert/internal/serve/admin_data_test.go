package serve

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/admin"
	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/keys"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/recent"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/telemetry"
)

// newWatchedProgram returns a program that serves, with the address of its listener "near" and
// its log.
func newWatchedProgram(t *testing.T) (*program, string, *bytes.Buffer) {
	t.Helper()
	c := cmdtest.Load(t, "backend: {address: 'localhost:1'}\n")
	p := newTestProgram(t, c)
	var log bytes.Buffer
	p.log.Logger = slog.New(slog.NewTextHandler(&log, nil))
	p.observers.recent, p.observers.certificates = recent.NewRecorder(time.Now()), new(recent.Certificates)
	var err error
	if p.keys, err = keys.Open(c, p.log.Logger, p.observers.certificates, p.Out); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.keys.Close(keys.Patience) })
	if p.bridge, err = bridge.New(bridge.Config{Backend: bridge.Backend{Target: parts.StartBackend(t, parts.Hold)}, Observer: connWatcher{telemetry.NewLog(slog.New(slog.DiscardHandler)), newReleaser(func() int64 { return 0 }, func() int64 { return 0 }, func() {}, p.log.Logger), p.observers.recent}, CallEnded: p.observers.recent.CallEnded}); err != nil {
		t.Fatal(err)
	}
	ln := parts.Listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := p.bridge.ServeListener(ln, bridge.Listener{Name: "near"}); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("ServeListener: %v", err)
		}
	})
	t.Cleanup(func() {
		_ = p.bridge.Close() // it never fails
		serving.Wait()
	})
	return p, ln.Addr().String(), &log
}

// begin begins a call of a method that never answers, with an id.
func begin(t *testing.T, address, method, id string) grpc.ClientStream {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(parts.BytesCodec{})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() }) // the test is over
	ctx := metadata.AppendToOutgoingContext(parts.Within(t, parts.Patience), "x-request-id", id)
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// TestAdminShowsOpenCalls: in each order, by each filter, and one less after a stop.
func TestAdminShowsOpenCalls(t *testing.T) {
	p, address, log := newWatchedProgram(t)
	all := admin.CallQuery{Order: "age", Limit: 10}
	streams := map[string]grpc.ClientStream{}
	for i, id := range []string{"one", "two", "three"} {
		streams[id] = begin(t, address, "/shop.v1.Orders/"+id, id)
		for range i + 1 {
			if err := streams[id].SendMsg(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		parts.Poll(t, func() string { // the order of ages is that of their arrival
			if open := p.openCalls(all).Open; open != i+1 {
				return fmt.Sprintf("%d calls are open, want %d", open, i+1)
			}
			return ""
		})
	}
	parts.Poll(t, func() string {
		got := p.openCalls(all)
		if got.Matching != 3 || got.Waiting.Answer != 3 || slices.ContainsFunc(got.Calls, func(c admin.Call) bool { return c.MessagesIn == 0 }) {
			return fmt.Sprintf("got %+v", got)
		}
		return ""
	})
	ids := func(q admin.CallQuery) (ids string) {
		for _, c := range p.openCalls(q).Calls {
			ids += string(c.ID) + " "
		}
		return strings.TrimSpace(ids)
	}
	for _, x := range []struct {
		query admin.CallQuery
		want  string
	}{
		{all, "one two three"},
		{admin.CallQuery{Order: "messages", Limit: 10}, "three two one"},
		{admin.CallQuery{Order: "bytes", Limit: 2}, "three two"},
		{admin.CallQuery{Order: "age", Limit: 10, ID: "two"}, "two"},
		{admin.CallQuery{Order: "age", Limit: 10, Method: "s/t"}, "two three"},
		{admin.CallQuery{Order: "age", Limit: 10, Backend: bridge.DefaultBackend, Listener: "near", Transport: "grpc", WaitsFor: "answer", Peer: "127.0.0.1:"}, "one two three"},
		{admin.CallQuery{Order: "bytes", Limit: 1, WaitsFor: admin.WaitsForAny}, "three"},
		{admin.CallQuery{Order: "age", Limit: 10, Listener: "far"}, ""},
		{admin.CallQuery{Order: "age", Limit: 10, Identity: "alice"}, ""},
		{admin.CallQuery{Order: "age", Limit: 10, WaitsFor: "client"}, ""},
		{admin.CallQuery{Order: "age", Limit: 10, Route: "orders"}, ""},
	} {
		if got := ids(x.query); got != x.want {
			t.Errorf("%+v: got %q, want %q", x.query, got, x.want)
		}
	}
	if got := p.openCalls(admin.CallQuery{Order: "age", Limit: 10, WaitsFor: admin.WaitsForClient}); got.Matching != 0 || got.Waiting.Answer != 3 {
		t.Errorf("a filter of waits hides how many calls wait for others: got %+v", got)
	}
	for _, order := range admin.Orders {
		if got := p.openCalls(admin.CallQuery{Order: order, Limit: 10}); len(got.Calls) != 3 || got.Open != 3 {
			t.Errorf("by %s: got %+v", order, got)
		}
	}
	if got := p.stopCall(admin.Stop{ID: "four", By: "me"}); got.Stopped != 0 || got.Found != 0 {
		t.Errorf("no such call: got %+v", got)
	}
	if got := p.stopCall(admin.Stop{ID: "two", By: "me"}); got.Stopped != 1 || got.Call.ID != "two" {
		t.Errorf("got %+v, want two stopped", got)
	}
	if err := streams["two"].RecvMsg(new([]byte)); status.Code(err) != codes.Aborted {
		t.Errorf("the client got %v, want ABORTED", err)
	}
	if got := log.String(); !strings.Contains(got, "call stopped by an operator") || !strings.Contains(got, "call_id=two") || !strings.Contains(got, "asked_by=me") {
		t.Errorf("the log has %q", got)
	}
	parts.Poll(t, func() string {
		failures := p.data().Failures(admin.FailureQuery{})
		if got := ids(all); got != "one three" || len(failures.Failures) != 1 || failures.Failures[0].Reason != admin.Text(report.ReasonStopped) {
			return fmt.Sprintf("after the stop: %q, %+v", got, failures)
		}
		return ""
	})
	if routes := p.data().Routes(); len(routes.Routes) != 1 || routes.Routes[0].Errors != 1 || routes.Routes[0].Backend != bridge.DefaultBackend {
		t.Errorf("got %+v", routes)
	}
}

// TestAdminShowsConnectionsAndMemory of the calls that run.
func TestAdminShowsConnectionsAndMemory(t *testing.T) {
	p, address, _ := newWatchedProgram(t)
	for range 2 {
		if err := begin(t, address, "/shop.v1.Orders/Watch", "x").SendMsg([]byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	parts.Poll(t, func() string {
		c, b, m := p.connections(), p.backendStates(), p.heldMemory(10)
		if len(c.Connections) != 1 || c.Connections[0] != (admin.ConnectionCount{Listener: "near", Transport: "h2", Open: 2}) || len(c.Calls) != 1 || c.Calls[0] != (admin.CallCount{Listener: "near", Transport: "grpc", Open: 2}) {
			return fmt.Sprintf("connections: %+v", c)
		}
		if len(b.Backends) != 1 || b.Backends[0].State != "ready" || b.Backends[0].Calls != 2 || len(b.Backends[0].Addresses) != 1 {
			return fmt.Sprintf("backends: %+v", b)
		}
		a := b.Backends[0].Addresses[0]
		if !a.Accepts || a.Connections != 1 || a.Calls != 2 || a.Picks != 2 || a.Places == 0 {
			return fmt.Sprintf("an address: %+v", a)
		}
		if none := p.heldMemory(0); len(none.Calls) != 0 || len(none.Connections) != 0 || none.CallBytes != 0 || none.HeldBytes != m.HeldBytes || none.LimitBytes != m.LimitBytes {
			return fmt.Sprintf("memory without calls: %+v", none)
		}
		if len(m.Calls) != 2 || len(m.Addresses) != 1 || m.Addresses[0].Address != "127.0.0.1" || m.Addresses[0].Calls != 2 || m.Addresses[0].MemoryBytes != m.CallBytes || m.HeldBytes < m.CallBytes || m.CallBytes == 0 {
			return fmt.Sprintf("memory: %+v", m)
		}
		if len(m.Connections) != 2 || m.Connections[0] != (admin.ConnectionMemory{Peer: m.Connections[0].Peer, Listener: "near", Transport: "h2", Calls: 1, MemoryBytes: m.Connections[0].MemoryBytes}) || m.Connections[0].MemoryBytes < m.Connections[1].MemoryBytes || m.Connections[1].MemoryBytes < bridge.ConnBytes || m.OtherBytes < m.Connections[0].MemoryBytes+m.Connections[1].MemoryBytes {
			return fmt.Sprintf("connections that hold most: %+v", m)
		}
		return ""
	})
}

// TestRefusedConfigurationsAreExplained: keys that differ, and those that need a restart.
func TestRefusedConfigurationsAreExplained(t *testing.T) {
	r := newReloadTest(t, reloadBase)
	p := newTestProgram(t, r.current().Loaded)
	p.reloads = r.reloader
	r.write(reloadBase + "health: {listen: 'off'}\n")
	r.reload(false)
	got := p.configuration()
	if got.Rejected == nil || !slices.Contains(got.Difference, "health.listen") || !slices.Contains(got.Restart, "health.listen") {
		t.Errorf("a file that needs a restart: got %+v", got)
	}
	r.write("errors: none\n")
	r.reload(false)
	if got := p.configuration(); got.Rejected == nil || len(got.Difference) != 0 || len(got.Restart) != 0 {
		t.Errorf("a file with a mistake: got %+v", got)
	}
}

package edge

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestTallyFollowsAConnection: it counts once, as what it spoke last. A request that
// begins after the end, as with HTTP/2 of net/http, counts nothing.
func TestTallyFollowsAConnection(t *testing.T) {
	e := testEdge(t, Options{Own: report.Listener{Name: "own"}})
	server, _ := tcpPair(t)
	c := e.newClient(server, e.own, e.o.Bounds(e.own))
	on := e.meet(c, e.own)
	request := func(major int) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
		r.ProtoMajor = major
		on.BeginRequest(httptest.NewRecorder(), r)
	}
	for _, step := range []struct {
		name string
		do   func()
		want []report.Connections
	}{
		{"accepted", func() { e.noteState(e.own, c, http.StateNew) }, []report.Connections{{Listener: "own", Transport: "", Open: 1}}},
		{"a request", func() { request(1) }, []report.Connections{{Listener: "own", Transport: "http/1.1", Open: 1}}},
		{"another", func() { request(1) }, []report.Connections{{Listener: "own", Transport: "http/1.1", Open: 1}}},
		{"an upgrade", func() { on.Taken() }, []report.Connections{{Listener: "own", Transport: "websocket", Open: 1}}},
		{"its end", func() { on.noteEnd(c) }, nil},
		{"a request behind the end", func() { request(2) }, nil},
	} {
		step.do()
		if got := e.Tally(); !slices.Equal(got, step.want) {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
	}
	if n := e.Open(); n != 0 {
		t.Errorf("%d connections are open at the end", n)
	}
}

// TestConnectionsThatAreTakenOver by a WebSocket count until that closes. One that a
// handler of the embedder's takes over counts until it is closed, if Serve accepted it,
// else no longer.
func TestConnectionsThatAreTakenOver(t *testing.T) {
	for _, c := range []struct {
		name         string
		serves, ours bool
		before       int64 // open connections before the close
	}{
		{name: "a WebSocket, accepted by Serve", serves: true, ours: true, before: 1},
		{name: "a WebSocket, accepted by another", ours: true, before: 1},
		{name: "an embedder's, accepted by Serve", serves: true, before: 1},
		{name: "an embedder's, accepted by another", before: 0},
	} {
		obs := newObserver()
		e := testEdge(t, Options{Observer: obs})
		hs := pageServer(e, e.own, time.Minute)
		taken := make(chan func(), 1)
		hs.HTTP.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			on := e.Of(r)
			on.BeginRequest(w, r)
			closed := func(net.Conn) {}
			if c.ours {
				closed = on.Taken()
			}
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				return
			}
			taken <- func() {
				_, _ = conn.Close(), conn.Close() // the second one fails
				closed(conn)
			}
		})
		serve := hs.HTTP.Serve
		if c.serves {
			serve = func(ln net.Listener) error { return e.Serve(ln, e.own, hs) }
		}
		conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", serveHTTP(t, hs.HTTP, serve))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, getPage); err != nil {
			t.Fatal(err)
		}
		end := await(t, c.name, taken)
		if n := e.Open(); n != c.before {
			t.Errorf("%s: %d are open, want %d", c.name, n, c.before)
		}
		end()
		if info := await(t, c.name+": its end", obs.conns); info.Ended != report.EndedOrderly {
			t.Errorf("%s: its end is told as %+v", c.name, info)
		}
		if n := e.Open(); n != 0 || len(e.Tally()) != 0 || len(obs.conns) != 0 {
			t.Errorf("%s: behind its end %d are open, %+v, and %d more ends are told", c.name, n, e.Tally(), len(obs.conns))
		}
		_ = conn.Close() // only its end is of interest
	}
}

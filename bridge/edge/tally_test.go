package edge

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
)

// TestTallyFollowsAConnection: it counts once, as what it spoke last. A request that
// begins after the end, as with HTTP/2 of net/http, counts nothing.
func TestTallyFollowsAConnection(t *testing.T) {
	e := testEdge(t, Options{Own: Listener{Name: "own"}})
	server, _ := tcpPair(t)
	c := e.newClient(server, e.own)
	on := e.meet(c, e.own)
	request := func(major int) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
		r.ProtoMajor = major
		on.BeginRequest(httptest.NewRecorder(), r)
	}
	for _, step := range []struct {
		name string
		do   func()
		want []Connections
	}{
		{"accepted", func() { e.noteState(e.own, c, http.StateNew) }, []Connections{{"own", "", 1}}},
		{"a request", func() { request(1) }, []Connections{{"own", "http/1.1", 1}}},
		{"another", func() { request(1) }, []Connections{{"own", "http/1.1", 1}}},
		{"an upgrade", func() { on.Taken() }, []Connections{{"own", "websocket", 1}}},
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

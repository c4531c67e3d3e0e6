package edge

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// connOf returns a connection that is old enough to end, or isn't.
func connOf(t *testing.T, o Options, old bool) *Conn {
	t.Helper()
	e := testEdge(t, o)
	var b Bounds
	if old {
		b.MaxAge = time.Nanosecond
	}
	c := e.newClient(nil, e.own, b)
	if old != c.life.old() {
		t.Fatalf("old is %v", !old)
	}
	return &c.on
}

// TestWhenHTTP1Closes behind a call's answer.
func TestWhenHTTP1Closes(t *testing.T) {
	yes := func() bool { return true }
	for name, c := range map[string]struct {
		major       int
		o           Options
		old, unread bool
		want        bool
	}{
		"young and read":            {major: 1},
		"old":                       {major: 1, old: true, want: true},
		"with a rest of the body":   {major: 1, unread: true, want: true},
		"while draining":            {major: 1, o: Options{Draining: yes}, want: true},
		"while calls are refused":   {major: 1, o: Options{Leaving: yes}, want: true},
		"HTTP/2, with all of these": {major: 2, o: Options{Draining: yes}, old: true, unread: true},
	} {
		h := http.Header{}
		connOf(t, c.o, c.old).CloseBehindCall(h, &http.Request{ProtoMajor: c.major}, c.unread)
		if got := h.Get("Connection") == "close"; got != c.want {
			t.Errorf("%s: the connection closes: %v, want %v", name, got, c.want)
		}
	}
}

// TestWhatARequestAnnounces before anybody answers it.
func TestWhatARequestAnnounces(t *testing.T) {
	for name, c := range map[string]struct {
		r    http.Request
		o    Options
		old  bool
		want string

		left, later bool // edge.Leave was called; before the connection began
	}{
		"HTTP/1.1":                       {r: http.Request{ProtoMajor: 1, ProtoMinor: 1}},
		"HTTP/1.0":                       {r: http.Request{ProtoMajor: 1}, want: "close"},
		"chunks":                         {r: http.Request{ProtoMajor: 1, ProtoMinor: 1, TransferEncoding: []string{"chunked"}}, want: "close"},
		"an old connection":              {r: http.Request{ProtoMajor: 1, ProtoMinor: 1}, old: true, want: "close"},
		"an old one of HTTP/2":           {r: http.Request{ProtoMajor: 2}, old: true},
		"an old one of net/http's":       {r: http.Request{ProtoMajor: 2}, o: Options{StandardHTTP2: true}, old: true, want: "close"},
		"a young one of net/http's":      {r: http.Request{ProtoMajor: 2}, o: Options{StandardHTTP2: true}},
		"one that is left":               {r: http.Request{ProtoMajor: 2}, o: Options{StandardHTTP2: true}, left: true, want: "close"},
		"one that begins after that":     {r: http.Request{ProtoMajor: 2}, o: Options{StandardHTTP2: true}, left: true, later: true},
		"one that is left, HTTP/2":       {r: http.Request{ProtoMajor: 2}, left: true},
		"HTTP/2 whose body has no end":   {r: http.Request{ProtoMajor: 2, ContentLength: -1}},
		"HTTP/1.1 with a body, no chunk": {r: http.Request{ProtoMajor: 1, ProtoMinor: 1, ContentLength: 5}},
	} {
		w := httptest.NewRecorder()
		on := connOf(t, c.o, c.old)
		if c.left {
			on.edge.Leave()
		}
		if c.later {
			on = &on.edge.newClient(nil, on.edge.own, Bounds{}).on
		}
		on.BeginRequest(w, &c.r)
		if got := w.Header().Get("Connection"); got != c.want {
			t.Errorf("%s: Connection is %q, want %q", name, got, c.want)
		}
	}
}

// TestRefusalClosesHTTP1, and lets the client read why if its body is left.
func TestRefusalClosesHTTP1(t *testing.T) {
	for name, c := range map[string]struct {
		r              http.Request
		closes, linger bool
	}{
		"HTTP/1.1":             {http.Request{ProtoMajor: 1, ProtoMinor: 1}, true, false},
		"HTTP/1.1 with a body": {http.Request{ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1}, true, true},
		"HTTP/2 with a body":   {http.Request{ProtoMajor: 2, ContentLength: -1}, false, false},
	} {
		on := connOf(t, Options{}, false)
		w := httptest.NewRecorder()
		if got := on.CloseBehindRefusal(w, &c.r); got != c.closes || (w.Header().Get("Connection") == "close") != c.closes {
			t.Errorf("%s: closes: %v with Connection %q, want %v", name, got, w.Header().Get("Connection"), c.closes)
		}
		if got := on.client.linger.Load(); got != c.linger {
			t.Errorf("%s: lingers: %v, want %v", name, got, c.linger)
		}
	}
	w := httptest.NewRecorder()
	w.Header().Set("Upgrade", "websocket")
	connOf(t, Options{}, false).CloseBehindRefusal(w, &http.Request{ProtoMajor: 1, ProtoMinor: 1})
	if got, want := w.Header()["Connection"], []string{"close", "Upgrade"}; !slices.Equal(got, want) {
		t.Errorf("an answer that asks for an upgrade has the Connection %q, want %q", got, want)
	}
}

// TestFinishBody reads a short body whose length is known, and no other.
func TestFinishBody(t *testing.T) {
	for name, c := range map[string]struct {
		r    http.Request
		want int // bytes that are left
	}{
		"short":          {http.Request{ProtoMajor: 1, ContentLength: 5}, 0},
		"long":           {http.Request{ProtoMajor: 1, ContentLength: unreadBytes + 1}, 5},
		"unknown length": {http.Request{ProtoMajor: 1, ContentLength: -1}, 5},
		"HTTP/2":         {http.Request{ProtoMajor: 2, ContentLength: 5}, 5},
	} {
		body := strings.NewReader("12345")
		connOf(t, Options{}, false).FinishBody(httptest.NewRecorder(), &c.r, body)
		if body.Len() != c.want {
			t.Errorf("%s: %d bytes are left, want %d", name, body.Len(), c.want)
		}
	}
}

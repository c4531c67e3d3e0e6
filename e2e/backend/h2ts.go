package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/http2"
)

// tunnels serves HTTP/2 in WebSockets (subprotocol h2ts) with golang.org/x/net/http2, for
// clients that speak it themselves: no culvert is in between. Tests ask it to behave oddly
// for all tunnels of one path, a client's base path: [tunnels.control].
type tunnels struct {
	calls     http.Handler
	raws      raws
	refreshes *refreshes

	mu      sync.Mutex
	rules   map[string]rules // by path
	opened  map[string]int   // tunnels so far, by path
	live    map[*tunnel]struct{}
	changed chan struct{} // closed and replaced when a tunnel begins or ends, or a rule changes
}

// rules say how the tunnels of one path behave that begin from now on.
type rules struct {
	MaxStreams   uint32 `json:"maxStreams"`   // SETTINGS_MAX_CONCURRENT_STREAMS; 0: 250
	StreamWindow int32  `json:"streamWindow"` // a stream's window for requests, in bytes; 0: 1 MiB
	Hold         bool   `json:"hold"`         // the server's bytes, with its SETTINGS, are held back until /release
	Refuse       int    `json:"refuse"`       // so many calls are refused with REFUSED_STREAM; counts down
	Status       int    `json:"status"`       // answers the upgrade; 0: 101
	Silent       bool   `json:"silent"`       // the upgrade isn't answered
	NoProtocol   bool   `json:"noProtocol"`   // the upgrade is answered without a subprotocol
	Refreshes    []int  `json:"refreshes"`    // the codes of the answers to culvert.v1.Session/Refresh: [refreshes]; empty: the backend answers
}

// tunnel is one WebSocket, as the HTTP/2 server's connection.
type tunnel struct {
	net.Conn
	path     string
	socket   *websocket.Conn
	server   *http.Server // its Shutdown sends GOAWAY
	released chan struct{}
	refused  atomic.Int64 // calls whose RST_STREAM is yet to be sent

	output frames // used by the server's one writer
	held   bool   // guarded by tunnels.mu, like what follows
}

func newTunnels(calls http.Handler) *tunnels {
	return &tunnels{
		calls: calls, rules: map[string]rules{}, opened: map[string]int{},
		live: map[*tunnel]struct{}{}, changed: make(chan struct{}), refreshes: newRefreshes(),
	}
}

// ServeHTTP serves a tunnel, or what a test asks for under /-.
func (ts *tunnels) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/")
	ts.mu.Lock()
	rule := ts.rules[path]
	ts.mu.Unlock()
	switch {
	case rule.Silent:
		<-r.Context().Done()
		return
	case rule.Status != 0:
		http.Error(w, "a rule says so", rule.Status)
		return
	}
	options := &websocket.AcceptOptions{Subprotocols: []string{"h2ts"}, InsecureSkipVerify: true}
	if rule.NoProtocol {
		options.Subprotocols = nil
	}
	socket, err := websocket.Accept(w, r, options)
	if err != nil {
		return // it has been answered
	}
	if socket.Subprotocol() != "h2ts" {
		_ = socket.Close(websocket.StatusPolicyViolation, "the subprotocol h2ts is needed") // the client may be gone
		return
	}
	ts.serve(path, rule, socket)
}

func (ts *tunnels) serve(path string, rule rules, socket *websocket.Conn) {
	t := &tunnel{
		Conn: websocket.NetConn(context.Background(), socket, websocket.MessageBinary), path: path, socket: socket,
		server: &http.Server{
			ReadHeaderTimeout: 10 * time.Second,
		},
		held: rule.Hold, released: make(chan struct{}),
	}
	t.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { ts.call(t, w, r) })
	if !t.held {
		close(t.released)
	}
	ts.change(func() {
		ts.live[t] = struct{}{}
		ts.opened[path]++
	})
	t.serve(rule)
	_ = t.Close() // the server has, mostly
	ts.drop(t)
}

//nolint:staticcheck // net/http's Shutdown closes idle connections, often before their GOAWAY
func (t *tunnel) serve(rule rules) {
	h2 := &http2.Server{MaxConcurrentStreams: rule.MaxStreams, MaxUploadBufferPerStream: rule.StreamWindow}
	if err := http2.ConfigureServer(t.server, h2); err != nil {
		panic(err) // a mistake in this program
	}
	h2.ServeConn(t, &http2.ServeConnOpts{BaseConfig: t.server})
}

func (ts *tunnels) change(edit func()) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	edit()
	close(ts.changed)
	ts.changed = make(chan struct{})
}

// call serves one call of a tunnel, under the tunnel's path.
func (ts *tunnels) call(t *tunnel, w http.ResponseWriter, r *http.Request) {
	ts.mu.Lock()
	rule := ts.rules[t.path]
	refused := rule.Refuse > 0
	if refused {
		rule.Refuse--
		ts.rules[t.path] = rule
	}
	ts.mu.Unlock()
	if refused {
		t.refused.Add(1)
		panic(http.ErrAbortHandler) // RST_STREAM, whose code the tunnel replaces
	}
	handler := ts.calls
	if r.URL.Path == t.path+refreshPath && len(rule.Refreshes) > 0 {
		ts.refreshes.answer(t.path, rule.Refreshes, w, r)
		return
	}
	if r.URL.Path == t.path+"/raw" {
		handler = &ts.raws
	}
	http.StripPrefix(t.path, handler).ServeHTTP(w, r)
}

// Write sends the server's bytes when they aren't held back.
func (t *tunnel) Write(b []byte) (int, error) {
	<-t.released
	// The HTTP/2 server sends INTERNAL_ERROR for a handler that aborts.
	t.output.edit(b, func(kind http2.FrameType, at int, payload *byte) {
		if kind == http2.FrameRSTStream && at == 3 && *payload == byte(http2.ErrCodeInternal) && t.refused.Load() > 0 {
			t.refused.Add(-1)
			*payload = byte(http2.ErrCodeRefusedStream)
		}
	})
	return t.Conn.Write(b)
}

// Close ends the connection without waiting for the client's close frame.
func (t *tunnel) Close() error {
	err := t.socket.Close(websocket.StatusNormalClosure, "")
	return errors.Join(err, t.Conn.Close())
}

// frames finds the frames in a stream of bytes that comes in pieces.
type frames struct {
	header [9]byte
	have   int // bytes of the header
	at     int // in the payload
}

// edit calls f with each byte of a payload, and its offset there.
func (s *frames) edit(b []byte, f func(kind http2.FrameType, at int, payload *byte)) {
	for i := range b {
		if s.have < len(s.header) {
			s.header[s.have] = b[i]
			s.have++
			s.at = 0
		} else {
			f(http2.FrameType(s.header[3]), s.at, &b[i])
			s.at++
		}
		if s.have == len(s.header) && s.at == int(binary.BigEndian.Uint32(s.header[:4])>>8) {
			s.have = 0
		}
	}
}

// control answers the tests, with pages for all paths but /tunnels/:
//
//	/tunnels/rules?path=P&rules=JSON     sets the rules of a path
//	/tunnels/release?path=P              sends what is held back
//	/tunnels/cut?path=P                  ends the TCP connections
//	/tunnels/close?path=P&code=C&reason  ends the WebSockets with a close frame
//	/tunnels/goaway?path=P               sends GOAWAY, with the id of the last call
//	/tunnels/wait?path=P&live=N          waits until N tunnels live; without live, it waits for nothing
//	/tunnels/refreshes?path=P&count=N    waits until N tokens have come by culvert.v1.Session/Refresh, and lists them
//	/raw?id=ID                           waits for the end of a request to P/raw: [raws]
//
// P is a client's base path, without a slash at its end. The answer counts the tunnels of
// that path: {"live": 1, "opened": 3}.
func (ts *tunnels) control(pages http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	each := func(f func(r *http.Request, t *tunnel)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for _, t := range ts.of(r.FormValue("path")) {
				f(r, t)
			}
			ts.tell(w, r)
		}
	}
	mux.HandleFunc("/tunnels/rules", func(w http.ResponseWriter, r *http.Request) {
		var rule rules
		if err := json.Unmarshal([]byte(r.FormValue("rules")), &rule); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ts.change(func() { ts.rules[r.FormValue("path")] = rule })
		ts.tell(w, r)
	})
	mux.HandleFunc("/tunnels/release", each(func(_ *http.Request, t *tunnel) { ts.release(t) }))
	mux.HandleFunc("/tunnels/cut", each(func(_ *http.Request, t *tunnel) {
		ts.release(t)
		_ = t.socket.CloseNow() // it may be closed
		ts.drop(t)
	}))
	mux.HandleFunc("/tunnels/close", each(func(r *http.Request, t *tunnel) {
		code, _ := strconv.Atoi(r.FormValue("code")) // 0 is refused below
		ts.release(t)
		_ = t.socket.Close(websocket.StatusCode(code), r.FormValue("reason")) // the client may be gone
		ts.drop(t)
	}))
	mux.HandleFunc("/tunnels/goaway", each(func(_ *http.Request, t *tunnel) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()                   // calls may go on
		_ = t.server.Shutdown(ctx) // it only starts the shutdown
	}))
	mux.HandleFunc("/tunnels/wait", ts.wait)
	mux.HandleFunc("/tunnels/refreshes", ts.refreshes.tell)
	mux.HandleFunc("/raw", ts.raws.tell)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		http.StripPrefix("/-", mux).ServeHTTP(w, r)
	})
}

func (ts *tunnels) of(path string) []*tunnel {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	var found []*tunnel
	for t := range ts.live {
		if t.path == path {
			found = append(found, t)
		}
	}
	return found
}

// drop takes a tunnel that has ended out of the count. A test that cuts a tunnel and then waits
// for the next one mustn't be told of the one that it cut.
func (ts *tunnels) drop(t *tunnel) { ts.change(func() { delete(ts.live, t) }) }

func (ts *tunnels) release(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t.held {
		t.held = false
		close(t.released)
	}
}

func (ts *tunnels) wait(w http.ResponseWriter, r *http.Request) {
	want, err := strconv.Atoi(r.FormValue("live"))
	for {
		ts.mu.Lock()
		changed := ts.changed
		ts.mu.Unlock()
		if err != nil || len(ts.of(r.FormValue("path"))) == want {
			ts.tell(w, r)
			return
		}
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func (ts *tunnels) tell(w http.ResponseWriter, r *http.Request) {
	path := r.FormValue("path")
	live := len(ts.of(path))
	ts.mu.Lock()
	opened := ts.opened[path]
	ts.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]int{"live": live, "opened": opened}) // who asked is gone
}

// newTunnelServer serves tunnels for calls, and for tests pages and what [tunnels.control]
// says, under /-.
func newTunnelServer(calls, pages http.Handler) *http.Server {
	ts := newTunnels(calls)
	mux := http.NewServeMux()
	mux.Handle("/-/", ts.control(pages))
	mux.Handle("/", ts)
	return &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
}

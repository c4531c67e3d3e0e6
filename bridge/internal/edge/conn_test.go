package edge

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestRequestsFindTheirConnection: the requests on one share it, those on another
// have another, and those of a server that Watch hasn't seen share one that knows
// nothing.
func TestRequestsFindTheirConnection(t *testing.T) {
	e := testEdge(t, Options{Own: report.Listener{Name: "own"}})
	hs := pageServer(e, e.own, time.Minute)
	found := make(chan *Conn, 4) // as many as are asked for
	hs.HTTP.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { found <- e.Of(r) })
	address := serveHTTP(t, hs.HTTP, func(ln net.Listener) error { return e.Serve(ln, e.own, hs) })
	for range 2 {
		conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience)) // it is open here
		r := bufio.NewReader(conn)
		for range 2 {
			if _, err := io.WriteString(conn, getPage); err != nil {
				t.Fatal(err)
			}
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close() // it has none
		}
		_ = conn.Close() // the test is over
	}
	a, again, b := <-found, <-found, <-found
	if a != again || a == b || a.NetConn() == nil || a.Listener().Name != "own" || a.Tunnel() != nil || a.Taken() == nil {
		t.Errorf("found %p, %p, and %p on another connection: %+v", a, again, b, a)
	}
	foreign := &http.Server{Handler: hs.HTTP.Handler, ReadHeaderTimeout: time.Minute}
	_ = exchange(t, serveHTTP(t, foreign, foreign.Serve), getPage)
	<-found // of b
	on := await(t, "the request", found)
	if on != e.Of(new(http.Request)) || on.NetConn() != nil || on.Taken() != nil || on.Ended() != report.EndedOrderly || on.Uses() != nil {
		t.Errorf("in a foreign server it is %+v", on)
	}
	behind := new(http.Request).WithContext(context.WithValue(t.Context(), connKey{}, a))
	if other := testEdge(t, Options{}); other.Of(behind) != other.unknown || e.Of(behind) != a {
		t.Error("a server behind another one takes that one's connections for its own")
	}
	on.End(report.EndedSlow) // there is nothing to note it for
	if on.Ended() != report.EndedOrderly {
		t.Error("what one client does ends the connections of all")
	}
}

// TestListenerOfTheCallersOwn: a connection that it accepted is found and counted.
func TestListenerOfTheCallersOwn(t *testing.T) {
	obs := newObserver()
	e := testEdge(t, Options{Observer: obs})
	hs := pageServer(e, e.own, time.Minute)
	open := make(chan int64, 1) // of one request
	hs.HTTP.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if e.Of(r).NetConn() == nil {
			t.Error("the connection isn't known")
		}
		open <- e.Open()
	})
	_ = exchange(t, serveHTTP(t, hs.HTTP, hs.HTTP.Serve), strings.Replace(getPage, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
	if n := await(t, "the request", open); n != 1 {
		t.Errorf("%d connections are open, want 1", n)
	}
	if c := await(t, "the end", obs.conns); c.Ended != report.EndedOrderly || c.Tunnel {
		t.Errorf("its end is told as %+v", c)
	}
	if n := e.Open(); n != 0 {
		t.Errorf("after the end %d are open", n)
	}
}

// TestTunnelSpeaksForItsWebSocket: listener, client, TLS.
func TestTunnelSpeaksForItsWebSocket(t *testing.T) {
	obs := newObserver()
	e := testEdge(t, Options{Observer: obs})
	l := NewListening(report.Listener{Name: "public", CallsPerConnection: 7})
	outer := e.newClient(nil, l, e.o.Bounds(l))
	state := &tls.ConnectionState{ServerName: "a"}
	r := &http.Request{RemoteAddr: "192.0.2.1:1", TLS: state}
	on := e.NewTunnel(r.WithContext(context.WithValue(t.Context(), connKey{}, &outer.on)))
	addr, seen := on.Peer(&http.Request{RemoteAddr: "inside"})
	if addr != "192.0.2.1:1" || seen != state || on.Listener() != l || on.Tunnel().Outer != &outer.on {
		t.Errorf("the peer is %q with %p, the listener %q", addr, seen, on.Listener().Name)
	}
	c := &tunnelStub{on: on}
	if got := e.ListenerOf(c); got != l {
		t.Errorf("the HTTP/2 inside has the listener %q, want the WebSocket's", got.Name)
	}
	e.noteState(e.own, c, http.StateNew)
	if n := e.Open(); n != 0 {
		t.Errorf("a tunnel counts as %d connections", n)
	}
	e.Settle(c, report.EndedIdle)
	e.noteState(e.own, c, http.StateClosed)
	if got := await(t, "the end", obs.conns); got.Ended != report.EndedIdle || got.Listener != "public" || !got.Tunnel {
		t.Errorf("its end is told as %+v", got)
	}
	if outer.life.endedAs() != report.EndedOrderly {
		t.Error("the WebSocket's connection ends with it")
	}
}

// TestTunnelKeepsNoHandshake: a tunnel keeps what may apply to calls inside, under this
// policy or a later one, and no token of the WebSocket's handshake.
func TestTunnelKeepsNoHandshake(t *testing.T) {
	e := testEdge(t, Options{})
	r := &http.Request{Header: http.Header{
		"X-User": {"alice"}, "User-Agent": {"a browser"}, "Authorization": {"Bearer outer"},
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {"h2ts, token"},
	}}
	kept := slices.Sorted(maps.Keys(e.NewTunnel(r).Tunnel().Header))
	if want := []string{"Authorization", "User-Agent", "X-User"}; !slices.Equal(kept, want) {
		t.Errorf("it keeps %q, want %q", kept, want)
	}
}

// tunnelStub carries a tunnel's Conn, and no bytes.
type tunnelStub struct {
	net.Conn
	on *Conn
}

func (c *tunnelStub) EdgeConn() *Conn      { return c.on }
func (c *tunnelStub) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// TestRequestsAllocateNothing for what they ask of their connection.
func TestRequestsAllocateNothing(t *testing.T) {
	e := testEdge(t, Options{Own: report.Listener{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}})
	c := e.newClient(nil, e.own, e.o.Bounds(e.own))
	on := e.meet(tls.Server(c, new(tls.Config)), e.own)
	r := httptest.NewRequestWithContext(context.WithValue(t.Context(), connKey{}, on), http.MethodPost, "/", http.NoBody)
	state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	w := httptest.NewRecorder()
	proxy := netip.MustParseAddr("192.0.2.1")
	if n := testing.AllocsPerRun(100, func() {
		on := e.Of(r)
		on.BeginRequest(w, r)
		_, _ = on.Peer(r)
		_ = on.Names(state)
		on.CloseBehindCall(w.Header(), r, false)
		if !on.Trusts(on.Listener().TrustedProxies, proxy) || w.Header()["Connection"] != nil {
			t.Error("the connection closes, or doesn't trust its proxy")
		}
		e.noteState(e.own, on.conn, http.StateIdle)
		e.noteState(e.own, on.conn, http.StateActive)
	}); n > 0 {
		t.Errorf("a request allocates %v times", n)
	}
}

// exchange sends a request on a connection of its own and returns the answer.
func exchange(t *testing.T, address, request string) *http.Response {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // it is open here
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close() // its header is all
	return res
}

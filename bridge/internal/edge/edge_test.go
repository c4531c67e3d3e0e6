package edge

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// testEdge returns the connections of a server. Options that o leaves out refuse
// nothing. Of its Bounds only the times count; without, connections may be idle for a
// minute.
func testEdge(t testing.TB, o Options) *Edge {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	if o.Observer == nil {
		o.Observer = report.Discard()
	}
	o.Refusals = report.NewRefusals(o.Log, o.Observer)
	bounds := Bounds{Idle: time.Minute, Quotas: quota.New(report.Quota{}, report.Quota{}, false, o.Refusals), Connections: DefaultConnections()}
	times := o.Bounds
	o.Bounds = func(l *Listening) Bounds {
		b := bounds
		b.Listener = l
		if times != nil {
			now := times(l)
			b.Idle, b.MaxAge, b.SlowConsumerTimeout = now.Idle, now.MaxAge, now.SlowConsumerTimeout
		}
		return b
	}
	o.Memory = memory.New(1<<20, 0)
	if o.Draining == nil {
		o.Draining = func() bool { return false }
	}
	if o.Leaving == nil {
		o.Leaving = o.Draining
	}
	e := New(o)
	t.Cleanup(e.CutLingering)
	return e
}

// pageServer returns an http.Server as bridge would set it up, which serves a page
// instead of calls.
func pageServer(e *Edge, l *Listening, idle time.Duration) *Server {
	maxAge := e.o.Bounds(l).MaxAge
	hs := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			e.Of(r).BeginRequest(w, r)
			_, _ = w.Write([]byte("a page")) // to a client that is there
		}),
		Protocols: new(http.Protocols), ReadHeaderTimeout: HandshakeTimeout, IdleTimeout: cmp.Or(idle, maxAge),
		HTTP2:    &http.HTTP2Config{SendPingTimeout: 20 * time.Second, PingTimeout: 10 * time.Second},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	h2.Configure(hs, h2.Hooks{
		Rules: func(net.Conn) h2.Rules {
			return h2.Rules{Streams: 250, Window: 1 << 20, HeaderBytes: 1 << 20, Idle: NewSpread().Of(idle), Age: NewSpread().Of(maxAge)}
		},
		Ended: func(c net.Conn, why h2.End) { e.Settle(c, string(why)) },
	})
	return e.Watch(hs, l)
}

// servePages serves pages on a loopback port and returns the address.
func servePages(t testing.TB, e *Edge) string {
	t.Helper()
	hs := pageServer(e, e.own, time.Minute)
	return serveHTTP(t, hs.HTTP, func(ln net.Listener) error { return e.Serve(ln, e.own, hs) })
}

// serveHTTP serves on a loopback port and returns the address.
func serveHTTP(t testing.TB, hs *http.Server, serve func(net.Listener) error) string {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	serving.Go(func() { _ = serve(ln) }) // ends with Close
	t.Cleanup(func() {
		_ = hs.Close() // only the listener's error
		serving.Wait()
	})
	return ln.Addr().String()
}

// slowListener is a listener that takes its time to close.
type slowListener struct {
	net.Listener
	once              sync.Once
	closing, released chan struct{}
}

func (l *slowListener) Close() error {
	l.once.Do(func() {
		close(l.closing)
		<-l.released
	})
	return l.Listener.Close()
}

// TestTallyDuringADrain: a drain that waits holds no lock.
func TestTallyDuringADrain(t *testing.T) {
	var draining atomic.Bool
	e := testEdge(t, Options{Draining: draining.Load})
	slow := &slowListener{closing: make(chan struct{}), released: make(chan struct{})}
	hs := pageServer(e, e.own, time.Minute)
	address := serveHTTP(t, hs.HTTP, func(ln net.Listener) error {
		slow.Listener = ln
		return e.Serve(slow, e.own, hs)
	})
	exchange(t, address, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n") // it is served now
	draining.Store(true)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(slow.released)
	waiting.Go(func() { e.CloseListeners(t.Context()) })
	await(t, "the drain", slow.closing)
	tallied := make(chan []report.Connections, 1)
	waiting.Go(func() { tallied <- e.Tally() })
	await(t, "the tally while a listener closes", tallied)
}

// TestEdgeForgetsListeners that have ended, once their connections have. Until then
// these count.
func TestEdgeForgetsListeners(t *testing.T) {
	obs := newObserver()
	e := testEdge(t, Options{Observer: obs})
	l := NewListening(report.Listener{Name: "a"})
	hs, ln := pageServer(e, l, time.Minute), listen(t, "127.0.0.1:0")
	t.Cleanup(func() { _ = hs.HTTP.Close() }) // only listeners' errors
	served := make(chan error, 1)
	go func() { served <- e.Serve(ln, l, hs) }() // ends with ln
	conn, err := new(net.Dialer).DialContext(within(t, patience), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }() // it may be closed again
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	_ = ln.Close() // its error shows in Serve's
	if err := await(t, "the end of Serve", served); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
	if got, want := e.Tally(), []report.Connections{{Listener: "a", Transport: "http/1.1", Open: 1}}; !slices.Equal(got, want) || len(e.servers) != 1 {
		t.Errorf("with a connection left, %d servers are kept and %+v is counted, want %+v", len(e.servers), got, want)
	}
	_ = conn.Close() // what the server sees is waited for
	await(t, "the connection's end", obs.conns)
	if got := e.Tally(); len(got) != 0 || len(e.servers) != 0 {
		t.Errorf("after all, %d servers are kept and %+v is counted", len(e.servers), got)
	}
}

// TestEdgeForgetsAnIdleListener when its Serve returns.
func TestEdgeForgetsAnIdleListener(t *testing.T) {
	e := testEdge(t, Options{})
	for range 3 {
		l := NewListening(report.Listener{})
		ln := listen(t, "127.0.0.1:0")
		_ = ln.Close() // so that Serve returns at once
		if err := e.Serve(ln, l, pageServer(e, l, time.Minute)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve returned %v", err)
		}
	}
	if len(e.servers) != 0 {
		t.Errorf("%d servers are kept that have ended", len(e.servers))
	}
}

package edge

import (
	"cmp"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/culvert-grpc/culvert/bridge/h2"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// testEdge returns the connections of a server. Options that o leaves out refuse nothing.
func testEdge(t testing.TB, o Options) *Edge {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	if o.Observer == nil {
		o.Observer = report.Discard()
	}
	o.Refusals = report.NewRefusals(o.Log, o.Observer)
	bounds := Bounds{Quotas: quota.New(quota.Quota{}, quota.Quota{}, false, o.Refusals), Connections: DefaultConnections()}
	o.Bounds = func(l *Listening) Bounds {
		b := bounds
		b.Listener = l.Scope()
		return b
	}
	o.Refuse = func(net.Addr) error { return nil }
	if o.Draining == nil {
		o.Draining = func() bool { return false }
	}
	e := New(o)
	t.Cleanup(e.CutLingering)
	return e
}

// pageServer returns an http.Server as bridge would set it up, which serves a page
// instead of calls.
func pageServer(e *Edge, l *Listening, idle time.Duration) *http.Server {
	hs := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			e.Of(r).BeginRequest(w, r)
			_, _ = w.Write([]byte("a page")) // to a client that is there
		}),
		Protocols: new(http.Protocols), ReadHeaderTimeout: HandshakeTimeout, IdleTimeout: cmp.Or(idle, e.o.MaxAge),
		HTTP2:    &http.HTTP2Config{SendPingTimeout: 20 * time.Second, PingTimeout: 10 * time.Second},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	hs.Protocols.SetHTTP1(true)
	hs.Protocols.SetUnencryptedHTTP2(true)
	h2.Configure(hs, h2.Hooks{
		Streams:  e.Streams,
		Lifetime: func(net.Conn) (time.Duration, time.Duration) { return NewSpread().Of(idle), NewSpread().Of(e.o.MaxAge) },
		Ended:    func(c net.Conn, why h2.End) { e.Settle(c, string(why)) },
	})
	e.Watch(hs, l)
	return hs
}

// servePages serves pages on a loopback port and returns the address.
func servePages(t testing.TB, e *Edge) string {
	t.Helper()
	hs := pageServer(e, e.own, time.Minute)
	return serveHTTP(t, hs, func(ln net.Listener) error { return e.Serve(hs, ln, e.own) })
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
	address := serveHTTP(t, hs, func(ln net.Listener) error {
		slow.Listener = ln
		return e.Serve(hs, slow, e.own)
	})
	exchange(t, address, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n") // it is served now
	draining.Store(true)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(slow.released)
	waiting.Go(func() { e.CloseListeners(t.Context()) })
	await(t, "the drain", slow.closing)
	tallied := make(chan []Connections, 1)
	waiting.Go(func() { tallied <- e.Tally() })
	await(t, "the tally while a listener closes", tallied)
}

package edge

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// patience is how long an event may take that ought to come at once: two cores
// under the race detector are slow now and then.
const patience = 15 * time.Second

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() }) // it may be closed already
	return ln
}

// tcpPair returns both ends of a connection on loopback.
func tcpPair(t testing.TB) (server, client *net.TCPConn) {
	t.Helper()
	ln := listen(t, "127.0.0.1:0")
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = s.Close(), c.Close() }) // a test may have
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// within is the test's context with a bound on what ought to come at once.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await waits for an event that ought to come at once.
func await[T any](t testing.TB, what string, event <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-event:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
	return v
}

// elapse lets a bubble's time pass, and what it sets off happen.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// anObserver is a small working Observer: it passes each end on.
type anObserver struct {
	report.Observer
	refused chan report.Refusal
	conns   chan report.ConnInfo // that ended
}

func newObserver() *anObserver {
	const most = 4096 // more than any test makes
	return &anObserver{Observer: report.Discard(), refused: make(chan report.Refusal, most), conns: make(chan report.ConnInfo, most)}
}

func (o *anObserver) Refused(r report.Refusal)    { o.refused <- r }
func (o *anObserver) ConnEnded(c report.ConnInfo) { o.conns <- c }

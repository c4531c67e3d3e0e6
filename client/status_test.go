package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// keepPipe has the Dialer keep a connection by a way whose other end does nothing.
func keepPipe(t testing.TB, d *Dialer, way Way) *conn {
	t.Helper()
	near, far := net.Pipe()
	t.Cleanup(func() { _ = far.Close() }) // a pipe's never fails
	c := newConn(near, way, nil)
	if !d.keep(opened{conn: c, lesson: lesson{way: way}}) {
		t.Fatal("it wasn't kept")
	}
	return c
}

// TestStuckListener: a function that never returns, as one that writes to a terminal which is
// stopped, holds up nothing, and Close for a second. Then it is told nothing more.
func TestStuckListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		var told []Status
		d := inMemory(t, parts.Places{}, WithOnChange(func(s Status) {
			told = append(told, s)
			<-stuck
		}))
		began := time.Now()
		for range 2 * maxChanges {
			c := keepPipe(t, d, GRPC)
			if s := d.Status(); s.State != connectivity.Ready {
				t.Error(s)
			}
			_ = c.Close() // a pipe's never fails
			synctest.Wait()
		}
		if _, err := d.Dial(t.Context()); err == nil {
			t.Error("there is an edge")
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		if got := len(d.changes.waiting); got != maxChanges {
			t.Errorf("%d changes wait, want %d", got, maxChanges)
		}
		d.Close()
		if took := time.Since(began); took != tellTimeout {
			t.Errorf("Close took %v, want %v", took, tellTimeout)
		}
		close(stuck)
		synctest.Wait()
		if len(told) != 1 || told[0].State != connectivity.Ready {
			t.Errorf("told %v", told)
		}
	})
}

// TestStatusIsOfWhatIsLeft: a connection that is lost leaves the status of another one, unless that
// is retired: then no new call has a way.
func TestStatusIsOfWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := inMemory(t, parts.Places{})
		left := keepPipe(t, d, WebSocket)
		_ = keepPipe(t, d, GRPC).Close() // a pipe's never fails
		if s := d.Status(); s.State != connectivity.Ready || s.Way != WebSocket {
			t.Errorf("with one left: %+v", s)
		}
		lost := keepPipe(t, d, GRPC)
		left.retire()
		_ = lost.Close() // a pipe's never fails
		if s := d.Status(); s.State != connectivity.Idle {
			t.Errorf("with a retired one left: %+v", s)
		}
		if _, err := d.Dial(t.Context()); err == nil || d.Status().State != connectivity.TransientFailure {
			t.Errorf("without an edge: %v, %+v", err, d.Status())
		}
		_ = left.Close() // a pipe's never fails
		if s := d.Status(); s.State != connectivity.TransientFailure {
			t.Errorf("at the end: %+v", s)
		}
		d.Close()
	})
}

// TestGivenUp: a caller that gives up learns that, and it says nothing about the network.
func TestGivenUp(t *testing.T) {
	ln := parts.Listen(t, "127.0.0.1:0")
	d, err := NewDialer("http://"+ln.Addr().String(), WithProxy("none"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := ln.Accept() // it fails with the test
		cancel(enough)
		accepted <- c
	}()
	if _, err := d.Dial(ctx); !errors.Is(err, enough) || d.Status().State != connectivity.Idle {
		t.Errorf("%v, %+v", err, d.Status())
	}
	if c := <-accepted; c != nil {
		_ = c.Close() // it may be closed
	}
}

// TestListenerCallsBack: the function may call the Dialer, and is told each change in its order,
// the last one before Close returns.
func TestListenerCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d *Dialer
		var told []string
		d = inMemory(t, parts.Places{}, WithOnChange(func(s Status) {
			told = append(told, s.State.String())
			d.Want()
			_ = d.Status()
			if s.State == connectivity.TransientFailure {
				go d.Close() // the test waits for it
			}
		}))
		_ = keepPipe(t, d, GRPC).Close() // a pipe's never fails
		if _, err := d.Dial(t.Context()); err == nil {
			t.Error("there is an edge")
		}
		d.Close()
		synctest.Wait()
		if want := []string{"READY", "IDLE", "CONNECTING", "TRANSIENT_FAILURE", "SHUTDOWN"}; !slices.Equal(told, want) {
			t.Errorf("%v, want %v", told, want)
		}
	})
}

// TestListenerCloses: a function that calls Close, against the advice, is held up for a second.
func TestListenerCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan time.Duration, 1)
		var d *Dialer
		d = inMemory(t, parts.Places{}, WithOnChange(func(s Status) {
			if s.State == connectivity.Connecting {
				began := time.Now()
				d.Close()
				closed <- time.Since(began)
			}
		}))
		if _, err := d.Dial(t.Context()); err == nil {
			t.Error("there is an edge")
		}
		if took := <-closed; took != tellTimeout {
			t.Errorf("%v, want %v", took, tellTimeout)
		}
	})
}

// TestClosedStaysClosed: an attempt that is under way when the Dialer is closed changes nothing.
func TestClosedStaysClosed(t *testing.T) {
	var told []Status
	d := inMemory(t, parts.Places{}, WithOnChange(func(s Status) { told = append(told, s) }))
	d.Close()
	if _, err := d.Dial(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("%v, want %v", err, errClosed)
	}
	d.Close()
	if got, want := fmt.Sprint(d.Status(), told), fmt.Sprint(Status{State: connectivity.Shutdown}, []Status{{State: connectivity.Shutdown}}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestChanges are told in their order: the connection, its loss, the failure of another one, and its
// success; and nothing after Close.
func TestChanges(t *testing.T) {
	e := startEdge(t, parts.Echo)
	told := make(chan Status, 1000)
	c := e.connect(t, WithWay(GRPC), WithOnChange(func(s Status) { told <- s }))
	var mu sync.Mutex
	var conns []net.Conn
	down := false
	c.d.net.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		defer mu.Unlock()
		if down {
			return nil, errors.New("the cable is out")
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		conns = append(conns, conn)
		return conn, err
	}
	next := func(want connectivity.State) Status {
		t.Helper()
		s := parts.Await(t, want.String(), told)
		if s.State != want || (s.Way == GRPC && s.TwoWay && s.Latency > 0) != (want == connectivity.Ready) || (s.Err != nil) != (want == connectivity.TransientFailure) {
			t.Fatalf("told %+v, want %v", s, want)
		}
		return s
	}
	call := func() {
		t.Helper()
		if err := c.Invoke(parts.Within(t, parts.Patience), "/a.B/Echo", []byte("x"), new([]byte), grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
	}
	call()
	next(connectivity.Connecting)
	next(connectivity.Ready)
	mu.Lock()
	down = true
	for _, conn := range conns {
		_ = conn.Close() // it may be closed
	}
	mu.Unlock()
	next(connectivity.Idle)
	c.Connect()
	next(connectivity.Connecting)
	if s := next(connectivity.TransientFailure); !strings.Contains(s.Err.Error(), "the cable is out") {
		t.Error(s.Err)
	}
	mu.Lock()
	down = false
	mu.Unlock()
	call()
	for next(connectivity.Connecting); ; next(connectivity.Connecting) { // grpc-go may have tried again before
		if s := parts.Await(t, "the end of an attempt", told); s.State == connectivity.Ready {
			break
		} else if s.State != connectivity.TransientFailure {
			t.Fatalf("told %+v", s)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if s := parts.Await(t, "the end", told); s.State == connectivity.Idle { // the connection ended before the Dialer
		next(connectivity.Shutdown)
	} else if s.State != connectivity.Shutdown {
		t.Errorf("told %+v", s)
	}
	if _, err := c.d.Dial(t.Context()); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if c.Connect(); len(told) > 0 {
		t.Errorf("told %+v after Close", <-told)
	}
}

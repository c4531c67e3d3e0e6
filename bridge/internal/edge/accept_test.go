package edge

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A scriptedListener returns what it is given, in order.
type scriptedListener struct {
	net.Listener
	accepts chan any // an error or a net.Conn
	asked   int
}

func (l *scriptedListener) Accept() (net.Conn, error) {
	l.asked++
	switch v := (<-l.accepts).(type) {
	case error:
		return nil, v
	case net.Conn:
		return v, nil
	default:
		return nil, net.ErrClosed
	}
}

func TestAcceptWaitsForDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		obs := newObserver()
		d := newDescriptors(report.NewRefusals(slog.New(slog.DiscardHandler), obs), nil, log, 1000)
		ln := &scriptedListener{accepts: make(chan any, 100)} // more than the test has
		accept := func() (net.Conn, error) {
			return d.accept(ln, make(chan struct{}), d.reserve, func(net.Conn) { t.Error("a connection is refused") })
		}
		conn, other := net.Pipe()
		defer func() { _, _ = conn.Close(), other.Close() }() // pipes
		for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS} {
			ln.accepts <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", e)}
		}
		ln.accepts <- conn
		began := time.Now()
		if c, err := accept(); c != conn || err != nil {
			t.Errorf("accepted %v, %v", c, err)
		}
		if got, want := time.Since(began), 3*acceptPause; got != want {
			t.Errorf("without descriptors it was asked again for %v, want %v", got, want)
		}
		if got := strings.Count(out.String(), "level=WARN"); got != 1 {
			t.Errorf("that is said %d times, want once: %s", got, out.String())
		}
		if len(obs.refused) != 3 || (<-obs.refused).Key != report.KeyConnections {
			t.Errorf("the Observer is told of %d, want 3", len(obs.refused))
		}
		e := &Edge{files: d}
		if got := e.Problems(); len(got) != 1 || !strings.Contains(got[0], "ulimit") {
			t.Errorf("the problems are %q, want one about descriptors", got)
		}
		if strings.Contains(out.String(), "level=INFO") {
			t.Errorf("it is said to be over at once: %s", out.String())
		}
		time.Sleep(acceptCalm)
		for range 2 {
			ln.accepts <- conn
			if _, err := accept(); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Count(out.String(), "level=INFO"); got != 1 {
			t.Errorf("that it is over is said %d times, want once: %s", got, out.String())
		}
		if got := e.Problems(); got != nil {
			t.Errorf("when it is over the problems are %q", got)
		}
		// A connection that closes makes room at once.
		ln.accepts <- syscall.EMFILE
		ln.accepts <- conn
		began = time.Now()
		d.free()
		d.free()
		if _, err := accept(); err != nil || time.Since(began) != 0 {
			t.Errorf("%v, %v after a connection closed", err, time.Since(began))
		}
		ln.accepts <- net.ErrClosed
		if _, err := accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a closed listener: %v", err)
		}
	})
}

// TestCrowdIsRefusedAtOnce: each connection beyond the reserve is refused with no pause, or
// the last of a crowd would hear nothing for seconds.
func TestCrowdIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const crowd = 600
		d := newDescriptors(report.NewRefusals(slog.New(slog.DiscardHandler), report.Discard()), nil, slog.New(slog.DiscardHandler), 256)
		ln := &scriptedListener{accepts: make(chan any, crowd+1)}
		conn, other := net.Pipe()
		defer func() { _, _ = conn.Close(), other.Close() }() // pipes
		for range crowd {
			ln.accepts <- conn
		}
		ln.accepts <- net.ErrClosed
		refused, began := 0, time.Now()
		_, err := d.accept(ln, make(chan struct{}), 0, func(net.Conn) { refused++ })
		if took := time.Since(began); !errors.Is(err, net.ErrClosed) || refused != crowd || took != 0 {
			t.Errorf("%d were refused in %v (%v), want %d at once", refused, took, err, crowd)
		}
	})
}

// TestConnectionsLeaveTheReserve: while others have all the descriptors below
// it, a new connection is told so, and served once there is one again.
func TestConnectionsLeaveTheReserve(t *testing.T) {
	obs := newObserver()
	e := testEdge(t, Options{Observer: obs})
	probe, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	e.files.reserve = int(probe.Fd()) + 20
	_ = probe.Close() // it was read from by nobody
	address := servePages(t, e)
	var d net.Dialer
	var held []net.Conn
	ctx := within(t, patience)
	for len(obs.refused) == 0 {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
		t.Cleanup(func() { _ = conn.Close() }) // the test may have
		poll(t, func() string {
			if e.Open() < int64(len(held)) && len(obs.refused) == 0 {
				return "the last connection is neither accepted nor refused"
			}
			return ""
		})
	}
	if r := await(t, "the refusal", obs.refused); r.Reason != report.ReasonLimitExceeded || r.Key != report.KeyConnections || !strings.Contains(r.Detail, "descriptors") {
		t.Errorf("the Observer is told of %+v", r)
	}
	last := held[len(held)-1]
	_ = last.SetReadDeadline(time.Now().Add(patience)) // it is open here
	answer, err := http.ReadResponse(bufio.NewReader(last), nil)
	if err != nil || answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Fatalf("beyond the reserve one is answered %+v (%v), want 503 that says when to come back", answer, err)
	}
	_ = answer.Body.Close() // its header is all
	for _, conn := range held {
		_ = conn.Close() // the refused ones may be
	}
	deadline := time.Now().Add(patience)
	for {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(deadline)                                                                // it is open here
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n") // it may be refused
		text, _ := io.ReadAll(conn)                                                                   // it may be refused
		_ = conn.Close()                                                                              // it is over
		if strings.HasSuffix(string(text), "a page") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with room again one is answered %q", text)
		}
	}
}

// TestSparingListenerHasMoreRoom than clients' connections, and ends at once.
func TestSparingListenerHasMoreRoom(t *testing.T) {
	e := testEdge(t, Options{})
	ln := e.LeaveDescriptors(listen(t, "127.0.0.1:0"))
	if got := ln.(*sparingListener).reserve; got <= e.files.reserve || got >= socket.DescriptorLimit() {
		t.Errorf("its reserve begins at %d of %d, clients' at %d", got, socket.DescriptorLimit(), e.files.reserve)
	}
	accepted := make(chan error, 2) // nobody waits to tell
	go func() {
		for range 2 {
			c, err := ln.Accept()
			if err == nil {
				_ = c.Close() // it has done its part
			}
			accepted <- err
		}
	}()
	var d net.Dialer
	conn, err := d.DialContext(within(t, patience), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := await(t, "the connection", accepted); err != nil {
		t.Error(err)
	}
	_, _ = ln.Close(), ln.Close() // twice is once
	if err := await(t, "the end", accepted); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed listener: %v", err)
	}
}

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// patience bounds events that should come at once. It is long, since other programs may
// keep the processors busy, and costs nothing if the event comes.
const patience = 5 * time.Minute

// cutIsSeen bounds the time until the end of one side has reached the other: far more
// than a busy machine needs, and less than the time-outs and pings that would end the call
// in any case.
const cutIsSeen = 25 * time.Second

// dial connects to culvert over a transport. The connection ends with the test.
func dial(t testing.TB, transport wire.Transport, address string) *wire.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := wire.Dial(ctx, transport, address)
	if err != nil {
		t.Fatalf("%s: %v", transport, err)
	}
	conn.SetDeadline(time.Now().Add(5 * time.Minute)) // no test takes so long: one that hangs shall fail
	t.Cleanup(conn.Close)
	return conn
}

// A call is one call of a test, with its name in the backend's records.
type call struct {
	wire.Call
	id   string
	conn *wire.Conn
}

// open begins a call whose request is streamed. It ends with the test.
func open(t testing.TB, conn *wire.Conn, method string, script probe.Script) *call {
	t.Helper()
	id := newID(t)
	c, err := conn.Open(context.Background(), method, wire.Metadata(id, script))
	if err != nil {
		t.Fatalf("%s: %v", conn.Transport, err)
	}
	t.Cleanup(c.Close)
	return &call{c, id, conn}
}

// post begins a call whose request is one empty message, sent at once.
func post(t testing.TB, conn *wire.Conn, method string, script probe.Script) *call {
	t.Helper()
	id := newID(t)
	c, err := conn.Post(context.Background(), method, wire.Metadata(id, script), wire.Request(0, 0))
	if err != nil {
		t.Fatalf("%s: %v", conn.Transport, err)
	}
	t.Cleanup(c.Close)
	return &call{c, id, conn}
}

// An end is how a call ended for its client.
type end struct {
	replies uint64
	status  *wire.Status // nil: the client was not told
	err     error        // then
	after   time.Duration
}

func (e end) String() string {
	if e.status == nil {
		return fmt.Sprintf("cut after %d replies: %v", e.replies, e.err)
	}
	return fmt.Sprintf("%v after %d replies", e.status, e.replies)
}

// is reports whether the client was told this status by culvert.
func (e end) is(code codes.Code, reason string) bool {
	return e.status != nil && e.status.Code == code && e.status.Reason() == reason
}

// finish receives to the end of a call, from the reply number from on.
func finish(c wire.Call, from uint64) end { return finishSince(time.Now(), c, from) }

func finishSince(began time.Time, c wire.Call, from uint64) end {
	n, err := wire.Drain(c, from)
	e := end{replies: n, err: err, after: time.Since(began)}
	if err == nil {
		e.status = c.Status()
	}
	return e
}

// finishing runs finish on every call at once; the ends come by index. The time of
// each end counts from here, also where its goroutine begins late.
func finishing[C wire.Call](calls []C) <-chan []end {
	out := make(chan []end, 1) // so that nobody need wait for it
	ends := make([]chan end, len(calls))
	began := time.Now()
	for i, c := range calls {
		ends[i] = make(chan end, 1) // read below
		go func() { ends[i] <- finishSince(began, c, 0) }()
	}
	go func() {
		all := make([]end, len(calls))
		for i := range ends {
			all[i] = <-ends[i]
		}
		out <- all
	}()
	return out
}

// unary makes one ordinary call and returns what is wrong with its answer.
func unary(ctx context.Context, conn *wire.Conn, id string) error {
	c, err := conn.Post(ctx, wire.Unary, wire.Metadata(id, probe.Script{}), wire.Request(0, 16))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := wire.RecvReply(c, 0); err != nil {
		if errors.Is(err, io.EOF) && c.Status() != nil {
			return fmt.Errorf("no reply, %v", c.Status())
		}
		return err
	}
	if _, err := c.Recv(); c.Status() == nil || c.Status().Code != codes.OK {
		return fmt.Errorf("no OK: %v, %w", c.Status(), err)
	}
	return nil
}

// works makes one ordinary call over a new connection.
func works(t testing.TB, transport wire.Transport, address string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := wire.Dial(ctx, transport, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	return unary(ctx, conn, newID(t))
}

// eventually tries until it works, for as long as patience.
func eventually(patience time.Duration, try func() error) error {
	deadline := time.After(patience)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-deadline:
			return fmt.Errorf("not within %v: %w", patience, err)
		}
	}
}

// settled waits until a count has not changed for a second, and returns it.
func settled(t testing.TB, count func() int64) int64 {
	t.Helper()
	const quiet = time.Second
	deadline := time.After(patience)
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	last, since := count(), time.Now()
	for time.Since(since) < quiet {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatalf("still moving after %v, at %d", patience, last)
		}
		if n := count(); n != last {
			last, since = n, time.Now()
		}
	}
	return last
}

// perTransport runs a test for each transport.
func perTransport(t *testing.T, transports []wire.Transport, f func(t *testing.T, transport wire.Transport)) {
	for _, transport := range transports {
		t.Run(strings.NewReplacer(" ", "_", "/", "-").Replace(string(transport)), func(t *testing.T) { f(t, transport) })
	}
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

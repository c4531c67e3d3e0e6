package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// TestExpectedCallOfTheSameID: another call waits for it until its headers have left, or it
// is given up, or the connection takes no more calls, or the other call's context ends.
func TestExpectedCallOfTheSameID(t *testing.T) {
	errEnded := errors.New("the call has ended")
	for name, c := range map[string]struct {
		end   func(c *Conn, first *Place, cancel context.CancelCauseFunc)
		taken bool
		fails bool
	}{
		"its headers leave": {func(c *Conn, _ *Place, _ context.CancelCauseFunc) {
			c.mu.Lock()
			c.streams[1] = stream{}
			c.mu.Unlock()
			c.bind(1, "one")
		}, true, false},
		"it gets no stream":              {func(c *Conn, first *Place, _ context.CancelCauseFunc) { c.GiveUp(first) }, true, false},
		"the connection takes no calls":  {func(c *Conn, _ *Place, _ context.CancelCauseFunc) { c.Leave() }, false, false},
		"the connection ends":            {func(c *Conn, _ *Place, _ context.CancelCauseFunc) { _ = c.Close() }, true, false},
		"the other call's context ended": {func(_ *Conn, _ *Place, cancel context.CancelCauseFunc) { cancel(errEnded) }, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				a := memory.New(1<<20, 0)
				conn := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
				defer conn.Close()
				go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
				first, second := newPlace(nil, nil), newPlace(nil, nil)
				expectNow(t, conn, first)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				ended := make(chan error, 1)
				taken := false
				go func() {
					var err error
					taken, err = conn.Expect(ctx, second)
					ended <- err
				}()
				synctest.Wait()
				if len(ended) > 0 {
					t.Fatal("the second call doesn't wait")
				}
				c.end(conn, first, cancel)
				if err := <-ended; taken != c.taken || (err != nil) != c.fails {
					t.Errorf("taken %v, %v; want %v, fails %v", taken, err, c.taken, c.fails)
				}
			})
		})
	}
}

// TestExpectedCallsTakeTurns: of many calls of one id, one at a time is woken, in their order.
func TestExpectedCallsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		a := memory.New(1<<20, 0)
		conn := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
		defer conn.Close()
		go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
		first := newPlace(nil, nil)
		expectNow(t, conn, first)
		const calls, ends = 5, 2
		ctx, cancel := context.WithCancel(t.Context())
		turns := make(chan *Place, calls)
		var waiting []*Place
		for n := range calls {
			p, ctx := newPlace(nil, nil), ctx
			if n != ends {
				ctx = t.Context()
			}
			waiting = append(waiting, p)
			go func() {
				if taken, err := conn.Expect(ctx, p); (err != nil) != (n == ends) || taken != (err == nil) {
					t.Errorf("call %d: taken %v, %v", n, taken, err)
				}
				turns <- p
			}()
			synctest.Wait()
		}
		cancel()
		if p := <-turns; p != waiting[ends] {
			t.Error("the call whose context ended still waits")
		}
		waiting = slices.Delete(waiting, ends, ends+1)
		for last := first; len(waiting) > 0; {
			if synctest.Wait(); len(turns) > 0 {
				t.Fatal("a call doesn't wait for its turn")
			}
			conn.GiveUp(last)
			if last = <-turns; last != waiting[0] {
				t.Error("another call has the turn")
			}
			waiting = waiting[1:]
		}
	})
}

// TestResetBeforeTheHeaderIsWhole: the call isn't expected any more.
func TestResetBeforeTheHeaderIsWhole(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
	a := memory.New(1<<20, 0)
	c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	defer c.Close()
	first := newPlace(nil, nil)
	expectNow(t, c, first)
	var block, sent bytes.Buffer
	if err := hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: idHeader, Value: "one"}); err != nil {
		t.Fatal(err)
	}
	sent.WriteString(http2.ClientPreface)
	client := http2.NewFramer(&sent, nil)
	_ = client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Next(3)}) // to memory
	write := func() {
		if _, err := c.Write(sent.Bytes()); err != nil {
			t.Fatal(err)
		}
		sent.Reset()
	}
	write()
	c.received(h2Frame{kind: http2.FrameRSTStream, stream: 1})
	_ = client.WriteContinuation(1, true, block.Bytes())
	write()
	if !first.written.Load() {
		t.Error("the headers haven't left")
	}
	expectNow(t, c, newPlace(nil, nil))
}

// TestLongCallKeepsNoOthers: calls of its id that have begun after it can be freed.
func TestLongCallKeepsNoOthers(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
	a := memory.New(1<<20, 0)
	c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	defer c.Close()
	long := newPlace(nil, nil)
	expectNow(t, c, long)
	before := long
	for n := range 10 {
		next := newPlace(nil, nil)
		if c.queueUp(next) {
			t.Fatal("a call didn't wait for the one before")
		}
		if n == 0 {
			c.bind(1, long.Call.ID)
		} else {
			c.GiveUp(before)
		}
		if before.next != nil {
			t.Errorf("call %d keeps the next one", n)
		}
		before = next
	}
	c.GiveUp(before)
	if len(c.expected) > 0 {
		t.Errorf("%d calls are expected", len(c.expected))
	}
}

// TestUnreadableRequestEndsTheConnection: no call on it could be known any more.
func TestUnreadableRequestEndsTheConnection(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
	a := memory.New(1<<20, 0)
	c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	defer c.Close() // it is closed
	first := newPlace(nil, nil)
	expectNow(t, c, first)
	var sent bytes.Buffer
	sent.WriteString(http2.ClientPreface)
	_ = http2.NewFramer(&sent, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x80}, EndHeaders: true}) // to memory
	if _, err := c.Write(sent.Bytes()); err == nil || first.written.Load() {
		t.Errorf("%v; written %v", err, first.written.Load())
	}
}

// TestStreamAfterAGoAway: the backend hasn't seen it, although its header has left.
func TestStreamAfterAGoAway(t *testing.T) {
	lost := status.Error(codes.Unavailable, "")
	for last, want := range map[byte]map[uint32]end{1: {1: endNone, 3: endLeftOut}, 0: {1: endLeftOut, 3: endLeftOut}, 2: {1: endNone, 3: endNone}} {
		near, far := net.Pipe()
		a := memory.New(1<<20, 0)
		c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
		before, after := newPlace(nil, nil), newPlace(nil, nil)
		c.streams[1] = stream{place: before}
		c.in.scan([]byte{0, 0, 8, byte(http2.FrameGoAway), 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0}, c.received)
		c.streams[3] = stream{}
		expectNow(t, c, after)
		c.bind(3, "one")
		for id, p := range map[uint32]*Place{1: before, 3: after} {
			if got := end(p.end.Load()); got != want[id] {
				t.Errorf("a GOAWAY of %d: stream %d has the end %d, want %d", last, id, got, want[id])
			}
			if got := p.WasRefused(lost); got != (want[id] == endLeftOut) || p.WasRefused(nil) {
				t.Errorf("a GOAWAY of %d: stream %d was refused: %v", last, id, got)
			}
			if p.answered.Store(true); p.WasRefused(lost) {
				t.Errorf("a GOAWAY of %d: stream %d was answered and refused", last, id)
			}
		}
		if newPlace(nil, nil).WasRefused(lost) {
			t.Errorf("a GOAWAY of %d: a call without a stream was refused", last)
		}
		_ = c.Close()
		_ = far.Close()
	}
}

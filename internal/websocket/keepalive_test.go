package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// pinged runs a test of Watch in a bubble.
func pinged(t *testing.T, f func(t *testing.T, ws *Conn, c *wstest.Client, gone <-chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ws, c := pair(t, 1<<20)
		gone := make(chan error, 1)
		ws.Watch(KeepAlive{Interval: interval, Timeout: patience, Gone: func(err error) { gone <- err }}) // twice would hang
		f(t, ws, c, gone)
		ws.Drop()
	})
}

func TestSilentPeerIsGivenUp(t *testing.T) {
	pinged(t, func(t *testing.T, ws *Conn, c *wstest.Client, gone <-chan error) {
		start := time.Now()
		go readAll(ws)
		err := <-gone
		if got, want := time.Since(start), interval+patience; got != want || !errors.Is(err, socket.ErrNoPong) {
			t.Errorf("gave up after %v with %v, want %v with %v", got, err, want, socket.ErrNoPong)
		}
		if op, final, payload, err := c.Next(); op != wstest.Ping || !final || len(payload) != 0 || err != nil {
			t.Errorf("the peer was sent the frame %x %q, %v; want a ping", op, payload, err)
		}
	})
}

// TestPeerThatAnswersStays, and is pinged every interval.
func TestPeerThatAnswersStays(t *testing.T) {
	pinged(t, func(t *testing.T, ws *Conn, c *wstest.Client, gone <-chan error) {
		go readAll(ws)
		pings := 0
		var answering sync.WaitGroup
		answering.Go(func() {
			for {
				op, _, payload, err := c.Next()
				if err != nil {
					return
				}
				if op == wstest.Ping {
					pings++
					c.Send(t, wstest.Pong, payload)
				}
			}
		})
		elapse(time.Hour + time.Second)
		if len(gone) != 0 {
			t.Errorf("given up with %v", <-gone)
		}
		ws.Drop()
		answering.Wait()
		if want := int(time.Hour / interval); pings != want {
			t.Errorf("%d pings in an hour, want %d", pings, want)
		}
	})
}

// TestPeerThatSendsStays though it answers no ping: a large message on a slow
// line has no place for a pong.
func TestPeerThatSendsStays(t *testing.T) {
	pinged(t, func(t *testing.T, ws *Conn, c *wstest.Client, gone <-chan error) {
		go readAll(ws)
		message := wstest.Masked(wstest.Binary, make([]byte, 600))
		for _, b := range message {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			elapse(time.Second)
		}
		if len(gone) != 0 {
			t.Errorf("given up with %v inside a message that gets on", <-gone)
		}
		start := time.Now()
		if err := <-gone; !errors.Is(err, socket.ErrNoPong) { // it falls silent
			t.Errorf("given up with %v, want %v", err, socket.ErrNoPong)
		}
		if got := time.Since(start); got > 2*interval+patience {
			t.Errorf("a peer that fell silent was given up after %v", got)
		}
	})
}

// TestHeldReaderSeesNoPong, so that none is missed while nobody reads.
func TestHeldReaderSeesNoPong(t *testing.T) {
	pinged(t, func(t *testing.T, ws *Conn, _ *wstest.Client, gone <-chan error) {
		elapse(time.Hour)
		if len(gone) != 0 {
			t.Fatalf("given up with %v while culvert held its reader", <-gone)
		}
		start := time.Now()
		go readAll(ws)
		if err := <-gone; !errors.Is(err, socket.ErrNoPong) {
			t.Errorf("given up with %v, want %v", err, socket.ErrNoPong)
		}
		if got := time.Since(start); got < patience || got > interval+2*patience {
			t.Errorf("a silent peer was given up %v after the reader began", got)
		}
	})
}

// TestWriterInTheWaySendsNoPing: a client that takes nothing isn't one that
// is gone.
func TestWriterInTheWaySendsNoPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := pair(t, 1<<10)
		go readAll(ws)
		gone := make(chan error, 1)
		ws.Watch(KeepAlive{Interval: interval, Timeout: patience, Gone: func(err error) { gone <- err }})
		wrote := make(chan error, 1)
		go func() { wrote <- ws.WriteMessage(Binary, nil, false, make([]byte, 8<<10)) }()
		elapse(time.Hour)
		if len(gone) != 0 || len(wrote) != 0 {
			t.Fatalf("given up %d times, written %d times, with a client that takes nothing", len(gone), len(wrote))
		}
		var answering sync.WaitGroup
		answering.Go(func() {
			for {
				op, _, payload, err := c.Next()
				if err != nil {
					return
				}
				if op == wstest.Ping {
					c.Send(t, wstest.Pong, payload)
				}
			}
		})
		if err := <-wrote; err != nil {
			t.Errorf("the message that was held up: %v", err)
		}
		elapse(time.Hour)
		if len(gone) != 0 {
			t.Errorf("given up with %v, and the client answers", <-gone)
		}
		ws.Drop()
		answering.Wait()
	})
}

// TestStopPingsWaits for one that is under way, and none comes after.
func TestStopPingsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := pair(t, 1<<20)
		begun, finish := make(chan struct{}), make(chan struct{})
		go readAll(ws)
		ws.Watch(KeepAlive{Interval: interval, Timeout: patience, Gone: func(error) {
			close(begun)
			<-finish
		}})
		<-begun
		stopped := make(chan struct{})
		go func() {
			ws.stopPings()
			close(stopped)
		}()
		synctest.Wait()
		select {
		case <-stopped:
			t.Error("stopPings returned beside a callback")
		default:
		}
		close(finish)
		<-stopped
		ws.stopPings() // again is fine
		ws.Watch(KeepAlive{Interval: interval, Timeout: patience, Gone: func(error) { t.Error("called after stopPings") }})
		if _, _, _, err := c.Next(); err != nil { // the one ping that was sent
			t.Fatal(err)
		}
		elapse(time.Hour)
		if n := c.R.Buffered(); n != 0 {
			t.Errorf("after stopPings %d bytes were sent", n)
		}
		ws.Drop()
		if _, _, _, err := c.Next(); err == nil {
			t.Error("after stopPings a frame was sent")
		}
	})
}

// TestPingOfTheClientsIsAnswered, between messages and not inside one, and of
// several the latest.
func TestPingOfTheClientsIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := pair(t, 1<<10)
		go readAll(ws)
		for _, payload := range [][]byte{nil, []byte("hello"), bytes.Repeat([]byte{0xff}, 125)} {
			c.Send(t, wstest.Ping, payload)
			if op, final, got, err := c.Next(); op != wstest.Pong || !final || !bytes.Equal(got, payload) || err != nil {
				t.Errorf("the ping %q was answered %x %q, %v", payload, op, got, err)
			}
		}
		wrote := make(chan error, 1)
		go func() { wrote <- ws.WriteMessage(Binary, nil, false, make([]byte, 4<<10)) }()
		synctest.Wait() // it is blocked
		c.Send(t, wstest.Ping, []byte("first"))
		c.Send(t, wstest.Ping, []byte("second"))
		synctest.Wait()
		if op, _, got, err := c.Next(); op != wstest.Binary || len(got) != 4<<10 || err != nil {
			t.Errorf("the next frame is %x of %d bytes, %v; want the message", op, len(got), err)
		}
		if op, _, got, err := c.Next(); op != wstest.Pong || string(got) != "second" || err != nil {
			t.Errorf("then comes %x %q, %v; want the latest ping answered", op, got, err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}

// TestPongGoesWithABurst, which may have no end.
func TestPongGoesWithABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := pair(t, 1<<20)
		start := time.Now()
		ws.line.mu.Lock() // a message is being written
		ws.answer([]byte("p"))
		if err := ws.line.unlock(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := ws.WriteMessage(Binary, nil, true, make([]byte, 20<<10)); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []byte{wstest.Binary, wstest.Binary, wstest.Pong} {
			if op, _, _, err := c.Next(); op != want || err != nil {
				t.Fatalf("the frame %x came, %v; want %x", op, err, want)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the pong took %v", took)
		}
		ws.Drop()
	})
}

// TestControlFrameLeavesHeldMessages: a control frame leaves held messages to their
// writer, since a reader must not wait for a client that reads nothing.
func TestControlFrameLeavesHeldMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := pair(t, 1<<10)
		if err := ws.WriteMessage(Binary, nil, true, make([]byte, 20<<10)); err != nil {
			t.Fatal(err)
		}
		ws.answer([]byte("p")) // if it waits, the bubble ends
		if ws.ping() {
			t.Error("a ping passed by the message that is held")
		}
		go func() { _ = ws.WriteMessage(Binary, nil, false, []byte("x")) }() // the frames tell
		for _, want := range []byte{wstest.Binary, wstest.Binary, wstest.Pong} {
			if op, _, _, err := c.Next(); op != want || err != nil {
				t.Fatalf("the frame %x came, %v; want %x", op, err, want)
			}
		}
		ws.Drop()
	})
}

// TestPingBehindMessages: a client that was sent a message since it was last
// heard may be reading that. Behind little it has 45 s to answer; behind much it is given up
// when it has taken nothing for too long.
func TestPingBehindMessages(t *testing.T) {
	const slow = 2 * time.Minute
	for name, c := range map[string]struct {
		bytes  int
		answer time.Duration // when the client answers; 0: never
		want   time.Duration
		why    error
	}{
		"it reads nothing":               {64 << 10, 0, interval + slow, socket.ErrStalled},
		"it reads, and falls silent":     {64 << 10, interval + time.Minute, interval + time.Minute + interval, socket.ErrNoPong},
		"it was sent little":             {4, 0, 45 * time.Second, socket.ErrNoPong},
		"it was sent the most of little": {32<<10 - 1, 0, 45 * time.Second, socket.ErrNoPong}, // the message itself counts, too
		"it was sent a byte more":        {32 << 10, 0, interval + slow, socket.ErrStalled},
		"it answers late behind little":  {4, 40 * time.Second, 40*time.Second + interval, socket.ErrNoPong},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ws, client := pair(t, 1<<20)
				gone := make(chan error, 1)
				start := time.Now()
				ws.Watch(KeepAlive{Interval: interval, Timeout: patience, SlowConsumer: slow, Gone: func(err error) { gone <- err }})
				go readAll(ws)
				elapse(interval - time.Second)
				if err := ws.WriteMessage(Binary, nil, false, make([]byte, c.bytes)); err != nil {
					t.Fatal(err)
				}
				if c.answer > 0 {
					elapse(c.answer - time.Since(start))
					client.Send(t, wstest.Pong, nil)
				}
				err := <-gone
				if got := time.Since(start); !errors.Is(err, c.why) || got < c.want || got > c.want+interval {
					t.Errorf("given up after %v with %v, want %v with %v", got, err, c.want, c.why)
				}
				ws.Drop()
			})
		})
	}
}

// TestBlockedWriteIsWatched: a client that falls silent in a message is given up, although
// no ping can be sent.
func TestBlockedWriteIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 5 * time.Minute
		ws, _ := pair(t, 1<<10)
		gone := make(chan error, 1)
		start := time.Now()
		ws.Watch(KeepAlive{Interval: interval, Timeout: patience, SlowConsumer: slow, Gone: func(err error) { gone <- err }})
		go readAll(ws)
		written := make(chan error, 1)
		go func() { written <- ws.WriteMessage(Binary, nil, false, make([]byte, 64<<10)) }()
		err := <-gone
		if got, want := time.Since(start), interval+slow; !errors.Is(err, socket.ErrStalled) || got < want || got > want+interval {
			t.Errorf("given up after %v with %v, want %v with %v", got, err, want, socket.ErrStalled)
		}
		ws.Drop()
		if err := <-written; err == nil {
			t.Error("the message was written to a client that reads nothing")
		}
	})
}

// A heldConn is a connection whose reader doesn't get to read.
type heldConn struct {
	net.Conn
	reads chan struct{} // closed: reads may begin
}

func (c heldConn) NetConn() net.Conn { return c.Conn }

func (c heldConn) Read(p []byte) (int, error) {
	<-c.reads
	return c.Conn.Read(p)
}

// TestPongThatWaitsIsReadFirst: it counts although nobody got to read it in time.
func TestPongThatWaitsIsReadFirst(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_ = client.SetDeadline(time.Now().Add(2 * time.Minute)) // a test that hangs fails
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	held := heldConn{server, make(chan struct{})}
	ws := &Conn{line: newLine(held, mem.DefaultBufferPool(), nil)}
	const every = 2 * time.Second // in which a busy machine hears of a ping
	gone := make(chan error, 1)
	ws.Watch(KeepAlive{Interval: every, Timeout: every, Gone: func(err error) { gone <- err }})
	var reading sync.WaitGroup
	reading.Go(func() { readAll(ws) })
	c := &wstest.Client{Conn: client, R: bufio.NewReader(client)}
	if op, _, _, err := c.Next(); op != wstest.Ping || err != nil {
		t.Fatalf("the frame %x came, %v; want a ping", op, err)
	}
	c.Send(t, wstest.Pong, nil) // into the socket: its reader doesn't get to it
	<-time.After(3 * every)
	close(held.reads)
	pinged := make(chan struct{})
	reading.Go(func() {
		if op, _, _, err := c.Next(); op == wstest.Ping && err == nil { // and so it was heard
			close(pinged)
		}
	})
	select {
	case err := <-gone:
		t.Errorf("given up with %v", err)
	case <-pinged:
	}
	ws.Drop()
	reading.Wait()
}

// TestPongWhileTheTimerLooks: it is read after the timer saw none, before the reader is asked.
func TestPongWhileTheTimerLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, client := pair(t, 1<<20)
		gone := make(chan error, 1)
		looks := 0
		ws.Watch(KeepAlive{Interval: interval, Timeout: patience, Gone: func(err error) { gone <- err }, Blocked: func() bool {
			if looks++; looks == 1 {
				client.Send(t, wstest.Pong, nil)
				synctest.Wait() // read
			}
			return false
		}})
		go readAll(ws)
		elapse(interval + patience + socket.PulseAgain)
		if looks != 1 || len(gone) != 0 {
			t.Errorf("the timer looked %d times and gave up %d times, want a look and no end", looks, len(gone))
		}
		ws.Drop()
	})
}

// TestTimerThatPanics closes the connection: the reader ends, and so does Close.
func TestTimerThatPanics(t *testing.T) {
	ws, _ := pair(t, 1<<20)
	var panics atomic.Int64
	ws.panicked = func(any) { panics.Add(1) }
	ws.schedulePing(0, func() { panic("no ping") })
	if _, err := ws.NextMessage(); err == nil {
		t.Error("a message came")
	}
	ws.Close(StatusNormalClosure, "", time.Second, func() bool { return false })
	if got := panics.Load(); got != 1 {
		t.Errorf("told of %d panics, want 1", got)
	}
}

// A badPool has no buffers.
type badPool struct{ mem.BufferPool }

func (badPool) Get(int) *[]byte { panic("no buffer") }

// TestWriteThatPanics leaves the line free, and nothing can follow.
func TestWriteThatPanics(t *testing.T) {
	ws, _ := pair(t, 1<<20)
	out := ws.line.out
	write := func() (v any, err error) {
		defer func() { v = recover() }()
		return nil, ws.WriteMessage(Binary, nil, false, []byte("hello"))
	}
	ws.line.out = badPool{}
	if v, _ := write(); v != "no buffer" {
		t.Fatalf("the write panicked with %v", v)
	}
	ws.line.out = out
	if v, err := write(); v != nil || !errors.Is(err, net.ErrClosed) {
		t.Errorf("the next write panicked with %v and returned %v, want %v", v, err, net.ErrClosed)
	}
	ws.Drop()
}

// TestFlushAnswersAPing that waits behind messages which are kept for more.
func TestFlushAnswersAPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := pair(t, 1<<20)
		defer ws.Drop()
		go readAll(ws)
		if err := ws.WriteMessage(Binary, nil, true, []byte("kept")); err != nil {
			t.Fatal(err)
		}
		c.Send(t, wstest.Ping, []byte("?"))
		synctest.Wait()
		if err := ws.Flush(); err != nil {
			t.Fatal(err)
		}
		for _, want := range []struct {
			op      Opcode
			payload string
		}{{Binary, "kept"}, {opPong, "?"}} {
			op, _, payload, err := c.Next()
			if err != nil || Opcode(op) != want.op || string(payload) != want.payload {
				t.Errorf("%v %q came with %v, want %v %q", op, payload, err, want.op, want.payload)
			}
		}
	})
}

package tunnel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// TestTunnelIsAStream: messages, fragments and empty ones are bytes in order,
// read in any pieces.
func TestTunnelIsAStream(t *testing.T) {
	_, c, end := pair(t, 1<<20)
	want := parts.Pattern(10 << 10)
	fragment := wstest.Masked(wstest.Binary, want[:100])
	fragment[0] &^= 0x80                              // not the last
	go func() { _, _ = io.Copy(io.Discard, end.R) }() // a pong
	for _, f := range [][]byte{fragment, wstest.Masked(0, want[100:5000]), wstest.Masked(wstest.Binary, nil), wstest.Masked(wstest.Ping, nil), wstest.Masked(wstest.Binary, want[5000:])} {
		if _, err := end.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	for step := 1; len(got) < len(want); step = step*2 + 1 {
		p := make([]byte, step)
		n, err := c.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes came out as %d others", len(want), len(got))
	}
}

// TestTunnelEndsAsAStreamEnds: a close with any code is the end of the file,
// and a message that breaks off is none.
func TestTunnelEndsAsAStreamEnds(t *testing.T) {
	message := wstest.Masked(wstest.Binary, []byte("hello"))
	for name, c := range map[string]struct {
		send []byte
		eof  bool
	}{
		"1000":           {wstest.Masked(wstest.Close, []byte{0x03, 0xe8}), true},
		"1001":           {wstest.Masked(wstest.Close, []byte{0x03, 0xe9}), true},
		"4000":           {wstest.Masked(wstest.Close, []byte{0x0f, 0xa0}), true},
		"no code":        {wstest.Masked(wstest.Close, nil), true},
		"cut in a frame": {message[:9], false},
		"a wrong frame":  {[]byte("GET / HTTP/1.1\r\n\r\n"), false},
	} {
		_, conn, end := pair(t, 1<<10)
		if _, err := end.Write(append(bytes.Clone(message), c.send...)); err != nil {
			t.Fatal(err)
		}
		if !c.eof {
			_ = end.Close()
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
			t.Errorf("%s: read %q, %v before the end", name, got, err)
		}
		var err error
		for err == nil {
			_, err = conn.Read(make([]byte, 10))
		}
		if errors.Is(err, io.EOF) != c.eof {
			t.Errorf("%s: the end reads as %v, want EOF: %v", name, err, c.eof)
		}
		_ = conn.Close()
		_ = end.Close()
	}
}

func TestTextInsideATunnel(t *testing.T) {
	_, c, end := pair(t, 1<<10)
	end.Send(t, wstest.Text, []byte("PRI * HTTP/2.0"))
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, tunnel.ErrText) {
		t.Errorf("text reads as %v, want %v", err, tunnel.ErrText)
	}
	end.WantClose(t, websocket.StatusUnsupportedData)
	end.Send(t, wstest.Close, []byte{0x03, 0xeb})
}

// TestForbiddenFrameInsideATunnel: the client is told that it was its frame.
func TestForbiddenFrameInsideATunnel(t *testing.T) {
	for name, frame := range map[string][]byte{
		"not masked":              {0x82, 1, 0},
		"a length with a top bit": {0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0},
		"a reserved bit":          {0xc2, 0x80, 0, 0, 0, 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			_, c, end := pair(t, 1<<10)
			if _, err := end.Write(frame); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(make([]byte, 10)); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("it reads as %v", err)
			}
			_ = c.Close() // as net/http does then
			op, _, payload, err := end.Next()
			if err != nil || op != wstest.Close || len(payload) < 2 || binary.BigEndian.Uint16(payload) != uint16(websocket.StatusProtocolError) {
				t.Errorf("told by %x %q, %v; want a close with %d", op, payload, err, websocket.StatusProtocolError)
			}
		})
	}
}

// TestTunnelCloses with the code that says why, after all that was written.
func TestTunnelCloses(t *testing.T) {
	for name, c := range map[string]struct {
		close func(s *server, c *Conn)
		want  websocket.StatusCode
	}{
		"by HTTP":           {func(_ *server, c *Conn) { _ = c.Close() }, websocket.StatusNormalClosure},
		"while draining":    {func(s *server, c *Conn) { s.leaving.Store(true); _ = c.Close() }, websocket.StatusGoingAway},
		"after silence":     {func(_ *server, c *Conn) { c.closeWith(websocket.StatusGoingAway) }, websocket.StatusGoingAway},
		"the first one won": {func(_ *server, c *Conn) { c.closeWith(websocket.StatusUnsupportedData); _ = c.Close() }, websocket.StatusUnsupportedData},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			s, conn, end := pair(t, 1<<20)
			if n, err := conn.Write([]byte("last words")); n != 10 || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			c.close(s, conn)
			if n, err := conn.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
				t.Errorf("after the close wrote %d, %v; want %v", n, err, net.ErrClosed)
			}
			if op, _, payload, err := end.Next(); op != wstest.Binary || string(payload) != "last words" || err != nil {
				t.Errorf("before the close came %x %q, %v", op, payload, err)
			}
			end.WantClose(t, c.want)
			end.Send(t, wstest.Close, []byte{0x03, 0xe8})
		})
	}
}

// TestTunnelCoalesces what is written while a message is under way, up to a
// bound, and then holds its writers up.
func TestTunnelCoalesces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, end := pair(t, 1<<10)
		want := parts.Pattern(200 << 10)
		written := 0
		var writing sync.WaitGroup
		writing.Go(func() {
			for written < len(want) {
				n, err := c.Write(want[written:min(written+100, len(want))])
				if err != nil {
					t.Error(err)
					return
				}
				written += n
			}
		})
		synctest.Wait() // the client takes nothing
		if written < maxMessage || written > 2*maxMessage+2<<10 {
			t.Errorf("with a client that takes nothing %d bytes were written, want one message and one buffer at most", written)
		}
		var got []byte
		messages := 0
		for len(got) < len(want) {
			op, final, payload, err := end.Next()
			if op != wstest.Binary || !final || len(payload) > maxMessage || err != nil {
				t.Fatalf("the frame %x of %d bytes, final %v, %v; want a message of at most %d", op, len(payload), final, err, maxMessage)
			}
			got = append(got, payload...)
			messages++
		}
		writing.Wait()
		if !bytes.Equal(got, want) {
			t.Error("the bytes differ")
		}
		if messages > 50 {
			t.Errorf("2000 writes became %d messages, want few", messages)
		}
		_ = c.Close()
		end.WantClose(t, websocket.StatusNormalClosure)
		end.Send(t, wstest.Close, []byte{0x03, 0xe8})
	})
}

// TestTunnelKeepsEachWriteWhole, as any net.Conn does with many writers.
func TestTunnelKeepsEachWriteWhole(t *testing.T) {
	_, c, end := pair(t, 1<<10)
	const writers, lines = 8, 400
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range lines {
				line := fmt.Sprintf("%d %d %s\n", w, i, strings.Repeat("x", (i*37)%500))
				if _, err := io.WriteString(c, line); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		var text []byte
		next := make([]int, writers)
		for whole := 0; whole < writers*lines; {
			op, _, payload, err := end.Next()
			if op != wstest.Binary || err != nil {
				t.Errorf("after %d lines: %x, %v", whole, op, err)
				return
			}
			text = append(text, payload...)
			for {
				line, rest, ok := bytes.Cut(text, []byte("\n"))
				if !ok {
					break
				}
				text = rest
				var w, i int
				var x string
				if _, err := fmt.Sscanf(string(line)+" ", "%d %d %s", &w, &i, &x); err != nil && (i*37)%500 != 0 || w >= writers || i != next[w] || len(x) != (i*37)%500 {
					t.Errorf("the line %.60q came, want line %d of that writer whole", line, next[min(w, writers-1)])
					return
				}
				next[w]++
				whole++
			}
		}
	})
	reading.Wait()
	_ = end.Close() // frees writers if the reading failed
	writing.Wait()
}

// TestTunnelWhoseClientIsGone tells its writers.
func TestTunnelWhoseClientIsGone(t *testing.T) {
	_, c, end := pair(t, 1<<10)
	_ = end.Close()
	var err error
	for range 1000 { // the first ones are taken before the error is known
		if _, err = c.Write(make([]byte, 1<<10)); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("a client that is gone takes 1 MiB")
	}
}

// TestIdleTunnelKeepsNothing of what a burst needed.
func TestIdleTunnelKeepsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, end := pair(t, 1<<20)
		if _, err := c.Write(make([]byte, maxMessage)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := c.Write(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		c.mu.Lock()
		if c.pending != nil {
			t.Errorf("it keeps %d bytes", cap(*c.pending))
		}
		c.mu.Unlock()
		_ = c.Close()
		end.WantClose(t, websocket.StatusNormalClosure)
		end.Send(t, wstest.Close, []byte{0x03, 0xe8})
	})
}

// TestSilentTunnelIsClosed: its calls end, and its client, should it be there,
// is told 1001.
func TestSilentTunnelIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, end := pair(t, 1<<20)
		const interval, patience = 20 * time.Second, 10 * time.Second
		c.ws.Watch(websocket.KeepAlive{Interval: interval, Timeout: patience, Gone: func(error) { c.End(report.EndedSilent) }})
		start := time.Now()
		ended := make(chan time.Duration, 1)
		go func() {
			_, _ = c.Read(make([]byte, 10)) // whatever it says
			ended <- time.Since(start)
		}()
		end.WantClose(t, websocket.StatusGoingAway)
		if got, want := time.Since(start), interval+patience; got != want {
			t.Errorf("the client is told after %v, want %v", got, want)
		}
		if got, want := <-ended, interval+patience; got != want {
			t.Errorf("its reader returned after %v, want %v", got, want)
		}
	})
}

// TestClosedTunnelIsNotRead: the reader returns at once, although the client takes
// its time with the close handshake.
func TestClosedTunnelIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, end := pair(t, 1<<20)
		ended := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 10))
			ended <- err
		}()
		synctest.Wait()
		start := time.Now()
		_ = c.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) || time.Since(start) != 0 {
			t.Errorf("the reader returned %v after %v, want %v at once", err, time.Since(start), net.ErrClosed)
		}
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the next read: %v, want %v", err, net.ErrClosed)
		}
		end.WantClose(t, websocket.StatusNormalClosure)
		end.Send(t, wstest.Close, []byte{0x03, 0xe8})
	})
}

package bridge

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/test/bufconn"
)

// socketPair returns a WebSocket as the server has it, and the client's end
// of the connection under it, of which the kernel would hold so many bytes.
func socketPair(t testing.TB, s *Server, holds int) (*webSocket, *wireEnd) {
	t.Helper()
	ln := bufconn.Listen(holds)
	accepted := make(chan *webSocket, 1)
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := s.accept(w, r, tunnelName)
		if err != nil {
			t.Error(err)
		}
		accepted <- ws
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = hs.Serve(ln) }) // ends with Close
	t.Cleanup(func() {
		_ = hs.Close() // its listener
		serving.Wait()
	})
	conn, err := ln.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // a test may have
	handshake := "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n" +
		"sec-websocket-protocol: " + tunnelName + "\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if _, err := io.WriteString(conn, handshake); err != nil {
		t.Fatal(err)
	}
	c := &wireEnd{Conn: conn, r: bufio.NewReader(conn)}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close() // it has none
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake was answered %s", res.Status)
	}
	ws := <-accepted
	t.Cleanup(ws.drop) // a test may have closed it
	return ws, c
}

// A wireEnd is a WebSocket client frame by frame. RFC 6455 §5.2.
type wireEnd struct {
	net.Conn
	r *bufio.Reader
}

// masked is one whole frame of a client.
func masked(op opcode, payload []byte) []byte {
	b := []byte{finBit | byte(op)}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	key := [4]byte{0xa5, 0, 0x3c, 0xff}
	b = append(b, key[:]...)
	for i, p := range payload {
		b = append(b, p^key[i%4])
	}
	return b
}

func (c *wireEnd) send(t testing.TB, op opcode, payload []byte) {
	t.Helper()
	if _, err := c.Write(masked(op, payload)); err != nil {
		t.Error(err)
	}
}

// next reads one frame of the server's.
func (c *wireEnd) next() (op opcode, final bool, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, false, nil, err
	}
	n := uint64(head[1]) // a server's frames have no mask
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(c.r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(c.r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil {
		return 0, false, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	return opcode(head[0] & 0xf), head[0]&0x80 != 0, payload, err
}

// wantClose reads to the close frame.
func (c *wireEnd) wantClose(t testing.TB, want websocket.StatusCode) {
	t.Helper()
	for {
		op, _, payload, err := c.next()
		if err != nil {
			t.Errorf("the connection ended with %v, want the close code %d", err, want)
			return
		}
		if op == opClose {
			if got := websocket.StatusCode(binary.BigEndian.Uint16(payload)); got != want || len(payload) != 2 {
				t.Errorf("closed with %d %q, want %d and no reason", got, payload[2:], want)
			}
			return
		}
	}
}

// readAll reads as a transport does, until the connection ends.
func readAll(ws *webSocket) {
	for {
		if _, err := ws.nextMessage(); err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, ws) // what comes next has the error
	}
}

// pinged runs a test of keepAlive in a bubble.
func pinged(t *testing.T, f func(t *testing.T, ws *webSocket, c *wireEnd, gone <-chan error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ws, c := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<20)
		gone := make(chan error, 1)
		ws.keepAlive(func(err error) { gone <- err }) // twice would hang
		f(t, ws, c, gone)
		ws.drop()
	})
}

func TestSilentPeerIsGivenUp(t *testing.T) {
	pinged(t, func(t *testing.T, ws *webSocket, c *wireEnd, gone <-chan error) {
		start := time.Now()
		go readAll(ws)
		err := <-gone
		if got, want := time.Since(start), pingInterval+pingTimeout; got != want || !errors.Is(err, errNoPong) {
			t.Errorf("gave up after %v with %v, want %v with %v", got, err, want, errNoPong)
		}
		if op, final, payload, err := c.next(); op != opPing || !final || len(payload) != 0 || err != nil {
			t.Errorf("the peer was sent the frame %x %q, %v; want a ping", op, payload, err)
		}
	})
}

// TestPeerThatAnswersStays, and is pinged every interval.
func TestPeerThatAnswersStays(t *testing.T) {
	pinged(t, func(t *testing.T, ws *webSocket, c *wireEnd, gone <-chan error) {
		go readAll(ws)
		pings := 0
		var answering sync.WaitGroup
		answering.Go(func() {
			for {
				op, _, payload, err := c.next()
				if err != nil {
					return
				}
				if op == opPing {
					pings++
					c.send(t, opPong, payload)
				}
			}
		})
		elapse(time.Hour + time.Second)
		if len(gone) != 0 {
			t.Errorf("given up with %v", <-gone)
		}
		ws.drop()
		answering.Wait()
		if want := int(time.Hour / pingInterval); pings != want {
			t.Errorf("%d pings in an hour, want %d", pings, want)
		}
	})
}

// TestPeerThatSendsStays though it answers no ping: a large message on a slow
// line has no place for a pong.
func TestPeerThatSendsStays(t *testing.T) {
	pinged(t, func(t *testing.T, ws *webSocket, c *wireEnd, gone <-chan error) {
		go readAll(ws)
		message := masked(opBinary, make([]byte, 600))
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
		if err := <-gone; !errors.Is(err, errNoPong) { // it falls silent
			t.Errorf("given up with %v, want %v", err, errNoPong)
		}
		if got := time.Since(start); got > 2*pingInterval+pingTimeout {
			t.Errorf("a peer that fell silent was given up after %v", got)
		}
	})
}

// TestHeldReaderSeesNoPong, so that none is missed while nobody reads.
func TestHeldReaderSeesNoPong(t *testing.T) {
	pinged(t, func(t *testing.T, ws *webSocket, _ *wireEnd, gone <-chan error) {
		elapse(time.Hour)
		if len(gone) != 0 {
			t.Fatalf("given up with %v while culvert held its reader", <-gone)
		}
		start := time.Now()
		go readAll(ws)
		if err := <-gone; !errors.Is(err, errNoPong) {
			t.Errorf("given up with %v, want %v", err, errNoPong)
		}
		if got := time.Since(start); got < pingTimeout || got > pingInterval+2*pingTimeout {
			t.Errorf("a silent peer was given up %v after the reader began", got)
		}
	})
}

// TestWriterInTheWaySendsNoPing: a client that takes nothing isn't one that
// is gone.
func TestWriterInTheWaySendsNoPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<10)
		go readAll(ws)
		gone := make(chan error, 1)
		ws.keepAlive(func(err error) { gone <- err })
		wrote := make(chan error, 1)
		go func() { wrote <- ws.write(nil, false, make([]byte, 8<<10)) }()
		elapse(time.Hour)
		if len(gone) != 0 || len(wrote) != 0 {
			t.Fatalf("given up %d times, written %d times, with a client that takes nothing", len(gone), len(wrote))
		}
		var answering sync.WaitGroup
		answering.Go(func() {
			for {
				op, _, payload, err := c.next()
				if err != nil {
					return
				}
				if op == opPing {
					c.send(t, opPong, payload)
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
		ws.drop()
		answering.Wait()
	})
}

// TestStopPingsWaits for one that is under way, and none comes after.
func TestStopPingsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<20)
		begun, finish := make(chan struct{}), make(chan struct{})
		go readAll(ws)
		ws.keepAlive(func(error) {
			close(begun)
			<-finish
		})
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
		ws.keepAlive(func(error) { t.Error("called after stopPings") })
		if _, _, _, err := c.next(); err != nil { // the one ping that was sent
			t.Fatal(err)
		}
		elapse(time.Hour)
		if n := c.r.Buffered(); n != 0 {
			t.Errorf("after stopPings %d bytes were sent", n)
		}
		ws.drop()
		if _, _, _, err := c.next(); err == nil {
			t.Error("after stopPings a frame was sent")
		}
	})
}

// TestPingOfTheClientsIsAnswered, between messages and not inside one, and of
// several the latest.
func TestPingOfTheClientsIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<10)
		go readAll(ws)
		for _, payload := range [][]byte{nil, []byte("hello"), bytes.Repeat([]byte{0xff}, 125)} {
			c.send(t, opPing, payload)
			if op, final, got, err := c.next(); op != opPong || !final || !bytes.Equal(got, payload) || err != nil {
				t.Errorf("the ping %q was answered %x %q, %v", payload, op, got, err)
			}
		}
		wrote := make(chan error, 1)
		go func() { wrote <- ws.write(nil, false, make([]byte, 4<<10)) }()
		synctest.Wait() // it is blocked
		c.send(t, opPing, []byte("first"))
		c.send(t, opPing, []byte("second"))
		synctest.Wait()
		if op, _, got, err := c.next(); op != opBinary || len(got) != 4<<10 || err != nil {
			t.Errorf("the next frame is %x of %d bytes, %v; want the message", op, len(got), err)
		}
		if op, _, got, err := c.next(); op != opPong || string(got) != "second" || err != nil {
			t.Errorf("then comes %x %q, %v; want the latest ping answered", op, got, err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}

// TestClosingIsBounded, whatever the client does.
// TestPongGoesWithABurst, which may have no end.
func TestPongGoesWithABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<20)
		start := time.Now()
		ws.net.mu.Lock() // a message is being written
		ws.answer([]byte("p"))
		if err := ws.net.unlock(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := ws.write(nil, true, make([]byte, 20<<10)); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []opcode{opBinary, opBinary, opPong} {
			if op, _, _, err := c.next(); op != want || err != nil {
				t.Fatalf("the frame %x came, %v; want %x", op, err, want)
			}
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the pong took %v", took)
		}
		ws.drop()
	})
}

// TestControlFrameLeavesHeldMessages to their writer: whoever reads must not
// wait for a client that takes nothing.
func TestControlFrameLeavesHeldMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<10)
		if err := ws.write(nil, true, make([]byte, 20<<10)); err != nil {
			t.Fatal(err)
		}
		ws.answer([]byte("p")) // if it waits, the bubble ends
		if ws.ping() {
			t.Error("a ping passed by the message that is held")
		}
		go func() { _ = ws.write(nil, false, []byte("x")) }() // the frames tell
		for _, want := range []opcode{opBinary, opBinary, opPong} {
			if op, _, _, err := c.next(); op != want || err != nil {
				t.Fatalf("the frame %x came, %v; want %x", op, err, want)
			}
		}
		ws.drop()
	})
}

func TestClosingIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		client func(t *testing.T, c *wireEnd)
		want   time.Duration
	}{
		"a client that answers": {func(t *testing.T, c *wireEnd) {
			c.wantClose(t, websocket.StatusNormalClosure)
			c.send(t, opClose, []byte{0x03, 0xe8})
		}, 0},
		"a client that says nothing": {func(t *testing.T, c *wireEnd) { c.wantClose(t, websocket.StatusNormalClosure) }, closeTimeout},
		"a client inside a message": {func(t *testing.T, c *wireEnd) {
			if _, err := c.Write(masked(opBinary, make([]byte, 100))[:50]); err != nil {
				t.Error(err)
			}
			c.wantClose(t, websocket.StatusNormalClosure)
		}, closeTimeout},
		"a client that sends for ever": {func(t *testing.T, c *wireEnd) {
			for {
				if _, err := c.Write(masked(opBinary, make([]byte, 100))); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}, closeTimeout},
		"a client that is gone": {func(_ *testing.T, c *wireEnd) { _ = c.Close() }, 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ws, end := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<20)
				closed := 0
				ws.closed = func() { closed++ }
				var client sync.WaitGroup
				client.Go(func() { c.client(t, end) })
				start := time.Now()
				ws.shut(websocket.StatusNormalClosure, closeTimeout)
				if got := time.Since(start); got != c.want {
					t.Errorf("it took %v, want %v", got, c.want)
				}
				if closed != 1 {
					t.Errorf("the server was told %d times, want once", closed)
				}
				if _, err := ws.net.Write([]byte("x")); err == nil {
					t.Error("the connection under it is open")
				}
				client.Wait()
			})
		})
	}
}

// TestDropIsAtOnce, with a reader and a writer blocked.
func TestDropIsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, c := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<10)
		var blocked sync.WaitGroup
		blocked.Go(func() { readAll(ws) })
		blocked.Go(func() {
			if err := ws.write(nil, false, make([]byte, 8<<10)); err == nil {
				t.Error("a message that nobody takes was written")
			}
		})
		if _, err := c.Write(masked(opBinary, make([]byte, 100))[:50]); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		start := time.Now()
		ws.drop()
		blocked.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

// TestCutIsNoEnd: cut at every byte, no message may come of it and no
// half-close.
func TestCutIsNoEnd(t *testing.T) {
	message := masked(opBinary, append([]byte{0}, framed(0, []byte("hello"))...))
	halfClose := masked(opBinary, []byte{1})
	s := newServer(t, Config{Backend: nowhere})
	for n := range len(message) + len(halfClose) {
		ws, c := socketPair(t, s, 1<<10)
		if _, err := c.Write(append(bytes.Clone(message), halfClose...)[:n]); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		m := newReader(&socketBody{ws: ws}, 1<<10, "")
		messages, err := readMessages(m)
		whole := 0
		if n >= len(message) {
			whole = 1
		}
		if len(messages) != whole || reasonOf(err) != ReasonClientGone {
			t.Errorf("cut after %d of %d bytes: %d messages and %v; want %d and %s", n, len(message)+len(halfClose), len(messages), err, whole, ReasonClientGone)
		}
		ws.drop()
	}
	// The first byte of a longer message alone would be a half-close.
	ws, c := socketPair(t, s, 1<<10)
	longer := masked(opBinary, []byte{1, 0})
	if _, err := c.Write(longer[:len(longer)-1]); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := (&socketBody{ws: ws}).Read(make([]byte, 10)); reasonOf(err) != ReasonClientGone {
		t.Errorf("cut after the marker of a half-close: %v, want %s", err, ReasonClientGone)
	}
	ws.drop()
}

// TestSocketBody: one body, however its bytes are put into messages and
// frames.
func TestSocketBody(t *testing.T) {
	data := func(b string) []byte { return masked(opBinary, append([]byte{0}, b...)) }
	body := string(framed(0, []byte("hello"))) + string(framed(0, nil)) + string(framed(0, []byte("world")))
	split := masked(opBinary, append([]byte{0}, body...))
	split[0] &^= 0x80 // not the last
	whole := [][]byte{[]byte("hello"), {}, []byte("world")}
	for _, c := range []struct {
		name   string
		frames [][]byte
		want   [][]byte
		reason Reason // of the end; empty: the half-close
	}{
		{"one message", [][]byte{data(body), masked(opBinary, []byte{1})}, whole, ""},
		{"a message a byte", func() (f [][]byte) {
			for i := range len(body) {
				f = append(f, data(body[i:i+1]))
			}
			return append(f, masked(opBinary, []byte{1}))
		}(), whole, ""},
		{"empty data between", [][]byte{data(body[:3]), data(""), data(""), data(body[3:]), masked(opBinary, []byte{1})}, whole, ""},
		{"fragments", [][]byte{split, masked(0, nil), masked(opBinary, []byte{1})}, whole, ""},
		{"a ping between", [][]byte{data(body[:3]), masked(opPing, []byte("p")), data(body[3:]), masked(opBinary, []byte{1})}, whole, ""},
		{"half-close inside a message", [][]byte{data(body[:3]), masked(opBinary, []byte{1})}, nil, ReasonBadRequest},
		{"an empty message", [][]byte{masked(opBinary, nil)}, nil, ReasonBadRequest},
		{"another marker", [][]byte{masked(opBinary, []byte{2})}, nil, ReasonBadRequest},
		{"a half-close with more", [][]byte{masked(opBinary, []byte{1, 0})}, nil, ReasonBadRequest},
		{"text", [][]byte{masked(opText, []byte("\x00"))}, nil, ReasonBadRequest},
		{"a close", [][]byte{masked(opClose, []byte{0x03, 0xe8})}, nil, ReasonClientGone},
		{"a close without a code", [][]byte{masked(opClose, nil)}, nil, ReasonClientGone},
		{"no frame", [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, nil, ReasonBadRequest},
		{"a frame that isn't masked", [][]byte{{0x82, 1, 0}}, nil, ReasonBadRequest},
		{"a length with the top bit", [][]byte{{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}, nil, ReasonBadRequest},
	} {
		ws, end := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<10)
		go func() { _, _ = io.Copy(io.Discard, end.r) }() // the pong, or a close
		for _, f := range c.frames {
			if _, err := end.Write(f); err != nil {
				t.Fatal(err)
			}
		}
		m := newReader(&socketBody{ws: ws}, 1<<10, "")
		messages, err := readMessages(m)
		if len(messages) != len(c.want) || reasonOf(err) != c.reason || (err == nil) != (c.reason == "") {
			t.Errorf("%s: %q and %v, want %q and %q", c.name, messages, err, c.want, c.reason)
		} else {
			for i := range messages {
				if !bytes.Equal(messages[i], c.want[i]) {
					t.Errorf("%s: message %d is %q, want %q", c.name, i, messages[i], c.want[i])
				}
			}
		}
		ws.drop()
		_ = end.Close()
	}
}

// TestDataAfterTheHalfClose is seen by the read that watches the client.
func TestDataAfterTheHalfClose(t *testing.T) {
	ws, c := socketPair(t, newServer(t, Config{Backend: nowhere}), 1<<10)
	b := &socketBody{ws: ws}
	c.send(t, opBinary, []byte{1})
	if _, err := b.Read(make([]byte, 10)); !errors.Is(err, io.EOF) {
		t.Errorf("the half-close reads as %v, want EOF", err)
	}
	c.send(t, opBinary, []byte{0, 1})
	if _, err := b.Read(make([]byte, 10)); reasonOf(err) != ReasonBadRequest {
		t.Errorf("data after it reads as %v, want %s", err, ReasonBadRequest)
	}
}

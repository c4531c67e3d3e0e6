package bridge

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/websocket/wstest"
)

// tunnelPair returns a tunnel's connection as the server has it, outside of
// any HTTP/2 server, and the client's end.
func tunnelPair(t testing.TB, holds int) (*tunnelConn, *wstest.Client) {
	t.Helper()
	s := newServer(t, Config{Backend: nowhere})
	ws, end := socketPair(t, s, holds)
	c := &tunnelConn{s: s, ws: ws, on: s.edge.NewTunnel(&edge.Tunnel{Outer: s.edge.Of(new(http.Request))}), code: websocket.StatusGoingAway}
	c.cond.L = &c.mu
	if !s.sockets.start(c.write) {
		t.Fatal("the tunnel can't start")
	}
	t.Cleanup(func() { _ = c.Close() }) // a test may have
	return c, end
}

// TestTunnelIsAStream: messages, fragments and empty ones are bytes in order,
// read in any pieces.
func TestTunnelIsAStream(t *testing.T) {
	c, end := tunnelPair(t, 1<<20)
	want := pattern(10 << 10)
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
		conn, end := tunnelPair(t, 1<<10)
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
	c, end := tunnelPair(t, 1<<10)
	end.Send(t, wstest.Text, []byte("PRI * HTTP/2.0"))
	if _, err := c.Read(make([]byte, 10)); !errors.Is(err, errTunnelText) {
		t.Errorf("text reads as %v, want %v", err, errTunnelText)
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
			c, end := tunnelPair(t, 1<<10)
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
		close func(c *tunnelConn)
		want  websocket.StatusCode
	}{
		"by HTTP":           {func(c *tunnelConn) { _ = c.Close() }, websocket.StatusNormalClosure},
		"while draining":    {func(c *tunnelConn) { c.s.refusing.Store(true); _ = c.Close() }, websocket.StatusGoingAway},
		"after silence":     {func(c *tunnelConn) { c.closeWith(websocket.StatusGoingAway) }, websocket.StatusGoingAway},
		"the first one won": {func(c *tunnelConn) { c.closeWith(websocket.StatusUnsupportedData); _ = c.Close() }, websocket.StatusUnsupportedData},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			conn, end := tunnelPair(t, 1<<20)
			if n, err := conn.Write([]byte("last words")); n != 10 || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
			c.close(conn)
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
		c, end := tunnelPair(t, 1<<10)
		want := pattern(200 << 10)
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
		if written < maxTunnelMessage || written > 2*maxTunnelMessage+2<<10 {
			t.Errorf("with a client that takes nothing %d bytes were written, want one message and one buffer at most", written)
		}
		var got []byte
		messages := 0
		for len(got) < len(want) {
			op, final, payload, err := end.Next()
			if op != wstest.Binary || !final || len(payload) > maxTunnelMessage || err != nil {
				t.Fatalf("the frame %x of %d bytes, final %v, %v; want a message of at most %d", op, len(payload), final, err, maxTunnelMessage)
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
	c, end := tunnelPair(t, 1<<10)
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
	c, end := tunnelPair(t, 1<<10)
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
		c, end := tunnelPair(t, 1<<20)
		if _, err := c.Write(make([]byte, maxTunnelMessage)); err != nil {
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
		c, end := tunnelPair(t, 1<<20)
		c.watch(c.s.policy.Load())
		start := time.Now()
		ended := make(chan time.Duration, 1)
		go func() {
			_, _ = c.Read(make([]byte, 10)) // whatever it says
			ended <- time.Since(start)
		}()
		end.WantClose(t, websocket.StatusGoingAway)
		if got, want := time.Since(start), pingInterval+pingTimeout; got != want {
			t.Errorf("the client is told after %v, want %v", got, want)
		}
		if got, want := <-ended, pingInterval+pingTimeout; got != want {
			t.Errorf("its reader returned after %v, want %v", got, want)
		}
	})
}

// TestClosedTunnelIsNotRead: the reader returns at once, although the client takes
// its time with the close handshake.
func TestClosedTunnelIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, end := tunnelPair(t, 1<<20)
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

// TestTunnelWhileDraining is refused before the upgrade, so that its client
// goes elsewhere.
func TestTunnelWhileDraining(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere})
	address := serve(t, s)
	exchange(t, address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n") // it serves
	s.refusing.Store(true)
	_, res, err := websocket.Dial(within(t, patience), "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
	if err == nil || res == nil || res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("got %v, %v; want 503 that says when to come back", res, err)
	}
}

func TestHandshakesOverTheLimit(t *testing.T) {
	obs := newObserver()
	s := newServer(t, Config{Backend: nowhere, Observer: obs, Limits: Limits{HandshakesPerSecond: 1}})
	address := serve(t, s)
	ctx := within(t, patience)
	var refused *http.Response
	for range 20 {
		ws, res, err := websocket.Dial(ctx, "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
		if err != nil {
			refused = res
			break
		}
		_ = ws.CloseNow() // its time is over
	}
	if refused == nil || refused.StatusCode != http.StatusTooManyRequests || refused.Header.Get("Retry-After") == "" {
		t.Errorf("of 20 tunnels at once one is answered %v, want 429 that says when to come back", refused)
	}
	if r := await(t, "the refusal", obs.refused); r.Key != report.KeyHandshakes {
		t.Errorf("the Observer is told of %+v", r)
	}
}

// TestTunnelKeepsNoHandshake: a tunnel keeps what may apply to calls inside, under this
// policy or a later one, and no token of the WebSocket's handshake.
func TestTunnelKeepsNoHandshake(t *testing.T) {
	s := newServer(t, Config{Backend: nowhere, DenyMethods: []string{"*/*"}})
	cc := dialTunnel(t, serve(t, s), http.Header{"X-User": {"alice"}, "User-Agent": {"a browser"}, "Authorization": {"Bearer outer"}})
	if err := unary(within(t, patience), cc, testMethod); status.Code(err) != codes.Unimplemented {
		t.Fatalf("a call of a method that isn't exposed: %v", err)
	}
	s.tunnels.mu.Lock()
	defer s.tunnels.mu.Unlock()
	for c := range s.tunnels.open {
		kept := slices.Sorted(maps.Keys(c.on.Tunnel().Header))
		for _, name := range []string{"Authorization", "User-Agent", "X-User"} {
			if !slices.Contains(kept, name) {
				t.Errorf("%s isn't kept", name)
			}
		}
		for _, name := range kept {
			if name == "Connection" || name == "Upgrade" || strings.HasPrefix(name, "Sec-Websocket-") {
				t.Errorf("%s is kept", name)
			}
		}
	}
	if len(s.tunnels.open) != 1 {
		t.Errorf("%d tunnels are open, want 1", len(s.tunnels.open))
	}
}

// TestNoTunnelInsideATunnel: the inner server speaks HTTP/2 and nothing else.
func TestNoTunnelInsideATunnel(t *testing.T) {
	address := serve(t, newServer(t, Config{Backend: nowhere}))
	ws, _, err := websocket.Dial(within(t, patience), "ws://"+address, &websocket.DialOptions{Subprotocols: []string{tunnelName}})
	if err != nil {
		t.Fatal(err)
	}
	conn := websocket.NetConn(context.Background(), ws, websocket.MessageBinary)
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: h2ts\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // a test that hangs fails
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the tunnel ended with %v", err)
	}
	if bytes.Contains(answer, []byte("101")) || bytes.Contains(answer, []byte("HTTP/1.1 2")) {
		t.Errorf("HTTP/1.1 inside a tunnel is answered %q", answer)
	}
}

// TestCallsOnOneTunnelDoNotStopEachOther: one that nobody reads holds up no
// other on its connection.
func TestCallsOnOneTunnelDoNotStopEachOther(t *testing.T) {
	backend := startBackend(t, echo)
	s := newServer(t, Config{Backend: Backend{Target: backend}})
	cc := dialTunnel(t, serve(t, s), nil)
	ctx, cancel := context.WithCancel(within(t, patience))
	defer cancel()
	full := make(chan struct{}, 1)
	for range 5 {
		stuck := open(ctx, t, cc, testMethod)
		go func() {
			for range 64 { // more than all windows hold
				if stuck.SendMsg(pattern(64<<10)) != nil {
					break
				}
			}
			select {
			case full <- struct{}{}:
			default:
			}
		}()
	}
	for range 20 {
		if err := unary(ctx, cc, testMethod); err != nil {
			t.Fatalf("beside calls that nobody reads: %v", err)
		}
	}
	select {
	case <-full:
		t.Error("a call that nobody reads took 4 MiB")
	default:
	}
	if err := unary(ctx, cc, "/grpc.channelz.v1.Channelz/GetServers"); status.Code(err) != codes.Unimplemented {
		t.Errorf("what shows insides: %v", err)
	}
}

package tunnel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coder "github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/tunnel"
	"github.com/culvert-grpc/culvert/internal/websocket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// TestTunnelIsAStream: messages, fragments and empty ones are bytes in order, read in any
// pieces; pings between them are answered.
func TestTunnelIsAStream(t *testing.T) {
	c, s, _ := pair(t, 1<<20)
	want := parts.Pattern(10 << 10)
	fragment := wstest.Plain(wstest.Binary, want[:100])
	fragment[0] &^= wstest.Fin
	for _, f := range [][]byte{fragment, wstest.Plain(wstest.Ping, []byte("p")), wstest.Plain(wstest.Continuation, want[100:5000]), wstest.Plain(wstest.Binary, nil), wstest.Plain(wstest.Binary, want[5000:])} {
		if _, err := s.Write(f); err != nil {
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
	if op, _, payload, err := s.Next(); op != wstest.Pong || string(payload) != "p" || err != nil {
		t.Errorf("the ping is answered %x %q, %v", op, payload, err)
	}
	if got := s.Request.Header.Get("Authorization"); got != "Bearer token" {
		t.Errorf("the handshake has the Authorization %q", got)
	}
}

// TestWritesAreMessages: each is one, up to a bound, and its bytes stay as they are.
func TestWritesAreMessages(t *testing.T) {
	c, s, _ := pair(t, 4<<20)
	for _, n := range []int{1, 9, 64 << 10, maxMessage, 0, 2*maxMessage + 5} {
		sent := parts.Pattern(n)
		if got, err := c.Write(sent); got != n || err != nil {
			t.Fatalf("of %d bytes %d were written, %v", n, got, err)
		}
		if !bytes.Equal(sent, parts.Pattern(n)) {
			t.Errorf("%d bytes of the caller's were changed", n)
		}
		var came []byte
		for len(came) < n {
			op, final, payload, err := s.Next()
			if op != wstest.Binary || !final || len(payload) > maxMessage || err != nil {
				t.Fatalf("a frame %x of %d bytes, final %v, %v", op, len(payload), final, err)
			}
			came = append(came, payload...)
		}
		if !bytes.Equal(came, sent) {
			t.Errorf("%d bytes arrived as others", n)
		}
	}
}

// TestTunnelEnds as its WebSocket does: a close is the end of the bytes, with the reason if it
// has one, and a message that breaks off is none.
func TestTunnelEnds(t *testing.T) {
	message := wstest.Plain(wstest.Binary, []byte("hello"))
	for name, c := range map[string]struct {
		send  []byte
		eof   bool
		text  string
		close websocket.StatusCode // that the server is told; 0: nothing
	}{
		"1000":           {wstest.Plain(wstest.Close, []byte{0x03, 0xe8}), true, "EOF", websocket.StatusNormalClosure},
		"no code":        {wstest.Plain(wstest.Close, nil), true, "EOF", 0},
		"1001":           {wstest.Plain(wstest.Close, []byte("\x03\xe9bye")), true, `closed the WebSocket with 1001 "bye"`, websocket.StatusGoingAway},
		"1008":           {wstest.Plain(wstest.Close, []byte{0x03, 0xf0}), true, "1008", websocket.StatusPolicyViolation},
		"cut in a frame": {message[:4], false, "unexpected EOF", 0},
		"cut":            {nil, false, "unexpected EOF", 0},
		"a mask":         {wstest.Masked(wstest.Binary, nil), false, "masked", websocket.StatusProtocolError},
		"text":           {wstest.Plain(wstest.Text, []byte("PRI")), false, tunnel.ErrText.Error(), websocket.StatusUnsupportedData},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			tun, s, _ := pair(t, 1<<10)
			if _, err := s.Write(append(bytes.Clone(message), c.send...)); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(name, "cut") {
				_ = s.Close()
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(tun, got); err != nil || string(got) != "hello" {
				t.Fatalf("read %q, %v before the end", got, err)
			}
			var err error
			for err == nil {
				_, err = tun.Read(got)
			}
			if errors.Is(err, io.EOF) != c.eof || !strings.Contains(err.Error(), c.text) {
				t.Errorf("the end reads as %v, want %q", err, c.text)
			}
			if c.close != 0 {
				s.WantClose(t, c.close)
			}
		})
	}
}

// TestCloseIsBounded: the caller doesn't wait, readers return at once, and Run ends when the
// server has closed, or after 2 s, whatever the server does.
func TestCloseIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		server func(t *testing.T, s *wstest.Server)
		want   time.Duration
	}{
		"a server that closes": {func(t *testing.T, s *wstest.Server) {
			s.WantClose(t, websocket.StatusNormalClosure)
			s.Send(t, wstest.Close, []byte{0x03, 0xe8})
			_ = s.Close()
		}, 0},
		"a server that is gone":   {func(_ *testing.T, s *wstest.Server) { _ = s.Close() }, 0},
		"a server that is silent": {func(t *testing.T, s *wstest.Server) { s.WantClose(t, websocket.StatusNormalClosure) }, closeTimeout},
		"a server that stays": {func(t *testing.T, s *wstest.Server) {
			s.WantClose(t, websocket.StatusNormalClosure)
			s.Send(t, wstest.Close, nil)
		}, closeTimeout},
		"a server that sends on": {func(t *testing.T, s *wstest.Server) { flood(s) }, closeTimeout},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tun, s, ended := pair(t, 1<<20)
				var others sync.WaitGroup
				read := make(chan error, 1)
				others.Go(func() { _, err := io.Copy(io.Discard, tun); read <- err })
				synctest.Wait()
				start := time.Now()
				_ = tun.Close()
				if took := time.Since(start); took != 0 {
					t.Errorf("Close took %v", took)
				}
				if err := <-read; !errors.Is(err, net.ErrClosed) || time.Since(start) != 0 {
					t.Errorf("a reader returned %v after %v, want %v at once", err, time.Since(start), net.ErrClosed)
				}
				if n, err := tun.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
					t.Errorf("after it %d bytes were written, %v; want %v", n, err, net.ErrClosed)
				}
				if n, err := tun.Read(make([]byte, 1)); n != 0 || !errors.Is(err, net.ErrClosed) {
					t.Errorf("after it %d bytes were read, %v; want %v", n, err, net.ErrClosed)
				}
				_ = tun.SetDeadline(time.Time{}) // a caller's must not undo the bounds
				others.Go(func() { c.server(t, s) })
				<-ended
				if got := time.Since(start); got != c.want {
					t.Errorf("it ended after %v, want %v", got, c.want)
				}
				_ = s.Close()
				others.Wait()
			})
		})
	}
}

// TestCloseEndsAWrite that the server doesn't take, and Run ends. In a bubble no time would
// pass while Run waits for the writer's lock.
func TestCloseEndsAWrite(t *testing.T) {
	tun, s, ended := pair(t, 1<<10)
	wrote := make(chan error, 1)
	go func() { _, err := tun.Write(make([]byte, 8<<10)); wrote <- err }()
	if _, err := s.Read(make([]byte, 1)); err != nil { // the write has begun
		t.Fatal(err)
	}
	_ = tun.Close()
	if err := parts.Await(t, "the writer's end", wrote); err == nil {
		t.Error("a write that nobody takes returned no error")
	}
	parts.Await(t, "the tunnel's end", ended)
}

// flood sends messages until it can't.
func flood(s *wstest.Server) {
	for {
		if _, err := s.Write(wstest.Plain(wstest.Binary, make([]byte, 100))); err != nil {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}

// TestSilentServerIsGivenUp: a path that has died without a word ends readers and writers, with
// the reason. One that answers pings stays.
func TestSilentServerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, ended := pair(t, 1<<20)
		read := make(chan error, 1)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		start := time.Now()
		for range 5 {
			if op, _, _, err := s.Next(); op != wstest.Ping || err != nil {
				t.Fatalf("after %v: %x, %v; want a ping", time.Since(start), op, err)
			}
			s.Send(t, wstest.Pong, nil)
		}
		err := <-read
		if got, want := time.Since(start), 6*pingInterval+pingTimeout; got != want || !errors.Is(err, socket.ErrNoPong) {
			t.Errorf("given up after %v with %v, want %v with %v", got, err, want, socket.ErrNoPong)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, socket.ErrNoPong) {
			t.Errorf("a write returns %v, want %v", err, socket.ErrNoPong)
		}
		start = time.Now()
		_ = c.Close()
		<-ended
		if took := time.Since(start); took != 0 {
			t.Errorf("then the close takes %v", took)
		}
	})
}

// TestSilentServerBehindAProxy, which takes all bytes for it and sends none: the pings wait
// behind data, as far as this end knows, and so the end takes longer. It comes nevertheless.
func TestSilentServerBehindAProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := pair(t, 1<<20)
		var swallowing sync.WaitGroup
		swallowing.Go(func() { _, _ = io.Copy(io.Discard, s.R) }) // until it is cut
		if _, err := c.Write(make([]byte, 200<<10)); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err := c.Read(make([]byte, 1))
		if got, most := time.Since(start), pingInterval+patience+time.Second; got > most || !errors.Is(err, socket.ErrStalled) {
			t.Errorf("given up after %v with %v, want at most %v with %v", got, err, most, socket.ErrStalled)
		}
		_ = c.Close()
		_ = s.Close()
		swallowing.Wait()
	})
}

// TestDeadlines: one that passes ends a read or a write that waits. A read loses nothing by it.
func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s, _ := pair(t, 1<<10)
		s.Send(t, wstest.Binary, []byte("first"))
		if n, err := s.Write(wstest.Plain(wstest.Binary, []byte("second"))[:4]); err != nil {
			t.Fatal(n, err)
		}
		start := time.Now()
		if err := c.SetReadDeadline(start.Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		var got []byte
		p := make([]byte, 100)
		var err error
		for err == nil {
			var n int
			n, err = c.Read(p)
			got = append(got, p[:n]...)
		}
		if took := time.Since(start); string(got) != "firstse" || took != time.Second || !errors.Is(err, os.ErrDeadlineExceeded) && !timedOut(err) {
			t.Errorf("read %q and %v after %v, want firstse and a time-out after 1 s", got, err, took)
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("cond")); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(p); string(p[:n]) != "cond" || err != nil {
			t.Errorf("then read %q, %v; want cond", p[:n], err)
		}

		time.AfterFunc(time.Second, func() { _ = c.SetWriteDeadline(time.Unix(1, 0)) }) // it is open
		start = time.Now()
		if n, err := c.Write(make([]byte, 8<<10)); n != 0 || !timedOut(err) || time.Since(start) != time.Second {
			t.Errorf("wrote %d bytes, %v after %v; want a time-out after 1 s", n, err, time.Since(start))
		}
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("something was written behind half a frame")
		}
	})
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TestHandshakeThatFails closes the connection, and says what came.
func TestHandshakeThatFails(t *testing.T) {
	near, far := net.Pipe()
	var answering sync.WaitGroup
	answering.Go(func() {
		defer far.Close()
		_, _ = far.Read(make([]byte, 4<<10))
		_, _ = io.WriteString(far, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<title>Blocked by policy</title>")
	})
	_, err := Open(t.Context(), near, edge, nil)
	var failed *websocket.HandshakeError
	if !errors.As(err, &failed) || failed.Code != http.StatusForbidden || failed.Says() != "Blocked by policy" {
		t.Errorf("it fails with %v", err)
	}
	if _, err := near.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("then the connection is open: %v", err)
	}
	answering.Wait()
}

// TestAgainstAnotherLibrary: bytes cross both ways at once, over TLS, as one stream.
func TestAgainstAnotherLibrary(t *testing.T) {
	served := make(chan error, 1)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := coder.Accept(w, r, &coder.AcceptOptions{Subprotocols: []string{tunnel.Name}})
		if err != nil {
			served <- err
			return
		}
		far := coder.NetConn(context.Background(), ws, coder.MessageBinary)
		_, err = io.Copy(far, far)
		_ = far.Close() // it was closed by the client
		served <- err
	}))
	defer server.Close()
	raw, err := tls.Dial("tcp", server.Listener.Addr().String(), server.Client().Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), raw, edge, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := run(t, c)
	want := parts.Pattern(3<<20 + 1)
	var writing sync.WaitGroup
	writing.Go(func() {
		for at, n := 0, 1; at < len(want); at, n = at+n, min(3*n, 100<<10) {
			if _, err := c.Write(want[at:min(at+n, len(want))]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back as others, %v", len(want), err)
	}
	writing.Wait()
	_ = c.Close()
	<-ended
	if err := <-served; err != nil { // else: the end of the bytes
		t.Errorf("the server's reading ended with %v", err)
	}
}

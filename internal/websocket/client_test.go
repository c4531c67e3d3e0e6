package websocket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	coder "github.com/coder/websocket"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// clientPair returns a WebSocket as the client has it, and the server's end of the
// connection under it, of which the kernel would hold so many bytes.
func clientPair(t testing.TB, holds int) (*Conn, *wstest.Server) {
	t.Helper()
	ws, s := wstest.ServerPair(t, holds, "test", func(conn net.Conn) (*Conn, error) {
		return Open(conn, request(t), Options{Subprotocol: "test", Pool: mem.DefaultBufferPool()})
	})
	t.Cleanup(ws.Drop) // a test may have closed it
	return ws, s
}

func request(t testing.TB) *http.Request {
	return httptest.NewRequestWithContext(t.Context(), http.MethodGet, "ws://edge.example.com/", http.NoBody)
}

// clientLine is that of a client over w.
func clientLine(w net.Conn) *line {
	l := newLine(w, mem.DefaultBufferPool(), nil)
	l.masks = new(masks)
	return l
}

// TestClientsFramesAreMasked, each by a key of its own, and the caller's bytes stay as they
// are. Messages that follow one another leave in one write.
func TestClientsFramesAreMasked(t *testing.T) {
	w := &writes{}
	l := clientLine(w)
	const frames = 200
	keys := make(map[string]int)
	text := []byte("the caller's")
	for range frames {
		if err := l.message(Binary, nil, true, [][]byte{text[:4], text[4:]}); err != nil {
			t.Fatal(err)
		}
	}
	l.holdFrame(opPing, []byte("ping"))
	l.sayClose(StatusGoingAway, "bye")
	if err := errors.Join(l.flush(), l.sendLate()); err != nil {
		t.Fatal(err)
	}
	if string(text) != "the caller's" {
		t.Errorf("the message has become %q", text)
	}
	if len(w.all) != 2 {
		t.Errorf("there were %d writes, want one before the close frame, and one for it", len(w.all))
	}
	r := bytes.NewReader(bytes.Join(w.all, nil))
	for i := range frames + 2 {
		op, final, payload, key, err := wstest.Read(r)
		want := received{Binary, text}
		switch i {
		case frames:
			want = received{opPing, []byte("ping")}
		case frames + 1:
			want = received{opClose, []byte("\x03\xe9bye")}
		}
		if got := (received{Opcode(op), payload}); err != nil || !final || !got.equal(want) {
			t.Fatalf("frame %d is %v, %v; want %v", i, got, err, want)
		}
		keys[string(key)]++
	}
	if r.Len() != 0 {
		t.Errorf("%d bytes follow the close frame", r.Len())
	}
	if len(keys) < frames { // two may be the same by chance, once in a hundred thousand runs
		t.Errorf("%d frames have %d keys", frames+2, len(keys))
	}
}

// TestClientsLargeMessages leave in parts, each of one write, behind what was held.
func TestClientsLargeMessages(t *testing.T) {
	for _, c := range []struct {
		held, pieces []int
		writes, told int
	}{
		{nil, []int{64 << 10}, 1, 0},
		{nil, []int{16 << 10, 16 << 10, 16 << 10, 16 << 10}, 1, 0},
		{[]int{100}, []int{64 << 10}, 1, 0},
		{nil, []int{maxWriteBytes}, 2, 1},
		{[]int{5, 20 << 10}, []int{1, maxWriteBytes, 0, 3*maxWriteBytes + 7}, 5, 4},
	} {
		w := &writes{}
		l := clientLine(w)
		var want []byte
		for _, n := range c.held {
			m := parts.Pattern(n)
			want = append(want, wstest.Plain(wstest.Binary, m)...)
			if err := l.message(Binary, nil, true, [][]byte{m}); err != nil {
				t.Fatal(err)
			}
		}
		var pieces [][]byte
		for i, n := range c.pieces {
			pieces = append(pieces, bytes.Repeat([]byte{byte(i)}, n))
		}
		want = append(want, wstest.Plain(wstest.Binary, bytes.Join(pieces, nil))...)
		told := 0
		if err := l.message(Binary, func() { told++ }, false, pieces); err != nil {
			t.Fatal(err)
		}
		if got := plainFrames(t, bytes.Join(w.all, nil)); !bytes.Equal(got, want) {
			t.Errorf("%v: %d bytes are others than those %d", c, len(got), len(want))
		}
		for _, one := range w.all {
			if len(one) > maxWriteBytes {
				t.Errorf("%v: a write has %d bytes", c, len(one))
			}
		}
		if len(w.all) != c.writes || told != c.told || l.held != nil {
			t.Errorf("%v: %d writes, told %d times, held %v", c, len(w.all), told, l.held != nil)
		}
	}
}

// TestClientBetweenWrites: what the server pings or closes with meanwhile doesn't get inside
// a message.
func TestClientBetweenWrites(t *testing.T) {
	w := &writes{}
	l := clientLine(w)
	l.mu.Lock()
	if err := l.message(Binary, func() { l.answerClose(StatusNormalClosure) }, false, [][]byte{make([]byte, 2*maxWriteBytes)}); err != nil {
		t.Fatal(err)
	}
	if err := l.unlock(); err != nil {
		t.Fatal(err)
	}
	want := append(wstest.Plain(wstest.Binary, make([]byte, 2*maxWriteBytes)), wstest.Plain(wstest.Close, []byte{3, 232})...)
	if got := plainFrames(t, bytes.Join(w.all, nil)); !bytes.Equal(got, want) {
		t.Errorf("%d bytes are others than those %d", len(got), len(want))
	}
}

// TestServersFramesHaveNoMask: a client must fail the connection. RFC 6455 §5.1.
func TestServersFramesHaveNoMask(t *testing.T) {
	_, told, err := readAs(asClient, wstest.Masked(wstest.Binary, []byte("hello")), 100, 100)
	var broken RuleError
	if !errors.As(err, &broken) || broken.Code != StatusProtocolError || !strings.Contains(broken.Broken, "masked") {
		t.Errorf("it reads as %v", err)
	}
	if got, want := plainFrames(t, told), wstest.Plain(wstest.Close, []byte{3, 234}); !bytes.Equal(got, want) {
		t.Errorf("the server is told %x, want %x", got, want)
	}
}

// TestClientLeavesTheEndToTheServer, as RFC 6455 §7.1.1 asks, for a while.
func TestClientLeavesTheEndToTheServer(t *testing.T) {
	answer := func(t *testing.T, s *wstest.Server) {
		s.WantClose(t, StatusNormalClosure)
		s.Send(t, wstest.Close, []byte{0x03, 0xe8})
	}
	for name, c := range map[string]struct {
		server func(t *testing.T, s *wstest.Server)
		want   time.Duration
	}{
		"a server that closes at once": {func(t *testing.T, s *wstest.Server) { answer(t, s); _ = s.Close() }, 0},
		"a server that takes its time": {func(t *testing.T, s *wstest.Server) { answer(t, s); <-time.After(3 * time.Second); _ = s.Close() }, 3 * time.Second},
		"a server that never closes":   {answer, patience},
		"a server that says nothing":   {func(t *testing.T, s *wstest.Server) { s.WantClose(t, StatusNormalClosure) }, patience},
		"a server that sends on": {func(t *testing.T, s *wstest.Server) {
			answer(t, s)
			for {
				if _, err := s.Write(make([]byte, 100)); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		}, patience},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ws, s := clientPair(t, 1<<20)
				var serving sync.WaitGroup
				serving.Go(func() { c.server(t, s) })
				start := time.Now()
				ws.Close(StatusNormalClosure, "", patience, func() bool { return true })
				if got := time.Since(start); got != c.want {
					t.Errorf("it took %v, want %v", got, c.want)
				}
				if _, err := ws.NextMessage(); CloseStatus(err) != StatusNormalClosure && name != "a server that says nothing" {
					t.Errorf("then a read returns %v, want the server's close", err)
				}
				serving.Wait()
			})
		})
	}
}

// TestClientsPings have a mask, and watch the server as they do a client.
func TestClientsPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ws, s := clientPair(t, 1<<20)
		gone := make(chan error, 1)
		ws.Watch(KeepAlive{Interval: interval, Timeout: patience, Gone: func(err error) { gone <- err }})
		var reading sync.WaitGroup
		reading.Go(func() { readAll(ws) })
		start := time.Now()
		for range 3 {
			if op, _, _, err := s.Next(); op != wstest.Ping || err != nil {
				t.Fatalf("after %v: %x, %v; want a ping", time.Since(start), op, err)
			}
			s.Send(t, wstest.Pong, nil)
		}
		s.Send(t, wstest.Ping, []byte("p"))
		if op, _, payload, err := s.Next(); op != wstest.Pong || string(payload) != "p" || err != nil {
			t.Errorf("a ping is answered %x %q, %v", op, payload, err)
		}
		err := <-gone
		if got, want := time.Since(start), 4*interval+patience; got != want || err == nil {
			t.Errorf("given up after %v with %v, want %v", got, err, want)
		}
		ws.Drop()
		reading.Wait()
	})
}

// TestBothRoles: a client's messages arrive at a server as they were, and come back, whoever
// has written the other end.
func TestBothRoles(t *testing.T) {
	ours := func(w http.ResponseWriter, r *http.Request) {
		ws, err := Accept(w, r, Options{Subprotocol: "test", Pool: mem.DefaultBufferPool(), Refused: func() {}})
		if err != nil {
			t.Error(err)
			return
		}
		for {
			op, err := ws.NextMessage()
			var message []byte
			if err == nil {
				message, err = io.ReadAll(ws)
			}
			if err == nil {
				err = ws.WriteMessage(op, nil, false, message)
			}
			if err != nil {
				break
			}
		}
		ws.Close(StatusNormalClosure, "", parts.Patience, inNoHurry)
	}
	coders := func(w http.ResponseWriter, r *http.Request) {
		ws, err := coder.Accept(w, r, &coder.AcceptOptions{Subprotocols: []string{"test"}})
		if err != nil {
			t.Error(err)
			return
		}
		ws.SetReadLimit(-1)
		for {
			kind, message, err := ws.Read(context.Background())
			if err == nil {
				err = ws.Write(context.Background(), kind, message)
			}
			if err != nil {
				break
			}
		}
		_ = ws.CloseNow() // its reader has closed it
	}
	for name, handler := range map[string]http.HandlerFunc{"ours": ours, "another": coders} {
		t.Run(name, func(t *testing.T) { echoes(t, handler) })
	}
}

func echoes(t *testing.T, handler http.HandlerFunc) {
	edge := httptest.NewServer(handler)
	defer edge.Close()
	conn, err := net.Dial("tcp", edge.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ws, err := Open(conn, request(t), Options{Subprotocol: "test", Pool: mem.DefaultBufferPool()})
	if err != nil {
		t.Fatal(err)
	}
	dice := rand.New(rand.NewPCG(1, 2))
	var messages []received
	for _, n := range []int{0, 1, 125, 126, 127, 1<<16 - 1, 1 << 16, 1<<20 + 3} {
		messages = append(messages, received{Binary, parts.Pattern(n)})
	}
	for range 50 {
		messages = append(messages, received{Opcode(1 + dice.IntN(2)), bytes.Repeat([]byte("é"), dice.IntN(20<<10))})
	}
	var writing sync.WaitGroup
	writing.Go(func() {
		for i, m := range messages {
			cut := dice.IntN(len(m.payload) + 1)
			if err := ws.WriteMessage(m.op, nil, i < len(messages)-1 && dice.IntN(2) == 0, m.payload[:cut], m.payload[cut:]); err != nil {
				t.Error(err)
			}
		}
	})
	for i, want := range messages {
		op, err := ws.NextMessage()
		var got []byte
		if err == nil {
			got, err = io.ReadAll(ws)
		}
		if err != nil || !want.equal(received{op, got}) {
			t.Fatalf("message %d of %d bytes comes back as %x of %d bytes, %v", i, len(want.payload), op, len(got), err)
		}
	}
	writing.Wait()
	start := time.Now()
	ws.Close(StatusNormalClosure, "", parts.Patience, inNoHurry)
	if took := time.Since(start); took >= parts.Patience {
		t.Errorf("the server hasn't closed the connection within %v", took)
	}
	if _, err := ws.NextMessage(); CloseStatus(err) != StatusNormalClosure {
		t.Errorf("the server closes with %v", err)
	}
}

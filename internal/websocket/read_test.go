package websocket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/socket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// pieces is a connection that hands out bytes so many at a time, and takes
// what is written.
type pieces struct {
	net.Conn
	rest    []byte
	size    int
	written bytes.Buffer
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error)      { return p.written.Write(b) }
func (p *pieces) Close() error                     { return nil }
func (p *pieces) SetDeadline(time.Time) error      { return nil }
func (p *pieces) SetReadDeadline(time.Time) error  { return nil }
func (p *pieces) SetWriteDeadline(time.Time) error { return nil }

// A received message was read to its end.
type received struct {
	op      Opcode
	payload []byte
}

func (m received) equal(n received) bool { return m.op == n.op && bytes.Equal(m.payload, n.payload) }

func (m received) String() string { return fmt.Sprintf("%x %q", byte(m.op), m.payload) }

// readSocket reads all the messages that a client sends, with reads of so many
// bytes, and returns them, the end, and what the client was told.
func readSocket(in []byte, arriving, reading int) (messages []received, told []byte, end error) {
	return readAs(asServer, in, arriving, reading)
}

// The makers of the two ends of a WebSocket, behind the handshake.
func asServer(conn net.Conn) *Conn { return newConn(newLine(conn, mem.DefaultBufferPool(), nil), nil) }

func asClient(conn net.Conn) *Conn {
	l := newLine(conn, mem.DefaultBufferPool(), nil)
	l.masks = new(masks)
	return newConn(l, nil)
}

// plainFrames returns what a client has written as a server would have.
func plainFrames(t testing.TB, in []byte) (out []byte) {
	t.Helper()
	for r := bytes.NewReader(in); r.Len() > 0; {
		op, final, payload, key, err := wstest.Read(r)
		if err != nil || key == nil {
			t.Fatalf("%x is a frame without mask, or none: %v", in, err)
		}
		out = append(out, wstest.Plain(op, payload)...)
		if !final {
			t.Fatalf("%x is a fragment", in)
		}
	}
	return out
}

// readAs is readSocket for either end.
func readAs(role func(net.Conn) *Conn, in []byte, arriving, reading int) (messages []received, told []byte, end error) {
	conn := &pieces{rest: in, size: arriving}
	ws := role(conn)
	defer func() {
		ws.Drop()
		told = conn.written.Bytes()
	}()
	buf := make([]byte, reading)
	for {
		op, err := ws.NextMessage()
		if err != nil {
			return messages, nil, err
		}
		var message []byte
		for {
			n, err := ws.Read(buf)
			message = append(message, buf[:n]...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return messages, nil, err
			}
		}
		messages = append(messages, received{op, message})
	}
}

// FuzzSocket: whatever comes to either end, it is read alike however it arrives and however
// large the reads are, and the end is one that is known. Bytes inserted at one place
// make large frames.
func FuzzSocket(f *testing.F) {
	fragments := append([]byte{0x02, 0x83, 1, 2, 3, 4, 'a', 'b', 'c'}, wstest.Masked(wstest.Ping, []byte("p"))...)
	fragments = append(fragments, wstest.Masked(wstest.Continuation, []byte("d"))...)
	for _, seed := range [][]byte{
		append(wstest.Masked(wstest.Binary, []byte{0}), wstest.Masked(wstest.Close, []byte{3, 232})...),
		{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5},
		fragments,
		wstest.Masked(wstest.Continuation, nil),
		append([]byte{0x02, 0x80, 0, 0, 0, 0}, wstest.Masked(wstest.Binary, nil)...),
		wstest.Masked(wstest.Close, []byte{3}),
		{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0},
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		f.Add(seed, uint16(0), uint16(0), byte(3), uint16(5), true)
	}
	ping := append([]byte{0x02, 0x03, 'a', 'b', 'c'}, wstest.Plain(wstest.Ping, []byte("p"))...)
	for _, seed := range [][]byte{
		append(wstest.Plain(wstest.Binary, []byte{0}), wstest.Plain(wstest.Close, []byte{3, 232})...),
		{0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 1, 5},
		append(ping, wstest.Plain(wstest.Continuation, []byte("d"))...),
		wstest.Masked(wstest.Binary, []byte{0}),
	} {
		f.Add(seed, uint16(0), uint16(0), byte(3), uint16(5), false)
	}
	for _, n := range []int{300, 5 << 10, 5 * (directBytes / 2)} {
		large := wstest.Masked(wstest.Binary, make([]byte, n))
		header := large[:len(large)-n]
		f.Add(header, uint16(len(header)), uint16(n), byte(200), uint16(directBytes), true)
		f.Add(append(bytes.Clone(header), wstest.Masked(wstest.Close, nil)...), uint16(len(header)), uint16(n), byte(3), uint16(5), true)
		plain := wstest.Plain(wstest.Binary, make([]byte, n))[:len(large)-n-4]
		f.Add(append(plain, wstest.Plain(wstest.Close, nil)...), uint16(len(plain)), uint16(n), byte(200), uint16(directBytes), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, at, more uint16, arriving byte, reading uint16, clients bool) {
		if len(text) > parts.MaxFuzzed {
			return
		}
		in := parts.Stretched(text, int(at), int(more))
		least := len(in) / 256 // a large frame needn't come in thousands of pieces
		role := asServer
		if !clients {
			role = asClient
		}
		want, wantTold, wantEnd := readAs(role, bytes.Clone(in), max(len(in), 1), 32<<10)
		got, told, end := readAs(role, in, max(int(arriving)+1, least), max(int(reading)+1, least))
		if !clients {
			wantTold, told = plainFrames(t, wantTold), plainFrames(t, told)
		}
		if !slices.EqualFunc(got, want, received.equal) || fmt.Sprint(end) != fmt.Sprint(wantEnd) {
			t.Errorf("in pieces it reads as %q, %v; whole as %q, %v", got, end, want, wantEnd)
		}
		if !bytes.Equal(told, wantTold) { // of several pings each is answered: nothing is in the way
			t.Errorf("in pieces the client is told %x, whole %x", told, wantTold)
		}
		if !errors.Is(end, io.ErrUnexpectedEOF) && !errors.As(end, new(RuleError)) && CloseStatus(end) < 0 {
			t.Errorf("it ends with %v", end)
		}
	})
}

// TestEndOfASocketIsTold to the client, and reads after it say the same.
func TestEndOfASocketIsTold(t *testing.T) {
	for _, c := range []struct {
		name, in, told, end string
	}{
		{"a close", string(wstest.Masked(wstest.Close, []byte{3, 232, 'b', 'y', 'e'})), "\x88\x02\x03\xe8", `status = StatusNormalClosure and reason = "bye"`},
		{"a reason that isn't text", string(wstest.Masked(wstest.Close, []byte("\x03\xe8\xff"))), "\x88\x02\x03\xef", "UTF-8"},
		{"a close without a code", string(wstest.Masked(wstest.Close, nil)), "\x88\x00", `status = StatusNoStatusRcvd and reason = ""`},
		{"data behind a close", string(wstest.Masked(wstest.Close, nil)) + string(wstest.Masked(wstest.Binary, nil)), "\x88\x00", `status = StatusNoStatusRcvd and reason = ""`},
		{"two closes", string(wstest.Masked(wstest.Close, nil)) + string(wstest.Masked(wstest.Close, nil)), "\x88\x00", `status = StatusNoStatusRcvd and reason = ""`},
		{"a close of one byte", string(wstest.Masked(wstest.Close, []byte{3})), "\x88\x02\x03\xea", "one byte"},
		{"a reserved bit", "\xc2\x80", "\x88\x02\x03\xea", "reserved bit"},
		{"a continuation frame outside a message", string(wstest.Masked(wstest.Continuation, nil)), "\x88\x02\x03\xea", "continuation"},
		{"a new message inside a fragmented one", "\x02\x80\x00\x00\x00\x00" + string(wstest.Masked(wstest.Binary, nil)), "\x88\x02\x03\xea", "inside a fragmented"},
		{"a ping and a cut", string(wstest.Masked(wstest.Ping, []byte("p"))) + "\x82", "\x8a\x01p", "unexpected EOF"},
		{"nothing", "", "", "unexpected EOF"},
	} {
		_, told, end := readSocket([]byte(c.in), 100, 100)
		if !strings.Contains(end.Error(), c.end) || c.end == "" || string(told) != c.told {
			t.Errorf("%s: ends with %q, told %q; want %q, %q", c.name, end, told, c.end, c.told)
		}
	}
}

// TestLargeMessages are read to where they go, of frames that end anywhere, and
// are unchanged however they arrive.
func TestLargeMessages(t *testing.T) {
	message := make([]byte, 100<<10+3)
	for i := range message {
		message[i] = byte(i % 251)
	}
	want := received{Binary, message}
	for _, frame := range []int{directBytes - 1, directBytes, directBytes + 1, 3*directBytes + 2, len(message)} {
		var in []byte
		for at := 0; at < len(message); at += frame {
			op := byte(wstest.Continuation)
			if at == 0 {
				op = wstest.Binary
			}
			f := wstest.Masked(op, message[at:min(at+frame, len(message))])
			if at+frame < len(message) {
				f[0] &^= finBit
			}
			in = append(in, f...)
		}
		in = append(append(in, in...), wstest.Masked(wstest.Close, nil)...)
		for _, arriving := range []int{97, 4097, directBytes, 40001, len(in)} {
			for _, reading := range []int{directBytes - 1, directBytes, 2*directBytes + 1, len(message)} {
				got, _, end := readSocket(in, arriving, reading)
				if len(got) != 2 || !got[0].equal(want) || !got[1].equal(want) || CloseStatus(end) != StatusNoStatusRcvd {
					t.Errorf("frames of %d bytes that arrive by %d and are read by %d: %d messages, altered, or the end is %v", frame, arriving, reading, len(got), end)
				}
			}
		}
	}
}

// TestDeadlineInsideALargeMessage: what came before it is not lost, nor is it
// told as an error.
func TestDeadlineInsideALargeMessage(t *testing.T) {
	server, client := tcpPair(t)
	pool := &parts.CountingPool{BufferPool: mem.DefaultBufferPool()}
	ws := newConn(newLine(server, pool, nil), nil)
	want := bytes.Repeat([]byte("message"), 20<<10)
	frame := wstest.Masked(wstest.Binary, want)
	header := len(frame) - len(want)
	got := make([]byte, len(want))
	at := 0
	for _, cut := range [][2]int{{0, header}, {header, header + 50<<10 + 1}, {header + 50<<10 + 1, len(frame) - 1}, {len(frame) - 1, len(frame)}} {
		if _, err := client.Write(frame[cut[0]:cut[1]]); err != nil {
			t.Fatal(err)
		}
		if cut[0] == 0 {
			if op, err := ws.NextMessage(); op != wstest.Binary || err != nil {
				t.Fatal(op, err)
			}
		}
		for at < cut[1]-header {
			n, err := ws.Read(got[at:])
			if at += n; err != nil && (!errors.Is(err, io.EOF) || at < len(want)) {
				t.Fatalf("after %d bytes: %v", at, err)
			}
		}
		if at == len(want) {
			break
		}
		if err := server.SetReadDeadline(socket.LongAgo); err != nil {
			t.Fatal(err)
		}
		if n, err := ws.Read(got[at:]); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("after the deadline: %d bytes and %v, want 0 and %v", n, err, os.ErrDeadlineExceeded)
		}
		if err := server.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Error("the message was altered")
	}
	if n := pool.Gets.Load(); n != 2 {
		t.Errorf("%d buffers were used on the way, want one for the header and one for the last byte", n)
	}
	if n := ws.line.received.Load(); n != int64(len(frame)) {
		t.Errorf("%d bytes are counted as received, want %d", n, len(frame))
	}
	ws.Drop()
}

// TestDeadlineInsideAFrame: what came before it is not lost, wherever it
// passes: a header, a ping, a message.
func TestDeadlineInsideAFrame(t *testing.T) {
	frames := append(wstest.Masked(wstest.Ping, []byte("ping")), wstest.Masked(wstest.Binary, bytes.Repeat([]byte("m"), 200))...)
	for cut := range frames {
		server, client := tcpPair(t)
		ws := newConn(newLine(server, mem.DefaultBufferPool(), nil), nil)
		read := func(b []byte) (op Opcode, message []byte, err error) {
			if _, err := client.Write(b); err != nil {
				t.Fatal(err)
			}
			if op, err = ws.NextMessage(); err == nil {
				message, err = io.ReadAll(ws)
			}
			return op, message, err
		}
		if err := server.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		op, first, err := read(frames[:cut])
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("after %d bytes: %v, want %v", cut, err, os.ErrDeadlineExceeded)
		}
		if err := server.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		var rest []byte
		if op != 0 { // inside the message
			if _, err = client.Write(frames[cut:]); err == nil {
				rest, err = io.ReadAll(ws)
			}
		} else {
			op, rest, err = read(frames[cut:])
		}
		if got := append(first, rest...); op != wstest.Binary || len(got) != 200 || strings.Trim(string(got), "m") != "" || err != nil {
			t.Errorf("a deadline after %d bytes: then %x of %q, %v", cut, op, got, err)
		}
		pong := make([]byte, 6)
		if _, err := io.ReadFull(client, pong); err != nil || string(pong) != "\x8a\x04ping" {
			t.Errorf("a deadline after %d bytes: the ping is answered %q, %v", cut, pong, err)
		}
		ws.Drop()
	}
}

// TestReaderDoesNotWaitForTheLine: a client that takes nothing and closes has
// closed, and nothing follows a close frame.
func TestReaderDoesNotWaitForTheLine(t *testing.T) {
	server, client := tcpPair(t)
	ws := newConn(newLine(server, mem.DefaultBufferPool(), nil), nil)
	filled := int64(0)
	for full := false; !full; { // until the kernel takes no more
		_ = server.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)) // it is open
		n, err := server.Write(make([]byte, 64<<10))
		filled += int64(n)
		full = err != nil && !socket.Writable(server) // the time may have passed without a try
	}
	_ = server.SetWriteDeadline(time.Time{}) // it is open
	ws.answer([]byte("p"))
	if _, err := client.Write(wstest.Masked(wstest.Close, []byte{3, 232})); err != nil {
		t.Fatal(err)
	}
	if _, err := ws.NextMessage(); CloseStatus(err) != StatusNormalClosure {
		t.Errorf("the close reads as %v", err)
	}
	if ws.ping() {
		t.Error("a ping was sent after the close")
	}
	var told []byte
	var reading sync.WaitGroup
	reading.Go(func() {
		if _, err := io.CopyN(io.Discard, client, filled); err != nil {
			t.Error(err)
		}
		told, _ = io.ReadAll(client) // an end that isn't clean shows in what came
	})
	ws.Close(StatusNormalClosure, "", 10*time.Second, inNoHurry)
	reading.Wait()
	if string(told) != "\x88\x02\x03\xe8" {
		t.Errorf("the client is told %x, want the close frame alone", told)
	}
}

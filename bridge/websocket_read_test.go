package bridge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/mem"
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

// readSocket reads all the messages that a client sends, with reads of so many
// bytes, and returns them, the end, and what the client was told.
func readSocket(in []byte, arriving, reading int) (messages []string, told []byte, end error) {
	conn := &pieces{rest: in, size: arriving}
	ws := &socket{net: newSocketConn(conn, mem.DefaultBufferPool(), nil), closed: func() {}}
	ws.in.turn.ended.L = &ws.in.turn.mu
	defer func() {
		ws.drop()
		told = conn.written.Bytes()
	}()
	buf := make([]byte, reading)
	for {
		op, err := ws.nextMessage()
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
		messages = append(messages, fmt.Sprintf("%x %q", op, message))
	}
}

// FuzzSocket: whatever comes, it is read alike however it arrives and however
// large the reads are, and the end is one that is known.
func FuzzSocket(f *testing.F) {
	fragments := append([]byte{0x02, 0x83, 1, 2, 3, 4, 'a', 'b', 'c'}, masked(opPing, []byte("p"))...)
	fragments = append(fragments, masked(opContinuation, []byte("d"))...)
	for _, seed := range [][]byte{
		append(masked(opBinary, []byte{0}), masked(opClose, []byte{3, 232})...),
		masked(opText, bytes.Repeat([]byte("x"), 300)),
		masked(opBinary, make([]byte, 5<<10)),
		{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5},
		fragments,
		masked(opContinuation, nil),
		append([]byte{0x02, 0x80, 0, 0, 0, 0}, masked(opBinary, nil)...),
		masked(opClose, []byte{3}),
		{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0},
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		f.Add(seed, byte(3), byte(5))
	}
	f.Fuzz(func(t *testing.T, in []byte, arriving, reading byte) {
		if len(in) > 16<<10 {
			return
		}
		want, wantTold, wantEnd := readSocket(bytes.Clone(in), max(len(in), 1), 32<<10)
		got, told, end := readSocket(bytes.Clone(in), int(arriving)+1, int(reading)+1)
		if fmt.Sprint(got, end) != fmt.Sprint(want, wantEnd) {
			t.Errorf("in pieces it reads as %q, %v; whole as %q, %v", got, end, want, wantEnd)
		}
		if !bytes.Equal(told, wantTold) { // of several pings each is answered: nothing is in the way
			t.Errorf("in pieces the client is told %x, whole %x", told, wantTold)
		}
		if !errors.Is(end, io.ErrUnexpectedEOF) && !errors.As(end, new(frameError)) && websocket.CloseStatus(end) < 0 {
			t.Errorf("it ends with %v", end)
		}
	})
}

// TestEndOfASocketIsTold to the client, and reads after it say the same.
func TestEndOfASocketIsTold(t *testing.T) {
	for _, c := range []struct {
		name, in, told, end string
	}{
		{"a close", string(masked(opClose, []byte{3, 232, 'b', 'y', 'e'})), "\x88\x02\x03\xe8", `status = StatusNormalClosure and reason = ""`},
		{"a close without a code", string(masked(opClose, nil)), "\x88\x00", `status = StatusNoStatusRcvd and reason = ""`},
		{"data behind a close", string(masked(opClose, nil)) + string(masked(opBinary, nil)), "\x88\x00", `status = StatusNoStatusRcvd and reason = ""`},
		{"two closes", string(masked(opClose, nil)) + string(masked(opClose, nil)), "\x88\x00", `status = StatusNoStatusRcvd and reason = ""`},
		{"a close of one byte", string(masked(opClose, []byte{3})), "\x88\x02\x03\xea", "WebSocket: a close frame that can't be read"},
		{"a reserved bit", "\xc2\x80", "\x88\x02\x03\xea", "WebSocket: a reserved bit is set"},
		{"a continuation of nothing", string(masked(opContinuation, nil)), "\x88\x02\x03\xea", "WebSocket: a continuation of nothing"},
		{"a message within a message", "\x02\x80\x00\x00\x00\x00" + string(masked(opBinary, nil)), "\x88\x02\x03\xea", "WebSocket: a message within a message"},
		{"a ping and a cut", string(masked(opPing, []byte("p"))) + "\x82", "\x8a\x01p", "unexpected EOF"},
		{"nothing", "", "", "unexpected EOF"},
	} {
		_, told, end := readSocket([]byte(c.in), 100, 100)
		if end.Error() != c.end || string(told) != c.told {
			t.Errorf("%s: ends with %q, told %q; want %q, %q", c.name, end, told, c.end, c.told)
		}
	}
}

package message

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
	"github.com/culvert-grpc/culvert/internal/websocket"
	"github.com/culvert-grpc/culvert/internal/websocket/wstest"
)

// socketPair returns a WebSocket as the server has it, and the client's end of the
// connection under it.
func socketPair(t testing.TB) (*websocket.Conn, *wstest.Client) {
	t.Helper()
	ws, c := wstest.Pair(t, 16<<10, "any", func(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
		return websocket.Accept(w, r, websocket.Options{Subprotocol: "any", Pool: mem.DefaultBufferPool(), Refused: func() {}})
	})
	t.Cleanup(ws.Drop) // a test may have closed it
	return ws, c
}

// TestCutIsNoEnd: cut at every byte, no message may come of it and no
// half-close.
func TestCutIsNoEnd(t *testing.T) {
	message := wstest.Masked(wstest.Binary, append([]byte{0}, parts.Framed(0, []byte("hello"))...))
	halfClose := wstest.Masked(wstest.Binary, []byte{1})
	for n := range len(message) + len(halfClose) {
		ws, c := socketPair(t)
		if _, err := c.Write(append(bytes.Clone(message), halfClose...)[:n]); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		messages, err := parts.ReadMessages(newReader(&SocketBody{WS: ws}, 1<<10, ""))
		whole := 0
		if n >= len(message) {
			whole = 1
		}
		if len(messages) != whole || reasonOf(err) != report.ReasonClientGone {
			t.Errorf("cut after %d of %d bytes: %d messages and %v; want %d and %s", n, len(message)+len(halfClose), len(messages), err, whole, report.ReasonClientGone)
		}
		ws.Drop()
	}
	// The first byte of a longer message alone would be a half-close.
	ws, c := socketPair(t)
	longer := wstest.Masked(wstest.Binary, []byte{1, 0})
	if _, err := c.Write(longer[:len(longer)-1]); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := (&SocketBody{WS: ws}).Read(make([]byte, 10)); reasonOf(err) != report.ReasonClientGone {
		t.Errorf("cut after the marker of a half-close: %v, want %s", err, report.ReasonClientGone)
	}
	ws.Drop()
}

// TestSocketBody: one body, however its bytes are put into messages and
// frames.
func TestSocketBody(t *testing.T) {
	data := func(b string) []byte { return wstest.Masked(wstest.Binary, append([]byte{0}, b...)) }
	body := string(parts.Framed(0, []byte("hello"))) + string(parts.Framed(0, nil)) + string(parts.Framed(0, []byte("world")))
	split := wstest.Masked(wstest.Binary, append([]byte{0}, body...))
	split[0] &^= 0x80 // not the last
	whole := [][]byte{[]byte("hello"), {}, []byte("world")}
	for _, c := range []struct {
		name   string
		frames [][]byte
		want   [][]byte
		reason report.Reason // of the end; empty: the half-close
	}{
		{"one message", [][]byte{data(body), wstest.Masked(wstest.Binary, []byte{1})}, whole, ""},
		{"a message a byte", func() (f [][]byte) {
			for i := range len(body) {
				f = append(f, data(body[i:i+1]))
			}
			return append(f, wstest.Masked(wstest.Binary, []byte{1}))
		}(), whole, ""},
		{"empty data between", [][]byte{data(body[:3]), data(""), data(""), data(body[3:]), wstest.Masked(wstest.Binary, []byte{1})}, whole, ""},
		{"fragments", [][]byte{split, wstest.Masked(0, nil), wstest.Masked(wstest.Binary, []byte{1})}, whole, ""},
		{"a ping between", [][]byte{data(body[:3]), wstest.Masked(wstest.Ping, []byte("p")), data(body[3:]), wstest.Masked(wstest.Binary, []byte{1})}, whole, ""},
		{"half-close inside a message", [][]byte{data(body[:3]), wstest.Masked(wstest.Binary, []byte{1})}, nil, report.ReasonBadRequest},
		{"an empty message", [][]byte{wstest.Masked(wstest.Binary, nil)}, nil, report.ReasonBadRequest},
		{"another marker", [][]byte{wstest.Masked(wstest.Binary, []byte{2})}, nil, report.ReasonBadRequest},
		{"a half-close with more", [][]byte{wstest.Masked(wstest.Binary, []byte{1, 0})}, nil, report.ReasonBadRequest},
		{"text", [][]byte{wstest.Masked(wstest.Text, []byte("\x00"))}, nil, report.ReasonBadRequest},
		{"a close", [][]byte{wstest.Masked(wstest.Close, []byte{0x03, 0xe8})}, nil, report.ReasonClientGone},
		{"a close without a code", [][]byte{wstest.Masked(wstest.Close, nil)}, nil, report.ReasonClientGone},
		{"no frame", [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, nil, report.ReasonBadRequest},
		{"a frame that isn't masked", [][]byte{{0x82, 1, 0}}, nil, report.ReasonBadRequest},
		{"a length with the top bit", [][]byte{{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}, nil, report.ReasonBadRequest},
	} {
		ws, end := socketPair(t)
		go func() { _, _ = io.Copy(io.Discard, end.R) }() // the pong, or a close
		for _, f := range c.frames {
			if _, err := end.Write(f); err != nil {
				t.Fatal(err)
			}
		}
		messages, err := parts.ReadMessages(newReader(&SocketBody{WS: ws}, 1<<10, ""))
		if len(messages) != len(c.want) || reasonOf(err) != c.reason || (err == nil) != (c.reason == "") {
			t.Errorf("%s: %q and %v, want %q and %q", c.name, messages, err, c.want, c.reason)
		} else {
			for i := range messages {
				if !bytes.Equal(messages[i], c.want[i]) {
					t.Errorf("%s: message %d is %q, want %q", c.name, i, messages[i], c.want[i])
				}
			}
		}
		ws.Drop()
		_ = end.Close()
	}
}

// TestDataAfterTheHalfClose is seen by the read that watches the client.
func TestDataAfterTheHalfClose(t *testing.T) {
	ws, c := socketPair(t)
	b := &SocketBody{WS: ws}
	c.Send(t, wstest.Binary, []byte{1})
	if _, err := b.Read(make([]byte, 10)); !errors.Is(err, io.EOF) {
		t.Errorf("the half-close reads as %v, want EOF", err)
	}
	c.Send(t, wstest.Binary, []byte{0, 1})
	if _, err := b.Read(make([]byte, 10)); reasonOf(err) != report.ReasonBadRequest {
		t.Errorf("data after it reads as %v, want %s", err, report.ReasonBadRequest)
	}
}

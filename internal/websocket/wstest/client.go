// Package wstest has both ends of a WebSocket, frame by frame, for tests: they can send what
// no library lets its user send. RFC 6455.
package wstest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc/test/bufconn"
)

// Opcodes. RFC 6455 §11.8.
const (
	Continuation = 0x0
	Text         = 0x1
	Binary       = 0x2
	Close        = 0x8
	Ping         = 0x9
	Pong         = 0xa
)

// Fin is the bit of a frame's first byte that marks the end of its message.
const Fin = 0x80

// head returns the header of a frame, of which mask has the bit for a mask.
func head(op, mask byte, length int) []byte {
	b := []byte{Fin | op}
	switch {
	case length < 126:
		return append(b, mask|byte(length))
	case length < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, mask|126), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(b, mask|127), uint64(length))
	}
}

// maskBit is the bit of a frame's second byte that tells of a mask.
const maskBit = 0x80

// Masked returns one whole frame of a client.
func Masked(op byte, payload []byte) []byte {
	b := head(op, maskBit, len(payload))
	key := [4]byte{0xa5, 0, 0x3c, 0xff}
	b = append(b, key[:]...)
	for i, p := range payload {
		b = append(b, p^key[i%4])
	}
	return b
}

// A Client is the client's end of a WebSocket.
type Client struct {
	net.Conn
	R *bufio.Reader // of what the server sent
}

// Open makes the handshake on a connection, which closes with the test.
func Open(t testing.TB, conn net.Conn, path, subprotocol string) *Client {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() }) // a test may have
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", path, subprotocol); err != nil {
		t.Fatal(err)
	}
	c := &Client{Conn: conn, R: bufio.NewReader(conn)}
	answer, err := http.ReadResponse(c.R, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close() // it has none
	if answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake was answered %s", answer.Status)
	}
	return c
}

// Pair returns what accept makes of a WebSocket's request, and the client's end of the
// connection under it, of which the kernel would hold so many bytes.
func Pair[C any](t testing.TB, holds int, subprotocol string, accept func(http.ResponseWriter, *http.Request) (C, error)) (C, *Client) {
	t.Helper()
	ln := bufconn.Listen(holds)
	accepted := make(chan C, 1)
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:gosec // its only client is this test
		ws, err := accept(w, r)
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
	c := Open(t, conn, "/", subprotocol)
	return <-accepted, c
}

// Send writes one whole frame.
func (c *Client) Send(t testing.TB, op byte, payload []byte) {
	t.Helper()
	if _, err := c.Write(Masked(op, payload)); err != nil {
		t.Error(err)
	}
}

// Next reads one of the server's frames, which have no mask.
func (c *Client) Next() (op byte, final bool, payload []byte, err error) {
	op, final, payload, key, err := Read(c.R)
	if key != nil {
		return op, final, payload, errors.New("a server's frame is masked")
	}
	return op, final, payload, err
}

// Read reads one frame, without its mask. key is nil if there is none.
func Read(r io.Reader) (op byte, final bool, payload, key []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, false, nil, nil, err
	}
	n := uint64(head[1] &^ maskBit)
	switch n {
	case 126:
		var b [2]byte
		_, err = io.ReadFull(r, b[:])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		_, err = io.ReadFull(r, b[:])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err == nil && head[1]&maskBit != 0 {
		key = make([]byte, 4)
		_, err = io.ReadFull(r, key)
	}
	if err != nil {
		return 0, false, nil, nil, err
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	for i := range payload {
		if key != nil {
			payload[i] ^= key[i%4]
		}
	}
	return head[0] & 0xf, head[0]&Fin != 0, payload, key, err
}

// WantClose reads to the close frame, which has a code and no reason.
func (c *Client) WantClose(t testing.TB, want websocket.StatusCode) {
	t.Helper()
	wantClose(t, c.Next, want)
}

func wantClose(t testing.TB, next func() (byte, bool, []byte, error), want websocket.StatusCode) {
	t.Helper()
	for {
		op, _, payload, err := next()
		if err != nil {
			t.Errorf("the connection ended with %v, want the close code %d", err, want)
			return
		}
		if op != Close {
			continue
		}
		if len(payload) != 2 || websocket.StatusCode(binary.BigEndian.Uint16(payload)) != want {
			t.Errorf("closed with %q, want the code %d and no reason", payload, want)
		}
		return
	}
}

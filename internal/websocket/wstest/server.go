package wstest

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // RFC 6455 has it, and not as a secret
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc/test/bufconn"
)

// Plain returns one whole frame of a server.
func Plain(op byte, payload []byte) []byte { return append(head(op, 0, len(payload)), payload...) }

// A Server is the server's end of a WebSocket.
type Server struct {
	net.Conn
	R       *bufio.Reader // of what the client sent
	Request *http.Request // the handshake
}

// Accept reads a handshake, and answers it as the server of a subprotocol does. The
// connection closes with the test.
func Accept(t testing.TB, conn net.Conn, subprotocol string) *Server {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() }) // a test may have
	s := &Server{Conn: conn, R: bufio.NewReader(conn)}
	var err error
	if s.Request, err = http.ReadRequest(s.R); err != nil {
		t.Error(err)
		return s
	}
	if _, err := conn.Write([]byte(Answer(s.Request.Header.Get("Sec-Websocket-Key"), subprotocol))); err != nil {
		t.Error(err)
	}
	return s
}

// Answer returns the answer to a handshake with this key.
func Answer(key, subprotocol string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see the import
	answer := fmt.Sprintf("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	if subprotocol != "" {
		answer += "Sec-WebSocket-Protocol: " + subprotocol + "\r\n"
	}
	return answer + "\r\n"
}

// ServerPair returns what open makes of a connection, and the server's end of that, of which
// the kernel would hold so many bytes.
func ServerPair[C any](t testing.TB, holds int, subprotocol string, open func(net.Conn) (C, error)) (C, *Server) {
	t.Helper()
	ln := bufconn.Listen(holds)
	t.Cleanup(func() { _ = ln.Close() }) // its connections stay
	var s *Server
	var accepting sync.WaitGroup
	accepting.Go(func() {
		far, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		s = Accept(t, far, subprotocol)
	})
	conn, err := ln.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := open(conn)
	accepting.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// Next reads one of the client's frames, which have a mask.
func (s *Server) Next() (op byte, final bool, payload []byte, err error) {
	op, final, payload, key, err := Read(s.R)
	if err == nil && key == nil {
		err = errors.New("a client's frame has no mask")
	}
	return op, final, payload, err
}

// Send writes one whole frame.
func (s *Server) Send(t testing.TB, op byte, payload []byte) {
	t.Helper()
	if _, err := s.Write(Plain(op, payload)); err != nil {
		t.Error(err)
	}
}

// WantClose reads to the close frame, which has a code and no reason.
func (s *Server) WantClose(t testing.TB, want websocket.StatusCode) {
	t.Helper()
	wantClose(t, s.Next, want)
}

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// A carrier is one connection with its calls.
type carrier interface {
	// begin opens calls.
	begin(calls int) error
	// send sends a piece on each call. It blocks while culvert takes no more.
	send(p *piece) error
	// read answers what has to be answered, and counts the ends of calls, until
	// the connection ends.
	read()
}

func newCarrier(a *attack, conn net.Conn, p plan) (carrier, error) {
	switch a.transport {
	case wire.Web:
		return &webCall{a, p, conn}, nil
	case wire.WebSocket:
		return &socketCall{a: a, plan: p, socket: newSocket(conn)}, nil
	case wire.Tunnel:
		tunnel := &tunnel{socket: newSocket(conn)}
		if err := tunnel.upgrade("/", "h2ts"); err != nil {
			return nil, err
		}
		return newHTTP2(a, tunnel, p), nil
	case wire.GRPC, wire.WebH2:
		return newHTTP2(a, conn, p), nil
	}
	return nil, fmt.Errorf("no transport %q", a.transport)
}

// readBuffer is little, since most of the readers never read anything.
const readBuffer = 512

// A webCall is a connection with one call of gRPC-Web over HTTP/1.1.
type webCall struct {
	*attack
	plan plan
	conn net.Conn
}

func (c *webCall) begin(int) error {
	_, err := fmt.Fprintf(c.conn, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/grpc-web+proto\r\n%s: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
		c.plan.method, probe.ScriptKey, c.plan.script)
	return err
}

func (c *webCall) send(p *piece) error {
	_, err := c.conn.Write(p.chunk)
	return err
}

func (c *webCall) read() {
	defer func() { _ = c.conn.Close() }() // culvert has
	resp, err := http.ReadResponse(bufio.NewReaderSize(c.conn, readBuffer), nil)
	if err != nil {
		c.end("cut", 1)
		return
	}
	defer func() { _ = resp.Body.Close() }() // the connection is closed, too
	if resp.StatusCode != http.StatusOK {
		c.end("HTTP "+resp.Status, 1)
		return
	}
	block, err := trailersOf(resp.Body)
	if err != nil {
		c.end("cut", 1)
		return
	}
	c.endWith(wire.ParseStatus(block))
}

// trailersOf reads an answer up to its trailers.
func trailersOf(body io.Reader) ([]byte, error) {
	for {
		flags, payload, err := wire.ReadFrame(body)
		if err != nil || flags&trailers != 0 {
			return payload, err
		}
	}
}

// trailers is the flag of a frame of gRPC-Web that holds them.
const trailers = 0x80

// A socket is the client's end of a WebSocket.
type socket struct {
	net.Conn
	in   *bufio.Reader
	mu   sync.Mutex // held for writes
	rest int        // of the message that is being read
}

func newSocket(conn net.Conn) *socket {
	return &socket{Conn: conn, in: bufio.NewReaderSize(conn, readBuffer)}
}

func (s *socket) upgrade(path, subprotocol string) error {
	if _, err := fmt.Fprintf(s.Conn, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: %s\r\n\r\n", path, subprotocol); err != nil {
		return err
	}
	resp, err := http.ReadResponse(s.in, nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close() // there is none
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fmt.Errorf("the upgrade was answered %s", resp.Status)
	}
	return nil
}

func (s *socket) writeFrame(frame []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.Conn.Write(frame)
	return err
}

// next reads the header of the next data frame and leaves its payload to be read.
// It answers pings. io.EOF: a close frame came.
func (s *socket) next() error {
	for {
		var head [2]byte
		if _, err := io.ReadFull(s.in, head[:]); err != nil {
			return err
		}
		size := uint64(head[1])
		if size >= 126 {
			var b [8]byte
			width := 2
			if size == 127 {
				width = 8
			}
			if _, err := io.ReadFull(s.in, b[8-width:]); err != nil {
				return err
			}
			size = binary.BigEndian.Uint64(b[:])
		}
		op := head[0] & 0xf
		if op < opClose {
			s.rest = int(size)
			return nil
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(s.in, payload); err != nil {
			return err
		}
		switch op {
		case opClose:
			return io.EOF
		case opPing:
			if err := s.writeFrame(socketFrame(opPong, payload)); err != nil {
				return err
			}
		}
	}
}

// A socketCall is one call of gRPC-Web on a WebSocket.
type socketCall struct {
	*socket
	a    *attack
	plan plan
}

func (c *socketCall) begin(int) error {
	if err := c.upgrade(c.plan.method, "grpc-websockets"); err != nil {
		return err
	}
	return c.writeFrame(socketFrame(opBinary, fmt.Appendf(nil, "content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n%s: %s\r\n", probe.ScriptKey, c.plan.script)))
}

func (c *socketCall) send(p *piece) error { return c.writeFrame(p.binary) }

func (c *socketCall) read() {
	defer func() { _ = c.Close() }() // culvert has
	for blocks := 0; ; {
		if c.next() != nil {
			c.a.end("cut", 1)
			return
		}
		message := io.LimitReader(c.in, int64(c.rest))
		flags, payload, err := wire.ReadFrame(message)
		if err != nil {
			c.a.end("cut", 1)
			return
		}
		if flags&trailers == 0 {
			continue
		}
		if blocks++; blocks == 2 { // the first is the header
			c.a.endWith(wire.ParseStatus(payload))
			return
		}
	}
}

// A tunnel is the byte pipe in a WebSocket of the subprotocol h2ts.
type tunnel struct{ *socket }

func (t *tunnel) Write(b []byte) (int, error) {
	if err := t.writeFrame(socketFrame(opBinary, b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (t *tunnel) Read(b []byte) (int, error) {
	for t.rest == 0 {
		if err := t.next(); err != nil {
			return 0, err
		}
	}
	n, err := t.in.Read(b[:min(len(b), t.rest)])
	t.rest -= n
	return n, err
}

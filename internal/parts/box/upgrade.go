package box

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"sync"
)

// upgrade carries a WebSocket, or doesn't.
func (b *Box) upgrade(w http.ResponseWriter, r *http.Request, c *conn) {
	switch b.o.Upgrade {
	case Refused:
		b.refuse(w, http.StatusForbidden)
		return
	case Hangs:
		<-c.gone
		panic(http.ErrAbortHandler)
	}
	out, t := b.outgoing(b.life, r, c)
	for _, name := range []string{"Upgrade", "Connection"} {
		out.Header[name] = r.Header[name]
	}
	server, fromServer, err := b.dialEdge(b.life, t.address, t.name, r.TLS != nil, "http/1.1")
	if err != nil {
		b.refuse(w, http.StatusBadGateway)
		return
	}
	defer func() { _ = server.Close() }() // it may be closed
	if out.Write(server) != nil {
		b.refuse(w, http.StatusBadGateway)
		return
	}
	answer, err := http.ReadResponse(fromServer, out)
	if err != nil {
		b.refuse(w, http.StatusBadGateway)
		return
	}
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }() // it may be closed
	if answer.Write(client) != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		return
	}
	c.mu.Lock()
	c.counts = b.o.Counts
	c.mu.Unlock()
	s := &socket{b: b, c: c, client: client, server: server}
	var up sync.WaitGroup
	up.Go(func() { s.carry(server, buffered.Reader, true) })
	s.carry(client, fromServer, false)
	up.Wait()
}

// A socket is a WebSocket that passes the box.
type socket struct {
	b              *Box
	c              *conn
	client, server net.Conn

	mu   sync.Mutex
	dead bool // behind the first frame with data
}

// carry sends frames on until the connection ends, and closes both sides then.
func (s *socket) carry(to io.Writer, from *bufio.Reader, ofClient bool) {
	defer func() {
		_ = s.client.Close() // it may be closed
		_ = s.server.Close() // it may be closed
	}()
	for {
		head, n, err := readFrameHead(from)
		if err != nil {
			return
		}
		data := head[0]&0x0f < 8 // RFC 6455 §5.2: the others are of control
		if !s.passes(ofClient) {
			to = io.Discard
		}
		if _, err := to.Write(head); err != nil {
			return
		}
		if _, err := io.CopyN(to, from, n); err != nil {
			return
		}
		s.note(ofClient, data)
	}
}

// passes reports whether a frame passes.
func (s *socket) passes(ofClient bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.o.Upgrade != Dead && (s.b.o.Upgrade != DeadToTheServer || !ofClient) && !s.dead
}

// note notes that a frame has passed.
func (s *socket) note(ofClient, data bool) {
	s.mu.Lock()
	if s.b.o.Upgrade == DeadAfterFirst && data && !ofClient {
		s.dead = true
	}
	s.mu.Unlock()
	if !data {
		return
	}
	s.c.life(AnyData)
	s.c.mu.Lock()
	answered := s.c.asked && !ofClient
	s.c.asked = ofClient || s.c.asked && !answered
	s.c.mu.Unlock()
	if answered {
		s.c.life(Answered)
	}
}

// readFrameHead reads what stands before a frame's payload, and returns the payload's bytes.
// RFC 6455 §5.2.
func readFrameHead(r *bufio.Reader) (head []byte, n int64, err error) {
	head = make([]byte, 2, 14)
	if _, err = io.ReadFull(r, head); err != nil {
		return nil, 0, err
	}
	more := 0
	switch n = int64(head[1] & 0x7f); n {
	case 126:
		more = 2
	case 127:
		more = 8
	}
	size := more
	if head[1]&0x80 != 0 {
		more += 4 // the mask
	}
	head = head[:2+more]
	if _, err = io.ReadFull(r, head[2:]); err != nil {
		return nil, 0, err
	}
	switch size {
	case 2:
		n = int64(binary.BigEndian.Uint16(head[2:]))
	case 8:
		n = int64(binary.BigEndian.Uint64(head[2:]) & (1<<62 - 1))
	}
	return head, n, nil
}

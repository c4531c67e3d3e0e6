package sockets

import (
	"container/list"
	"net"
	"sync"
)

// Newest returns a listener with at most so many connections: a new connection over the
// limit replaces the oldest. It is for short requests, whose old connections are idle and
// don't wait for an answer.
func Newest(ln net.Listener, most int) net.Listener { return &newest{Listener: ln, most: most} }

type newest struct {
	net.Listener
	most int

	mu   sync.Mutex
	open list.List // of *newestConn, the oldest first
}

type newestConn struct {
	net.Conn
	of *newest
	at *list.Element // nil once it is closed; guarded by of.mu
}

func (l *newest) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &newestConn{Conn: conn, of: l}
	l.mu.Lock()
	c.at = l.open.PushBack(c)
	var oldest *newestConn
	if l.open.Len() > l.most {
		oldest, _ = l.open.Front().Value.(*newestConn)
	}
	l.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close() // its server learns of it by the next read
	}
	return c, nil
}

// Close releases the place of the connection. It may be called again.
func (c *newestConn) Close() error {
	c.of.mu.Lock()
	if c.at != nil {
		c.of.open.Remove(c.at)
		c.at = nil
	}
	c.of.mu.Unlock()
	return c.Conn.Close()
}

package box

import (
	"bufio"
	"io"
	"net"
	"sync"
	"time"
)

// A conn is a client's connection, which the box ends as its options say.
type conn struct {
	net.Conn
	r      *bufio.Reader
	b      *Box
	target string        // what CONNECT named, or the edge
	gone   chan struct{} // closed with the connection
	once   sync.Once

	mu      sync.Mutex
	quiet   bool          // nothing passes any more
	stilled chan struct{} // closed when quiet is set
	age     *time.Timer   // nil: none
	idle    *time.Timer   // nil: none
	counts  Counts        // AnyByte, until it carries a WebSocket
	asked   bool          // data of the client since the last answer
	down    int64         // bytes to the client
}

func (b *Box) newConn(raw net.Conn) *conn {
	c := &conn{Conn: raw, b: b, gone: make(chan struct{}), stilled: make(chan struct{})}
	c.r = bufio.NewReader(passed{c})
	if b.o.Age > 0 {
		c.age = time.AfterFunc(b.o.Age, func() { c.end(false) })
	}
	if b.o.Idle > 0 {
		c.idle = time.AfterFunc(b.o.Idle, func() { c.end(false) })
	}
	b.mu.Lock()
	b.conns[c] = struct{}{}
	over, silent := b.life.Err() != nil, b.silent
	b.mu.Unlock()
	if silent {
		c.still()
	}
	if over {
		c.end(true)
	}
	return c
}

// end ends the connection, as the options say or for good.
func (c *conn) end(forGood bool) {
	switch {
	case forGood || c.b.o.Ends == FIN:
	case c.b.o.Ends == RST:
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it may be closed
		}
	case c.b.o.Ends == Quiet:
		c.still()
		return
	}
	c.shut()
}

// still lets nothing pass any more, and keeps the connection.
func (c *conn) still() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.quiet {
		c.quiet = true
		close(c.stilled)
	}
}

func (c *conn) shut() {
	c.once.Do(func() { close(c.gone) })
	_ = c.Conn.Close() // it may be closed
}

// Close keeps a stilled connection: the box has forgotten it.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.quiet && c.b.life.Err() == nil {
		return nil
	}
	for _, timer := range []*time.Timer{c.age, c.idle} {
		if timer != nil {
			timer.Stop()
		}
	}
	c.shut()
	return nil
}

// forget ends the box's part in a connection.
func (b *Box) forget(c *conn) {
	_ = c.Close() // it may be closed
	c.mu.Lock()
	kept := c.quiet
	c.mu.Unlock()
	if kept {
		return // until the box ends
	}
	b.mu.Lock()
	delete(b.conns, c)
	b.mu.Unlock()
}

// life notes what has passed.
func (c *conn) life(what Counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle != nil && what >= c.counts && !c.quiet {
		c.idle.Reset(c.b.o.Idle)
	}
}

func (c *conn) Read(p []byte) (int, error) { return c.r.Read(p) }

// passed reads from the connection what the box lets pass.
type passed struct{ c *conn }

func (r passed) Read(p []byte) (int, error) {
	n, err := r.c.Conn.Read(p)
	select {
	case <-r.c.stilled:
		<-r.c.gone
		return 0, net.ErrClosed
	default:
	}
	if n > 0 {
		r.c.life(AnyByte)
	}
	return n, err //nolint:wrapcheck // io.EOF is the other end's
}

func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	left := len(p)
	if limit := c.b.o.MaxDown; limit > 0 {
		left = int(min(int64(left), max(0, limit-c.down)))
		c.down += int64(left)
	}
	quiet := c.quiet
	c.mu.Unlock()
	if quiet || left == 0 && len(p) > 0 {
		return len(p), nil
	}
	n, err := c.Conn.Write(p[:left])
	if n == left && err == nil {
		c.life(AnyByte)
		return len(p), nil
	}
	return n, err //nolint:wrapcheck // as of a connection
}

// copyBoth carries bytes both ways until one way ends.
func copyBoth(client io.ReadWriter, server net.Conn, closeBoth func()) {
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(server, client) // the end is all that counts
		closeBoth()
	})
	_, _ = io.Copy(client, server) // the end is all that counts
	closeBoth()
	up.Wait()
}

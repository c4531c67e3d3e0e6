package fallback

import (
	"net"
	"sync"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// A Client is the client's connection after its switch to WebSocket. It implements Conn.
type Client struct {
	net.Conn
	Unread  []byte           // what the client sent behind its request
	Of      *progress.Record // notes how long reads and writes wait for the client
	In, Out *atomic.Int64    // count the bytes
	Lost    *atomic.Bool     // set when a write fails
	Closed  func(net.Conn)   // called after the connection is closed; may be nil

	once sync.Once
}

func (c *Client) Read(p []byte) (int, error) {
	c.Of.Receiving.Store(true)
	defer c.Of.Receiving.Store(false)
	n, err := copy(p, c.Unread), error(nil)
	if n > 0 {
		c.Unread = c.Unread[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.In.Add(int64(n))
	return n, err
}

func (c *Client) Write(p []byte) (int, error) {
	c.Of.BeginSend()
	defer c.Of.EndSend()
	n, err := c.Conn.Write(p)
	if err != nil {
		c.Lost.Store(true)
	}
	c.Out.Add(int64(n))
	return n, err
}

// CloseWrite implements Conn.
func (c *Client) CloseWrite() error { return socket.CloseWrite(c.Conn) }

// Close implements Conn.
func (c *Client) Close() error {
	c.once.Do(func() {
		_ = c.Conn.Close() // it may be closed already
		if c.Closed != nil {
			c.Closed(c.Conn)
		}
	})
	return nil
}

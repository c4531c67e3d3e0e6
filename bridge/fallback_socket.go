package bridge

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/culvert-grpc/culvert/bridge/fallback"
)

// Switch implements fallback.Exchange.
func (x *webExchange) Switch(answer http.Header) (fallback.Conn, error) {
	closed := x.a.on.Taken()
	conn, rw, err := x.rc.Hijack()
	if err != nil {
		return nil, err
	}
	if answer["X-Request-Id"] == nil {
		answer["X-Request-Id"] = []string{x.info.ID}
	}
	x.info.WebSocket, x.info.Status = true, http.StatusSwitchingProtocols
	// net/http's reader would end the context at the client's end.
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it has as many
	c := &webSocket{Conn: conn, x: x, unread: bytes.Clone(unread)}
	c.closing = func() {
		_ = conn.Close() // it may be closed already
		if closed != nil {
			closed(conn)
		}
	}
	return c, nil
}

// A webSocket is the client's connection after its upgrade.
type webSocket struct {
	net.Conn
	x       *webExchange
	unread  []byte // that the client sent behind its request
	once    sync.Once
	closing func()
}

func (c *webSocket) Read(p []byte) (int, error) {
	of := &c.x.run.call.progress
	of.BeginReceive()
	defer of.EndReceive()
	n, err := copy(p, c.unread), error(nil)
	if n > 0 {
		c.unread = c.unread[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.x.run.in.bytes.Add(int64(n))
	return n, err
}

func (c *webSocket) Write(p []byte) (int, error) {
	n := 0
	err := c.x.sending(func() (err error) {
		n, err = c.Conn.Write(p)
		return err
	})
	c.x.run.out.bytes.Add(int64(n))
	return n, err
}

// CloseWrite implements fallback.Conn.
func (c *webSocket) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements fallback.Conn.
func (c *webSocket) Close() error {
	c.once.Do(c.closing)
	return nil
}

package bridgetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// http1Client speaks gRPC-Web over HTTP/1.1. It is written by hand so that a call
// can stream both ways and can be cut anywhere. It reuses connections if the answer
// allows it.
type http1Client struct {
	d       *dialer
	dialect dialect
	whole   bool // a call's request is one body with a length, as fetch sends it

	mu   sync.Mutex
	idle []*http1Conn
}

type http1Conn struct {
	net.Conn
	br *bufio.Reader
}

func (c *http1Client) cut(how cut) { c.d.cut(how) }
func (c *http1Client) close()      { c.d.cut(cutFIN) }

func (c *http1Client) conn(ctx context.Context) (*http1Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.idle); n > 0 {
		conn := c.idle[n-1]
		c.idle = c.idle[:n-1]
		return conn, nil
	}
	conn, err := c.d.dialTLS(ctx, "", "")
	if err != nil {
		return nil, err
	}
	return &http1Conn{Conn: conn, br: bufio.NewReaderSize(conn, 64<<10)}, nil
}

func (c *http1Client) open(ctx context.Context, rq call) (stream, error) {
	conn, err := c.conn(ctx)
	if err != nil {
		return nil, err
	}
	s := &http1Stream{client: c, call: rq, conn: conn}
	s.reply = reply{dialect: c.dialect, typed: c.d.typed, await: s.readHead}
	// The end of the context frees everything that waits on the connection.
	s.release = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if c.whole {
		return s, nil
	}
	if _, err := conn.Write(s.head("transfer-encoding", "chunked")); err != nil {
		return nil, fmt.Errorf("request head: %w", err)
	}
	return s, nil
}

type http1Stream struct {
	reply
	client  *http1Client
	call    call
	conn    *http1Conn
	release func() bool
	saved   bytes.Buffer // the whole body, until it is sent
	encoded bool         // and it is text already

	mu         sync.Mutex
	sent, gone bool // the request was sent to its end; the connection was closed
}

// head returns the request line and header, with the field that says how the body
// ends.
func (s *http1Stream) head(name, value string) []byte {
	b := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nhost: %s\r\n", s.call.method, s.client.d.address)
	b = appendBlock(b, headerLines(s.call, s.client.dialect))
	return fmt.Appendf(b, "%s: %s\r\n\r\n", name, value)
}

func (s *http1Stream) send(b []byte) error {
	return s.sendRaw(s.client.dialect.message(s.call.encoding, s.client.d.sent(b)))
}

func (s *http1Stream) sendRaw(b []byte) error {
	if s.client.dialect == dialectText && !s.client.whole {
		b = []byte(base64.StdEncoding.EncodeToString(b))
	}
	return s.sendWire(b)
}

// sendWire sends bytes of the body unchanged: one chunk, or a part of a body that
// is sent whole (text is encoded at the end, as XHR clients do).
func (s *http1Stream) sendWire(b []byte) error {
	if s.client.whole {
		s.saved.Write(b)
		return nil
	}
	chunk := fmt.Appendf(make([]byte, 0, len(b)+16), "%x\r\n", len(b))
	chunk = append(append(chunk, b...), "\r\n"...)
	_, err := s.conn.Write(chunk)
	return err
}

// sendPart sends bytes of frames now, and leaves a body with a length unfinished.
func (s *http1Stream) sendPart(b []byte) error {
	if !s.client.whole {
		return s.sendRaw(b)
	}
	if s.client.dialect == dialectText {
		b = []byte(base64.StdEncoding.EncodeToString(b))
	}
	_, err := s.conn.Write(append(s.head("content-length", fmt.Sprint(2*len(b))), b...))
	return err
}

func (s *http1Stream) closeSend() error {
	end := []byte("0\r\n\r\n")
	if s.client.whole {
		body := s.saved.Bytes()
		if s.client.dialect == dialectText && !s.encoded {
			body = []byte(base64.StdEncoding.EncodeToString(body))
		}
		end = append(s.head("content-length", fmt.Sprint(len(body))), body...)
	}
	_, err := s.conn.Write(end)
	s.mu.Lock()
	s.sent = err == nil
	s.mu.Unlock()
	return err
}

func (s *http1Stream) readHead() (*http.Response, error) {
	resp, err := http.ReadResponse(s.conn.br, &http.Request{Method: http.MethodPost})
	if err != nil {
		return nil, fmt.Errorf("answer: %w", err)
	}
	return resp, nil
}

func (s *http1Stream) recv() ([]byte, error) {
	b, err := s.reply.recv()
	if errors.Is(err, io.EOF) {
		s.ended()
	}
	return b, err
}

// ended keeps the connection for the next call, if both sides want to keep it.
// Otherwise it checks that the server closes it.
func (s *http1Stream) ended() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone || s.resp == nil {
		return
	}
	s.gone = true
	if s.release() && s.sent && !s.resp.Close {
		s.client.mu.Lock()
		s.client.idle = append(s.client.idle, s.conn)
		s.client.mu.Unlock()
		return
	}
	_ = s.conn.Close() // nothing more to read
}

// cancel does to an HTTP/1.1 connection what aborting a fetch does.
func (s *http1Stream) cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.gone {
		s.gone = true
		_ = s.conn.Close() // the peer may have closed it before
	}
}

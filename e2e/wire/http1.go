package wire

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
)

// useHTTP1 makes c speak gRPC-Web over HTTP/1.1. Calls follow one another.
func (c *Conn) useHTTP1() {
	in := bufio.NewReader(c.over)
	c.open = func(_ context.Context, method string, md http.Header, complete []byte) (Call, error) {
		call := &http1Call{conn: c, in: in, text: c.Transport == WebText}
		call.contentType = "application/grpc-web+proto"
		if call.text {
			call.contentType = "application/grpc-web-text+proto"
			if complete != nil {
				complete = []byte(base64.StdEncoding.EncodeToString(complete))
			}
		}
		var head strings.Builder
		fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nX-Grpc-Web: 1\r\n",
			method, c.TCP.RemoteAddr(), call.contentType)
		for name, values := range md {
			for _, v := range values {
				fmt.Fprintf(&head, "%s: %s\r\n", name, v)
			}
		}
		if complete != nil {
			fmt.Fprintf(&head, "Content-Length: %d\r\n\r\n%s", len(complete), complete)
		} else {
			head.WriteString("Transfer-Encoding: chunked\r\n\r\n")
			call.out = httputil.NewChunkedWriter(c.over)
		}
		if _, err := io.WriteString(c.over, head.String()); err != nil {
			return nil, err
		}
		return call, nil
	}
}

type http1Call struct {
	answer
	conn        *Conn
	in          *bufio.Reader
	out         io.WriteCloser // nil: the request is complete
	text        bool
	contentType string
	resp        *http.Response // nil: not read yet
}

func (c *http1Call) Send(message []byte) error { return c.Write(Frame(message)) }

func (c *http1Call) Write(b []byte) error {
	if c.text {
		b = []byte(base64.StdEncoding.EncodeToString(b))
	}
	_, err := c.out.Write(b)
	return err
}

func (c *http1Call) CloseSend() error {
	if c.out == nil {
		return nil
	}
	if err := c.out.Close(); err != nil { // writes the last chunk
		return err
	}
	_, err := io.WriteString(c.conn.over, "\r\n") // no trailers
	return err
}

func (c *http1Call) Recv() ([]byte, error) {
	if c.resp == nil {
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCut, unexpected(err))
		}
		if err := checkAnswer(resp, c.contentType, true); err != nil {
			return nil, err
		}
		c.resp, c.header, c.body = resp, resp.Header, resp.Body
		if c.text {
			c.body = &textReader{r: bufio.NewReader(resp.Body)}
		}
	}
	return c.recv()
}

// Close ends the connection of a call that runs: HTTP/1.1 has no other way.
func (c *http1Call) Close() {
	if c.status == nil {
		c.conn.Close()
	}
}

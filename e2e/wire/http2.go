package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// useHTTP2 makes c speak gRPC or gRPC-Web over HTTP/2 on inner, which is the TCP
// or TLS connection itself or the tunnel in it.
func (c *Conn) useHTTP2(ctx context.Context, inner net.Conn) error {
	transport := &http.Transport{
		DisableCompression: true,
		Protocols:          new(http.Protocols),
		// A reader that stops shall stop the server, not fill this process.
		HTTP2:       &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
		DialContext: func(context.Context, string, string) (net.Conn, error) { return inner, nil },
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	scheme := "http"
	if _, ok := inner.(*tls.Conn); ok {
		scheme = "https"
		transport.Protocols.SetHTTP2(true)
		transport.DialTLSContext = transport.DialContext
	}
	conn, err := transport.NewClientConn(ctx, scheme, c.TCP.RemoteAddr().String())
	if err != nil {
		_ = inner.Close() // the error of the connection says more
		return err
	}
	web := c.Transport == WebH2 || c.Transport == TunnelWeb
	c.close = func() {
		_ = conn.Close()  // may be closed by then
		_ = inner.Close() // may be closed by then
	}
	c.open = func(ctx context.Context, method string, md http.Header, complete []byte) (Call, error) {
		ctx, cancel := context.WithCancel(ctx)
		call := &http2Call{cancel: cancel, web: web, contentType: "application/grpc+proto", responded: make(chan struct{})}
		body, out := io.Pipe()
		var in io.Reader = body
		call.out = out
		if complete != nil {
			in = bytes.NewReader(complete)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+c.TCP.RemoteAddr().String()+method, in)
		if err != nil {
			cancel()
			return nil, err
		}
		for name, values := range md {
			req.Header[http.CanonicalHeaderKey(name)] = values
		}
		if web {
			call.contentType = "application/grpc-web+proto"
			req.Header.Set("X-Grpc-Web", "1")
		} else {
			req.Header.Set("Te", "trailers")
			if complete != nil {
				req.ContentLength = -1 // as every gRPC client does
			}
		}
		req.Header.Set("Content-Type", call.contentType)
		call.roundTrip.Go(func() {
			defer close(call.responded)
			call.resp, call.err = conn.RoundTrip(req)
		})
		return call, nil
	}
	return nil
}

type http2Call struct {
	answer
	out         *io.PipeWriter
	web         bool
	contentType string
	cancel      context.CancelFunc
	roundTrip   sync.WaitGroup
	responded   chan struct{} // closed when resp or err is set
	resp        *http.Response
	err         error
	checked     bool
}

func (c *http2Call) Send(message []byte) error { return c.Write(Frame(message)) }

func (c *http2Call) Write(b []byte) error {
	_, err := c.out.Write(b)
	return err
}

func (c *http2Call) CloseSend() error { return c.out.Close() }

func (c *http2Call) Recv() ([]byte, error) {
	<-c.responded
	if c.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCut, unexpected(c.err))
	}
	if !c.checked {
		c.checked = true
		c.header, c.body = c.resp.Header, c.resp.Body
		if err := checkAnswer(c.resp, c.contentType, c.web); err != nil {
			return nil, err
		}
	}
	if c.web {
		return c.recv()
	}
	if c.status != nil {
		return nil, io.EOF
	}
	flags, payload, err := ReadFrame(c.body)
	switch {
	case err == nil && flags == 0:
		return payload, nil
	case err == nil:
		return nil, fmt.Errorf("a frame with the flags %#x", flags)
	case !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: %w", ErrCut, err)
	}
	fields := c.resp.Trailer
	if len(fields) == 0 {
		fields = c.resp.Header // Trailers-Only
	}
	if c.status, err = StatusOf(fields); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

// Close resets the stream of a call that runs.
func (c *http2Call) Close() {
	c.cancel()
	c.roundTrip.Wait()
	_ = c.out.CloseWithError(context.Canceled) // the request's body is not read any more
	if c.err == nil {
		_ = c.resp.Body.Close() // the call is over
	}
}

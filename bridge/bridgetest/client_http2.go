package bridgetest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// http2Client speaks gRPC or gRPC-Web over HTTP/2 with prior knowledge, on TCP
// or in a tunnel, with net/http's transport beneath.
type http2Client struct {
	d       *dialer
	dialect dialect
	whole   bool // a call's request is one body with a length, as fetch sends it
	rt      *http.Transport
	ctx     context.Context // ends when the client closes
	stop    context.CancelFunc
	running sync.WaitGroup
}

func newHTTP2Client(d *dialer, w way, dl dialect, whole bool) client {
	c := &http2Client{d: d, dialect: dl, whole: whole}
	c.ctx, c.stop = context.WithCancel(context.Background())
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	c.rt = &http.Transport{
		Protocols:          &p,
		DisableCompression: true,
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return w(ctx, d) },
		// The windows stay small, so that a client that doesn't read blocks its
		// sender.
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 1 << 20},
	}
	return c
}

func (c *http2Client) cut(how cut) { c.d.cut(how) }

func (c *http2Client) close() {
	c.stop()
	c.running.Wait()
	c.rt.CloseIdleConnections()
	c.d.cut(cutFIN)
}

func (c *http2Client) open(ctx context.Context, rq call) (stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	context.AfterFunc(c.ctx, cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.d.address+rq.method, nil)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("request: %w", err)
	}
	for _, l := range headerLines(rq, c.dialect) {
		req.Header.Add(l[0], l[1])
	}
	s := &http2Stream{client: c, call: rq, req: req, stop: cancel, answer: make(chan http2Answer, 1)}
	s.reply = reply{dialect: c.dialect, await: s.awaitHead}
	if !c.whole {
		s.start(s.pipe(), -1)
	}
	return s, nil
}

type http2Answer struct {
	resp *http.Response
	err  error
}

type http2Stream struct {
	reply
	client *http2Client
	call   call
	req    *http.Request
	stop   context.CancelFunc
	body   *io.PipeWriter   // the request's stream
	saved  bytes.Buffer     // or its whole body
	answer chan http2Answer // holds one, so that start's goroutine never waits
}

// pipe returns the body of a streamed request. It ends with the client: after an
// answer has ended, net/http waits for more of the body until the server resets the
// stream, even if the connection is gone.
func (s *http2Stream) pipe() io.ReadCloser {
	body, w := io.Pipe()
	s.body = w
	context.AfterFunc(s.client.ctx, func() { _ = w.CloseWithError(context.Canceled) }) // it never fails
	return body
}

// start sends the request. It runs beside the caller, since net/http returns from
// RoundTrip only when the answer's head has arrived, which may take long.
func (s *http2Stream) start(body io.ReadCloser, length int64) {
	s.req.Body, s.req.ContentLength = body, length
	s.client.running.Go(func() {
		resp, err := s.client.rt.RoundTrip(s.req)
		s.answer <- http2Answer{resp, err}
	})
}

func (s *http2Stream) awaitHead() (*http.Response, error) {
	a := <-s.answer // RoundTrip ends with the call's context
	return a.resp, a.err
}

func (s *http2Stream) send(b []byte) error {
	return s.sendRaw(s.client.dialect.message(s.call.encoding, b))
}

func (s *http2Stream) sendRaw(b []byte) error { return s.sendWire(b) }

// sendWire sends bytes of the body unchanged.
func (s *http2Stream) sendWire(b []byte) error {
	if s.client.whole {
		s.saved.Write(b)
		return nil
	}
	_, err := s.body.Write(b)
	return err
}

// sendPart sends bytes of frames now, and leaves a body with a length unfinished.
func (s *http2Stream) sendPart(b []byte) error {
	if !s.client.whole {
		return s.sendRaw(b)
	}
	s.start(s.pipe(), int64(2*len(b)))
	_, err := s.body.Write(b)
	return err
}

func (s *http2Stream) closeSend() error {
	if s.client.whole {
		s.start(io.NopCloser(&s.saved), int64(s.saved.Len()))
		return nil
	}
	return s.body.Close()
}

func (s *http2Stream) cancel() { s.stop() }

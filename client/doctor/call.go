package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/culvert-grpc/culvert/codec"
)

// The content types of calls.
const (
	typeGRPC = "application/grpc"
	typeWeb  = "application/grpc-web+proto"
)

const userAgent = "culvert-doctor"

// maxMessage bounds a message of the service: the largest is a report.
const maxMessage = 256 << 10

// A call is one of culvert.v1.Path. One goroutine uses it.
type call struct {
	x      *examination
	ctx    context.Context //nolint:containedctx // the call's, until close
	cancel context.CancelFunc
	method string
	h2     *http2Conn // native gRPC; nil: gRPC-Web over HTTP/1.1
	trip   http.RoundTripper

	body     *io.PipeWriter // nil: the request is sent whole
	whole    bytes.Buffer   // until closeSend
	running  sync.WaitGroup
	messages chan []byte // closed with the call's end
	end      error       // once messages is closed
}

// open begins a call, of native gRPC or of gRPC-Web. The request streams, or is sent whole with
// its length.
func (x *examination) open(ctx context.Context, h2 *http2Conn, method string, streams bool) *call {
	c := &call{x: x, method: method, h2: h2, messages: make(chan []byte, 16)}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if h2 != nil {
		c.trip = h2.calls
	} else {
		c.trip = x.transport()
	}
	if streams {
		var body io.Reader
		body, c.body = io.Pipe()
		c.begin(body)
	}
	return c
}

// transport returns one for HTTP/1.1 that opens a connection for each call, and says if it can't:
// RoundTrip's error at the end of a context wouldn't.
func (x *examination) transport() *http.Transport {
	t := x.net.Transport(x.target)
	t.DisableKeepAlives = true
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, callLimit-time.Second)
		defer cancel()
		return dial(ctx, network, address)
	}
	t.DialTLSContext = t.DialContext
	return t
}

// callBy makes a call in its turn, and returns what examine finds.
func (x *examination) callBy(ctx context.Context, h2 *http2Conn, method string, streams bool, examine func(context.Context, *call) Finding) Finding {
	if err := x.calls.wait(ctx); err != nil {
		return finding(err)
	}
	c := x.open(ctx, h2, method, streams)
	defer c.close()
	return examine(ctx, c)
}

func (c *call) send(message []byte) error {
	if c.body == nil {
		c.whole.Write(framed(message))
		return nil
	}
	_, err := c.body.Write(framed(message))
	return err //nolint:wrapcheck // of the connection
}

func (c *call) closeSend() error {
	if c.body == nil {
		c.begin(&c.whole)
		return nil
	}
	return c.body.Close() //nolint:wrapcheck // of the connection
}

// begin sends the request, and reads the answer.
func (c *call) begin(body io.Reader) {
	c.running.Go(func() {
		defer close(c.messages)
		c.end = c.exchange(body)
		if c.body != nil {
			_ = c.body.Close() // a send that waits ends; it always returns nil
		}
	})
}

// exchange sends a request, and tells of each message. It returns the call's end: io.EOF for OK.
func (c *call) exchange(body io.Reader) error {
	kind := typeWeb
	if c.h2 != nil {
		kind = typeGRPC
	}
	r, err := c.x.request(c.ctx, c.method, kind, body)
	if err != nil {
		return err
	}
	answer, err := c.trip.RoundTrip(r)
	if err == io.EOF { //nolint:errorlint // of HTTP/1.1, bare
		err = io.ErrUnexpectedEOF // for io.EOF stands for OK
	}
	if err != nil {
		return c.h2.because(err)
	}
	defer func() { _ = answer.Body.Close() }() // only read
	h := answer.Header
	c.x.hear(h)
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(h.Get("Content-Type"), strings.TrimSuffix(kind, "+proto")) {
		if h.Get("Grpc-Status") != "" && h.Get("Culvert-Reason") == "" {
			if end := statusEnding(h); end != io.EOF { //nolint:errorlint // a call's own
				return end
			}
		}
		return &ending{answer: answerOf(answer.StatusCode, h, answer.Body)}
	}
	if c.h2 == nil && h.Get("Grpc-Status") != "" {
		return statusEnding(h) // the body is empty, and may have no end
	}
	for {
		f, message, err := codec.ReadFrame(answer.Body, codec.ParseFrameHeader, maxMessage)
		switch {
		case errors.Is(err, io.EOF):
			if c.h2 != nil && h.Get("Grpc-Status") == "" {
				h = answer.Trailer
			}
			return statusEnding(h)
		case err != nil:
			return c.h2.because(err)
		case f.Flags&codec.FlagCompressed != 0:
			return &ending{result: failed, err: errors.New("a compressed message came, and none was asked for")}
		case f.Flags&codec.FlagTrailers != 0:
			fields, err := codec.ParseHeaderBlock(message)
			if err != nil || c.h2 != nil {
				return &ending{result: failed, cause: causeNoTrailers, err: errNoStatus}
			}
			return statusEnding(fields)
		}
		select {
		case c.messages <- message:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
}

// receive returns the next message. The error is io.EOF for the end with OK, and *ending for
// any other; the context's cause if nothing comes in time.
func (c *call) receive(ctx context.Context) ([]byte, error) {
	select {
	case message, ok := <-c.messages:
		if !ok {
			return nil, c.end
		}
		return message, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *call) close() {
	c.cancel()
	if c.body != nil {
		_ = c.body.CloseWithError(context.Canceled) // it always returns nil
	}
	c.running.Wait()
	if t, ok := c.trip.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// request returns a request of a call, or of what looks like one.
func (x *examination) request(ctx context.Context, method, kind string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, x.target.URL(method).String(), body)
	if err != nil {
		return nil, fmt.Errorf("a request for %s: %w", x.target, err)
	}
	for name, values := range x.header {
		r.Header[name] = values
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("User-Agent", userAgent)
	switch kind {
	case typeWeb:
		r.Header.Set("X-Grpc-Web", "1")
	case typeGRPC:
		r.Header.Set("Te", "trailers")
	}
	return r, nil
}

// framed returns a message as gRPC sends it.
func framed(message []byte) []byte {
	return append(codec.FrameHeader{Length: uint32(len(message))}.AppendTo(nil), message...)
}

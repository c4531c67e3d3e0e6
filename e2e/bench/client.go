package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// A client opens streams to one peer in one protocol.
type client interface {
	// open opens a stream. n says which one it is: clients with several
	// connections spread streams by it.
	open(ctx context.Context, n int, method string, header map[string]string) (stream, error)
	close()
}

// A stream is one call. One goroutine may send while another receives.
type stream interface {
	send(message []byte) error
	closeSend() error
	recv() (int, error) // a message's length; io.EOF: the call ended with OK
	close()             // ends the call however it stands
}

// frame is a message behind its prefix of 5 bytes.
func frame(message []byte) []byte {
	b := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(b[1:], uint32(len(message)))
	return append(b, message...)
}

// frames reads the frames of a body.
type frames struct {
	r      io.Reader
	buf    []byte
	prefix [5]byte
}

// next returns a frame. The payload is valid until the next call.
func (f *frames) next() (flags byte, payload []byte, err error) {
	if _, err := io.ReadFull(f.r, f.prefix[:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF // not the io.EOF of a call that ended with OK
		}
		return 0, nil, fmt.Errorf("the body ended without trailers: %w", err)
	}
	n := int(binary.BigEndian.Uint32(f.prefix[1:]))
	if cap(f.buf) < n {
		f.buf = make([]byte, n)
	}
	_, err = io.ReadFull(f.r, f.buf[:n])
	return f.prefix[0], f.buf[:n], err
}

// webReader reads the frames of a gRPC-Web body.
type webReader struct{ frames frames }

// next returns a message's length, or io.EOF at trailers that say OK.
func (w *webReader) next() (int, error) {
	for {
		flags, payload, err := w.frames.next()
		if err != nil {
			return 0, err
		}
		if flags&0x80 == 0 {
			return len(payload), nil
		}
		block := strings.ToLower(string(payload))
		if i := strings.Index(block, "grpc-status:"); i >= 0 { // else it is the header of a WebSocket call
			if code := strings.TrimSpace(strings.SplitN(block[i+len("grpc-status:"):], "\r", 2)[0]); code != "0" {
				return 0, fmt.Errorf("the call ended with %q", block)
			}
			return 0, io.EOF
		}
	}
}

// A form is how a protocol writes a call as one POST over HTTP/1.1, with one message up.
type form struct {
	contentType string
	header      string // the protocol's own, with the value 1
	body        func(message []byte) []byte
	replies     func(io.Reader) replies
}

// replies returns the length of each message of an answer, and then io.EOF if the call
// ended with OK.
type replies interface{ next() (int, error) }

// newWebClient is a client of gRPC-Web.
func newWebClient(p *peer) client {
	return newPostClient(p, form{
		contentType: "application/grpc-web+proto", header: "X-Grpc-Web", body: frame,
		replies: func(r io.Reader) replies { return &webReader{frames{r: r}} },
	})
}

// newPostClient is a client of a protocol over HTTP/1.1.
func newPostClient(p *peer, f form) client {
	t := &http.Transport{MaxIdleConnsPerHost: 4096, DisableCompression: true}
	return &postClient{form: f, base: "http://" + p.address, http: &http.Client{Transport: t}}
}

type postClient struct {
	form form
	base string
	http *http.Client
}

func (c *postClient) close() { c.http.CloseIdleConnections() }

func (c *postClient) open(ctx context.Context, _ int, method string, header map[string]string) (stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	return &postStream{c: c, ctx: ctx, cancel: cancel, method: method, header: header}, nil
}

type postStream struct {
	c      *postClient
	ctx    context.Context
	cancel context.CancelFunc
	method string
	header map[string]string
	body   io.ReadCloser
	reader replies
}

func (s *postStream) send(message []byte) error {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.c.base+s.method, bytes.NewReader(s.c.form.body(message)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", s.c.form.contentType)
	req.Header.Set(s.c.form.header, "1")
	for k, v := range s.header {
		req.Header.Set(k, v)
	}
	resp, err := s.c.http.Do(req)
	if err != nil {
		return err
	}
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != s.c.form.contentType {
		return errors.Join(fmt.Errorf("HTTP status %s, %s", resp.Status, got), resp.Body.Close())
	}
	s.body, s.reader = resp.Body, s.c.form.replies(resp.Body)
	return nil
}

func (s *postStream) closeSend() error { return nil } // the one message was it

func (s *postStream) recv() (int, error) {
	n, err := s.reader.next()
	if errors.Is(err, io.EOF) {
		_, _ = io.Copy(io.Discard, s.body) // so that the connection is used again
	}
	return n, err
}

func (s *postStream) close() {
	if s.body != nil {
		_ = s.body.Close() // the call is over
	}
	s.cancel()
}

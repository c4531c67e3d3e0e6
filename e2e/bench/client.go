package main

import (
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

// webReader reads the frames of a gRPC-Web body.
type webReader struct {
	r      io.Reader
	buf    []byte
	prefix [5]byte
}

// next returns a message's length, or io.EOF at trailers that say OK.
func (w *webReader) next() (int, error) {
	for {
		if _, err := io.ReadFull(w.r, w.prefix[:]); err != nil {
			return 0, fmt.Errorf("the body ended without trailers: %w", err)
		}
		n := int(binary.BigEndian.Uint32(w.prefix[1:]))
		if cap(w.buf) < n {
			w.buf = make([]byte, n)
		}
		if _, err := io.ReadFull(w.r, w.buf[:n]); err != nil {
			return 0, err
		}
		if w.prefix[0]&0x80 == 0 {
			return n, nil
		}
		block := strings.ToLower(string(w.buf[:n]))
		if i := strings.Index(block, "grpc-status:"); i >= 0 { // else it is the header of a WebSocket call
			if code := strings.TrimSpace(strings.SplitN(block[i+len("grpc-status:"):], "\r", 2)[0]); code != "0" {
				return 0, fmt.Errorf("the call ended with %q", block)
			}
			return 0, io.EOF
		}
	}
}

// newWebClient is a client of gRPC-Web over HTTP/1.1: one message up.
func newWebClient(p *peer) client {
	t := &http.Transport{MaxIdleConnsPerHost: 4096, DisableCompression: true}
	return &webClient{base: "http://" + p.address, http: &http.Client{Transport: t}, idle: t.CloseIdleConnections}
}

type webClient struct {
	base string
	http *http.Client
	idle func()
}

func (c *webClient) close() { c.idle() }

func (c *webClient) open(ctx context.Context, _ int, method string, header map[string]string) (stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &webStream{c: c, ctx: ctx, cancel: cancel, method: method, header: header}
	return s, nil
}

type webStream struct {
	c      *webClient
	ctx    context.Context
	cancel context.CancelFunc
	method string
	header map[string]string
	body   io.ReadCloser
	reader webReader
}

func (s *webStream) send(message []byte) error {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodPost, s.c.base+s.method, strings.NewReader(string(frame(message))))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/grpc-web+proto")
	req.Header.Set("X-Grpc-Web", "1")
	for k, v := range s.header {
		req.Header.Set(k, v)
	}
	resp, err := s.c.http.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.Join(fmt.Errorf("HTTP status %s", resp.Status), resp.Body.Close())
	}
	s.body, s.reader.r = resp.Body, resp.Body
	return nil
}

func (s *webStream) closeSend() error { return nil } // the one message was it

func (s *webStream) recv() (int, error) {
	n, err := s.reader.next()
	if errors.Is(err, io.EOF) {
		_, _ = io.Copy(io.Discard, s.body) // so that the connection is used again
	}
	return n, err
}

func (s *webStream) close() {
	if s.body != nil {
		_ = s.body.Close() // the call is over
	}
	s.cancel()
}

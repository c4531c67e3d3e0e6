package call

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/codec"
)

// connect is the way of the Connect protocol. https://connectrpc.com/docs/protocol
type connect struct {
	*web
	json bool
}

func (c *connect) open(ctx context.Context, q *request) (stream, error) {
	r, err := c.request(ctx, http.MethodPost, q.path, q.metadata)
	if err != nil {
		return nil, err
	}
	encoding := "proto"
	if c.json {
		encoding = "json"
	}
	kind := "application/" + encoding
	if q.streams {
		kind = "application/connect+" + encoding
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Connect-Protocol-Version", "1")
	if left, ok := timeLeft(ctx); ok {
		r.Header.Set("Connect-Timeout-Ms", strconv.FormatInt(max(0, int64((left+time.Millisecond-1)/time.Millisecond)), 10))
	}
	if err := q.page.mayCall(ctx, c.web, r); err != nil {
		return nil, err
	}
	if q.streams {
		s := &connectStream{framedStream{framing: &connectFraming}, kind}
		s.start(c.web, r, q)
		return s, nil
	}
	s := &connectUnary{kind: kind}
	s.start(c.web, r, q)
	return s, nil
}

// A connectUnary is a unary call: the bodies are the messages.
type connectUnary struct {
	httpStream
	kind  string
	reply []byte // that recv hasn't returned yet
}

// trailerPrefix marks the trailers in a unary answer's header.
// https://connectrpc.com/docs/protocol#unary-response
const trailerPrefix = "trailer-"

// header implements stream. The answer comes at once, with its trailers in the header.
func (s *connectUnary) header() (metadata.MD, error) {
	res, md, err := s.response() //nolint:bodyclose // close closes it
	if err != nil {
		return nil, err
	}
	s.trailer = metadata.MD{}
	for name, values := range md {
		if key, ok := strings.CutPrefix(name, trailerPrefix); ok {
			delete(md, name)
			s.trailer[key] = values
		}
	}
	switch {
	case res.StatusCode == http.StatusOK && mediaType(res.Header) == s.kind:
		if s.reply, err = readBody(s.r.Context(), res.Body, maxMessageBytes); err != nil {
			return nil, err
		}
		s.w.c.trace.say(received, "a message of %s, which is the body", bytesOf(len(s.reply)))
		return md, nil
	case res.StatusCode == http.StatusUnsupportedMediaType && strings.Contains(res.Header.Get("Accept-Post"), "application/connect+"):
		return nil, errors.New("the method streams, and the call was sent as a unary one: give its descriptors with --protoset FILE")
	}
	return md, s.refused(res)
}

// connectError reads the error of a unary call.
func connectError(ctx context.Context, t *trace, res *http.Response) (*status.Status, error) {
	body, err := readBody(ctx, res.Body, maxErrorBytes)
	if err != nil {
		return nil, err
	}
	st, err := codec.ParseConnectError(body)
	if st == nil {
		res.Body = io.NopCloser(bytes.NewReader(body))
		return nil, foreign(res)
	}
	t.say(received, "an error of %s in JSON", bytesOf(len(body)))
	if err != nil {
		t.say(received, "its details can't be read: %v", err)
	}
	return st, nil
}

func (s *connectUnary) recv() ([]byte, error) {
	if s.status != nil {
		return nil, io.EOF
	}
	s.status = status.New(codes.OK, "")
	return s.reply, nil
}

// A connectStream is a call that streams.
type connectStream struct {
	framedStream
	kind string
}

var connectFraming = framing{codec.ParseEnvelopeHeader, codec.FlagEndStream, "an envelope", "the stream's end", parseConnectEnd}

func (s *connectStream) header() (metadata.MD, error) {
	res, md, err := s.response() //nolint:bodyclose // close closes it
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK || mediaType(res.Header) != s.kind {
		return nil, s.refused(res)
	}
	s.read(res)
	return md, nil
}

// parseConnectEnd returns the end of a call in the last envelope.
func parseConnectEnd(t *trace, payload []byte) (*status.Status, metadata.MD, error) {
	if len(payload) > maxErrorBytes {
		return nil, nil, fmt.Errorf("the stream's end has %d bytes, over the limit of %d", len(payload), maxErrorBytes)
	}
	t.say(received, "the end of the stream, %s of JSON", bytesOf(len(payload)))
	return codec.ParseConnectEnd(payload)
}

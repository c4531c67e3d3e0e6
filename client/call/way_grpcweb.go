package call

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/client/internal/answer"
	"github.com/culvert-grpc/culvert/codec"
)

// grpcWeb is the way of gRPC-Web and of gRPC-Web-text.
type grpcWeb struct {
	*web
	text bool
}

// The content types of gRPC-Web.
const (
	grpcWebType     = "application/grpc-web"
	grpcWebTextType = "application/grpc-web-text"
)

func (g *grpcWeb) open(ctx context.Context, q *request) (stream, error) {
	r, err := g.request(ctx, http.MethodPost, q.path, timed(ctx, q.metadata))
	if err != nil {
		return nil, err
	}
	kind := grpcWebType
	if g.text {
		kind = grpcWebTextType
	}
	r.Header.Set("Content-Type", kind+"+proto")
	r.Header.Set("Accept", kind+"+proto")
	r.Header.Set("X-Grpc-Web", "1")
	r.Header.Set("X-User-Agent", g.c.agent())
	if err := q.page.mayCall(ctx, g.web, r); err != nil {
		return nil, err
	}
	s := &grpcWebStream{framedStream{framing: &grpcWebFraming, text: g.text}}
	s.start(g.web, r, q)
	return s, nil
}

// A grpcWebStream is a call by gRPC-Web.
type grpcWebStream struct{ framedStream }

var grpcWebFraming = framing{codec.ParseFrameHeader, codec.FlagTrailers, "a frame", "the trailers", parseTrailers}

func (s *grpcWebStream) header() (metadata.MD, error) {
	res, md, err := s.response() //nolint:bodyclose // close closes it
	if err != nil {
		return nil, err
	}
	// An error before the first message, as improbable's server writes it; and an answer to
	// what the server doesn't take for a call.
	if st, _, err := codec.ParseTrailers(onlyStatus(res.Header)); err == nil {
		if !answer.More(res.Body, res.Body) || res.StatusCode != http.StatusOK {
			s.status, s.trailer = st, md
			return nil, nil
		}
		return nil, errors.New("the answer is malformed: a status in its header, and a body behind it")
	}
	kind := mediaType(res.Header)
	if res.StatusCode != http.StatusOK || !strings.HasPrefix(kind, grpcWebType) {
		return nil, foreign(res)
	}
	s.read(res)
	if strings.HasPrefix(kind, grpcWebTextType) {
		s.answer = codec.NewTextReader(s.answer)
	}
	return md, nil
}

// onlyStatus returns the fields of a header that may have a status.
func onlyStatus(h http.Header) map[string][]string {
	fields := map[string][]string{}
	for _, name := range []string{"Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"} {
		if v := h.Values(name); v != nil {
			fields[name] = v
		}
	}
	return fields
}

// parseTrailers returns the end of a call in a frame of trailers.
func parseTrailers(t *trace, payload []byte) (*status.Status, metadata.MD, error) {
	if len(payload) > maxHeaderBytes {
		return nil, nil, fmt.Errorf("the server sends trailers of %d bytes, over the limit of %d KiB", len(payload), maxHeaderBytes>>10)
	}
	fields, err := codec.ParseHeaderBlock(payload)
	if err != nil {
		return nil, nil, fmt.Errorf("the trailers: %w", err)
	}
	t.say(received, "trailers, %s", bytesOf(len(payload)))
	t.fields(received, fields)
	st, md, err := codec.ParseTrailers(fields)
	if err != nil {
		return nil, nil, fmt.Errorf("the trailers: %w", err)
	}
	return st, md, nil
}

package call

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/client/internal/answer"
	"github.com/culvert-grpc/culvert/client/internal/network"
	"github.com/culvert-grpc/culvert/codec"
)

// web is what the protocols over HTTP/1.1 share.
type web struct {
	c         *caller
	transport *http.Transport
}

func (c *caller) newWeb() *web { return &web{c: c, transport: c.net.Transport(c.target)} }

func (w *web) close() { w.transport.CloseIdleConnections() }

// request returns a request of HTTP/1.1 with a call's metadata. It has no deadline.
func (w *web) request(ctx context.Context, method, path string, md metadata.MD) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, w.c.target.URL(path).String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("the URL of the call: %w", err)
	}
	r.Header = w.c.header(md)
	return r, nil
}

// header returns a request's header with metadata.
func (c *caller) header(md metadata.MD) http.Header {
	h := http.Header{"User-Agent": {c.agent()}}
	for name, value := range codec.Fields(md) {
		h.Add(name, value)
	}
	return h
}

// timed returns a copy of metadata with how long the call may still take, as gRPC has it.
func timed(ctx context.Context, md metadata.MD) metadata.MD {
	md = md.Copy()
	if left, ok := timeLeft(ctx); ok {
		md.Set("grpc-timeout", codec.FormatTimeout(left))
	}
	return md
}

// timeLeft returns how long the call may still take. ok is false if it has no deadline.
func timeLeft(ctx context.Context) (left time.Duration, ok bool) {
	deadline, ok := ctx.Deadline()
	return time.Until(deadline), ok
}

// roundTrip sends a request, and tells what crosses: body says what is in the request's, if it
// is sent whole. It follows no redirect: a service sends none. The caller closes the answer's body.
func (w *web) roundTrip(r *http.Request, body string) (*http.Response, error) {
	t := w.c.trace
	if t != nil {
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) {
				if !i.Reused {
					w.c.tellConn(i.Conn)
				}
			},
			WroteHeaders: func() {
				t.say(sent, "%s %s HTTP/1.1, host %s", r.Method, shownTarget(r), r.URL.Host)
				t.fields(sent, r.Header)
				if body != "" {
					t.say(sent, "%s", body)
				}
			},
		}))
	}
	res, err := w.transport.RoundTrip(r)
	if err != nil {
		return nil, because(r.Context(), httpError(w.c.target.Address(), err))
	}
	t.say(received, "%s %s", res.Proto, res.Status)
	t.fields(received, res.Header)
	return res, nil
}

// shownTarget returns the path of a request, and how long the query is: it may have a message.
func shownTarget(r *http.Request) string {
	if r.URL.RawQuery == "" {
		return r.URL.EscapedPath()
	}
	return fmt.Sprintf("%s?… (a query of %s)", r.URL.EscapedPath(), bytesOf(len(r.URL.RawQuery)))
}

// httpError says what net/http's error means.
func httpError(address string, err error) error {
	if e, ok := errors.AsType[*network.Error](err); ok {
		return e
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s closed the connection without an answer", address)
	}
	if strings.Contains(err.Error(), `malformed HTTP response "\x00\x00`) { // a SETTINGS frame
		return fmt.Errorf("%s answered in HTTP/2, and doesn't speak HTTP/1.1: use --via grpc", address)
	}
	return fmt.Errorf("the answer of %s: %w", address, err)
}

// bodyError says what an error of reading an answer's body means.
func bodyError(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return because(ctx, errCutOff)
	}
	return because(ctx, fmt.Errorf("the answer broke: %w", err))
}

// A told reader puts the meaning of errors in their place. io.EOF stays.
type told struct {
	io.Reader
	means func(error) error
}

func (t told) Read(p []byte) (int, error) {
	n, err := t.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = t.means(err)
	}
	return n, err
}

var errCutOff = errors.New("the answer was cut off before its status: a proxy on the way may end quiet or long answers")

// A foreignAnswer is an answer that isn't the protocol's: the server doesn't speak it, or a box
// on the way answered in its place.
type foreignAnswer struct{ *answer.Answer }

func (e *foreignAnswer) Error() string {
	who := ""
	if !e.Culvert {
		who = "the server, or a box on the way, "
	}
	return fmt.Sprintf("the answer isn't this protocol's: %s%s (clients report it as %s)", who, e.Answer, codec.StatusName(e.code()))
}

func (e *foreignAnswer) code() codes.Code { return codec.CodeFromHTTP(e.Status) }

func foreign(res *http.Response) error {
	a, _ := answer.Of(res.StatusCode, res.Header, res.Body)
	return &foreignAnswer{a}
}

// An outcome is how a call has ended.
type outcome struct {
	status  *status.Status // nil: it hasn't
	trailer metadata.MD
}

func (o *outcome) end() (*status.Status, metadata.MD) { return o.status, o.trailer }

// An httpStream is a call whose request and answer are one exchange of HTTP.
type httpStream struct {
	outcome
	w      *web
	page   *page // that makes the call; nil: none
	r      *http.Request
	cancel context.CancelFunc
	single bool           // the body is sent when it is whole
	whole  []byte         // the body so far, if single
	body   string         // what it is, in words
	pipe   *io.PipeWriter // the body otherwise

	answered chan struct{} // closed when res or err is there
	res      *http.Response
	err      error
	begun    bool // roundTrip has been started
}

// start begins the exchange, unless the request is to be sent whole.
func (s *httpStream) start(w *web, r *http.Request, q *request) {
	s.w, s.page, s.single, s.answered = w, q.page, q.single, make(chan struct{})
	ctx, cancel := context.WithCancel(r.Context())
	s.r, s.cancel = r.WithContext(ctx), cancel
	if !s.single {
		s.r.Body, s.pipe = io.Pipe()
		s.r.ContentLength = -1
		s.begun = true
		go s.roundTrip()
	}
}

// roundTrip runs in a goroutine that close waits for.
func (s *httpStream) roundTrip() {
	defer close(s.answered)
	s.res, s.err = s.w.roundTrip(s.r, s.body) //nolint:bodyclose // close closes it
}

// write sends bytes of the body, and tells what they are.
func (s *httpStream) write(b []byte, what string) error {
	if s.single {
		s.whole, s.body = append(s.whole, b...), what
		return nil
	}
	s.w.c.trace.say(sent, "%s", what)
	if _, err := s.pipe.Write(b); err != nil {
		return io.EOF // net/http has closed the body: the answer is there, or the connection is gone
	}
	return nil
}

// send implements stream, for a message that is the body.
func (s *httpStream) send(m []byte) error {
	return s.write(m, fmt.Sprintf("a message of %s, which is the body", bytesOf(len(m))))
}

func (s *httpStream) closeSend() error {
	if !s.single {
		_ = s.pipe.Close() // never fails
		return nil
	}
	if s.begun {
		return nil
	}
	s.r.Body, s.r.ContentLength = io.NopCloser(bytes.NewReader(s.whole)), int64(len(s.whole))
	s.begun = true
	go s.roundTrip()
	return nil
}

// response waits for the header of the answer. A page is told what it gets.
func (s *httpStream) response() (*http.Response, metadata.MD, error) {
	select {
	case <-s.answered:
	case <-s.r.Context().Done():
		return nil, nil, context.Cause(s.r.Context())
	}
	if s.err != nil {
		return nil, nil, s.err
	}
	s.page.mayRead(s.w.c, s.res)
	md, err := metadataOf(s.res.Header)
	return s.res, md, err
}

// refused reads an answer that isn't what was asked for: an error in JSON, as Connect has it, or
// somebody else's.
func (s *httpStream) refused(res *http.Response) (err error) {
	if res.StatusCode != http.StatusOK && mediaType(res.Header) == "application/json" {
		s.status, err = connectError(s.r.Context(), s.w.c.trace, res)
		return err
	}
	return foreign(res)
}

func (s *httpStream) close() {
	s.cancel()
	if s.pipe != nil {
		_ = s.pipe.Close() // never fails
	}
	if !s.begun {
		return
	}
	<-s.answered
	if s.res != nil {
		_ = s.res.Body.Close() // nothing more is read
	}
}

// readBody reads a whole body of at most maxBytes.
func readBody(ctx context.Context, r io.Reader, maxBytes int) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, int64(maxBytes)+1))
	if err != nil {
		return nil, bodyError(ctx, err)
	}
	if len(body) > maxBytes {
		return nil, fmt.Errorf("the answer is larger than the limit of %d bytes", maxBytes)
	}
	return body, nil
}

// mediaType returns the content type without parameters, in lower case.
func mediaType(h http.Header) string {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// protocolFields are header fields that a protocol of gRPC or Connect has for itself.
var protocolFields = map[string]bool{
	"grpc-status": true, "grpc-message": true, "grpc-status-details-bin": true, "grpc-encoding": true, "grpc-accept-encoding": true,
	"connect-content-encoding": true, "connect-accept-encoding": true,
}

// isTransport reports whether a header field of an answer isn't metadata of a call.
func isTransport(name string) bool { return protocolFields[name] || answer.OfHTTP(name) }

// metadataOf returns the metadata in the header of an answer.
func metadataOf(h http.Header) (metadata.MD, error) {
	md, err := codec.DecodeMetadata(h)
	if err != nil {
		return nil, fmt.Errorf("the answer's header: %w", err)
	}
	return withoutReserved(md), nil
}

package edge

import (
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/frames"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// NewHandler returns a reverse proxy that sends requests for NAME.localhost to the agent
// with this name, and other requests to each agent in turn.
func (e *Edge) NewHandler() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetXForwarded()
			p.Out.Trailer = p.In.Trailer // not a copy: the values come after the body
			p.Out.Header.Del("Connection")
			p.Out.Header.Del("Upgrade") // the frames have nothing for other protocols
			if p.Out.Body != nil {
				p.Out.Body = &requestBody{ReadCloser: p.Out.Body}
			}
		},
		Transport:     roundTripper(e.roundTrip),
		FlushInterval: -1, // at once
		ModifyResponse: func(res *http.Response) error {
			closeIfUnread(res.Header, res.Request)
			return nil
		},
		ErrorHandler: answerError,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // a response may begin before the request's end; HTTP/2 allows this anyway
		proxy.ServeHTTP(w, r)
	})
}

// A requestBody knows whether it was read to its end.
type requestBody struct {
	io.ReadCloser
	atEnd atomic.Bool
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.atEnd.Store(true)
	}
	return n, err
}

// closeIfUnread closes an HTTP/1.1 connection after a response that begins before its
// request's body was read. Otherwise net/http reads the rest after the handler, and panics
// at the next request. https://go.dev/issue/68560
func closeIfUnread(response http.Header, r *http.Request) {
	if body, has := r.Body.(*requestBody); has && r.ProtoMajor == 1 && !body.atEnd.Load() {
		response.Set("Connection", "close")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

var errNoAgent = errors.New("no healthy agent")

// roundTrip sends a request to an agent. If the agent moves at this moment, its newer
// stream takes the request.
func (e *Edge) roundTrip(r *http.Request) (*http.Response, error) {
	name, _, _ := strings.Cut(r.Host, ".")
	for {
		s := e.pick(name)
		if s == nil {
			return nil, errNoAgent
		}
		res, err := s.RoundTrip(r)
		if !errors.Is(err, errDraining) {
			return res, err
		}
	}
}

func answerError(w http.ResponseWriter, r *http.Request, err error) {
	closeIfUnread(w.Header(), r)
	code := http.StatusBadGateway
	if errors.Is(err, errNoAgent) {
		code = http.StatusServiceUnavailable
	}
	http.Error(w, "edge: "+err.Error(), code)
}

func requestHeaders(r *http.Request) *tunnelpb.Headers {
	length := r.ContentLength
	if r.Body == nil {
		length = 0
	}
	return &tunnelpb.Headers{
		Method:        r.Method,
		Target:        []byte(r.URL.RequestURI()),
		Host:          r.Host,
		Fields:        frames.Fields(r.Header),
		ContentLength: length,
		Trailers:      frames.Names(r.Trailer),
	}
}

// upload sends the body of a request, until the body or the exchange ends.
func upload(x *frames.Exchange, r *http.Request) {
	body := r.Body
	if body == nil {
		body = http.NoBody
	}
	if err := x.SendBody(body, func() http.Header { return r.Trailer }); err != nil {
		x.Fail(err)
	}
	_ = body.Close() // it was read, or isn't needed
}

func newResponse(r *http.Request, h *tunnelpb.Headers, body *frames.Body) *http.Response {
	code := int(h.GetStatus())
	body.Trailers = frames.Announced(h.GetTrailers())
	return &http.Response{
		StatusCode:    code,
		Status:        strconv.Itoa(code) + " " + http.StatusText(code),
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        frames.Header(h.GetFields()),
		ContentLength: h.GetContentLength(),
		Body:          body,
		Trailer:       body.Trailers,
		Request:       r,
	}
}

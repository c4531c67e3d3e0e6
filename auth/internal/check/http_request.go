package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/culvert-grpc/culvert/codec"
)

func (s *httpService) question(r *Request) question {
	request := s.request(r)
	hidden := secretsOf(r.Metadata, s.secrets)
	return func(ctx context.Context) verdict {
		var answered atomic.Bool
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: func() { answered.Store(true) }})
		// The transport itself, since a Client would follow redirects and keep cookies.
		response, err := s.transport.RoundTrip(request.WithContext(ctx))
		if err != nil {
			return verdict{refusal: requestFailed(ctx, err, answered.Load(), hidden)}
		}
		defer response.Body.Close()
		a := httpAnswer{status: response.StatusCode, header: response.Header}
		if a.status != http.StatusSwitchingProtocols {
			a.body = beginning(response)
		}
		return s.rules.ofHTTP(a, s.http.AnswerNames, hidden)
	}
}

// beginning reads a short body for its text, and so that the connection can be used again. A
// body that doesn't end in time takes its text with it, and not the status; nor has a compressed
// one a text. The "body" of a 101 must not come here: it is the connection, which the end of a
// context doesn't close.
func beginning(response *http.Response) string {
	b, err := io.ReadAll(io.LimitReader(response.Body, maxBodyBytes))
	if err != nil || response.Header.Get("Content-Encoding") != "" {
		return ""
	}
	return string(b)
}

// maxBodyBytes is how much is read of an answer's body.
const maxBodyBytes = 4 << 10

// request describes r by headers. They are culvert's own but for the metadata of the names.
func (s *httpService) request(r *Request) *http.Request {
	h := http.Header{
		// Without a value it isn't sent. It lets net/http ask again by another connection when
		// the service closed an idle one at this moment.
		"Idempotency-Key":    nil,
		"X-Forwarded-Method": {http.MethodPost}, // of every gRPC call
		"X-Forwarded-Proto":  {r.Scheme},
		"X-Forwarded-Host":   {r.Authority},
		"X-Forwarded-Uri":    {r.Method},
		"User-Agent":         {"culvert"},
	}
	if r.Peer.IsValid() {
		h["X-Forwarded-For"] = []string{r.Peer.Addr().Unmap().WithZone("").String()}
	}
	if r.ID != "" && codec.ValidValue(r.ID) {
		h["X-Request-Id"] = []string{r.ID}
	}
	for _, own := range []string{"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Uri"} {
		if v := h[own][0]; v == "" || !codec.ValidValue(v) {
			delete(h, own)
		}
	}
	for name, value := range r.fields(s.names) {
		h.Add(name, value)
	}
	if cookies := h["Cookie"]; len(cookies) > 1 {
		h["Cookie"] = []string{joined("cookie", cookies)}
	}
	method := http.MethodPost
	if s.http.Get {
		method = http.MethodGet
	}
	to := *s.url
	return &http.Request{Method: method, URL: &to, Host: s.url.Host, Header: h, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody}
}

// requestFailed returns the refusal for a request that has no answer. Of a service that began
// to answer, net/http says what is wrong with it: that is an unusable answer, unless the
// connection or the time ended.
func requestFailed(ctx context.Context, err error, answered bool, hidden secrets) *Refusal {
	text := fmt.Errorf("request: %s", cause(err.Error(), hidden))
	var net interface{ Timeout() bool }
	switch {
	case !answered, ctx.Err() != nil, errors.As(err, &net), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return unanswered(text)
	default:
		return unusable(text)
	}
}

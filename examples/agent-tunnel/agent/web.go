package agent

import (
	"net/http"
	"net/url"

	"github.com/culvert-grpc/culvert/examples/agent-tunnel/frames"
	"github.com/culvert-grpc/culvert/examples/agent-tunnel/tunnelpb"
)

// forward passes a request to the web server, and its response to the edge.
func (a *Agent) forward(x *frames.Exchange) error {
	h, err := x.Headers()
	if err != nil {
		return err
	}
	r, err := a.request(x, h)
	if err != nil {
		return err
	}
	res, err := a.web.RoundTrip(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or not needed
	err = x.SendHeaders(&tunnelpb.Headers{
		Status:        uint32(res.StatusCode),
		Fields:        frames.Fields(res.Header),
		ContentLength: res.ContentLength,
		Trailers:      frames.Names(res.Trailer),
	})
	if err != nil {
		return err
	}
	return x.SendBody(res.Body, func() http.Header { return res.Trailer })
}

func (a *Agent) request(x *frames.Exchange, h *tunnelpb.Headers) (*http.Request, error) {
	target, err := url.ParseRequestURI(string(h.GetTarget()))
	if err != nil {
		return nil, err
	}
	target.Scheme, target.Host = "http", a.Web // whatever the edge says, the agent asks this server
	r, err := http.NewRequestWithContext(x.Context(), h.GetMethod(), target.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header, r.Host, r.ContentLength = frames.Header(h.GetFields()), h.GetHost(), h.GetContentLength()
	if r.ContentLength != 0 {
		r.Trailer = frames.Announced(h.GetTrailers())
		r.Body = &frames.Body{Exchange: x, Trailers: r.Trailer, OnClose: func() {}} // forward closes the exchange
	}
	return r, nil
}

package bridge

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// newHTTPCall makes the call of an HTTP request, as far as HTTP and not the
// client's protocol says it: id, metadata, what culvert vouches for. An error is
// told in the call's own protocol, so the call is good for that either way.
func (s *Server) newHTTPCall(r *http.Request, a *arrival) (*Call, error) {
	c := s.newCall(a, r.Header.Get("X-Request-Id"))
	if a.refused != nil {
		return c, a.refused
	}
	md, err := requestMetadata(r.Header, a.trusted, a.policy.forwardCookies && a.origin.Credentials, c.headers)
	if err != nil {
		return c, err
	}
	a.policy.vouched.strike(md, a.trusted)
	if ua := r.Header.Get("User-Agent"); codec.ValidValue(ua) && ua != "" {
		md["x-forwarded-user-agent"] = []string{ua}
	}
	c.Metadata = md
	a.vouch(md)
	return c, a.vouchCertificate(md, r.Header, a.policy.forwardClientCert, c.headers)
}

// vouch adds what culvert itself says of the client.
func (a *arrival) vouch(md metadata.MD) {
	delete(md, "forwarded") // a trusted proxy's: said anew
	f := a.forward
	for _, field := range [...]struct{ name, value string }{
		{"x-forwarded-for", f.For},
		{"x-forwarded-proto", f.Proto},
		{"x-forwarded-host", f.Host},
		{"via", f.Via},
	} {
		if codec.ValidValue(field.value) && field.value != "" {
			md[field.name] = []string{field.value}
		} else {
			delete(md, field.name)
		}
	}
}

// liftTimeouts takes from a call what an embedder's server sets for each request
// of HTTP/1.1: a call may take longer, and has limits of its own.
func liftTimeouts(w http.ResponseWriter, r *http.Request) {
	hs, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if hs == nil || hs.ReadTimeout <= 0 && hs.WriteTimeout <= 0 {
		return
	}
	rc := http.NewResponseController(w)
	_ = errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{})) // a foreign ResponseWriter may have none
}

// longAgo as a deadline makes what waits return now.
var longAgo = time.Unix(1, 0)

// httpDown is the client's end of a call that is one HTTP request.
type httpDown struct {
	s       *Server
	d       *dialect
	w       http.ResponseWriter
	rc      *http.ResponseController
	r       *http.Request
	on      *edge.Conn
	call    *Call
	origin  gate.Verdict
	guard   endGuard
	textOut bool

	codingRefused bool // so the client is told what can be read

	body     messageReader
	source   *requestBody
	first    mem.BufferSlice // read ahead, if ahead
	ahead    bool
	received bool // the body is being read from here on

	answer  httpAnswer
	aborted bool
	readCut bool // a past deadline broke off the reading: net/http then ends the connection's context
}

func newHTTPDown(s *Server, d *dialect, w http.ResponseWriter, r *http.Request, c *Call, a *arrival) *httpDown {
	down := &httpDown{s: s, d: d, w: w, rc: http.NewResponseController(w), r: r, on: a.on, call: c, origin: a.origin, textOut: d.text}
	if !d.trailers && strings.Contains(strings.ToLower(r.Header.Get("Accept")), webText.contentType) {
		down.textOut = true
	}
	if r.ProtoMajor == 1 {
		// Without it the first write swallows what of the body is unread.
		_ = down.rc.EnableFullDuplex() // only a foreign ResponseWriter refuses
	}
	down.source = &requestBody{ReadCloser: r.Body}
	if r.ContentLength == 0 {
		down.source.atEnd.Store(true)
	}
	down.body = messageReader{body: down.source, limit: c.messages, ledger: c.ledger, use: &c.use, gets: &c.progress, coding: c.coding}
	return down
}

// Bind implements Downstream.
func (h *httpDown) Bind(ctx context.Context, _ context.CancelCauseFunc) {
	h.body.ctx = ctx
	h.guard.watch(ctx, func() { _ = h.rc.SetWriteDeadline(longAgo) }) // a stream that is gone needs none
}

// decodeBody puts the decoders of the whole body before the reader of frames:
// the content coding is the outermost (RFC 9110 §8.4).
func (h *httpDown) decodeBody(r *http.Request) error {
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity":
	case "gzip":
		h.body.packed = &gzipBody{src: sourceReader{r: h.body.body}, use: &h.call.use}
		h.body.body = h.body.packed
	default:
		return report.New(report.ReasonUnsupportedEncoding, "the body is compressed with a coding that can't be read here: want gzip or identity")
	}
	if h.d.text {
		h.body.body = codec.NewTextReader(h.body.body)
	}
	return nil
}

// stopReading makes a waiting Recv return. On HTTP/1.1 Close would wait behind
// the read, so a past deadline frees it; the connection closes anyway then.
func (h *httpDown) stopReading() {
	if h.r.ProtoMajor == 1 {
		if !h.source.atEnd.Load() {
			_ = h.rc.SetReadDeadline(longAgo) // a foreign ResponseWriter may have none
		}
		return
	}
	_ = h.r.Body.Close() // never fails on HTTP/2
}

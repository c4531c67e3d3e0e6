package bridge

import (
	"io"
	"net/http"
	"strings"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// refuse notes a fault of a request that isn't a call, or not yet, and answers with it.
func (a *arrival) refuse(w http.ResponseWriter, r *http.Request, f *report.Fault) {
	if f.Key == "" {
		path, _, _ := strings.Cut(r.RequestURI, "?") // a query may hold secrets
		f.Detail = strings.TrimSpace(r.Method + " " + path[:min(len(path), 256)] + " " + gate.MediaType(r))
		f.Likely = f.Likely || a.origin.Origin != "" && a.readable() // an allowed page sent it
	}
	a.s.refusals.Note(f, a.peer.Addr)
	a.answer(w, r, f)
}

func tooLargeHeader() *report.Fault {
	return likely(http.StatusRequestHeaderFieldsTooLarge, "the request's header is over twice the limit ("+report.Named(report.KeyHeaderBytes)+")")
}

// wrongHeader returns the fault of a request whose header is malformed or too large, or nil.
// It isn't inlined: a larger frame of ServeHTTP would have the stack copied in a WebSocket's
// handshake, an eighth of the instructions of a short call (growStack).
//
//go:noinline
func (a *arrival) wrongHeader(r *http.Request, host string) *report.Fault {
	if a.isOverLowered(r) {
		return tooLargeHeader()
	}
	return malformed(r, host)
}

// isOverLowered reports whether the header is over a bound that Apply has lowered. net/http
// keeps that of the start. It counts the bytes of HTTP/1.1, and fields as HTTP/2 does.
func (a *arrival) isOverLowered(r *http.Request) bool {
	limit, start := a.policy.limits.HeaderBytes, &a.s.cfg
	if limit >= start.Limits.HeaderBytes || r.ProtoMajor != 1 && !start.StandardHTTP2 {
		return false
	}
	size, perField, slack := len(r.Method)+len(r.RequestURI)+len(r.Host), len(": \r\n"), 4096
	if r.ProtoMajor != 1 {
		perField, slack = 32, 10*32
	}
	for name, values := range r.Header {
		for _, v := range values {
			size += len(name) + len(v) + perField
		}
	}
	return size-slack > looseHeaderBytes(limit)
}

// readable reports whether the page that a request comes from may read its
// answer.
func (a *arrival) readable() bool { return a.origin.Allowed || a.policy.tryOrigins }

// exposed lists the header fields of a refusal that a page may read.
const exposed = "Grpc-Status, Grpc-Message, Retry-After, Allow, Accept-Post, Culvert-Reason"

// answer answers with a fault in the form that the request asks for. An allowed page can
// read it, and a gRPC-Web client finds the text in grpc-message. On HTTP/1.1 the connection
// closes.
func (a *arrival) answer(w http.ResponseWriter, r *http.Request, f *report.Fault) {
	f = f.In(a.s.cfg.Words)
	h, code := w.Header(), f.HTTPStatus()
	if a.origin.Origin != "" && a.readable() {
		gate.CORSHeaders(h, a.origin)
		h.Set("Access-Control-Expose-Headers", exposed)
	}
	gate.VaryAnswer(h)
	grpcWebRefusal(h, r, code, f.Text)
	markRefusal(h, f.Reason)
	setHeaders(h, f.Header)
	if seconds := f.RetrySeconds(); seconds != "" {
		h.Set("Retry-After", seconds)
	}
	contentType, body := textPlain, "culvert: "+f.Text+"\n"
	if connect := connectRefusal(r, code, f.Text); connect != "" {
		contentType, body = "application/json", connect
	}
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if !a.on.CloseBehindRefusal(w, r) {
		h.Del("Upgrade") // RFC 9113 §8.2.2
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) //nolint:gosec,nolintlint // plain text or JSON, see its type above; gosec sees it in some runs alone; the client may be gone
}

// markRefusal marks an answer that isn't a call's as culvert's own, and none of a box on the
// way.
func markRefusal(h http.Header, why report.Reason) { h.Set("Culvert-Reason", string(why)) }

// setHeaders sets names and values in turn.
func setHeaders(h http.Header, pairs []string) {
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
}

const textPlain = "text/plain; charset=utf-8"

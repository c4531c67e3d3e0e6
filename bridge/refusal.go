package bridge

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// refuseMistake answers a request that isn't a call, and logs it: as a warning if an
// allowed page sent it or if the mistake is likely, else at debug.
func (s *Server) refuseMistake(w http.ResponseWriter, r *http.Request, a *arrival, m *mistake) {
	path, _, _ := strings.Cut(r.RequestURI, "?") // a query may hold secrets
	detail := strings.TrimSpace(r.Method + " " + path[:min(len(path), 256)] + " " + gate.MediaType(r))
	if m.likely || a.origin.Origin != "" && a.readable() {
		reason := report.ReasonBadRequest
		if m.code == http.StatusNotFound {
			reason = report.ReasonNoRoute
		}
		s.mistakes.Note(report.Refusal{Reason: reason, Peer: a.peer.Addr, Detail: detail}, m.text)
	} else {
		s.log.Debug("refused", slog.String("peer", a.peer.Addr), slog.String("detail", detail), slog.String("hint", m.text))
	}
	s.refuse(w, r, a, m.code, m.text, m.headers...)
}

// refuseHeader answers an HTTP/2 request whose header is over the limit. r has only the
// fields that were read.
func (s *Server) refuseHeader(w http.ResponseWriter, r *http.Request) {
	p := s.policy.Load()
	r = s.throughTunnel(r, p)
	s.refuseMistake(w, r, s.arrive(r, p, nil), &mistake{
		code: http.StatusRequestHeaderFieldsTooLarge, text: "the request's header is over twice the limit (" + report.KeyHeaderBytes + ")", likely: true,
	})
}

// readable reports whether the page that a request comes from may read its
// answer.
func (a *arrival) readable() bool { return a.origin.Allowed || a.policy.tryOrigins }

// exposed lists the header fields of a refusal that a page may read.
const exposed = "Grpc-Status, Grpc-Message, Retry-After, Allow, Accept-Post"

// refuse answers a request that isn't a call. An allowed page can read the
// answer, and a gRPC-Web client finds the text in grpc-message.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, a *arrival, code int, text string, headers ...string) {
	h := w.Header()
	if a.origin.Origin != "" && a.readable() {
		gate.CORSHeaders(h, a.origin)
		h.Set("Access-Control-Expose-Headers", exposed)
	}
	gate.VaryAnswer(h)
	grpcWebRefusal(h, r, code, text)
	refuse(w, r, a.on, code, text, headers...)
}

const textPlain = "text/plain; charset=utf-8"

// refuse answers a request that isn't a call. On HTTP/1.1 the connection closes.
func refuse(w http.ResponseWriter, r *http.Request, on *edge.Conn, code int, text string, headers ...string) {
	h := w.Header()
	setHeaders(h, headers)
	contentType, body := textPlain, "culvert: "+text+"\n"
	if connect := connectRefusal(r, code, text); connect != "" {
		contentType, body = "application/json", connect
	}
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if !on.CloseBehindRefusal(w, r) {
		h.Del("Upgrade") // RFC 9113 §8.2.2
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body) //nolint:gosec,nolintlint // plain text or JSON, see its type above; gosec sees it in some runs alone; the client may be gone
}

// refuseOverLimit answers a request that isn't a call and is over a limit: with 429 if
// the limit is its client's, with 503 if it is everybody's. RFC 6585 §4.
func (s *Server) refuseOverLimit(w http.ResponseWriter, r *http.Request, a *arrival, code int, err error) {
	retry := report.AnyMoment
	if f, ok := errors.AsType[*report.Fault](err); ok {
		retry = f.Retry
	}
	seconds := (retry + time.Second - 1) / time.Second
	s.refuse(w, r, a, code, err.Error(), "Retry-After", strconv.Itoa(int(seconds)))
}

package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/edge"
	"github.com/culvert-grpc/culvert/bridge/internal/fallback"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// fallbackTransport is the name of requests to the web server among those of transports.
const fallbackTransport = "web"

// fallbackBytes is the cost of a request to the web server: an estimate, in bytes, with its
// buffers, goroutines and connection.
const fallbackBytes = 64 << 10

// fallbackProxy returns the Proxy for a Config's web server, or that of the policy before.
func (s *Server) fallbackProxy(cfg *Config, headerBytes int, before *policy) (*fallback.Proxy, string, error) {
	switch {
	case cfg.FallbackURL == "":
		return nil, "", nil
	case cfg.Fallback != nil:
		return nil, "", errors.New("fallback: set a web server or a handler, not both")
	case before != nil && before.fallbackURL == cfg.FallbackURL && before.limits.HeaderBytes == headerBytes:
		return before.fallback, before.fallbackURL, nil
	}
	p, err := fallback.New(cfg.FallbackURL, int64(looseHeaderBytes(headerBytes)), s.panics)
	if err != nil {
		return nil, "", fmt.Errorf("fallback: %w", err)
	}
	return p, cfg.FallbackURL, nil
}

// A fallbackExchange is one request to the web server. The registry has it among the calls, so
// that the drain, the watch over slow clients and the relief of memory treat it as one.
// Its lifetime and its silence have no limit: it may be a stream of events.
type fallbackExchange struct {
	watched

	a    *arrival
	w    http.ResponseWriter
	rc   *http.ResponseController
	r    *http.Request // the client's
	ctx  context.Context
	use  quota.FallbackRequest
	info report.WebInfo
	body *fallback.Body

	blind    bool          // as of a call
	header   http.Header   // of the answer, until it is sent
	informed int           // informational answers
	fault    *report.Fault // why culvert refused the request or ended it; nil: it didn't
	aborted  bool          // half an answer must not pass for a whole one
	lost     atomic.Bool   // the client accepts nothing more
	writeCut bool          // writes have a deadline; known after the last one
}

// serveFallback hands a request to the web server. It never panics but to abort the answer.
func (a *arrival) serveFallback(w http.ResponseWriter, r *http.Request) {
	liftTimeouts(w, r)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(errFinished)
	a.peer.Transport = fallbackTransport
	x := a.newExchange(ctx, cancel, w, r)
	x.body = &fallback.Body{Body: progress.NewBody(r.Body, r.ContentLength), Of: &x.progress, Bytes: &x.in.bytes, Panicked: x.Panicked}
	defer x.end()
	defer x.use.End()
	defer x.liftCut()
	defer x.held.Settle()
	a.s.registry.add(&x.watched, trafficKey{a.listening.Name, fallbackTransport})
	defer a.s.registry.remove(&x.watched)
	header, err := x.admit()
	if err != nil {
		x.Fail(err)
		return
	}
	defer socket.WhenEnded(ctx, x.cut)()
	out := r.WithContext(ctx)
	out.Header, out.Body = header, x.body
	a.policy.fallback.Serve(x, out)
}

func (a *arrival) newExchange(ctx context.Context, cancel context.CancelCauseFunc, w http.ResponseWriter, r *http.Request) *fallbackExchange {
	rc := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		_ = rc.EnableFullDuplex() // as in httpStream.open
	}
	path, _, _ := strings.Cut(r.RequestURI, "?") // a query may hold secrets
	x := &fallbackExchange{
		watched: watched{
			cancel: cancel, conn: a.conn, held: a.s.account.NewEntry(), spread: edge.NewSpread(),
			limits: &Limits{SlowConsumerTimeout: a.policy.limits.SlowConsumerTimeout, SlowSenderTimeout: a.policy.limits.SlowSenderTimeout},
		},
		blind: a.on.CutsReaders(r),
		a:     a, w: w, rc: rc, r: r, ctx: ctx, header: make(http.Header),
		use:  a.policy.quotas.FallbackRequest(a.listening.Scope(), a.peer.Addr, a.usage),
		info: report.WebInfo{ID: requestID(r), Request: r.Method + " " + path[:min(len(path), 256)], Peer: a.peer.Addr, Client: a.peer.Client.String(), Listener: a.listening.Name, Begin: time.Now()},
	}
	x.progress.Clock = &a.s.registry.clock
	return x
}

// admit returns the header for the web server, or why the request is refused.
func (x *fallbackExchange) admit() (http.Header, error) {
	s, r := x.a.s, x.r
	if s.refusing.Load() {
		return nil, &report.Fault{Reason: report.ReasonDraining, Text: "this server is shutting down and accepts no new requests", Retry: report.AnyMoment}
	}
	tokens, err := fallback.Passed(r.Header, s.loop)
	if err != nil {
		return nil, err
	}
	if size, limit := headers.Size(metadata.MD(r.Header)), x.a.policy.limits.HeaderBytes; size > limit {
		return nil, report.Newf(report.ReasonMetadataTooLarge, "the header of %d bytes is over the limit of %d (%s)", size, limit, report.Named(report.KeyHeaderBytes)).UnlessRaised(report.KeyHeaderBytes)
	}
	header, err := x.a.fallbackHeader(r, x.info.ID)
	if err != nil {
		return nil, err
	}
	if err := x.use.Begin(x.info.Request); err != nil {
		return nil, err
	}
	if gate.IsUpgrade(r) {
		u := x.a.policy.quotas.Call(x.a.listening.Scope(), nil, x.a.peer.Addr, x.a.usage)
		if err := u.Handshake(x.info.Request); err != nil {
			return nil, err
		}
	}
	held := x.held
	held.Own(x.use.Memory())
	h2.CountBody(r, bodyCounter{&x.watched}) // also while the request waits for room
	if cause := context.Cause(x.ctx); cause != nil {
		return nil, cause // the client has sent too much
	}
	if !held.Begin(x.ctx, fallbackBytes) {
		return nil, report.NoMemory("requests", x.info.Request)
	}
	header[fallback.LoopHeader] = []string{tokens}
	return header, nil
}

// cut interrupts the blocked reads and writes of the client's end.
func (x *fallbackExchange) cut() {
	defer x.a.s.panics.Catch(cutting, nil)
	x.writeCut = true
	grace := writeGrace
	if x.blind {
		grace = closeTimeout
	}
	_ = x.rc.SetWriteDeadline(time.Now().Add(grace)) // a stream that is gone needs none
	x.stopReading()
}

// liftCut removes the deadline of cut: the connection may go on.
func (x *fallbackExchange) liftCut() {
	if x.writeCut && x.r.ProtoMajor == 1 {
		_ = x.rc.SetWriteDeadline(time.Time{}) // a foreign ResponseWriter may have none
	}
}

// stopReading makes a waiting read of the body return.
func (x *fallbackExchange) stopReading() {
	switch {
	case x.body.AtEnd.Load():
	case x.r.ProtoMajor == 1:
		_ = x.rc.SetReadDeadline(socket.LongAgo) // a foreign ResponseWriter may have none
	default:
		_ = x.r.Body.Close() // never fails on HTTP/2
	}
}

// Panicked implements fallback.Exchange.
func (x *fallbackExchange) Panicked(v any) error {
	f := x.panicked(v)
	x.cancel(f)
	return f
}

func (x *fallbackExchange) panicked(v any) *report.Fault {
	return x.a.s.panics.Note("a request to the web server", v, slog.String("request_id", x.info.ID), slog.String("peer", x.info.Peer))
}

// Broke implements fallback.Exchange. It notes why the exchange ended: the end of the context and the client's own
// mistakes come before what followed from them.
func (x *fallbackExchange) Broke(err error) {
	cause, inBody := context.Cause(x.ctx), x.body.Err()
	switch {
	case x.fault != nil:
	case errors.As(cause, &x.fault):
	case cause != nil && silenceFault(cause) != nil:
		x.fault = silenceFault(cause)
	case cause != nil || x.lost.Load():
		x.fault = errGone
	case inBody != nil && message.Malformed(inBody):
		x.fault = report.New(report.ReasonBadRequest, "the request's body is malformed").Because(inBody)
	case inBody != nil:
		x.fault = errGone
	case errors.As(err, &x.fault):
	default:
		x.fault = fallback.Fault(err)
	}
}

// end ends the request, once nothing of it runs any more.
func (x *fallbackExchange) end() {
	p := recover()
	if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // net/http compares it with ==, too
		x.fault = x.panicked(p)
	}
	aborts := p != nil || x.aborted
	if aborts || x.info.WebSocket && context.Cause(x.ctx) != nil {
		x.Broke(socket.ErrEnded)
	}
	if !x.body.AtEnd.Load() && !x.info.WebSocket {
		x.a.on.LeaveBody(x.w, x.r)
	}
	if x.fault != nil && x.conn != nil {
		x.a.on.EndFor(x.fault)
	}
	x.report()
	if aborts {
		panic(http.ErrAbortHandler) // RST_STREAM, or a cut connection
	}
}

// report tells the Observer that the request is over.
func (x *fallbackExchange) report() {
	i := &x.info
	i.Duration, i.Origin = time.Since(i.Begin), report.OriginUpstream
	i.BytesIn, i.BytesOut = x.in.bytes.Load(), x.out.bytes.Load()
	if f := x.fault; f != nil {
		i.Origin, i.Reason, i.Limit = report.OriginCulvert, f.Reason, f.Limit()
		if f.Reason == report.ReasonClientGone {
			i.Origin = report.OriginClient
		}
		if f.Cause != nil {
			i.Cause = f.In(x.a.s.cfg.Words).Cause.Error()
		}
	}
	x.a.s.obs.WebEnded(i)
}

package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/edge"
	"github.com/culvert-grpc/culvert/bridge/fallback"
	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/h2"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// webTransport is the name of requests to the web server among those of transports.
const webTransport = "web"

// loopHeader carries a token of the Server to the web server. A request that brings it
// back was sent to this Server again.
const loopHeader = "Culvert-Fallback"

// webBytes is the cost of a request to the web server: an estimate, in bytes, with its
// buffers, goroutines and connection.
const webBytes = 64 << 10

// maxInformed bounds the informational answers to one request. net/http bounds each of
// them, but not their number.
const maxInformed = 32

var errInformed = fmt.Errorf("more than %d informational answers", maxInformed)

// webProxy returns the Proxy for a Config's web server, or that of the policy before.
func (s *Server) webProxy(cfg *Config, before *policy) (*fallback.Proxy, string, error) {
	switch {
	case cfg.FallbackURL == "":
		return nil, "", nil
	case cfg.Fallback != nil:
		return nil, "", errors.New("fallback: set a web server or a handler, not both")
	case before != nil && before.webURL == cfg.FallbackURL:
		return before.web, before.webURL, nil
	}
	p, err := fallback.New(cfg.FallbackURL, int64(looseHeaderBytes(s.limits.HeaderBytes)))
	if err != nil {
		return nil, "", fmt.Errorf("fallback: %w", err)
	}
	return p, cfg.FallbackURL, nil
}

// A webExchange is one request to the web server. The registry has it among the calls, so
// that the drain, the watch over slow clients and the relief of memory treat it as one.
// Its lifetime and its silence have no limit: it may be a stream of events.
type webExchange struct {
	s    *Server
	a    *arrival
	w    http.ResponseWriter
	rc   *http.ResponseController
	r    *http.Request // the client's
	ctx  context.Context
	run  *running
	use  quota.WebRequest
	info report.WebInfo
	body *webBody

	header   http.Header   // of the answer, until it is sent
	informed int           // informational answers
	fault    *report.Fault // why culvert refused the request or ended it; nil: it didn't
	aborted  bool          // half an answer must not pass for a whole one
	lost     atomic.Bool   // the client accepts nothing more
}

// serveWeb hands a request to the web server. It never panics but to abort the answer.
func (s *Server) serveWeb(w http.ResponseWriter, r *http.Request, a *arrival) {
	liftTimeouts(w, r)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(errFinished)
	a.peer.Transport = webTransport
	x := s.newExchange(ctx, w, r, a)
	x.run = s.runningWeb(a, cancel)
	x.run.call.info.ID = x.info.ID
	x.body = &webBody{ReadCloser: r.Body, of: &x.run.call.progress, bytes: &x.run.in.bytes}
	if r.ContentLength == 0 {
		x.body.atEnd.Store(true)
	}
	defer x.end()
	defer x.use.End()
	defer x.run.call.held.Settle()
	s.registry.add(x.run)
	defer s.registry.remove(x.run)
	header, err := x.admit()
	if err != nil {
		x.Fail(err)
		return
	}
	defer x.cutAtEnd()()
	out := r.WithContext(ctx)
	out.Header, out.Body = header, x.body
	a.policy.web.Serve(x, out)
}

func (s *Server) newExchange(ctx context.Context, w http.ResponseWriter, r *http.Request, a *arrival) *webExchange {
	rc := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		_ = rc.EnableFullDuplex() // as in httpStream.open
	}
	id := r.Header.Get("X-Request-Id")
	if !saneID(id) {
		id = newID()
	}
	path, _, _ := strings.Cut(r.RequestURI, "?") // a query may hold secrets
	return &webExchange{
		s: s, a: a, w: w, rc: rc, r: r, ctx: ctx, header: make(http.Header),
		use:  a.policy.quotas.WebRequest(a.listening.Scope(), a.peer.Addr, a.from),
		info: report.WebInfo{ID: id, Request: r.Method + " " + path[:min(len(path), 256)], Peer: a.peer.Addr, Client: a.peer.Client.String(), Listener: a.listening.Name, Begin: time.Now()},
	}
}

// runningWeb returns what the registry knows of a request to the web server.
func (s *Server) runningWeb(a *arrival, cancel context.CancelCauseFunc) *running {
	limits := &Limits{SlowConsumerTimeout: a.policy.limits.SlowConsumerTimeout, SlowSenderTimeout: a.policy.limits.SlowSenderTimeout}
	c := &call{policy: a.policy, Peer: a.peer, on: a.on, held: s.account.NewEntry(), info: &report.CallInfo{Transport: webTransport, Peer: a.peer.Addr, Listener: a.listening.Name}}
	c.progress.clock = &s.registry.clock
	return &running{call: c, cancel: cancel, conn: a.conn, obs: report.DiscardCall(), limits: limits, spread: edge.NewSpread(), stopTime: func() {}}
}

// admit returns the header for the web server, or why the request is refused.
func (x *webExchange) admit() (http.Header, error) {
	s, r := x.s, x.r
	if s.refusing.Load() {
		return nil, report.New(report.ReasonDraining, "this server is shutting down and accepts no new requests")
	}
	if r.Header.Get(loopHeader) == s.loop {
		return nil, &report.Fault{Reason: report.ReasonInternal, Text: "the web server (fallback) is this server itself", Cause: errors.New("a request to the web server came back: set fallback to the web server's own address")}
	}
	if isUpgrade(r) && r.ContentLength != 0 { // else the body and the WebSocket would be read at the same time
		return nil, report.New(report.ReasonBadRequest, "a WebSocket handshake has a body")
	}
	if size, limit := webHeaderBytes(r.Header), x.a.policy.limits.HeaderBytes; size > limit {
		return nil, report.Newf(report.ReasonMetadataTooLarge, "the header of %d bytes is over the limit of %d (%s)", size, limit, report.KeyHeaderBytes).UnlessRaised(report.KeyHeaderBytes)
	}
	header, err := x.a.webHeader(r, x.info.ID)
	if err != nil {
		return nil, err
	}
	if err := x.use.Begin(x.info.Request); err != nil {
		return nil, err
	}
	if isUpgrade(r) {
		u := x.a.policy.quotas.Call(x.a.listening.Scope(), nil, x.a.peer.Addr, x.a.from)
		if err := u.Handshake(x.info.Request); err != nil {
			return nil, err
		}
	}
	held := x.run.call.held
	held.Own(x.use.Memory())
	h2.CountBody(r, bodyCounter{x.run}) // also while the request waits for room
	if cause := context.Cause(x.ctx); cause != nil {
		return nil, cause // the client has sent too much
	}
	if !held.Begin(x.ctx, webBytes) {
		return nil, s.refusals.NoMemory(x.a.peer.Addr, x.info.Request, "requests")
	}
	header[loopHeader] = []string{s.loop}
	return header, nil
}

// webHeaderBytes returns the size of a header as HTTP/2 counts it.
func webHeaderBytes(h http.Header) int {
	n := 0
	for name, values := range h {
		for _, v := range values {
			n += codec.FieldBytes(name, v)
		}
	}
	return n
}

// webHeader returns the header that the web server gets: the client's, but for fields of
// one connection and those that only culvert and trusted proxies may set, and culvert's
// own.
func (a *arrival) webHeader(r *http.Request, id string) (http.Header, error) {
	hop := connectionNames(r.Header)
	header := make(http.Header, len(r.Header)+8)
	for name, values := range r.Header {
		lower := strings.ToLower(name)
		if (!hop[lower] || lower == "te") && toUpstream.reachesWeb(lower, a.trusted) && !a.policy.vouched.strikes(lower, a.trusted) {
			header[name] = values
		}
	}
	delete(header, "Connection")
	delete(header, "Upgrade") // no other protocol: h2c would let the client speak for culvert
	delete(header, "Http2-Settings")
	delete(header, "Forwarded")
	if isUpgrade(r) {
		header["Connection"], header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	md := make(metadata.MD)
	a.vouch(md)
	if err := a.vouchCertificate(md, r.Header, a.policy.forwardClientCert, report.SizeLimit{Bytes: a.policy.limits.HeaderBytes, Key: report.KeyHeaderBytes}); err != nil {
		return nil, err
	}
	delete(header, "X-Forwarded-Client-Cert")
	for name, values := range md {
		header[http.CanonicalHeaderKey(name)] = values
	}
	header["X-Real-Ip"] = []string{gate.HostOf(a.peer.Addr)}
	header["X-Request-Id"] = []string{id}
	return header, nil
}

// cutAtEnd lets the end of the context interrupt the blocked reads and writes of the
// client's end. The function that it returns undoes it.
func (x *webExchange) cutAtEnd() (undo func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(x.ctx, func() {
		defer close(done)
		_ = x.rc.SetWriteDeadline(time.Now().Add(writeGrace)) // a stream that is gone needs none
		x.stopReading()
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

// stopReading makes a waiting read of the body return.
func (x *webExchange) stopReading() {
	switch {
	case x.body.atEnd.Load():
	case x.r.ProtoMajor == 1:
		_ = x.rc.SetReadDeadline(longAgo) // a foreign ResponseWriter may have none
	default:
		_ = x.r.Body.Close() // never fails on HTTP/2
	}
}

// Header implements http.ResponseWriter. The answer's header is made apart: culvert's own
// fields in it must survive informational answers.
func (x *webExchange) Header() http.Header {
	if x.info.Status != 0 {
		return x.w.Header() // for trailers
	}
	return x.header
}

// WriteHeader implements http.ResponseWriter.
func (x *webExchange) WriteHeader(code int) {
	switch {
	case x.info.Status != 0:
		return
	case code < http.StatusOK:
		x.inform(code)
		return
	}
	h := x.w.Header()
	for name, values := range x.header {
		h[name] = values
	}
	if h["X-Request-Id"] == nil {
		h["X-Request-Id"] = []string{x.info.ID}
	}
	x.info.Status = code
	// Behind an upgrade come no requests, also if the web server has refused it.
	x.a.on.CloseBehindCall(h, x.r, !x.body.atEnd.Load() || isUpgrade(x.r))
	x.w.WriteHeader(code)
}

// inform passes an informational answer on, if the client knows them. The HTTP server
// itself answers "Expect: 100-continue", when the body is read. RFC 9110 §15.2.
func (x *webExchange) inform(code int) {
	if code == http.StatusContinue || !x.r.ProtoAtLeast(1, 1) {
		return
	}
	if x.informed++; x.informed > maxInformed {
		x.run.cancel(fallback.Fault(errInformed))
		return
	}
	h := x.w.Header()
	announced := h["Connection"]
	delete(h, "Connection")
	for name, values := range x.header {
		h[name] = values
	}
	x.w.WriteHeader(code)
	for name := range x.header {
		delete(h, name)
	}
	if announced != nil {
		h["Connection"] = announced
	}
}

// Write implements http.ResponseWriter.
func (x *webExchange) Write(b []byte) (int, error) {
	if x.info.Status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	n := 0
	err := x.sending(func() (err error) {
		n, err = x.w.Write(b)
		return err
	})
	x.run.out.bytes.Add(int64(n))
	return n, err
}

// FlushError sends what was written.
func (x *webExchange) FlushError() error { return x.sending(x.rc.Flush) }

// sending runs a write to the client under the watch for slow clients.
func (x *webExchange) sending(write func() error) error {
	p := &x.run.call.progress
	p.beginSend()
	defer p.endSend()
	err := write()
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		x.lost.Store(true)
	}
	return err
}

// Broke implements fallback.Exchange.
func (x *webExchange) Broke(err error) { x.noteFault(err) }

// noteFault notes why the exchange ended: the end of the context and the client's own
// mistakes come before what followed from them.
func (x *webExchange) noteFault(err error) {
	cause, inBody := context.Cause(x.ctx), x.body.err()
	switch {
	case x.fault != nil:
	case errors.As(cause, &x.fault):
	case cause != nil && silenceFault(cause) != nil:
		x.fault = silenceFault(cause)
	case cause != nil || x.lost.Load():
		x.fault = errGone
	case inBody != nil && malformedBody(inBody):
		x.fault = report.New(report.ReasonBadRequest, "the request's body is malformed").Because(inBody)
	case inBody != nil:
		x.fault = errGone
	case errors.As(err, &x.fault):
	default:
		x.fault = fallback.Fault(err)
	}
}

// Fail implements fallback.Exchange: culvert itself answers.
func (x *webExchange) Fail(err error) {
	x.noteFault(err)
	f := x.fault
	if f.Reason == report.ReasonClientGone {
		x.aborted = true
		return
	}
	code := f.Row().HTTP
	switch {
	case f.Reason == report.ReasonUpstreamUnreachable:
		code = http.StatusBadGateway
	case f.Reason == report.ReasonLimitExceeded && !strings.HasPrefix(f.Limit, report.KeyAddressLimits):
		code = http.StatusServiceUnavailable
	case f.Reason == report.ReasonInternal:
		code = http.StatusLoopDetected
	case f.Reason == report.ReasonSlowConsumer:
		x.aborted = true
		return
	}
	text := f.Text
	if f.Cause != nil {
		text += " (the log has the cause under the id " + x.info.ID + ")"
		if x.a.policy.detailedErrors {
			text = f.Error()
		}
	}
	headers := []string{"X-Request-Id", x.info.ID}
	if f.Retry > 0 {
		headers = append(headers, "Retry-After", strconv.Itoa(int((f.Retry+time.Second-1)/time.Second)))
	}
	x.info.Status = code
	_ = x.rc.SetWriteDeadline(time.Now().Add(closeTimeout)) // a foreign ResponseWriter may have none
	x.s.refuse(x.w, x.r, x.a, code, text, headers...)
	_ = x.rc.Flush() // the client may be gone
	_ = x.rc.SetWriteDeadline(time.Time{})
}

// end ends the request, once nothing of it runs any more.
func (x *webExchange) end() {
	p := recover()
	if p != nil && p != http.ErrAbortHandler { //nolint:errorlint // net/http compares it likewise
		x.fault = report.New(report.ReasonInternal, "internal error").Because(fmt.Errorf("%v\n%s", p, debug.Stack()))
	}
	aborts := p != nil || x.aborted
	if aborts || x.info.WebSocket && context.Cause(x.ctx) != nil {
		x.noteFault(errEnded)
	}
	if !x.body.atEnd.Load() && !x.info.WebSocket {
		x.a.on.LeaveBody(x.w, x.r)
	}
	if x.fault != nil && x.run.conn != nil {
		x.a.on.EndFor(x.fault)
	}
	x.report()
	if aborts {
		panic(http.ErrAbortHandler) // RST_STREAM, or a cut connection
	}
}

// report tells the Observer that the request is over.
func (x *webExchange) report() {
	o, ok := x.s.obs.(report.WebObserver)
	if !ok {
		return
	}
	i := &x.info
	i.Duration, i.Origin = time.Since(i.Begin), report.OriginUpstream
	i.BytesIn, i.BytesOut = x.run.in.bytes.Load(), x.run.out.bytes.Load()
	if f := x.fault; f != nil {
		i.Origin, i.Reason = report.OriginCulvert, f.Reason
		if f.Reason == report.ReasonClientGone {
			i.Origin = report.OriginClient
		}
		if f.Cause != nil {
			i.Cause = f.Cause.Error()
		}
	}
	o.WebEnded(i)
}

// A webBody is the request's body. It notes how long the client takes for each KiB, but
// not how long the web server takes to accept it.
type webBody struct {
	io.ReadCloser
	of    *progress
	bytes *atomic.Int64
	atEnd atomic.Bool

	few    int   // bytes since the last KiB; only the reader uses it
	waited int64 // seconds that were waited for them; likewise

	mu     sync.Mutex
	failed error
}

func (b *webBody) Read(p []byte) (int, error) {
	began := b.of.clock.Load() - b.waited
	b.of.crumbs.Store(max(began, 1))
	b.of.receiving.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.of.receiving.Store(false)
	b.of.crumbs.Store(0)
	b.bytes.Add(int64(n))
	if b.few += n; b.few >= slowBytes {
		b.few, b.waited = 0, 0
	} else {
		b.waited = b.of.clock.Load() - began
	}
	switch {
	case errors.Is(err, io.EOF):
		b.atEnd.Store(true)
	case err != nil:
		b.mu.Lock()
		b.failed = err
		b.mu.Unlock()
	}
	return n, err
}

// err returns why the body could not be read, or nil.
func (b *webBody) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// Switch implements fallback.Exchange.
func (x *webExchange) Switch(answer http.Header) (fallback.Conn, error) {
	closed := x.a.on.Taken()
	conn, rw, err := x.rc.Hijack()
	if err != nil {
		return nil, err
	}
	if answer["X-Request-Id"] == nil {
		answer["X-Request-Id"] = []string{x.info.ID}
	}
	x.info.WebSocket, x.info.Status = true, http.StatusSwitchingProtocols
	// net/http's reader would end the context at the client's end.
	unread, _ := rw.Reader.Peek(rw.Reader.Buffered()) // it has as many
	c := &webSocket{Conn: conn, x: x, unread: bytes.Clone(unread)}
	c.closing = func() {
		_ = conn.Close() // it may be closed already
		if closed != nil {
			closed(conn)
		}
	}
	return c, nil
}

// A webSocket is the client's connection after its upgrade.
type webSocket struct {
	net.Conn
	x       *webExchange
	unread  []byte // that the client sent behind its request
	once    sync.Once
	closing func()
}

func (c *webSocket) Read(p []byte) (int, error) {
	of := &c.x.run.call.progress
	of.receiving.Store(true)
	defer of.receiving.Store(false)
	n, err := copy(p, c.unread), error(nil)
	if n > 0 {
		c.unread = c.unread[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	c.x.run.in.bytes.Add(int64(n))
	return n, err
}

func (c *webSocket) Write(p []byte) (int, error) {
	n := 0
	err := c.x.sending(func() (err error) {
		n, err = c.Conn.Write(p)
		return err
	})
	c.x.run.out.bytes.Add(int64(n))
	return n, err
}

// CloseWrite implements fallback.Conn.
func (c *webSocket) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements fallback.Conn.
func (c *webSocket) Close() error {
	c.once.Do(c.closing)
	return nil
}

package bridge

import (
	"cmp"
	"context"
	"net/http"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/pathservice"
)

const malformedAuthority = "the request's host is invalid: want a name or an IP address (IPv6 in brackets), and optionally a port"

// ServeHTTP serves one request: a call in any of the protocols, a WebSocket upgrade, a
// browser's preflight, or anything else.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	growStack(0)
	s.edge.Of(r).BeginRequest(w, r)
	p, hold := s.takePolicy()
	defer hold.release() // if no call has it
	var a *arrival
	var t *transport
	defer func() {
		if v := recover(); v != nil {
			s.caught(v, w, r, a, t, &hold)
		}
	}()
	claimed := r
	r = s.throughTunnel(r, p)
	t = transportFor(r)
	a = s.arrive(r, p, t)
	a.own = a.tunnel && len(claimed.Header["Authorization"]) > 0
	switch {
	case a.route.bare() != nil:
		t = bareTransport
	case t != nil && a.fallsBack(r):
		t = nil
	}
	if m := a.wrongHeader(claimed, r.Host); m != nil {
		a.refuse(w, r, m)
		return
	}
	if f := a.stranger(); f != nil {
		a.refuse(w, r, f)
		return
	}
	if isPreflight(r) && (a.forCall(r) || !a.fallsBack(r)) {
		a.answerPreflight(w, r)
		return
	}
	if t == nil {
		a.served = true
		hold.release() // it needs no backend, and may take long
		a.serveOther(w, r)
		return
	}
	if !a.originAllowed(w, r) {
		return
	}
	if t.carriesCalls() && a.Method == "" {
		a.refuse(w, r, p.wrongPath(r, a.attemptsCall(r)))
		return
	}
	if m := t.mistakeIn(r, a); m != nil {
		a.refuse(w, r, m)
		return
	}
	a.peer.Transport = a.transportName(t)
	a.refused = a.transportAllowed(t)
	a.served = true
	if !t.carriesCalls() {
		a.serveTunnel(w, r)
		return
	}
	a.serveCall(w, r, t, &hold)
}

// serveCall serves a request that carries a call: the driver of every protocol. The client's
// end of the call tells whatever happens, also that the call is refused.
func (a *arrival) serveCall(w http.ResponseWriter, r *http.Request, t *transport, hold *policyHold) {
	liftTimeouts(w, r)
	c, refused := a.newHTTPCall(r)
	down, fault := t.open(w, r, c)
	if refused == nil {
		refused = fault
	}
	if refused == nil && !c.partial {
		refused = c.settle()
	}
	if coded, ok := down.(bodyDecoder); ok && refused == nil {
		refused = coded.decodeBody()
	}
	if up, ok := down.(upgrader); ok {
		settled := c.unsettled == nil           // else the call refers to the arrival
		c.serveUpgrade(up, down, refused, hold) //nolint:contextcheck // the call outlives the HTTP handler
		if settled {
			a.free()
		}
		return
	}
	c.hold = hold.handOver()
	defer c.hold.release() // handle may panic
	c.handle(r.Context(), down, a.conn, refused)
	down.(handled).Close()  //nolint:forcetypeassert // the other transports are all of one request
	if c.unsettled == nil { // else the call refers to it
		a.free()
	}
}

// serveUpgrade serves a call that has its request's connection for itself.
func (c *call) serveUpgrade(up upgrader, down downstream, refused error, hold *policyHold) {
	refused = c.handshake(refused)
	conn, err := up.upgrade()
	if err != nil {
		return // it was answered
	}
	c.hold = hold.handOver()
	started := c.s.sockets.Start(func() {
		defer c.hold.release()
		defer c.s.panics.Catch("a call on a WebSocket", func(*report.Fault) { down.Abort() })
		growStack(0)
		c.handle(context.Background(), down, conn, refused)
	})
	if !started {
		c.hold.release()
	}
	up.served(started)
}

// stranger returns the fault of a request whose host or proxy can't be trusted, or nil.
func (a *arrival) stranger() *report.Fault {
	switch {
	case a.unreadable != nil:
		return &report.Fault{
			Reason: report.ReasonBadRequest, Key: report.KeyTrustedProxies, Detail: a.unreadable.Error(),
			Text: "a proxy's header about the client is malformed: " + a.unreadable.Error(),
			Hint: "configure the proxy to remove this header from its clients' requests",
		}
	case a.misdirected():
		return &report.Fault{
			Reason: report.ReasonBadRequest, Key: report.KeyCertificates, Detail: a.host, HTTP: http.StatusMisdirectedRequest,
			Text: "this connection's SNI name has other rules for client certificates than this host: open a new connection for this host", Hint: "the client must open a connection for this host",
		}
	case a.listening.LoopbackOnly && !a.policy.origins.AllowsHost(a.host) && !a.listening.ServesHost(a.host):
		return &report.Fault{
			Reason: report.ReasonOriginDenied, Key: report.KeyHosts, Detail: a.host,
			Text: "this server listens on loopback and " + pathservice.UnknownHost + "; add the name to " + report.Named(report.KeyHosts) + " if it is yours", Hint: "add the name to " + report.Named(report.KeyHosts),
		}
	}
	return nil
}

// misdirected reports whether a request names a host whose rules for client
// certificates differ from those of its connection. A client that needs no certificate
// for one host must not reach the other over that connection. Browsers send such
// requests if a certificate is valid for both hosts. RFC 9110 §7.4, §15.5.20.
func (a *arrival) misdirected() bool {
	l, state := a.listening, a.peer.TLS
	if l.SamePolicy == nil || state == nil || state.ServerName == a.host {
		return false
	}
	host, _, _ := gate.ParseAuthority(a.host) // it is valid, or there is none
	return state.ServerName != host && !l.SamePolicy(state.ServerName, a.local, host)
}

// transportName returns the transport's name, as logs have it.
func (a *arrival) transportName(t *transport) string {
	if a.tunnel {
		return tunnelName + "+" + t.name
	}
	return t.name
}

// malformed returns the mistake in a request that culvert can't serve on any path, or
// nil. host is the request's host.
func malformed(r *http.Request, host string) *report.Fault {
	switch {
	case r.Method == http.MethodConnect || r.RequestURI == "*":
		return mistake(http.StatusMethodNotAllowed, "culvert is not a forward proxy", "Allow", "GET, POST, OPTIONS")
	case r.ProtoMajor == 1 && r.URL.Host != "":
		// Here net/http drops the Host line, so culvert can't compare it.
		return mistake(http.StatusBadRequest, "the request target is a whole URL; send its path only")
	case gate.IsUpgrade(r) && (r.ContentLength != 0 || len(r.TransferEncoding) > 0):
		// The body would be read as frames, here or by another hop.
		return likely(http.StatusBadRequest, "a WebSocket handshake has no body: send no Content-Length and no Transfer-Encoding")
	case r.ProtoMajor == 2 && !gate.LengthHolds(r):
		return mistake(http.StatusBadRequest, "the content-length does not match the content")
	}
	if _, _, ok := gate.ParseAuthority(host); !ok && host != "" { // HTTP/1.0 allows none
		return mistake(http.StatusBadRequest, malformedAuthority)
	}
	return nil
}

// originAllowed answers a page that may not call. If origins are only tried out, it
// lets the page pass without cookies.
func (a *arrival) originAllowed(w http.ResponseWriter, r *http.Request) bool {
	if a.origin.Denial == nil {
		return true
	}
	f := a.denied()
	switch {
	case f.Key == report.KeyHosts:
		f.Detail = a.host
	case f.Key == report.KeyCookies && !a.policy.forwardCookies:
		f.Key = report.KeyAuthCookie
	}
	if a.s.refusals.Unless(a.policy.tryOrigins, f, a.peer.Addr) == nil {
		return true
	}
	a.refuse(w, r, f)
	return false
}

// serveOther answers a request that isn't a call. It also refuses upgrades with a subprotocol that
// no transport has.
func (a *arrival) serveOther(w http.ResponseWriter, r *http.Request) {
	if page := a.policy.path.partOfPage(&a.facts); page != nil {
		page.ServeHTTP(w, r)
		return
	}
	offersSocket := r.Header.Get("Sec-Websocket-Key") != "" || r.Header.Get("Sec-Websocket-Protocol") != "" || r.Header.Get("Sec-Websocket-Version") != ""
	switch {
	case a.fallsBack(r):
		a.hintAtMethod(r)
		if a.policy.fallback == nil {
			a.s.cfg.Fallback.ServeHTTP(w, r)
			return
		}
		a.serveFallback(w, r)
	case gate.IsUpgrade(r) && a.policy.routes != nil && a.policy.routes.messages && r.Header["Sec-Websocket-Protocol"] == nil:
		a.refuse(w, r, likely(http.StatusNotFound, "no route with message has this path ("+report.Named(report.KeyMessagePath)+"), and the client offers no WebSocket subprotocol: use grpc-websockets or h2ts for calls"))
	case gate.IsUpgrade(r):
		m := mistake(http.StatusBadRequest, "no WebSocket subprotocol that the client offers is supported: use grpc-websockets or h2ts")
		a.refuse(w, r, cmp.Or(a.policy.bearerAlone(r.Header), m))
	case offersSocket:
		m := noUpgrade(r, "call this path by POST or WebSocket")
		m.Text += ", or use gRPC-Web"
		a.refuse(w, r, m)
	default:
		a.refuse(w, r, a.mistakeIn(r))
	}
}

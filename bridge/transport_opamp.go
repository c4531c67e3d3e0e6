package bridge

import (
	"context"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/gate"
	"github.com/culvert-grpc/culvert/bridge/message"
	"github.com/culvert-grpc/culvert/bridge/opamp"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/websocket"
	"github.com/culvert-grpc/culvert/codec"
)

// opampHeader is the header before each message to an agent. It is never written to.
var opampHeader = []byte{codec.OpAMPHeader}

// opampMistake returns why a request at an agents' path is neither a WebSocket's nor a
// poll, or nil.
func opampMistake(r *http.Request) *report.Fault {
	switch {
	case r.Method == http.MethodPost && gate.MediaType(r) == opamp.ContentType:
		return nil
	case r.Method == http.MethodPost:
		return likely(http.StatusUnsupportedMediaType, "this path takes polls of OpAMP, of the content type "+opamp.ContentType, "Accept-Post", opamp.ContentType)
	case r.Method != http.MethodGet:
		return likely(http.StatusMethodNotAllowed, "this path takes only WebSockets and the polls of OpAMP", "Allow", "GET, POST")
	default:
		return noUpgrade(r, "this path takes WebSockets and the polls of OpAMP")
	}
}

// serveOpAMP serves a poll or the WebSocket of an agent. Agents heed an HTTP status and
// Retry-After only in the answer to the upgrade, so the call is opened before that.
func (s *Server) serveOpAMP(w http.ResponseWriter, r *http.Request, a *arrival) {
	if r.Method == http.MethodPost {
		s.servePoll(w, r, a)
		return
	}
	m := a.route.bare()
	c, refused := s.newMessageCall(r, a)
	refused = s.handshake(c, refused)
	d := &agentDown{w: w, r: r, answered: make(chan struct{})}
	d.socket = &messageDown{s: s, on: a.on, call: c, of: m, finished: make(chan struct{})}
	d.downstream = d.socket
	conn := a.conn
	if !s.sockets.Start(func() {
		defer s.panics.Catch("an agent's call", func(*report.Fault) {
			c.arrived()
			d.Abort()
		})
		growStack(0)
		s.handle(context.Background(), c, d, conn, refused)
	}) {
		c.arrived()
		_ = d.refuse(errRefusing.Status(c.info.ID, false), report.ReasonDraining) // the client may be gone
		return
	}
	<-d.answered // until then the call uses w and r
	if d.aborted {
		panic(http.ErrAbortHandler) // a cut connection
	}
}

// agentDown is the client's end of an agent's call on a WebSocket. It opens the WebSocket
// when the backend has the call, or answers with an HTTP status.
type agentDown struct {
	downstream // the socket, whose WebSocket exists once open has returned nil
	socket     *messageDown

	w        http.ResponseWriter // nil once it is answered
	r        *http.Request       // likewise
	answered chan struct{}       // then closed
	aborted  bool                // it was not answered; set before answered is closed
	bind     func()              // binds the socket
	unwatch  func() bool         // of the request
}

// Bind implements downstream.
func (d *agentDown) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	d.bind = func() { d.socket.Bind(ctx, cancel) }
	d.unwatch = context.AfterFunc(d.r.Context(), func() { cancel(errGone) }) //nolint:contextcheck // net/http sees the client leave
}

// Prepare implements downstream: an agent's call begins without a message.
func (*agentDown) Prepare(context.Context) error { return nil }

// Open implements opener.
func (d *agentDown) Open() error {
	d.unwatch()
	if err := context.Cause(d.r.Context()); err != nil {
		return errGone
	}
	d.w.Header().Set("X-Request-Id", d.socket.call.info.ID)
	ws, err := d.socket.s.accept(d.w, d.r, d.socket.of.Subprotocol, d.socket.call.held)
	defer d.answer()
	if err != nil {
		return report.New(report.ReasonBadRequest, "the WebSocket's handshake failed").Because(err)
	}
	d.socket.ws, d.socket.frames.WS = ws, ws
	d.socket.frames.OpAMP = message.NewOpAMP(ws)
	d.bind()
	d.bind = nil
	return nil
}

// answer lets the HTTP handler return.
func (d *agentDown) answer() {
	d.w, d.r = nil, nil
	close(d.answered)
}

// Finish implements downstream.
func (d *agentDown) Finish(st *status.Status, trailer metadata.MD) error {
	switch {
	case d.socket.ws != nil:
		return d.socket.Finish(st, trailer)
	case d.w == nil:
		return nil // the handshake's failure was answered
	}
	d.unwatch()
	defer d.answer()
	return d.refuse(st, d.socket.call.ending)
}

// Abort implements downstream.
func (d *agentDown) Abort() {
	switch {
	case d.socket.ws != nil:
		d.socket.Abort()
	case d.w != nil:
		if d.unwatch != nil {
			d.unwatch()
		}
		d.aborted = true
		d.answer()
	}
}

// refuse answers the upgrade with an HTTP status.
func (d *agentDown) refuse(st *status.Status, reason report.Reason) error {
	h := d.w.Header()
	h.Set("X-Request-Id", d.socket.call.info.ID)
	h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniffing
	code, body := opamp.Refuse(h, st, reason)
	d.socket.on.CloseBehindRefusal(d.w, d.r)
	d.w.WriteHeader(code)
	_, err := d.w.Write(body) //nolint:gosec,nolintlint // JSON, see opamp.Refuse; gosec sees it in some runs alone
	return err
}

// tellAgent sends an agent why its call has failed, as its last message.
func (d *messageDown) tellAgent(st *status.Status) error {
	if d.frames.Left() || st.Code() == codes.OK || isGone(st) {
		return nil
	}
	d.pieces = append(d.pieces[:0], opampHeader, opamp.Failure(st, d.call.ending))
	return d.write(websocket.Binary, true) // it leaves with the close frame
}

package bridge

import (
	"context"
	"net"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/internal/opamp"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/websocket"
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

// openAgent opens the call of an agent on a WebSocket.
func openAgent(w http.ResponseWriter, r *http.Request, c *call) (downstream, error) {
	m := c.route.bare()
	down := &opampSocket{bareSocket{route: m}}
	down.open(w, r, c, down)
	down.subprotocol = c.subprotocolOf(m, r.Header)
	d := &agentDown{downstream: down, socket: down, answered: make(chan struct{})}
	return d, c.readTimeout(r.Header["Grpc-Timeout"], codec.ParseTimeout)
}

// agentDown is the client's end of an agent's call on a WebSocket. Agents heed an HTTP
// status and Retry-After only in the answer to the upgrade. So it opens the WebSocket when
// the backend has the call, or answers with an HTTP status.
type agentDown struct {
	downstream // the socket, whose WebSocket exists once open has returned nil
	socket     *opampSocket

	answered chan struct{} // closed once the upgrade is answered, and the socket has forgotten it
	aborted  bool          // it was not answered; set before answered is closed
	bind     func() error  // binds the socket, and prepares it
	unwatch  func() bool   // of the request
}

// Bind implements downstream.
func (d *agentDown) Bind(ctx context.Context, cancel context.CancelCauseFunc) {
	d.bind = func() error {
		d.socket.Bind(ctx, cancel)
		return d.socket.Prepare(ctx)
	}
	d.unwatch = context.AfterFunc(d.socket.r.Context(), func() { cancel(errGone) }) //nolint:contextcheck // net/http sees the client leave
}

// Prepare implements downstream: an agent's call begins without a message.
func (*agentDown) Prepare(context.Context) error { return nil }

// Open implements opener.
func (d *agentDown) Open() error {
	d.unwatch()
	if err := context.Cause(d.socket.r.Context()); err != nil {
		return errGone
	}
	d.socket.w.Header().Set("X-Request-Id", d.socket.call.info.ID)
	_, err := d.socket.upgrade()
	defer d.answer()
	if err != nil {
		return report.New(report.ReasonBadRequest, "the WebSocket's handshake failed").Because(err)
	}
	err = d.bind()
	d.bind = nil
	return err
}

// upgrade implements upgrader: Open does it.
func (d *agentDown) upgrade() (net.Conn, error) { //nolint:unparam // the WebSocket comes later
	return d.socket.call.on.NetConn(), nil
}

// served implements upgrader. Until it is answered, the call uses w and r.
func (d *agentDown) served(started bool) {
	if !started {
		_ = d.refuse(errRefusing.Status(d.socket.call.info.ID, false), report.ReasonDraining) // the client may be gone
		return
	}
	<-d.answered
	if d.aborted {
		panic(http.ErrAbortHandler) // a cut connection
	}
}

// answer lets the HTTP handler return.
func (d *agentDown) answer() {
	d.socket.w, d.socket.r = nil, nil
	close(d.answered)
}

// Finish implements downstream.
func (d *agentDown) Finish(st *status.Status, trailer metadata.MD) error {
	switch {
	case d.socket.ws != nil:
		return d.socket.Finish(st, trailer)
	case d.socket.w == nil:
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
	case d.socket.w != nil:
		if d.unwatch != nil {
			d.unwatch()
		}
		d.aborted = true
		d.answer()
	}
}

// refuse answers the upgrade with an HTTP status.
func (d *agentDown) refuse(st *status.Status, reason report.Reason) error {
	h := d.socket.w.Header()
	h.Set("X-Request-Id", d.socket.call.info.ID)
	h["Cache-Control"], h["X-Content-Type-Options"] = noStore, noSniffing
	code, body := opamp.Refuse(h, st, reason)
	d.socket.call.challenge(h, code)
	d.socket.call.on.CloseBehindRefusal(d.socket.w, d.socket.r)
	d.socket.w.WriteHeader(code)
	_, err := d.socket.w.Write(body) //nolint:gosec,nolintlint // JSON, see opamp.Refuse; gosec sees it in some runs alone
	return err
}

// An opampSocket is a socketStream with the framing of OpAMP: a header is before each
// message, and the last message says why the call has failed.
type opampSocket struct{ bareSocket }

// first implements framing.
func (d *opampSocket) first(ctx context.Context) error {
	d.frames.OpAMP = message.NewOpAMP(d.ws)
	return d.bareSocket.first(ctx)
}

// message implements framing.
func (d *opampSocket) message(m mem.BufferSlice, more bool) error {
	return d.write(websocket.Binary, opampHeader, m, more)
}

// last implements framing.
func (d *opampSocket) last(st *status.Status, _ metadata.MD) error {
	if st.Code() == codes.OK || isGone(st) {
		return nil
	}
	failure := mem.SliceBuffer(opamp.Failure(st, d.call.ending))
	return d.write(websocket.Binary, opampHeader, mem.BufferSlice{failure}, true) // it leaves with the close frame
}

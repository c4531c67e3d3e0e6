package bridge

import (
	"cmp"
	"context"
	"net/http"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/binding"
	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/rules"
	"github.com/culvert-grpc/culvert/internal/websocket"
)

// messageName is the transport of bare messages. Their routes recognize its requests.
const messageName = binding.Transport

// messageMistake returns why culvert can't serve a request at the path of a route for
// messages, or nil.
func messageMistake(r *http.Request, a *arrival) *report.Fault {
	m := a.route.bare()
	switch {
	case m.Framing == FramingOpAMP && !gate.IsUpgrade(r):
		return opampMistake(r)
	case gate.IsUpgrade(r) && !m.OverHTTP() && a.policy.bearerAlone(r.Header) != nil:
		return a.policy.bearerAlone(r.Header)
	case m.InJSON() && (m.OverHTTP() || !gate.IsUpgrade(r)):
		return plainMistake(r, m)
	case gate.IsUpgrade(r) && (m.Subprotocol == "" || rules.HasToken(r.Header["Sec-Websocket-Protocol"], m.Subprotocol)):
		return nil
	case gate.IsUpgrade(r):
		return likely(http.StatusBadRequest, "this path needs the WebSocket subprotocol "+m.Subprotocol)
	case r.Method != http.MethodGet:
		return likely(http.StatusMethodNotAllowed, "this path takes only WebSockets", "Allow", "GET")
	default:
		return noUpgrade(r, "this path takes only WebSockets")
	}
}

var errQuery = report.New(report.ReasonBadRequest, codec.ErrQuery.Error())

// openMessage opens a call of bare messages.
func openMessage(w http.ResponseWriter, r *http.Request, c *call) (downstream, error) {
	m := c.route.bare()
	switch {
	case m.Framing == FramingOpAMP && r.Method == http.MethodPost:
		return openPoll(w, r, c)
	case m.Framing == FramingOpAMP:
		return openAgent(w, r, c)
	case m.OverHTTP():
		return openLines(w, r, c)
	case !gate.IsUpgrade(r):
		return openUnary(w, r, c)
	}
	w.Header().Set("X-Request-Id", c.info.ID)
	d := &bareSocket{route: m}
	d.open(w, r, c, d)
	d.subprotocol = c.subprotocolOf(m, r.Header)
	d.frames.HalfClose, d.frames.Text = m.HalfClose, m.InJSON()
	if m.Refresh != "" {
		d.frames.Refresh, d.frames.Renew = m.Refresh, c.renewByMessage
	}
	c.convertJSON()
	c.rules.oneRequest = m.InJSON()
	return d, c.readTimeout(r.Header["Grpc-Timeout"], codec.ParseTimeout)
}

// subprotocolOf returns the one that culvert selects. A browser needs one if it offers any, as
// one with a token. On a route that names none, any other will do.
func (c *call) subprotocolOf(m *binding.Route, h http.Header) string {
	return cmp.Or(m.Subprotocol, c.policy.besideBearer(h))
}

// A bareSocket is a socketStream whose WebSocket messages are those of the method.
type bareSocket struct {
	socketStream
	route  *binding.Route
	frames message.Bare
}

// first implements framing: the first message may be metadata. The call needs no other
// message before it begins at the backend: the backend may speak first.
func (d *bareSocket) first(ctx context.Context) error {
	d.frames.WS = d.ws
	d.read(ctx, d.frames.Body(), &d.frames)
	if d.route.FirstMessage == "" {
		return nil
	}
	c := d.call
	first, err := d.readFirst(ctx, "message with "+d.route.FirstMessage, websocket.Text, d.frames.BinaryFault)
	if err != nil {
		return err
	}
	value := string(first)
	if value == "" || codec.EncodeValue(value) != value {
		return report.New(report.ReasonBadRequest, "the first message isn't text that can be the value of "+d.route.FirstMessage)
	}
	c.Metadata[d.route.FirstMessage] = []string{value}
	if c.auth != nil && d.route.FirstMessage == "authorization" {
		c.auth.own = true
	}
	if size := headers.Size(c.Metadata); size > c.headers.Bytes {
		return headers.TooLarge("request", size, c.headers)
	}
	return nil
}

// await implements framing.
func (d *bareSocket) await() error { return d.frames.Await() }

// left implements framing: a client that closes the WebSocket properly has only said all
// that it wants to say.
func (d *bareSocket) left() bool { return d.frames.Left() }

// header implements framing: there is no place for metadata.
func (*bareSocket) header(metadata.MD, bool) error { return nil }

// message implements framing.
func (d *bareSocket) message(m mem.BufferSlice, more bool) error {
	kind := websocket.Binary
	if d.route.InJSON() && !d.route.BinaryOut {
		kind = websocket.Text
	}
	return d.write(kind, nil, m, more)
}

// last implements framing: the route may ask for the status as the last message.
func (d *bareSocket) last(st *status.Status, _ metadata.MD) error {
	if !d.route.LastStatus {
		return nil
	}
	return d.write(websocket.Text, codec.MessageStatus(st), nil, true) // it leaves with the close frame
}

// closing implements framing. The close frame has the status. Some reasons of culvert's own
// have codes of RFC 6455: applications know what to do about them.
func (d *bareSocket) closing(st *status.Status) (websocket.StatusCode, string) {
	reason := d.call.ending
	code, text := codec.MessageClose(st, string(reason))
	switch {
	case reason == "":
	case d.frames.Code() != 0:
		return d.frames.Code(), text
	case reason == report.ReasonRequestTooLarge:
		return websocket.StatusMessageTooBig, text
	case reason == report.ReasonClientSilent, reason == report.ReasonDraining:
		return websocket.StatusGoingAway, text
	case reason == report.ReasonInternal:
		return websocket.StatusInternalError, text
	}
	return websocket.StatusCode(code), text
}

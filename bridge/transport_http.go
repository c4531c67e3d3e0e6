package bridge

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/gate"
	"github.com/culvert-grpc/culvert/bridge/internal/h2"
	"github.com/culvert-grpc/culvert/bridge/internal/headers"
	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/socket"
)

// usuallyAdded is how many names culvert usually adds to a call's metadata, so that it needn't
// grow: those of the client, of the way that the request took, and of its program.
const usuallyAdded = 5

// newHTTPCall makes the call of an HTTP request from facts of HTTP and not of the
// client's protocol: id, metadata, the headers that culvert adds. The call is usable
// even with an error, since the call's own protocol reports it.
func (a *arrival) newHTTPCall(r *http.Request) (c *call, err error) {
	c = a.newCall(r, a.host, &a.decision)
	c.auth = a.newAuthentication(r)
	defer c.catch("the beginning of a call", &err)
	if a.route.own() {
		c.route = a.pathRoute(r)
	}
	if a.policy.routes != nil || a.route != nil {
		c.unsettled = &a.facts
	}
	c.blind = a.on.CutsReaders(r)
	if a.refused != nil {
		return c, a.refused
	}
	lost := false
	if m := a.route.bare(); m != nil {
		r, lost = m.WithQuery(r)
	}
	room := usuallyAdded
	if c.auth != nil {
		room += len(report.IdentityMetadata) + 1 // with the call's id, those are more than the eight that a map has at first
	}
	md, dropped, err := headers.Request(r.Header, a.trusted, a.policy.forwardCookies && a.origin.Credentials, c.headers, a.policy.encoded, room)
	if err != nil {
		return c, err
	}
	c.noteDropped(dropped)
	a.policy.vouched.Strike(md, a.trusted)
	headers.SetUserAgent(md, r.Header)
	c.Metadata = md
	if err := a.vouch(md, r.Header, c.headers); err != nil || !lost {
		return c, err
	}
	return c, errQuery
}

// noteDropped counts metadata that is dropped, since gRPC can't carry its values, and logs
// the names.
func (c *call) noteDropped(names []string) {
	if len(names) == 0 {
		return
	}
	c.s.droppedValues.Add(int64(len(names)))
	c.s.log.Debug("metadata is dropped: its values aren't printable ASCII", slog.String("peer", c.peer.Addr), slog.String("call_id", c.info.ID), slog.String("detail", strings.Join(names[:min(len(names), 10)], " ")))
}

// vouch sets the metadata that culvert itself confirms about the client, whose request
// has the header.
func (a *arrival) vouch(md metadata.MD, h http.Header, limit report.SizeLimit) error {
	headers.SetForwarding(md, a.forward)
	if !a.policy.forwardClientCert {
		delete(md, headers.ClientCert)
		return nil
	}
	return headers.SetClientCert(md, h, a.trusted, a.peer.Client, limit)
}

// liftTimeouts removes the time-outs that an embedder's server sets for each HTTP/1.1
// request: a call may take longer, and has its own limits.
func liftTimeouts(w http.ResponseWriter, r *http.Request) {
	hs, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if hs == nil || hs.ReadTimeout <= 0 && hs.WriteTimeout <= 0 {
		return
	}
	rc := http.NewResponseController(w)
	_ = errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{})) // a foreign ResponseWriter may have none
}

// An httpStream is the client's end of a call that is one HTTP request. It reads the
// body, writes the answer's header, body and trailers, and ends them in the way of each
// version of HTTP. The encoder gives the answer the form of the client's protocol.
// Prepare and Recv belong to that protocol, too.
type httpStream struct {
	w       http.ResponseWriter
	rc      http.ResponseController
	r       *http.Request
	call    *call
	origin  gate.Access
	guard   socket.Guard
	encoder encoder

	source   *progress.Body
	received bool // the body is being read from here on
	readCut  bool // a past deadline broke off the reading: net/http then ends the connection's context
	writeCut bool // writes have a deadline; known after the last one
	trailing bool // the status is in trailers, which need no window

	out     httpAnswer
	prefix  [codec.FrameHeaderBytes]byte // of the message that is being written
	aborted bool
}

// open fills in the stream of a request.
func (h *httpStream) open(w http.ResponseWriter, r *http.Request, c *call, e encoder) {
	*h = httpStream{w: w, rc: *http.NewResponseController(w), r: r, call: c, origin: c.origin, encoder: e}
	if r.ProtoMajor == 1 {
		// Without it, the first write discards the unread part of the body.
		_ = h.rc.EnableFullDuplex() // only a foreign ResponseWriter refuses
	}
	h.source = progress.NewBody(r.Body, r.ContentLength)
}

// countBody implements handled.
func (h *httpStream) countBody() { h2.CountBody(h.r, bodyCounter{&h.call.watched}) }

// A bodyCounter counts with a call the bytes that its client has sent and nobody has
// read, and ends the call when there are too many. It implements h2.Counter: the HTTP/2
// connection's lock is held.
type bodyCounter struct{ *watched }

// SentPart notes that the client accepts data.
func (b bodyCounter) SentPart(n int) { b.held.Moved(n) }

// Blocked notes whether the answer waits for the client.
func (b bodyCounter) Blocked(blocked bool) { b.progress.BlockedOut.Store(blocked) }

// Unread adds n bytes to the count, or removes them.
func (b bodyCounter) Unread(n int) bool {
	wanted := b.held.Unread(n)
	if !wanted {
		b.Evict()
	}
	return wanted && !b.evicted.Load()
}

// Close implements handled.
func (h *httpStream) Close() {
	if !h.source.AtEnd.Load() {
		h.call.on.LeaveBody(h.w, h.r)
	}
	if h.aborted {
		panic(http.ErrAbortHandler) // RST_STREAM, or a cut connection
	}
}

// Bind implements downstream.
func (h *httpStream) Bind(ctx context.Context, _ context.CancelCauseFunc) {
	h.guard.Watch(ctx, graceOf, func() {
		defer h.call.s.panics.Catch(cutting, nil) // a foreign ResponseWriter's
		h.writeCut = true
		h.cutWrites(h.call.cutTime())
	})
}

// unpacked returns the body without its content coding, and the decoder if there is
// one. The content coding is the outermost of a body's. RFC 9110 §8.4.
func (h *httpStream) unpacked() (io.Reader, *packing.Body, error) {
	switch coding, ok := packing.Coding(h.r.Header["Content-Encoding"]); {
	case !ok:
		return h.source, nil, report.New(report.ReasonUnsupportedEncoding, "culvert doesn't support this encoding of the body: use gzip or identity")
	case coding == "":
		return h.source, nil, nil
	}
	g := packing.NewBody(h.source, &h.call.use, 2*int64(h.call.messages.Bytes)) // it may be base64
	return g, g, nil
}

// early runs a read of the body before the pump starts. The end of the call's context
// cuts it.
func (h *httpStream) early(read func() error) error {
	cut := func() {
		defer h.call.s.panics.Catch(cutting, nil)
		h.readCut = true
		_ = h.rc.SetReadDeadline(socket.LongAgo) // a stream that is gone needs none
	}
	return h.guard.Read(cut, read)
}

// stopReading makes a waiting Recv return. On HTTP/1.1, Close would wait for the read,
// so a past deadline ends the read; the connection closes anyway.
func (h *httpStream) stopReading() {
	if h.r.ProtoMajor == 1 {
		if !h.source.AtEnd.Load() {
			_ = h.rc.SetReadDeadline(socket.LongAgo) // a foreign ResponseWriter may have none
		}
		return
	}
	_ = h.r.Body.Close() // never fails on HTTP/2
}

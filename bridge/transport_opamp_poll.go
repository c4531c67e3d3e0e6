package bridge

import (
	"context"
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/message"
	"github.com/culvert-grpc/culvert/bridge/opamp"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// servePoll serves one poll of an agent: a unary call.
func (s *Server) servePoll(w http.ResponseWriter, r *http.Request, a *arrival) {
	liftTimeouts(w, r)
	c, refused := s.newMessageCall(a.route.bare().withQuery(r), a)
	c.oneReply = true
	if refused == nil {
		refused = c.readCodings(r.Header["Content-Encoding"], r.Header["Accept-Encoding"])
	}
	p := &pollStream{frames: message.Unary{Length: r.ContentLength, Coding: c.coding}}
	p.open(s, w, r, c, a, &p.answer)
	p.answer.codingRefused = errors.Is(refused, errCoding)
	p.read(&p.frames)
	s.handle(r.Context(), c, p, a.conn, refused)
	p.first.Free()
	p.answer.reply.Free()
	p.close()
}

// A pollStream is the client's end of a poll.
type pollStream struct {
	bodyStream
	frames message.Unary
	answer pollAnswer
	agent  codec.AgentToServer
}

// Prepare reads the message, and checks who sends it.
func (p *pollStream) Prepare(ctx context.Context) error {
	p.received = true
	if err := p.early(func() error { return p.readFirst(ctx) }); err != nil {
		return err
	}
	p.call.Complete = true
	var err error
	if p.agent, err = codec.ParseAgentToServer(p.first); err != nil {
		return report.New(report.ReasonBadRequest, err.Error())
	}
	return opamp.CheckHeader(p.r.Header.Get("Opamp-Instance-Uid"), p.agent)
}

// A pollAnswer is the encoder of polls. The header has the status, so all of it waits for
// the call's end.
type pollAnswer struct {
	unaryAnswer
}

// end implements encoder.
func (e *pollAnswer) end(h *httpStream, st *status.Status, _ metadata.MD) error {
	if e.codingRefused {
		h.w.Header()["Accept-Encoding"] = canRead
	}
	if st.Code() != codes.OK {
		header := h.makeWebHeader(codec.Fields(nil))
		code, body := opamp.Refuse(header, st, h.call.ending)
		return h.whole(code, mem.BufferSlice{mem.SliceBuffer(body)})
	}
	header := h.makeWebHeader(codec.Fields(nil))
	header["Content-Type"] = []string{opamp.ContentType}
	if e.packed {
		header["Content-Encoding"] = gzipped
	}
	return h.whole(http.StatusOK, e.reply)
}

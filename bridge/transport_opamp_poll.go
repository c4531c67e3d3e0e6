package bridge

import (
	"context"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/opamp"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// openPoll opens one poll of an agent: a unary call, or a message for the call that
// streams, which the agent's session is the client of.
func openPoll(w http.ResponseWriter, r *http.Request, c *call) (downstream, error) {
	fault := c.readTimeout(r.Header["Grpc-Timeout"], codec.ParseTimeout)
	if fault == nil {
		fault = c.readCodings(r.Header["Content-Encoding"], r.Header["Accept-Encoding"])
	}
	p := new(pollStream)
	p.open(w, r, c, &p.answer)
	c.rules.oneReply, c.rules.noStream = true, c.route.bare().PollPath == ""
	if c.rules.noStream {
		owner := append([]string{"credentials", c.info.Client}, c.Metadata["authorization"]...) // if no Authenticator names the client
		return &sessionPoll{pollStream: p, owner: opamp.NewOwner(owner...)}, fault
	}
	return p, fault
}

// A pollStream is the client's end of a poll that is a unary call.
type pollStream struct {
	wholeStream
	answer pollAnswer
	agent  codec.AgentToServer
}

// Prepare reads the message, which says whose poll it is.
func (p *pollStream) Prepare(ctx context.Context) error {
	err := p.wholeStream.Prepare(ctx)
	if err != nil {
		return err
	}
	if p.agent, err = codec.ParseAgentToServer(p.first); err != nil {
		return report.New(report.ReasonBadRequest, err.Error())
	}
	// The header is for load balancers, and those of some agents differ from their messages'.
	p.call.Metadata["opamp-instance-uid"] = []string{p.agent.UID.String()}
	return nil
}

// Close implements handled.
func (p *pollStream) Close() {
	p.answer.reply.Free()
	p.wholeStream.Close()
}

// A sessionPoll is the client's end of a poll whose message is for its agent's session.
type sessionPoll struct {
	*pollStream
	owner opamp.Owner
}

// Open implements opener: it does all that the poll is for.
func (p *sessionPoll) Open() error {
	c := p.call
	if id := c.peer.Identity; id != nil && id.Name != "" {
		p.owner = opamp.NewOwner("identity", id.Issuer, id.Name)
	}
	m, held := p.first, p.call.s.account.NewEntry()
	p.first, p.ahead = nil, false
	held.Own(c.use.Memory()) // before the session holds anything
	return p.call.s.polls.Post(p.body.Ctx, opamp.Poll{
		Scope: c.route.name + " " + c.Method, Address: c.use.AddressKey(), Agent: p.agent, Owner: p.owner,
		Message: m, Held: held, Deliver: p.deliver,
		Start: func(session *opamp.Session) error { return p.start(session, held) },
	})
}

// start starts the call of a session, with what is known of the poll's client. A session
// outlives the connections of its agent.
func (p *sessionPoll) start(session *opamp.Session, held *memory.Entry) error {
	c := p.call.next(p.r)
	c.held = held
	down := &sessionDown{session, c}
	if !c.s.sockets.Start(func() {
		defer c.s.panics.Catch("a call without a connection", func(*report.Fault) { down.Abort() })
		c.handle(context.Background(), down, nil, nil)
	}) {
		return errRefusing
	}
	return nil
}

// A sessionDown is the client's end of a session's call. Thousands of these calls are idle
// nearly all of the time, so it is a parker.
type sessionDown struct {
	*opamp.Session
	call *call
}

// Flush implements downstream: a session keeps nothing back.
func (*sessionDown) Flush() error { return nil }

// Finish implements downstream.
func (d *sessionDown) Finish(st *status.Status, trailer metadata.MD) error {
	d.Reason = d.call.ending
	return d.Session.Finish(st, trailer)
}

// deliver sends the agent a reply, which stays the session's.
func (p *sessionPoll) deliver(reply mem.BufferSlice) error {
	err := p.guard.Write(func() error {
		p.answer.sent = true
		p.answer.failed = p.answer.send(&p.httpStream, reply)
		return p.answer.failed
	})
	if err != nil {
		return clientWriteError(p.body.Ctx, err)
	}
	return nil
}

// A pollAnswer is the encoder of polls. The header has the status, so all of it waits for
// the call's end.
type pollAnswer struct {
	unaryAnswer
	sent   bool  // the whole answer was, or failed
	failed error // then
}

// end implements encoder.
func (e *pollAnswer) end(h *httpStream, st *status.Status, _ metadata.MD) error {
	if e.sent {
		return e.failed
	}
	if h.call.codingRefused() {
		h.w.Header()["Accept-Encoding"] = canRead
	}
	if st.Code() != codes.OK {
		header := h.makeWebHeader(codec.Fields(nil))
		code, body := opamp.Refuse(header, st, h.call.ending)
		h.call.challenge(header, code)
		return h.whole(code, mem.BufferSlice{mem.SliceBuffer(body)})
	}
	return e.send(h, e.reply)
}

// send sends a message as the whole answer.
func (e *pollAnswer) send(h *httpStream, reply mem.BufferSlice) error {
	header := h.makeWebHeader(codec.Fields(nil))
	header["Content-Type"] = []string{opamp.ContentType}
	if e.packed {
		header["Content-Encoding"] = gzipped
	}
	return h.whole(http.StatusOK, reply)
}

package bridge

import (
	"context"
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/descriptor"
	"github.com/culvert-grpc/culvert/bridge/message"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/bridge/upstream"
)

// A transport whose messages are JSON sets call.json. The steps then find the method's
// descriptors, the pump converts each message, and the backend gets protobuf. Sizes that
// are counted and observed are those of protobuf, the backend's side.

// describe finds the method's descriptors, if the call needs them. It comes after
// authorize: only a client that may call a method learns whether it exists.
func (s *Server) describe(ctx context.Context, r *running) error {
	c := r.call
	if c.json == nil && !c.unlisted {
		return nil
	}
	method, err := s.described(ctx, r)
	if known := (*report.Fault)(nil); errors.As(err, &known) || err != nil && ctx.Err() != nil {
		return err
	}
	switch {
	case c.unlisted && (err != nil || !method.NoSideEffects):
		return c.mistaken(getMistake(c.Method), report.ReasonNoRoute, "call it by POST, or add it to connect.get if it has no side effects", err)
	case c.json != nil && err != nil:
		return c.mistaken(c.jsonMistake(err), report.ReasonUnsupportedEncoding, remedyOfJSON, err)
	case c.json != nil:
		c.oneRequest = c.oneRequest && !method.ClientStreams
		c.convert = &message.Converter{JSON: *c.json, Method: method, Limit: c.messages, Held: c.held}
		if err := c.findEventID(method.Reply); err != nil {
			return err
		}
		return r.convertFirst()
	}
	return nil
}

// convertFirst converts the message of a complete request before the backend gets the
// call: a malformed one costs the backend nothing.
func (r *running) convertFirst() (err error) {
	if r.call.Complete && r.first == nil {
		r.first, err = r.converted(r.recv())
	}
	return err
}

// firstRequest returns the first request, converted.
func (r *running) firstRequest() (mem.BufferSlice, error) {
	if m := r.first; m != nil {
		r.first = nil
		return m, nil
	}
	return r.converted(r.recvFirst())
}

// findEventID finds the field that has the id of each event, if the route names one.
func (c *call) findEventID(of descriptor.Message) error {
	m := c.route.bare()
	if m == nil || m.EventID == "" {
		return nil
	}
	field, err := of.Field(m.EventID)
	if err != nil {
		return &report.Fault{Reason: report.ReasonUnsupportedEncoding, Text: "message.event_id: " + err.Error(), Remedy: "set message.event_id to a field of the method's replies"}
	}
	c.convert.ID = &field
	return nil
}

// described returns what the backend says of the method. If a split's backend can't be
// reached, another one gets the call, as in open.
func (s *Server) described(ctx context.Context, r *running) (method descriptor.Method, err error) {
	c, others := r.call, 0
	if c.route != nil {
		others = c.route.others()
	}
	for ; ; others-- {
		method, err = r.to.Described(ctx, c.Method)
		if others == 0 || ctx.Err() != nil || !upstream.Unreached(err) || !s.changeBackend(r, c.Metadata[c.route.sticky]) {
			return method, err
		}
	}
}

// mistaken returns the fault of a call that is a client's mistake. A protocol whose answers
// have an HTTP status gets the mistake's.
func (c *call) mistaken(m *mistake, reason report.Reason, remedy string, cause error) error {
	c.mistake = m
	return &report.Fault{Reason: reason, Code: codes.Unimplemented, Text: m.text, Remedy: remedy, Cause: cause}
}

const remedyOfJSON = "give culvert the descriptors: turn on server reflection at the backend, or set backend.descriptors"

// getMistake is the mistake of a GET of a method that may have side effects.
func getMistake(method string) *mistake {
	return &mistake{code: http.StatusMethodNotAllowed, text: "calls of " + method[1:] + " by GET aren't enabled here", headers: []string{"Allow", "POST"}}
}

// jsonMistake is the mistake of sending JSON for a method without descriptors.
func (c *call) jsonMistake(err error) *mistake {
	why := "the backend's descriptors can't be used"
	switch {
	case errors.Is(err, upstream.ErrNoReflection):
		why = "the backend has no server reflection"
	case errors.Is(err, descriptor.ErrUnknown):
		why = "the backend's descriptors don't have it"
	}
	m := &mistake{code: http.StatusUnsupportedMediaType, text: "culvert can't convert JSON for this method: " + why}
	if c.route.bare() == nil {
		m.headers = []string{"Accept-Post", typesWithoutJSON}
	}
	return m
}

// backendSubtype returns the content-subtype for the backend.
func (c *call) backendSubtype() string {
	if c.json != nil {
		return "proto"
	}
	return c.subtype
}

// converted converts a request that was received, unless messages pass as they are. It
// takes the message over.
func (r *running) converted(m mem.BufferSlice, err error) (mem.BufferSlice, error) {
	if r.call.convert == nil || err != nil {
		return m, err
	}
	return r.call.convert.Request(r.timed, m)
}

// toClient converts a reply likewise.
func (r *running) toClient(m mem.BufferSlice) (mem.BufferSlice, error) {
	if r.call.convert == nil {
		return m, nil
	}
	return r.call.convert.Reply(r.timed, m)
}

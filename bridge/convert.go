package bridge

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/message"
	"github.com/culvert-grpc/culvert/bridge/internal/reflection"
	"github.com/culvert-grpc/culvert/bridge/internal/upstream"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// A transport whose messages are JSON sets call.json. The steps then find the method's
// descriptors, the pump converts each message, and the backend gets protobuf. Sizes that
// are counted and observed are those of protobuf, the backend's side.

// A conversion is how the messages of a call are converted.
type conversion struct {
	json     *report.JSON       // how; nil: they pass as they are
	convert  *message.Converter // made of json; nil: they pass as they are
	first    mem.BufferSlice    // the message of a complete request, if it is converted already
	answered *answered          // nil: replies aren't waited for
}

// plainJSON is how culvert writes JSON where no route says it: in the Connect protocol and
// in gRPC-Web.
var plainJSON = new(report.JSON)

// convertJSON has a call's messages converted if they are JSON: by the route's message, or
// by their content type, unless connect.json is pass.
func (c *call) convertJSON() {
	switch {
	case c.route.bare() != nil:
		if c.route.message.InJSON() {
			c.json = &c.route.message.JSON
		}
	case c.subtype == "json" && !c.policy.connect.pass:
		c.json = plainJSON
	}
}

// describe finds the method's descriptors, if the call needs them. It comes after
// authorize: only a client that may call a method learns whether it exists.
func (c *call) describe(ctx context.Context) error {
	unlisted := c.rules.byGet && !c.policy.connect.get.Match(c.Method)
	if c.json == nil && !unlisted {
		return nil
	}
	method, err := c.described(ctx)
	if known, ok := errors.AsType[*report.Fault](err); ok {
		return known
	}
	if err != nil && ctx.Err() != nil {
		return err
	}
	_, mistyped := errors.AsType[*descriptor.UnknownMethodError](err)
	switch {
	case c.json != nil && mistyped:
		return c.undescribed(err)
	case unlisted && (err != nil || !method.NoSideEffects):
		return unimplemented(mistake(http.StatusMethodNotAllowed, "calls of "+c.Method[1:]+" by GET aren't enabled here", "Allow", "POST"), report.ReasonNoRoute, "call it by POST, or add it to connect.get if it has no side effects", err)
	case c.json != nil && err != nil:
		return c.undescribed(err)
	case c.rules.oneReply && method.ServerStreams && !method.ClientStreams:
		return errStreams
	case c.json != nil:
		c.rules.oneRequest = c.rules.oneRequest && !method.ClientStreams
		c.convert = &message.Converter{JSON: descriptor.JSON(*c.json), Method: method, Limit: c.messages, Held: c.held, From: c.to, Replies: c}
		if err := c.findEventID(method.Reply); err != nil {
			return err
		}
		if method.ClientStreams && method.ServerStreams {
			c.answered = &answered{more: make(chan struct{}, 1)}
		}
		if c.Complete && c.first == nil { // a malformed message costs the backend nothing
			c.first, err = c.converted(c.recv())
			return err
		}
	}
	return nil
}

// firstRequest returns the first request, converted.
func (c *call) firstRequest() (mem.BufferSlice, error) {
	if m := c.first; m != nil {
		c.first = nil
		return m, nil
	}
	return c.converted(c.recvFirst())
}

// findEventID finds the field that has the id of each event, if the route names one.
func (c *call) findEventID(of descriptor.Message) error {
	m := c.route.bare()
	if m == nil || m.EventID == "" {
		return nil
	}
	field, err := of.Field(m.EventID)
	if err != nil {
		return &report.Fault{Reason: report.ReasonUnsupportedEncoding, Text: report.Named(report.KeyEventID) + ": " + err.Error(), Remedy: "set " + report.Named(report.KeyEventID) + " to a field of the method's replies"}
	}
	c.convert.ID = &field
	return nil
}

// described returns what the backend says of the method. If a split's backend can't be
// reached, another one gets the call, as in open.
func (c *call) described(ctx context.Context) (method descriptor.Method, err error) {
	var tried []string
	for another := true; another; {
		method, err = c.to.Described(ctx, c.Method)
		if c.route.others() == 0 || ctx.Err() != nil || !upstream.Unreached(err) {
			break
		}
		tried, another = c.changeBackend(c.Metadata[c.route.sticky], tried)
	}
	return method, err
}

// unimplemented makes a mistake the fault of a call. A protocol whose answers have an HTTP
// status gets the mistake's.
func unimplemented(f *report.Fault, reason report.Reason, remedy string, cause error) error {
	f.Reason, f.Code, f.Remedy, f.Cause = reason, codes.Unimplemented, remedy, cause
	return f
}

// undescribed returns the fault of JSON for a method without descriptors.
func (c *call) undescribed(err error) error {
	if wrong, ok := errors.AsType[*descriptor.FalseTypeError](err); ok { // the backend's messages aren't what the client reads
		f := report.New(report.ReasonDescriptorMismatch, "the backend's descriptors define "+wrong.Type+" in another way than protobuf").Because(err)
		f.Remedy = "have the backend use protobuf's own " + wrong.Type + ", or set " + report.Named(report.KeyDescriptors)
		return f
	}
	why, remedy := "the backend's descriptors can't be used", "see the log: it has the cause under this call id; or set "+report.Named(report.KeyDescriptors)
	missing, lacks := errors.AsType[*descriptor.MissingFileError](err)
	unknown, mistyped := errors.AsType[*descriptor.UnknownMethodError](err)
	switch {
	case lacks:
		why = missing.ImportedBy + " imports " + missing.File + ", and the backend's server reflection doesn't have it"
		remedy = "add " + missing.File + " to the backend's server reflection, or set " + report.Named(report.KeyDescriptors)
	case errors.Is(err, reflection.ErrNoReflection):
		why, remedy = "the backend has no server reflection", "give culvert the descriptors: turn on server reflection at the backend, or set "+report.Named(report.KeyDescriptors)
	case mistyped:
		why, remedy = "the backend's descriptors don't have it: no method "+unknown.Method, "correct the method's name, or set "+report.Named(report.KeyDescriptors)+" to descriptors that have it"
		if meant := c.meant(unknown); meant != "" {
			why, remedy = why+": did you mean "+meant+"?", "correct the method's name, or give culvert descriptors that have it"
		}
	case errors.Is(err, descriptor.ErrUnknown):
		why, remedy = "the backend's descriptors don't have it", "correct the service's name, or set "+report.Named(report.KeyDescriptors)+" to descriptors that have it"
	}
	m := mistake(http.StatusUnsupportedMediaType, "culvert can't convert JSON for this method: "+why)
	if c.route.bare() == nil {
		m.Header = []string{"Accept-Post", typesWithoutJSON}
	}
	return unimplemented(m, report.ReasonUnsupportedEncoding, remedy, err)
}

// meant returns the name of a method that the client may have meant, or "". It names none
// that the client may not call: such a name is the client's to guess.
func (c *call) meant(unknown *descriptor.UnknownMethodError) string {
	service := strings.TrimSuffix(c.Method, unknown.Method)
	for _, name := range unknown.Near() {
		if c.policy.mayCall(c, service+name) {
			return name
		}
	}
	return ""
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
func (c *call) converted(m mem.BufferSlice, err error) (mem.BufferSlice, error) {
	if c.convert == nil || err != nil {
		return m, err
	}
	return c.convert.Request(c.timed, m)
}

// toClient converts a reply, unless messages pass as they are. It takes the message over.
func (c *call) toClient(m mem.BufferSlice) (mem.BufferSlice, error) {
	if c.convert == nil {
		return m, nil
	}
	return c.convert.Reply(c.timed, m)
}

package main

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
)

// service does what each call's script says.
type service struct {
	e2epb.UnimplementedProbeServer
	records *records
}

// call is one running call: its script, its record, and the stream's two ends.
// A nil recv or send is a method without that stream.
type call struct {
	ctx    context.Context // lives as long as the call
	script probe.Script
	record *entry
	recv   func() (*e2epb.Request, error)
	send   func(*e2epb.Reply) error

	received, sent uint64
	last           *e2epb.Request
}

func (s *service) Unary(ctx context.Context, in *e2epb.Request) (*e2epb.Reply, error) {
	var out *e2epb.Reply
	err := s.handle(ctx, "Unary", func(c *call) error {
		c.send = func(r *e2epb.Reply) error { out = r; return nil }
		return c.answerOne(in, grpc.SetHeader, grpc.SetTrailer)
	})
	return out, err
}

func (s *service) ServerStream(in *e2epb.Request, stream grpc.ServerStreamingServer[e2epb.Reply]) error {
	return s.handle(stream.Context(), "ServerStream", func(c *call) error {
		c.send = stream.Send
		c.took(in)
		return c.run(stream)
	})
}

func (s *service) ClientStream(stream grpc.ClientStreamingServer[e2epb.Request, e2epb.Reply]) error {
	return s.handle(stream.Context(), "ClientStream", func(c *call) error {
		c.recv = stream.Recv
		c.send = func(r *e2epb.Reply) error { return stream.SendMsg(r) }
		if c.script.Replies == 0 && c.script.Code == 0 {
			c.script.Replies = 1
		}
		return c.run(stream)
	})
}

func (s *service) Bidi(stream grpc.BidiStreamingServer[e2epb.Request, e2epb.Reply]) error {
	return s.handle(stream.Context(), "Bidi", func(c *call) error {
		c.recv, c.send = stream.Recv, stream.Send
		return c.run(stream)
	})
}

// handle keeps the record of one call around do.
func (s *service) handle(ctx context.Context, method string, do func(*call) error) error {
	md, _ := metadata.FromIncomingContext(ctx) // always there in a handler
	script, err := probe.ParseScript(first(md, probe.ScriptKey))
	record := s.records.begin(ctx, method, first(md, probe.IDKey), md)
	if err == nil {
		noted := make(chan struct{})
		unwatch := context.AfterFunc(ctx, func() { defer close(noted); record.cancelled(ctx.Err()) })
		err = do(&call{ctx: ctx, script: script, record: record})
		switch {
		case !unwatch():
			<-noted
		case ctx.Err() != nil: // do has noticed before the watch could
			record.cancelled(ctx.Err())
		}
	} else {
		err = status.Error(codes.InvalidArgument, err.Error())
	}
	record.end(err)
	return err
}

// answerOne is the whole of a unary call.
func (c *call) answerOne(in *e2epb.Request, setHeader, setTrailer func(context.Context, metadata.MD) error) error {
	if err := setHeader(c.ctx, fields(c.script.Header)); err != nil {
		return err
	}
	if err := setTrailer(c.ctx, fields(c.script.Trailer)); err != nil {
		return err
	}
	c.took(in)
	if c.script.Hang {
		<-c.ctx.Done()
		return status.FromContextError(c.ctx.Err()).Err()
	}
	if err := c.reply(c.script.ReplyBytes); err != nil {
		return err
	}
	return c.status()
}

// run is the whole of a streaming call.
func (c *call) run(stream grpc.ServerStream) error {
	stream.SetTrailer(fields(c.script.Trailer))
	setHeader := stream.SetHeader
	if c.script.HeaderEarly {
		setHeader = stream.SendHeader
	}
	if err := setHeader(fields(c.script.Header)); err != nil {
		return err
	}
	steps := []func() error{c.readRequests, c.sendReplies}
	if c.script.RepliesFirst {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if c.script.Hang {
		<-c.ctx.Done()
		return status.FromContextError(c.ctx.Err()).Err()
	}
	return c.status()
}

func (c *call) readRequests() error {
	if c.recv == nil || c.script.Read == probe.ReadNone {
		return nil
	}
	for {
		if err := c.pause(c.script.ReadEvery.Duration()); err != nil {
			return err
		}
		in, err := c.recv()
		if errors.Is(err, io.EOF) {
			c.record.change(func(r *probe.Record) { r.HalfClosed = true })
			return nil
		}
		if err != nil {
			return err
		}
		c.took(in)
		if c.script.Echo {
			if err := c.reply(0); err != nil {
				return err
			}
		}
		if c.script.Read == probe.ReadOne {
			return nil
		}
	}
}

func (c *call) sendReplies() error {
	began := time.Now()
	for i := range c.script.Replies {
		if err := c.awaitTurn(i, began); err != nil {
			return err
		}
		if err := c.reply(c.script.ReplyBytes); err != nil {
			return err
		}
	}
	return nil
}

// awaitTurn waits until reply i is to be sent. The first was due at began.
func (c *call) awaitTurn(i int, began time.Time) error {
	every := c.script.ReplyEvery.Duration()
	switch {
	case c.script.HoldAll, c.script.HoldAfter > 0 && i >= c.script.HoldAfter:
		select {
		case <-c.record.released:
			return nil
		case <-c.ctx.Done():
			return status.FromContextError(c.ctx.Err()).Err()
		}
	case c.script.KeepPace:
		every = time.Until(began.Add(time.Duration(i) * every))
	}
	return c.pause(every)
}

func (c *call) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-c.ctx.Done():
		return status.FromContextError(c.ctx.Err()).Err()
	}
}

// took notes that in was read, and whether it is the one that had to come.
func (c *call) took(in *e2epb.Request) {
	c.record.change(func(r *probe.Record) {
		r.Received++
		r.ReceivedBytes += int64(len(in.GetPayload()))
		switch {
		case r.Fault != "":
		case in.GetSequence() != c.received:
			r.Fault = "a request is lost, doubled or out of order"
		case !c.script.AnyPayload && !probe.SamePayload(in.GetSequence(), in.GetPayload()):
			r.Fault = "a request is damaged"
		}
	})
	c.received++
	c.last = in
}

// reply sends one message: of size bytes, or the last request's content.
func (c *call) reply(size int) error {
	out := &e2epb.Reply{Sequence: c.sent, Received: c.received}
	if c.script.Echo && c.last != nil {
		out.Text, out.Payload = c.last.GetText(), c.last.GetPayload()
	} else {
		out.Payload = probe.Payload(c.sent, size)
	}
	if c.script.EchoMetadata && c.sent == 0 {
		out.Metadata = c.requestMetadata()
	}
	if c.script.EmptyReplies {
		out.Reset()
	}
	began := time.Now()
	if err := c.send(out); err != nil {
		return err
	}
	took := time.Since(began)
	c.sent++
	c.record.change(func(r *probe.Record) {
		if took > r.Blocked {
			r.Blocked, r.BlockedAt = took, r.SentBytes
		}
		r.Sent++
		r.SentBytes += int64(len(out.GetPayload()))
	})
	return nil
}

func (c *call) requestMetadata() []*e2epb.Field {
	md, _ := metadata.FromIncomingContext(c.ctx) // always there in a handler
	var out []*e2epb.Field
	for _, name := range slices.Sorted(maps.Keys(md)) {
		f := &e2epb.Field{Name: name}
		for _, v := range md[name] {
			f.Values = append(f.Values, []byte(v))
		}
		out = append(out, f)
	}
	return out
}

// status is the one that the script wants.
func (c *call) status() error {
	if c.script.Code == 0 {
		return nil
	}
	p := status.New(codes.Code(c.script.Code), c.script.Message).Proto()
	var details []proto.Message
	for _, reason := range c.script.Details {
		details = append(details, &errdetails.ErrorInfo{Reason: reason, Domain: "probe"})
	}
	if c.script.Rich {
		details = append(details, richDetails()...)
	}
	for _, m := range details {
		detail, err := anypb.New(m)
		if err != nil {
			return err
		}
		p.Details = append(p.Details, detail)
	}
	if c.script.Rich { // one that nobody has the type of
		p.Details = append(p.Details, &anypb.Any{TypeUrl: "type.example.com/of.Nobody", Value: probe.Payload(1, 257)})
	}
	return status.ErrorProto(p)
}

func richDetails() []proto.Message {
	return []proto.Message{
		&errdetails.ErrorInfo{Reason: "RICH", Domain: "probe", Metadata: map[string]string{"key": "naïve ☃ %, \r\n"}},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "name", Description: "日本語"}, {Field: "", Description: ""}}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
		&errdetails.DebugInfo{StackEntries: []string{"a", "b"}, Detail: strings.Repeat("long ", 200)},
		&errdetails.Help{}, // of no bytes
	}
}

func fields(in []probe.Field) metadata.MD {
	md := metadata.MD{}
	for _, f := range in {
		md.Append(f.Name, f.Raw())
	}
	return md
}

func first(md metadata.MD, name string) string {
	if values := md.Get(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

package message

import (
	"context"
	"errors"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/descriptor"
	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Converter converts the messages of one call: requests from JSON, and replies to JSON.
// The memory that a conversion takes counts with the call before the conversion begins.
// Requests and replies may be converted at the same time.
type Converter struct {
	JSON   descriptor.JSON
	Method descriptor.Method
	Limit  report.SizeLimit // of a message, as protobuf and as JSON
	Held   *memory.Entry

	// ID is a field of the replies, whose value in the last one is LastID. It may be nil.
	ID     *descriptor.Field
	LastID string
}

// Request converts a request, which it frees. The caller frees the result.
func (c *Converter) Request(ctx context.Context, text mem.BufferSlice) (mem.BufferSlice, error) {
	b, done := joined(text, c.Held.Account().Pool)
	defer done()
	if len(b) == 0 {
		return nil, report.New(report.ReasonBadRequest, "an empty request isn't JSON: send {} for a message without fields")
	}
	out, err := c.convert(ctx, memory.RequestClass, c.JSON.ReadCost(c.Method.Request, b), func() ([]byte, error) {
		return c.JSON.Read(c.Method.Request, b)
	})
	var mistake *descriptor.ReadError
	switch {
	case errors.As(err, &mistake):
		return nil, report.Newf(report.ReasonBadRequest, "a request isn't the JSON of a %s: %v", c.Method.Request.Name(), mistake)
	case err != nil:
		return nil, err
	case out.Len() > c.Limit.Bytes:
		defer out.Free()
		return nil, report.Newf(report.ReasonRequestTooLarge, "a request message of %d bytes is over the limit of %d (%s)", out.Len(), c.Limit.Bytes, c.Limit.Key).UnlessRaised(c.Limit.Key)
	}
	return out, nil
}

// Reply converts a reply likewise.
func (c *Converter) Reply(ctx context.Context, wire mem.BufferSlice) (mem.BufferSlice, error) {
	b, done := joined(wire, c.Held.Account().Pool)
	defer done()
	out, err := c.convert(ctx, memory.ClassOf, c.JSON.WriteCost(c.Method.Reply, b), func() ([]byte, error) {
		text, err := c.JSON.Write(nil, c.Method.Reply, b)
		if err != nil {
			err = report.New(report.ReasonDescriptorMismatch, "a reply of the backend can't be converted to JSON by the descriptors").Because(err)
		}
		return text, err
	})
	if c.ID != nil {
		c.LastID = c.ID.Of(b)
	}
	if err == nil && out.Len() > c.Limit.Bytes {
		defer out.Free()
		return nil, report.Newf(report.ReasonResponseTooLarge, "a response message of %d bytes as JSON is over the limit of %d (%s)", out.Len(), c.Limit.Bytes, c.Limit.Key).UnlessRaised(c.Limit.Key)
	}
	return out, err
}

// convert waits for room for a conversion, and runs it. The result counts with the call,
// in the class of its size, until it is freed.
func (c *Converter) convert(ctx context.Context, class func(bytes int) memory.Class, cost int, run func() ([]byte, error)) (mem.BufferSlice, error) {
	done, fits, err := c.Held.Account().Convert(ctx, int64(cost))
	if !fits {
		f := report.OverLimit(report.KeyBufferedBytes, 0, "the conversion of a message would take more than half of the memory for messages")
		f.Remedy = "send messages with fewer parts, or raise " + report.KeyBufferedBytes
		return nil, f
	}
	if err != nil {
		return nil, err
	}
	defer done()
	b, err := run()
	if err != nil {
		return nil, err
	}
	room := memory.NewClaim(c.Held)
	defer room.Done()
	room.Take(class(len(b)), len(b))
	out := room.Buffer(len(b))
	copy(out.ReadOnlyData(), b)
	return append(room.Slice(), out), nil
}

// joined returns the bytes of a message, valid until done, which frees the message.
func joined(m mem.BufferSlice, pool mem.BufferPool) (b []byte, done func()) {
	if len(m) == 1 {
		return m[0].ReadOnlyData(), m.Free
	}
	whole := m.MaterializeToBuffer(pool)
	return whole.ReadOnlyData(), func() {
		whole.Free()
		m.Free()
	}
}

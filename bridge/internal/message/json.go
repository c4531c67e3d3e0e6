package message

import (
	"context"
	"errors"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/descriptor"
)

// A Converter converts the messages of one call: requests from JSON, and replies to JSON.
// The memory that a conversion takes counts with the call before the conversion begins.
// Requests and replies may be converted at the same time.
type Converter struct {
	JSON   descriptor.JSON
	Method descriptor.Method
	Limit  report.SizeLimit // of a message, as protobuf and as JSON
	Held   *memory.Entry
	From   learner // it may be nil

	// Replies keeps replies that are converted. They leave before the next one's conversion
	// waits. It may be nil.
	Replies memory.Keeper

	// ID is a field of the replies, whose value in the last one is LastID. It may be nil.
	ID     *descriptor.Field
	LastID string
}

// A learner learns what a message of a client at the address has named and the descriptors
// don't have. Without an error, they have it from now on. The error is a *report.Fault, or
// wraps descriptor.ErrUnknown if nobody knows it.
type learner interface {
	Learn(ctx context.Context, by *memory.Address, unknown descriptor.Unknown) error
}

// maxConverted is how often a message is converted, each time with more that was learned.
const maxConverted = 8

// knowing converts a message, and again when the learner has learned what it names. Without
// the type of an Any there is no result; extensions that nobody knows are left out.
func (c *Converter) knowing(ctx context.Context, b []byte, kept memory.Keeper, convert func(*Converter, context.Context, []byte, *descriptor.Unknowns) (mem.BufferSlice, error)) (mem.BufferSlice, error) {
	for n := 1; ; n++ {
		var unknown descriptor.Unknowns
		out, err := convert(c, ctx, b, &unknown)
		if len(unknown.Found) == 0 || n == maxConverted || c.From == nil {
			return out, err
		}
		learned := false
		if kept != nil {
			kept.SendKept()
		}
		for _, u := range unknown.Found {
			why := c.From.Learn(ctx, c.Held.Owner(), u)
			if why == nil {
				learned = true
			} else if err != nil && u.Name == unknown.Type && !errors.Is(why, descriptor.ErrUnknown) {
				return nil, why
			}
		}
		if !learned {
			return out, err
		}
		out.Free()
	}
}

// Request converts a request, which it frees. The caller frees the result.
func (c *Converter) Request(ctx context.Context, text mem.BufferSlice) (mem.BufferSlice, error) {
	b, done := joined(text, c.Held.Account().Pool)
	defer done()
	if len(b) == 0 {
		return nil, report.New(report.ReasonBadRequest, "an empty request isn't JSON: send {} for a message without fields")
	}
	out, err := c.knowing(ctx, b, nil, (*Converter).read)
	mistake, ok := errors.AsType[*descriptor.ReadError](err)
	switch {
	case ok:
		return nil, report.Newf(report.ReasonBadRequest, "a request isn't the JSON of a %s: %v", c.Method.Request.Name(), mistake)
	case err != nil:
		return nil, err
	case out.Len() > c.Limit.Bytes:
		defer out.Free()
		return nil, report.Newf(report.ReasonRequestTooLarge, "a request message of %d bytes is over the limit of %d (%s)", out.Len(), c.Limit.Bytes, report.Named(c.Limit.Key)).UnlessRaised(c.Limit.Key)
	}
	return out, nil
}

func (c *Converter) read(ctx context.Context, b []byte, unknown *descriptor.Unknowns) (mem.BufferSlice, error) {
	of := c.Method.Request.Now()
	cost := func() (int, error) { return c.JSON.ReadCost(of, b) }
	return c.convert(ctx, memory.RequestClass, len(b), nil, cost, func() ([]byte, error) {
		wire, err := c.JSON.Read(of, b, unknown)
		if _, ok := errors.AsType[*descriptor.ReadError](err); err != nil && !ok {
			err = report.New(report.ReasonDescriptorMismatch, "a request can't be converted from JSON by the descriptors").Because(err)
		}
		return wire, err
	})
}

// Reply converts a reply to JSON. It takes the message over.
func (c *Converter) Reply(ctx context.Context, wire mem.BufferSlice) (mem.BufferSlice, error) {
	b, done := joined(wire, c.Held.Account().Pool)
	defer done()
	out, err := c.knowing(ctx, b, c.Replies, (*Converter).write)
	if cant, ok := errors.AsType[*descriptor.WriteError](err); ok {
		f := report.Newf(report.ReasonResponseNotJSON, "a reply can't be written as the JSON of a %s: %v", c.Method.Reply.Name(), cant)
		if cant.UnknownType {
			f.Remedy = "add the type's file to the backend's server reflection or to " + report.Named(report.KeyDescriptors)
		}
		return nil, f
	}
	if c.ID != nil {
		c.LastID = c.ID.Of(b)
	}
	if err == nil && out.Len() > c.Limit.Bytes {
		defer out.Free()
		return nil, report.Newf(report.ReasonResponseTooLarge, "a response message of %d bytes as JSON is over the limit of %d (%s)", out.Len(), c.Limit.Bytes, report.Named(c.Limit.Key)).UnlessRaised(c.Limit.Key)
	}
	return out, err
}

func (c *Converter) write(ctx context.Context, b []byte, unknown *descriptor.Unknowns) (mem.BufferSlice, error) {
	of := c.Method.Reply.Now()
	cost := func() (int, error) { return c.JSON.WriteCost(of, b) }
	return c.convert(ctx, memory.ClassOf, len(b), c.Replies, cost, func() ([]byte, error) {
		text, err := c.JSON.Write(nil, of, b, unknown)
		if _, ok := errors.AsType[*descriptor.WriteError](err); err != nil && !ok {
			err = report.New(report.ReasonDescriptorMismatch, "a reply of the backend can't be converted to JSON by the descriptors").Because(err)
		}
		return text, err
	})
}

// convert waits for room for the conversion of a message of n bytes, and runs it. The result
// counts with the call, in the class of its size, until it is freed.
func (c *Converter) convert(ctx context.Context, class func(bytes int) memory.Class, n int, kept memory.Keeper, estimate func() (int, error), run func() ([]byte, error)) (mem.BufferSlice, error) {
	cost, err := c.estimated(ctx, n, kept, estimate)
	if err != nil {
		return nil, err
	}
	done, err := c.turn(ctx, cost, kept)
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

// estimated returns what a conversion takes. For a large message the estimate computes for
// long, too, so it waits for a turn of its own.
func (c *Converter) estimated(ctx context.Context, n int, kept memory.Keeper, estimate func() (int, error)) (int, error) {
	if n > memory.SmallBytes {
		done, err := c.turn(ctx, n, kept) // the conversion takes more
		if err != nil {
			return 0, err
		}
		defer done()
	}
	return estimate()
}

// turn waits for room for n bytes, which the caller has until done.
func (c *Converter) turn(ctx context.Context, n int, kept memory.Keeper) (done func(), err error) {
	done, fits, err := c.Held.Convert(ctx, int64(n), kept)
	if !fits {
		f := report.OverLimit(report.KeyBufferedBytes, 0, "the conversion of a message would take more memory than conversions may")
		f.Remedy = "send messages with fewer parts, or raise " + report.Named(report.KeyBufferedBytes)
		return nil, f
	}
	return done, err
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

package message

import (
	"context"
	"errors"
	"io"
	"math"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/packing"
	"github.com/culvert-grpc/culvert/bridge/progress"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Reader reads messages from a request's body, in any protocol. Packed may be nil; all
// other fields are required.
type Reader struct {
	Ctx    context.Context // bounds the wait for memory, not the reading
	Body   io.Reader
	Limit  report.SizeLimit // of each message
	Held   *memory.Entry    // counts the messages
	Use    *quota.Call      // counts the decompressed bytes
	Gets   *progress.Record // notes the waits for the client
	Frames Framing
	Packed *packing.Body // what Body reads, if all of it is compressed
}

// A Framing reads the messages in the bodies of one protocol.
type Framing interface {
	// Read reads the next message from m's body with the methods of m, and reports
	// whether the message is compressed with gzip. The caller frees the message. The
	// error is io.EOF at the body's end, or a fault.
	Read(m *Reader) (message mem.BufferSlice, compressed bool, err error)
}

// Next returns one message, which the caller frees, io.EOF at the body's end,
// or a fault.
func (m *Reader) Next() (mem.BufferSlice, error) {
	defer m.Gets.EndParts()
	message, compressed, err := m.Frames.Read(m)
	if err != nil || !compressed {
		return message, err
	}
	defer message.Free()
	return m.gunzip(message)
}

// Begin must be called once a message has begun. It returns why the message is refused,
// or nil.
func (m *Reader) Begin() error {
	if m.Packed == nil {
		return nil
	}
	return m.Packed.Begin()
}

// Fits returns why a message of n bytes is refused, or nil.
func (m *Reader) Fits(n uint32) error {
	if uint64(n) > uint64(m.Limit.Bytes) {
		return report.Newf(report.ReasonRequestTooLarge, "a request message of %d bytes is over the limit of %d (%s)", n, m.Limit.Bytes, m.Limit.Key).UnlessRaised(m.Limit.Key)
	}
	return nil
}

// Payload reads n bytes in chunks, so that an announced length alone reserves nothing:
// the first KiB is free, and reading bytes earns room for more. Where room is scarce,
// or the message takes much of it, Payload reserves all the rest of the message at
// once, so that a message that holds a part can finish.
func (m *Reader) Payload(n int) (mem.BufferSlice, error) {
	if n <= memory.UnpooledBytes {
		return m.tiny(n)
	}
	c := memory.NewClaim(m.Held)
	defer c.Done()
	defer m.Gets.EndRead()
	out := c.Slice()
	step := n
	if n > 4<<10 {
		step = 1 << 10
	}
	for read, reserved := 0, 0; read < n; step = min(memory.ChunkBytes, n-read) {
		if want := m.room(read, n); want > reserved {
			if err := m.reserve(c, memory.Request, want-reserved, want); err != nil {
				out.Free()
				return nil, err
			}
			reserved = want
		}
		chunk := c.Buffer(step)
		out = append(out, chunk)
		m.Gets.ReadPiece()
		got, err := m.ReadFull(chunk.ReadOnlyData())
		read += got
		if err != nil {
			out.Free()
			return nil, brokenOff(err, read, n)
		}
	}
	return out, nil
}

// tiny reads n bytes that need no reserved room.
func (m *Reader) tiny(n int) (mem.BufferSlice, error) {
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, n)
	m.Gets.ReadPiece()
	defer m.Gets.EndRead()
	if read, err := m.ReadFull(b); err != nil {
		return nil, brokenOff(err, read, n)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// ReadFull is io.ReadFull that notes the arrival of parts.
func (m *Reader) ReadFull(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var part int
		part, err = m.Body.Read(b[n:])
		if n += part; part > 0 && (n < len(b) || m.Gets.InParts()) {
			m.Gets.ReadPart(part)
		}
	}
	switch {
	case n == len(b):
		return n, nil
	case n > 0 && errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// brokenOff returns why a message of n bytes was cut before its end.
func brokenOff(err error, read, n int) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return report.Newf(report.ReasonBadRequest, "the request ended inside a message, after %d of %d bytes", read, n)
	}
	return Fault(err)
}

// room returns how much of a message of n bytes must have room after some of it was
// read.
func (m *Reader) room(read, n int) int {
	switch {
	case n <= memory.RoomlessBytes, read == 0 && n > 4<<10:
		return 0
	case read < memory.SmallBytes:
		return min(n, memory.SmallBytes)
	case m.Held.Account().Roomy(n):
		return min(n, read+memory.ChunkBytes)
	default:
		return n
	}
}

// reserve waits for room. Meanwhile the client doesn't count as slow.
func (m *Reader) reserve(c *memory.Claim, share memory.Class, more, all int) error {
	m.Gets.EndRead()
	m.Gets.EndParts()
	of := memory.Small
	if all > memory.SmallBytes {
		of = share
	}
	return c.Reserve(m.Ctx, of, more)
}

// roomToExpand returns how much of a message of at most this size must have room after
// some of it was decompressed. One byte more than the limit shows that it is too large.
func roomToExpand(total, limit int) int {
	switch most := min(limit, math.MaxInt32-1) + 1; {
	case total < memory.ChunkBytes:
		return min(most, memory.ChunkBytes)
	case total < memory.SmallBytes:
		return min(most, memory.SmallBytes)
	default:
		return most
	}
}

// gunzip decompresses a message, and stops one byte beyond the limit.
func (m *Reader) gunzip(packed mem.BufferSlice) (mem.BufferSlice, error) {
	if err := m.Use.MayExpand(); err != nil {
		return nil, err
	}
	src := packed.Reader()
	defer src.Close()
	z, err := packing.NewReader(src)
	if err != nil {
		return nil, report.New(report.ReasonBadRequest, "a compressed message is not gzip").Because(err)
	}
	defer z.Release()
	c := memory.NewClaim(m.Held)
	defer c.Done()
	var out mem.BufferSlice
	for total, reserved := 0, 0; ; {
		// The final size is not known. So beyond 64 KiB, reserve room for the largest
		// possible message, and give back the rest later: of two messages that hold a
		// part and wait, neither would make progress. The compressed message stays held
		// meanwhile: the other share's room can't wait for this one's.
		if want := roomToExpand(total, m.Limit.Bytes); want > reserved {
			if err := m.reserve(c, memory.Reply, want-reserved, want); err != nil {
				out.Free()
				return nil, err
			}
			reserved = want
		}
		chunk := c.Buffer(memory.ChunkBytes)
		n, err := io.ReadFull(z, chunk.ReadOnlyData())
		over := m.Use.Expanded(n, int64(m.Limit.Bytes))
		total += n
		out = append(out, trimmed(chunk, n))
		switch {
		case total > m.Limit.Bytes:
			out.Free()
			return nil, report.Newf(report.ReasonRequestTooLarge, "a request message decompresses to more than the limit of %d bytes (%s)", m.Limit.Bytes, m.Limit.Key).UnlessRaised(m.Limit.Key)
		case over != nil:
			out.Free()
			return nil, over
		case err != nil && z.AtEnd(): // io.ReadFull reports the stream's proper end in its own way
			c.Trim(memory.Small, total)
			c.Trim(memory.Reply, max(total-memory.SmallBytes, 0))
			return out, nil
		case err != nil:
			out.Free()
			return nil, report.New(report.ReasonBadRequest, "a compressed message can't be decompressed").Because(err)
		}
	}
}

// trimmed cuts a buffer to its first n bytes and frees the rest with it.
func trimmed(b mem.Buffer, n int) mem.Buffer {
	if n == b.Len() {
		return b
	}
	short := mem.SliceBuffer(append([]byte(nil), b.ReadOnlyData()[:n]...))
	b.Free()
	return short
}

package bridge

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/memory"
	"github.com/culvert-grpc/culvert/bridge/packing"
	"github.com/culvert-grpc/culvert/bridge/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// A messageReader reads messages from a request's body, in any protocol.
type messageReader struct {
	ctx    context.Context // bounds the wait for memory, not the reading
	body   io.Reader
	limit  report.SizeLimit
	held   *memory.Entry
	use    *quota.Call
	gets   *progress
	frames framing
	packed *packing.Body // what body reads, if all of it is compressed
}

// A framing reads the messages in the bodies of one protocol.
type framing interface {
	// read reads the next message from m's body with the methods of m, and reports
	// whether the message is compressed with gzip. The caller frees the message. The
	// error is io.EOF at the body's end, or a fault.
	read(m *messageReader) (message mem.BufferSlice, compressed bool, err error)
}

// next returns one message, which the caller frees, io.EOF at the body's end,
// or a fault.
func (m *messageReader) next() (mem.BufferSlice, error) {
	defer m.gets.endParts()
	message, compressed, err := m.frames.read(m)
	if err != nil || !compressed {
		return message, err
	}
	defer message.Free()
	return m.gunzip(message)
}

// begin must be called once a message has begun. It returns why the message is refused,
// or nil.
func (m *messageReader) begin() error {
	if m.packed == nil {
		return nil
	}
	return m.packed.Begin()
}

// fits returns why a message of n bytes is refused, or nil.
func (m *messageReader) fits(n uint32) error {
	if uint64(n) > uint64(m.limit.Bytes) {
		return report.Newf(report.ReasonRequestTooLarge, "a request message of %d bytes is over the limit of %d (%s)", n, m.limit.Bytes, m.limit.Key).UnlessRaised(m.limit.Key)
	}
	return nil
}

// payload reads n bytes in chunks, so that an announced length alone reserves nothing:
// the first KiB is free, and reading bytes earns room for more. Where room is scarce,
// or the message takes much of it, payload reserves all the rest of the message at
// once, so that a message that holds a part can finish.
func (m *messageReader) payload(n int) (mem.BufferSlice, error) {
	if n <= memory.UnpooledBytes {
		return m.tiny(n)
	}
	c := memory.NewClaim(m.held)
	defer c.Done()
	defer m.gets.endRead()
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
		m.gets.readPiece()
		got, err := m.readFull(chunk.ReadOnlyData())
		read += got
		if err != nil {
			out.Free()
			return nil, brokenOff(err, read, n)
		}
	}
	return out, nil
}

// tiny reads n bytes that need no reserved room.
func (m *messageReader) tiny(n int) (mem.BufferSlice, error) {
	if n == 0 {
		return nil, nil
	}
	b := make([]byte, n)
	m.gets.readPiece()
	defer m.gets.endRead()
	if read, err := m.readFull(b); err != nil {
		return nil, brokenOff(err, read, n)
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

// readFull is io.ReadFull that notes the arrival of parts.
func (m *messageReader) readFull(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var part int
		part, err = m.body.Read(b[n:])
		if n += part; part > 0 && (n < len(b) || m.gets.inParts()) {
			m.gets.readPart(part)
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
	return bodyError(err)
}

// room returns how much of a message of n bytes must have room after some of it was
// read.
func (m *messageReader) room(read, n int) int {
	switch {
	case n <= memory.RoomlessBytes, read == 0 && n > 4<<10:
		return 0
	case read < memory.SmallBytes:
		return min(n, memory.SmallBytes)
	case m.held.Account().Roomy(n):
		return min(n, read+memory.ChunkBytes)
	default:
		return n
	}
}

// reserve waits for room. Meanwhile the client doesn't count as slow.
func (m *messageReader) reserve(c *memory.Claim, share memory.Class, more, all int) error {
	m.gets.endRead()
	m.gets.endParts()
	of := memory.Small
	if all > memory.SmallBytes {
		of = share
	}
	return c.Reserve(m.ctx, of, more)
}

// roomToExpand returns how much of a message of at most this size must have room after
// some of it was decompressed. One byte more than the limit shows that it is too large.
func roomToExpand(total, limit int) int {
	switch most := min(limit, noLimit-1) + 1; {
	case total < memory.ChunkBytes:
		return min(most, memory.ChunkBytes)
	case total < memory.SmallBytes:
		return min(most, memory.SmallBytes)
	default:
		return most
	}
}

// gunzip decompresses a message, and stops one byte beyond the limit.
func (m *messageReader) gunzip(packed mem.BufferSlice) (mem.BufferSlice, error) {
	if err := m.use.MayExpand(); err != nil {
		return nil, err
	}
	src := packed.Reader()
	defer src.Close()
	z, err := packing.NewReader(src)
	if err != nil {
		return nil, report.New(report.ReasonBadRequest, "a compressed message is not gzip").Because(err)
	}
	defer z.Release()
	c := memory.NewClaim(m.held)
	defer c.Done()
	var out mem.BufferSlice
	for total, reserved := 0, 0; ; {
		// The final size is not known. So beyond 64 KiB, reserve room for the largest
		// possible message, and give back the rest later: of two messages that hold a
		// part and wait, neither would make progress. The compressed message stays held
		// meanwhile: the other share's room can't wait for this one's.
		if want := roomToExpand(total, m.limit.Bytes); want > reserved {
			if err := m.reserve(c, memory.Reply, want-reserved, want); err != nil {
				out.Free()
				return nil, err
			}
			reserved = want
		}
		chunk := c.Buffer(memory.ChunkBytes)
		n, err := io.ReadFull(z, chunk.ReadOnlyData())
		over := m.use.Expanded(n, int64(m.limit.Bytes))
		total += n
		out = append(out, trimmed(chunk, n))
		switch {
		case total > m.limit.Bytes:
			out.Free()
			return nil, report.Newf(report.ReasonRequestTooLarge, "a request message decompresses to more than the limit of %d bytes (%s)", m.limit.Bytes, m.limit.Key).UnlessRaised(m.limit.Key)
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

// bodyError returns what a broken body means: a fault when the bytes are wrong, else
// that the client has gone away.
func bodyError(err error) error {
	var f *report.Fault
	if errors.As(err, &f) {
		return f
	}
	if errors.Is(err, codec.ErrTextTruncated) || errors.Is(err, codec.ErrTextMalformed) {
		return report.New(report.ReasonBadRequest, "the request is not base64: "+err.Error())
	}
	if malformedBody(err) {
		return report.New(report.ReasonBadRequest, "the HTTP body can't be read: its chunks or its length are wrong").Because(err).Ending(report.EndedProtocol)
	}
	return report.New(report.ReasonClientGone, errGone.Text).Because(err)
}

package message

import (
	"context"
	"errors"
	"io"
	"math"
	"slices"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// A Reader reads messages from a request's body, in any protocol. Packed may be nil; all
// other fields are required.
type Reader struct {
	Ctx    context.Context // bounds the wait for memory, not the reading
	Body   io.Reader
	Limit  *report.SizeLimit // of each message; known before the first is read
	Held   *memory.Entry     // counts the messages
	Use    *quota.Call       // counts the decompressed bytes
	Gets   *progress.Record  // notes the waits for the client
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
	n, err = m.fill(b)
	if n > 0 && errors.Is(err, io.EOF) {
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// fill reads until b is full. It returns the body's own error otherwise: io.EOF is the
// body's end.
func (m *Reader) fill(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var part int
		part, err = m.Body.Read(b[n:])
		if n += part; part > 0 && (n < len(b) || m.Gets.InParts()) {
			m.Gets.ReadPart(part)
		}
	}
	if n == len(b) {
		return n, nil
	}
	return n, err
}

// rest reads all that is left of the body as one message. Its length isn't known, so
// like a decompressed message it reserves room for the largest possible one where room
// is scarce.
func (m *Reader) rest() (mem.BufferSlice, error) {
	defer m.Gets.EndRead()
	most := mostOf(m.Limit.Bytes)
	room := func(read int) int {
		if read == 0 {
			return 0
		}
		return m.room(read, most)
	}
	return m.gather(memory.Request, room, func(chunk []byte) (int, error) {
		m.Gets.ReadPiece()
		n, err := m.fill(chunk)
		if err == nil || errors.Is(err, io.EOF) {
			return n, err
		}
		return n, Fault(err)
	}, func() error { return m.fits(int64(m.Limit.Bytes) + 1) })
}

// gather reads a message of unknown length in chunks, and stops one byte beyond the
// limit. room returns how much must have room after some bytes were read: nothing for
// the first KiB. read fills a chunk, and returns io.EOF with the message's last bytes.
// over returns the fault of a message over the limit.
func (m *Reader) gather(share memory.Class, room func(read int) int, read func([]byte) (int, error), over func() error) (mem.BufferSlice, error) {
	c := memory.NewClaim(m.Held)
	defer c.Done()
	var out mem.BufferSlice
	for total, reserved := 0, 0; ; {
		if want := room(total); want > reserved {
			if err := m.reserve(c, share, want-reserved, want); err != nil {
				out.Free()
				return nil, err
			}
			reserved = want
		}
		step := memory.ChunkBytes
		if reserved == 0 {
			step = memory.RoomlessBytes
		}
		chunk := c.Buffer(step)
		n, err := read(chunk.ReadOnlyData())
		total += n
		out = append(out, trimmed(chunk, n))
		switch {
		case total > m.Limit.Bytes:
			out.Free()
			return nil, over()
		case errors.Is(err, io.EOF):
			c.Trim(memory.Small, total)
			c.Trim(share, max(total-memory.SmallBytes, 0))
			return out, nil
		case err != nil:
			out.Free()
			return nil, err
		}
	}
}

// fits returns why a message of n bytes is refused, or nil.
func (m *Reader) fits(n int64) error {
	if n > int64(m.Limit.Bytes) {
		return report.Newf(report.ReasonRequestTooLarge, "a request message of %d bytes is over the limit of %d (%s)", n, m.Limit.Bytes, report.Named(m.Limit.Key)).UnlessRaised(m.Limit.Key)
	}
	return nil
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

// mostOf returns the size for which a message of unknown length may need room: one byte
// more than the limit shows that it is too large.
func mostOf(limit int) int { return min(limit, math.MaxInt32-1) + 1 }

// roomToExpand returns how much of a message must have room after some of it was
// decompressed. The final size is not known. So beyond 64 KiB, gunzip reserves room for
// the largest possible message, and gives back the rest later: of two messages that hold
// a part and wait, neither would make progress.
func (m *Reader) roomToExpand(total int) int {
	switch most := mostOf(m.Limit.Bytes); {
	case total < memory.ChunkBytes:
		return min(most, memory.ChunkBytes)
	case total < memory.SmallBytes:
		return min(most, memory.SmallBytes)
	default:
		return most
	}
}

// gunzip decompresses a message. The compressed message stays held meanwhile: the other
// share's room can't wait for this one's.
func (m *Reader) gunzip(packed mem.BufferSlice) (mem.BufferSlice, error) {
	if err := m.Use.MayExpand(); err != nil {
		return nil, err
	}
	turn := turn{m: m}
	defer turn.end()
	if err := turn.take(declaredSize(packed)); err != nil {
		return nil, err
	}
	src := packed.Reader()
	defer src.Close()
	z, err := packing.NewReader(src)
	if err != nil {
		return nil, report.New(report.ReasonBadRequest, "a compressed message is not gzip").Because(err)
	}
	defer z.Release()
	return m.gather(memory.Reply, m.roomToExpand, func(chunk []byte) (int, error) {
		if err := turn.take(turn.read); err != nil {
			return 0, err
		}
		n, err := io.ReadFull(z, chunk)
		turn.read += n
		if over := m.Use.Expanded(n, int64(m.Limit.Bytes)); over != nil {
			return n, over
		}
		switch {
		case err == nil:
			return n, nil
		case z.AtEnd(): // io.ReadFull reports the stream's proper end in its own way
			return n, io.EOF
		}
		return n, report.New(report.ReasonBadRequest, "a compressed message can't be decompressed").Because(err)
	}, func() error {
		return report.Newf(report.ReasonRequestTooLarge, "a request message decompresses to more than the limit of %d bytes (%s)", m.Limit.Bytes, report.Named(m.Limit.Key)).UnlessRaised(m.Limit.Key)
	})
}

// A turn is a message's right to be decompressed beyond one chunk. A message that declares
// more waits for its turn before any work, so that a refusal after the wait costs nothing.
// One that has declared less than it holds waits when that shows.
type turn struct {
	m    *Reader
	read int    // decompressed bytes
	done func() // nil: the turn hasn't come
}

// take waits for the turn, if a message of this size needs one.
func (t *turn) take(size int) (err error) {
	if t.done != nil || size < memory.ChunkBytes {
		return nil
	}
	t.m.Gets.EndParts() // the client doesn't count as slow meanwhile
	t.done, err = t.m.Use.ExpandLarge(t.m.Ctx)
	return err
}

func (t *turn) end() {
	if t.done != nil {
		t.done()
	}
}

// declaredSize returns the size in the last four bytes of a gzip stream. RFC 1952 §2.3.1.
func declaredSize(packed mem.BufferSlice) int {
	size, shift := uint32(0), 32
	for _, b := range slices.Backward(packed) {
		data := b.ReadOnlyData()
		for i := len(data) - 1; i >= 0 && shift > 0; i-- {
			shift -= 8
			size |= uint32(data[i]) << shift
		}
	}
	return int(size)
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

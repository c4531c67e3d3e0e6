package message

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/bridge/internal/progress"
	"github.com/culvert-grpc/culvert/bridge/internal/quota"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
	"github.com/culvert-grpc/culvert/internal/parts"
)

func newReader(body io.Reader, limit int, coding string) *Reader {
	return &Reader{
		Ctx: context.Background(), Body: body, Limit: &report.SizeLimit{Bytes: limit, Key: report.KeyMessageBytes}, Held: memory.New(30<<20, 0).NewEntry(), Use: new(quota.Call),
		Gets: &progress.Record{Clock: parts.StandingClock()}, Frames: &GRPC{Coding: coding},
	}
}

func reasonOf(err error) report.Reason {
	var f *report.Fault
	if errors.As(err, &f) {
		return f.Reason
	}
	return ""
}

// someMessages has every size at which something changes: empty, unpooled,
// one chunk, its borders, several chunks.
func someMessages() [][]byte {
	var messages [][]byte
	for _, n := range []int{0, 1, 7, 1 << 10, 1<<10 + 1, memory.ChunkBytes - 1, memory.ChunkBytes, memory.ChunkBytes + 1, 3*memory.ChunkBytes + 100, 0} {
		messages = append(messages, parts.Pattern(n))
	}
	return messages
}

func TestMessagesAreTheSameWhateverTheChunks(t *testing.T) {
	var body []byte
	for i, m := range someMessages() {
		if i%2 == 0 {
			body = append(body, parts.Framed(0, m)...)
		} else {
			body = append(body, parts.Framed(codec.FlagCompressed, parts.Gzipped(m))...)
		}
	}
	for name, chunked := range map[string]func(io.Reader) io.Reader{
		"whole":         func(r io.Reader) io.Reader { return r },
		"halves":        iotest.HalfReader,
		"bytes":         iotest.OneByteReader,
		"EOF with data": iotest.DataErrReader,
	} {
		m := newReader(chunked(bytes.NewReader(body)), 1<<20, "gzip")
		got, err := parts.ReadMessages(m)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.EqualFunc(got, someMessages(), bytes.Equal) {
			t.Errorf("%s: the messages differ", name)
		}
		parts.WantUsed(t, m.Held.Account(), 0)
	}
}

func TestGzipVector(t *testing.T) {
	body, err := hex.DecodeString("010000001f1f8b08000000000000ffe2622dcf2fca4901040000ffffddf7849507000000")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parts.ReadMessages(newReader(bytes.NewReader(body), 100, "gzip"))
	if err != nil || len(got) != 1 || hex.EncodeToString(got[0]) != "0a05776f726c64" {
		t.Errorf("read %x, %v; want one message 0a05776f726c64", got, err)
	}
}

func TestMessagesThatAreRefused(t *testing.T) {
	const limit = 100
	zeros := make([]byte, limit+1)
	cut := parts.Gzipped(parts.Pattern(50))
	for _, c := range []struct {
		name, body, coding string
		want               report.Reason
		says               string
	}{
		{"trailers flag", "\x80\x00\x00\x00\x00", "", report.ReasonBadRequest, "0x80"},
		{"compressed trailers flag", "\x81\x00\x00\x00\x00", "", report.ReasonBadRequest, "0x81"},
		{"reserved flag", "\x02\x00\x00\x00\x00", "", report.ReasonBadRequest, "0x02"},
		{"text", "GET / HTTP/1.1\r\n\r\n", "", report.ReasonBadRequest, "0x47"},
		{"end in the prefix", "\x00\x00\x00", "", report.ReasonBadRequest, "prefix"},
		{"end after the prefix", "\x00\x00\x00\x00\x05", "", report.ReasonBadRequest, "0 of 5"},
		{"end in the message", "\x00\x00\x00\x00\x05abc", "", report.ReasonBadRequest, "3 of 5"},
		{"one over the limit", "\x00\x00\x00\x00\x65", "", report.ReasonRequestTooLarge, report.KeyMessageBytes},
		{"4 GiB announced", "\x00\xff\xff\xff\xff", "", report.ReasonRequestTooLarge, "4294967295"},
		{"compressed without a coding", string(parts.Framed(1, cut)), "", report.ReasonBadRequest, "grpc-encoding"},
		{"compressed and empty without a coding", "\x01\x00\x00\x00\x00", "", report.ReasonBadRequest, "grpc-encoding"},
		{"not gzip", string(parts.Framed(1, []byte("not gzip, by any means"))), "gzip", report.ReasonBadRequest, "gzip"},
		{"gzip without its end", string(parts.Framed(1, cut[:len(cut)-9])), "gzip", report.ReasonBadRequest, "decompressed"},
		{"gzip with a wrong sum", string(parts.Framed(1, parts.Flip(cut, len(cut)-6))), "gzip", report.ReasonBadRequest, "decompressed"},
		{"gzip and then something else", string(parts.Framed(1, append(bytes.Clone(cut), "more"...))), "gzip", report.ReasonBadRequest, "decompressed"},
		{"gzip of one over the limit", string(parts.Framed(1, parts.Gzipped(zeros))), "gzip", report.ReasonRequestTooLarge, report.KeyMessageBytes},
	} {
		m := newReader(strings.NewReader(c.body), limit, c.coding)
		got, err := parts.ReadMessages(m)
		if reasonOf(err) != c.want || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: got %d messages and %v, want %v that says %q", c.name, len(got), err, c.want, c.says)
		}
		parts.WantUsed(t, m.Held.Account(), 0)
	}
}

func TestMessageAtTheLimitPasses(t *testing.T) {
	const limit = 1 << 20
	want := parts.Pattern(limit)
	for _, body := range [][]byte{parts.Framed(0, want), parts.Framed(1, parts.Gzipped(want))} {
		m := newReader(bytes.NewReader(body), limit, "gzip")
		got, err := parts.ReadMessages(m)
		if err != nil || len(got) != 1 || !bytes.Equal(got[0], want) {
			t.Errorf("flag %d: got %d messages, %v; want the one of %d bytes", body[0], len(got), err, limit)
		}
		parts.WantUsed(t, m.Held.Account(), 0)
	}
}

// TestBombIsNotExpanded holds that no more is expanded than the limit and the
// chunk that shows that it is passed.
func TestBombIsNotExpanded(t *testing.T) {
	const limit = 256 << 10
	bomb := parts.Gzipped(make([]byte, 8<<20))
	m := newReader(bytes.NewReader(parts.Framed(1, bomb)), limit, "gzip")
	most := &peakPool{BufferPool: m.Held.Account().Pool}
	m.Held.Account().Pool = most
	if _, err := parts.ReadMessages(m); reasonOf(err) != report.ReasonRequestTooLarge {
		t.Errorf("got %v, want %v", err, report.ReasonRequestTooLarge)
	}
	if packed := int64(len(bomb)) + memory.ChunkBytes; most.peak > limit+memory.ChunkBytes+packed {
		t.Errorf("a bomb of %d bytes made a reader hold %d, with a limit of %d", len(bomb), most.peak, limit)
	}
	parts.WantUsed(t, m.Held.Account(), 0)
}

// peakPool notes the most that was out of the pool at once.
type peakPool struct {
	mem.BufferPool
	out, peak int64
}

func (p *peakPool) Get(n int) *[]byte {
	buf := p.BufferPool.Get(n)
	p.out += int64(cap(*buf))
	p.peak = max(p.peak, p.out)
	return buf
}

func (p *peakPool) Put(buf *[]byte) {
	p.out -= int64(cap(*buf))
	p.BufferPool.Put(buf)
}

// TestFlagIsJudgedBeforeTheRestComes holds that a client that sends a wrong
// byte and waits is answered.
func TestFlagIsJudgedBeforeTheRestComes(t *testing.T) {
	silent := readerFunc(func([]byte) (int, error) {
		t.Error("more was read than the flag")
		return 0, io.EOF
	})
	m := newReader(io.MultiReader(strings.NewReader("\x04"), silent), 100, "")
	if _, err := m.Next(); reasonOf(err) != report.ReasonBadRequest {
		t.Errorf("got %v, want %v", err, report.ReasonBadRequest)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestAnnouncedLengthHoldsNothing: a KiB has to come before any room is
// taken, 64 KiB before the room for all, and a message that stops half way is
// noted as such.
func TestAnnouncedLengthHoldsNothing(t *testing.T) {
	const length = 16 << 20
	prefix := codec.FrameHeader{Length: length}.AppendTo(nil)
	var m *Reader
	came := 0
	body := readerFunc(func(p []byte) (int, error) {
		held, bound := m.Held.Account().Used(), int64(length)
		switch {
		case came < 1<<10:
			bound = 0
		case came < memory.SmallBytes:
			bound = memory.SmallBytes
		}
		if held > bound {
			t.Fatalf("with %d bytes of the message there, %d are held, want at most %d", came, held, bound)
		}
		if m.Gets.MessageSince() == 0 {
			t.Fatal("the message isn't noted as half read")
		}
		if came >= 1<<20 {
			return 0, io.ErrUnexpectedEOF
		}
		n := min(len(p), 10<<10)
		came += n
		return n, nil
	})
	m = newReader(io.MultiReader(bytes.NewReader(prefix), body), length, "")
	if _, err := m.Next(); reasonOf(err) != report.ReasonBadRequest {
		t.Errorf("got %v, want %v", err, report.ReasonBadRequest)
	}
	if m.Gets.MessageSince() != 0 {
		t.Error("after the end the message is still noted as half read")
	}
	parts.WantUsed(t, m.Held.Account(), 0)
}

func TestReaderThatWaitsForMemoryEndsWithItsCall(t *testing.T) {
	cause := errors.New("the call ended")
	ctx, cancel := context.WithCancelCause(t.Context())
	m := newReader(bytes.NewReader(parts.Framed(0, parts.Pattern(4*memory.ChunkBytes))), 1<<20, "")
	m.Ctx = ctx
	m.Held.Account().SetBounds(3*memory.ChunkBytes, 0)
	other := m.Held.Account().NewEntry()
	other.Add(memory.Request, memory.ChunkBytes)
	cancel(cause)
	if _, err := m.Next(); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	other.Settle()
	parts.WantUsed(t, m.Held.Account(), 0)
}

func TestBrokenBody(t *testing.T) {
	reset := errors.New("read tcp: connection reset by peer")
	own := report.New(report.ReasonUnsupportedEncoding, "its own")
	for _, c := range []struct {
		err  error
		want report.Reason
	}{
		{reset, report.ReasonClientGone},
		{fmt.Errorf("%w: at byte 7", codec.ErrTextMalformed), report.ReasonBadRequest},
		{codec.ErrTextTruncated, report.ReasonBadRequest},
		{own, report.ReasonUnsupportedEncoding},
	} {
		for _, before := range []string{"", "\x00", "\x00\x00\x00\x00\x05ab"} {
			m := newReader(io.MultiReader(strings.NewReader(before), iotest.ErrReader(c.err)), 100, "")
			_, err := m.Next()
			if reasonOf(err) != c.want {
				t.Errorf("%q and then %v: got %v, want %v", before, c.err, err, c.want)
			}
			if errors.Is(err, io.EOF) {
				t.Errorf("%q and then %v: %v reads as the client's half-close", before, c.err, err)
			}
		}
	}
}

func TestCompressedMessagesExpandToThemselves(t *testing.T) {
	for _, want := range append(someMessages(), bytes.Repeat([]byte("culvert "), 100<<10)) {
		out := &peakPool{BufferPool: mem.DefaultBufferPool()}
		packed, err := packing.Pack(mem.BufferSlice{mem.Copy(want, out)}, out)
		if err != nil {
			t.Fatal(err)
		}
		if got := packed.Materialize()[8]; got != 4 { // XFL, RFC 1952 §2.3.1: the fastest algorithm
			t.Errorf("%d bytes are packed with XFL %d, want 4", len(want), got)
		}
		z, err := gzip.NewReader(bytes.NewReader(packed.Materialize()))
		if err != nil {
			t.Fatalf("%d bytes: %v", len(want), err)
		}
		got, err := io.ReadAll(z)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes expand to %d, %v", len(want), len(got), err)
		}
		packed.Free()
		if out.out != 0 {
			t.Errorf("%d bytes: %d are still out of the pool", len(want), out.out)
		}
	}
}

// FuzzMessageReader holds that chunking changes nothing, that what is taken
// for messages is what the body says, and that nothing is held at the end.
// Bytes inserted at one place make large messages.
func FuzzMessageReader(f *testing.F) {
	add := func(text []byte, step uint8, limit uint32, packed bool) {
		f.Add(text, uint16(0), uint16(0), step, limit, packed)
	}
	add([]byte{}, 1, 100, false)
	add(parts.Framed(0, nil), 1, 100, false)
	add(append(parts.Framed(0, []byte("hello")), parts.Framed(0, nil)...), 3, 100, false)
	add(parts.Framed(1, parts.Gzipped([]byte("hello"))), 2, 100, true)
	add(parts.Framed(1, parts.Gzipped(bytes.Repeat([]byte{0}, 10<<10))), 7, 1<<10, true)
	f.Add([]byte{0, 0, 0, 0x80, 1}, uint16(5), uint16(memory.ChunkBytes+1), uint8(200), uint32(1<<20), false)
	add(parts.Framed(0, []byte("hello"))[:7], 1, 100, false)
	add([]byte{0x80, 0, 0, 0, 0}, 1, 100, false)
	add([]byte{0, 0xff, 0xff, 0xff, 0xff}, 1, 1<<20, false)
	f.Fuzz(func(t *testing.T, text []byte, at, more uint16, step uint8, atMost uint32, packed bool) {
		if len(text) > parts.MaxFuzzed {
			return
		}
		limit := int(atMost % (1<<20 + 1))
		body := parts.Stretched(text, int(at), int(more))
		size := max(int(step)+1, len(body)/256) // a large message needn't come in thousands of pieces
		coding := ""
		if packed {
			coding = "gzip"
		}
		whole := newReader(bytes.NewReader(body), limit, coding)
		want, wantErr := parts.ReadMessages(whole)
		rest := body
		inSteps := newReader(readerFunc(func(p []byte) (int, error) {
			if len(rest) == 0 {
				return 0, io.EOF
			}
			n := copy(p[:min(len(p), size)], rest)
			rest = rest[n:]
			return n, nil
		}), limit, coding)
		got, err := parts.ReadMessages(inSteps)
		if !slices.EqualFunc(got, want, bytes.Equal) || reasonOf(err) != reasonOf(wantErr) || (err == nil) != (wantErr == nil) {
			t.Errorf("%x: whole %d messages and %v, in steps of %d %d and %v", body, len(want), wantErr, size, len(got), err)
		}
		var again []byte
		for _, m := range got {
			if len(m) > limit {
				t.Errorf("%x: a message of %d bytes passed the limit of %d", body, len(m), limit)
			}
			again = append(again, parts.Framed(0, m)...)
		}
		if !packed && !bytes.HasPrefix(body, again) {
			t.Errorf("%x was read as %x", body, again)
		}
		if err == nil && !packed && len(again) != len(body) {
			t.Errorf("%x: %d bytes were left out in silence", body, len(body)-len(again))
		}
		for _, m := range []*Reader{whole, inSteps} {
			parts.WantUsed(t, m.Held.Account(), 0)
			if held := m.Held.Total(); held != 0 {
				t.Errorf("%x: the call still holds %d bytes", body, held)
			}
		}
	})
}

// BenchmarkMessages reads messages that one buffer holds.
func BenchmarkMessages(b *testing.B) {
	for _, n := range []int{100, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dB", n), func(b *testing.B) {
			whole := parts.Framed(0, parts.Pattern(n))
			body := bytes.NewReader(whole)
			m := newReader(body, 1<<20, "")
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(whole)
				s, err := m.Next()
				if err != nil {
					b.Fatal(err)
				}
				s.Free()
			}
		})
	}
}

// TestMessagesNeverWaitForEachOther: in an account that one message fills, any number of
// large messages are read, one after the other: none holds a part that another lacks.
func TestMessagesNeverWaitForEachOther(t *testing.T) {
	const limit, readers = 4 << 20, 16
	for name, c := range map[string]struct {
		size   int
		packed bool
	}{
		"as large as may be": {limit, false}, "a quarter": {limit / 4, false}, "just large": {memory.SmallBytes + 1, false}, "small": {memory.SmallBytes, false},
		"packed, as large as may be": {limit, true}, "packed, a quarter": {limit / 4, true}, "packed, small": {20 << 10, true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			message, flags := make([]byte, c.size), byte(0)
			if c.packed {
				message, flags = parts.Gzipped(message), codec.FlagCompressed
			}
			synctest.Test(t, func(t *testing.T) {
				account := memory.New(limit, 0)
				start := time.Now()
				var reading sync.WaitGroup
				for range readers {
					body, client := io.Pipe()
					reading.Go(func() {
						all := parts.Framed(flags, message)
						for len(all) > 0 { // all begin before any ends
							n := min(len(all), 30<<10)
							if _, err := client.Write(all[:n]); err != nil {
								return
							}
							all = all[n:]
							<-time.After(time.Nanosecond)
						}
					})
					reading.Go(func() {
						defer body.Close()
						m := newReader(body, limit, "gzip")
						m.Held = account.NewEntry()
						got, err := m.Next()
						if err != nil || got.Len() != c.size {
							t.Errorf("%d bytes came with %v, want %d", got.Len(), err, c.size)
						}
						got.Free()
					})
				}
				reading.Wait()
				if took := time.Since(start); took > memory.Patience/2 {
					t.Errorf("it took %v, so somebody waited in vain", took)
				}
				parts.WantUsed(t, account, 0)
			})
		})
	}
}

// TestBombsTakeTurns: of many messages that expand a lot and come together from one address,
// the first are whole, and the others are refused before any work.
func TestBombsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const messages, size = 300, 15 << 20
		turns := max(2, runtime.GOMAXPROCS(0))
		bomb := parts.Framed(codec.FlagCompressed, parts.Gzipped(make([]byte, size)))
		q := quota.New(report.Quota{}, report.Quota{DecompressedPerSecond: turns * size}, false, report.NewRefusals(slog.New(slog.DiscardHandler), report.Discard()))
		listener := quota.NewListenerScope(report.Quota{})
		var passed, refused atomic.Int64
		var all sync.WaitGroup
		for range messages {
			all.Go(func() {
				use := q.Call(listener, nil, "192.0.2.1:1", nil)
				if err := use.Begin("/a.B/C"); err != nil {
					t.Error(err)
					return
				}
				defer use.End()
				m := newReader(bytes.NewReader(bomb), 16<<20, "gzip")
				m.Use = &use
				switch got, err := m.Next(); reasonOf(err) {
				case "":
					passed.Add(1)
					got.Free()
				case report.ReasonLimitExceeded:
					refused.Add(1)
				default:
					t.Error(err)
				}
				parts.WantUsed(t, m.Held.Account(), 0)
			})
		}
		all.Wait()
		if n := int(passed.Load()); n < turns || n > turns+1 || n+int(refused.Load()) != messages { // one may be a debt
			t.Errorf("%d passed and %d were refused, want %d of %d to pass", n, refused.Load(), turns, messages)
		}
	})
}

// TestDeclaredSize is read across the buffers of a message.
func TestDeclaredSize(t *testing.T) {
	packed := parts.Gzipped(make([]byte, 0x012345))
	for cut := range 6 {
		at := len(packed) - cut
		if got := declaredSize(mem.BufferSlice{mem.SliceBuffer(packed[:at]), mem.SliceBuffer(packed[at:])}); got != 0x012345 {
			t.Errorf("cut %d bytes before the end: %#x, want 0x12345", cut, got)
		}
	}
	if got := declaredSize(mem.BufferSlice{mem.SliceBuffer{1, 2}}); got != 0x0201_0000 {
		t.Errorf("two bytes declare %#x", got)
	}
}

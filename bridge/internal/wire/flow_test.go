package wire

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// TestPaddingDoesNotCount: grpc-go drops it at once. A message no longer counts when it
// is taken, so opamp sees that nothing waits behind it.
func TestPaddingDoesNotCount(t *testing.T) {
	a := memory.New(64<<20, 0)
	near, far := net.Pipe()
	c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	defer c.Close()
	go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
	p := newPlace(a.NewEntry(), nil)
	f := &p.Call.Flow
	askFor(t, c, p, 1)
	const size = 100
	var sent bytes.Buffer
	backend := http2.NewFramer(&sent, nil)
	_ = backend.WriteSettings() // to memory
	for _, padding := range [][]byte{nil, {}, make([]byte, 1), make([]byte, 255)} {
		_ = backend.WriteDataPadded(1, false, make([]byte, size+prefixBytes), padding)
	}
	_ = backend.WriteDataPadded(1, false, nil, make([]byte, 255))
	_ = backend.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, nil)
	go far.Write(sent.Bytes()) //nolint:errcheck // Read meets the error
	for left := sent.Len(); left > 0; {
		n, err := c.Read(make([]byte, 1))
		if err != nil {
			t.Fatal(err)
		}
		left -= n
	}
	if got := f.entry.Messages(); got != 4*(size+prefixBytes) {
		t.Errorf("%d bytes of 4 messages count, want %d", got, 4*(size+prefixBytes))
	}
	f.Taken(4, 4*size)
	if got, used := f.small.Load(), f.entry.Messages(); got != 0 || used != 0 {
		t.Errorf("once they are taken %d bytes wait and %d count", got, used)
	}
}

// TestHeaderBlocksComeInPieces: a header block is read whole however it is cut into frames
// and into writes.
func TestHeaderBlocksComeInPieces(t *testing.T) {
	block := strings.Repeat("a header block ", 10)
	frame := func(kind http2.FrameType, flags http2.Flags, payload string) string {
		n := len(payload)
		return string([]byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags), 0, 0, 0, 3}) + payload
	}
	sent := frame(http2.FrameHeaders, 0, block[:50]) + frame(http2.FrameContinuation, 0, "") + frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, block[50:]) +
		frame(http2.FrameData, 0, "data") + frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, block)
	for step := 1; step <= len(sent); step++ {
		var got []string
		part := ""
		frames := h2Frames{fields: func(stream uint32, b []byte, ends bool) {
			part += string(b)
			if ends {
				got = append(got, fmt.Sprint(stream, part))
				part = ""
			}
		}}
		for at := 0; at < len(sent); at += step {
			frames.scan([]byte(sent[at:min(at+step, len(sent))]), func(h2Frame) bool { return true })
		}
		if want := fmt.Sprint(3, block); !slices.Equal(got, []string{want, want}) {
			t.Errorf("in pieces of %d bytes the blocks are %q", step, got)
		}
	}
}

// TestQueuedRequestsAreGivenBack: whatever is queued, and in whatever order it is written, at
// the end nothing counts, and before it something does.
func TestQueuedRequestsAreGivenBack(t *testing.T) {
	const tiny, large, noise = 1, 2000, 100_000
	for name, c := range map[string]struct {
		packs bool
		do    func(*Flow)
		left  int64 // that counts
		wrote []int // the sizes of the rest
	}{
		"small ones, one written":             {false, func(f *Flow) { f.Queue(tiny); f.Queue(tiny); f.wrote(packedPart(tiny, tiny)) }, queuedBytes + tiny, []int{tiny}},
		"all written":                         {false, func(f *Flow) { f.Queue(tiny); f.Queue(large); f.wrote(make([]byte, tiny+large+2*prefixBytes)) }, 0, nil},
		"a large one beside a small one":      {false, func(f *Flow) { f.Queue(tiny); f.Queue(large); f.wrote(packedPart(tiny, tiny)) }, 2*queuedBytes + tiny - (2*queuedBytes+tiny)*(tiny+prefixBytes)/(tiny+large+2*prefixBytes), []int{large}},
		"sent again":                          {false, func(f *Flow) { f.wrote(make([]byte, 5000)); f.Queue(tiny) }, queuedBytes + tiny, []int{tiny}},
		"a compressed one":                    {true, func(f *Flow) { f.Queue(large) }, queuedBytes + large + packedMore, []int{100}},
		"a compressed one that grew":          {true, func(f *Flow) { f.Queue(tiny) }, queuedBytes + tiny + packedMore, []int{tiny + 25}},
		"a compressed one, half":              {true, func(f *Flow) { f.Queue(noise); f.wrote(packedPart(noise, 10_000)) }, queuedBytes + noise + packedMore, []int{}},
		"compressed ones, one written":        {true, func(f *Flow) { f.Queue(large); f.Queue(large); f.wrote(packedPart(50, 50)) }, queuedBytes + large + packedMore, []int{60}},
		"a compressed one behind a large one": {true, func(f *Flow) { f.Queue(4 << 20); f.Queue(tiny) }, 2*(queuedBytes+packedMore) + 4<<20 + tiny, []int{4 << 20, 30}},
		"many compressed ones": {true, func(f *Flow) {
			for range 100 {
				f.Queue(noise)
			}
		}, 100*queuedBytes + streamQueueBytes + 2*(noise+packedMore), slices.Repeat([]int{30}, 100)},
		"compressed ones, sent again": {true, func(f *Flow) {
			f.Queue(large)
			f.Queue(tiny)
			f.wrote(packedPart(90, 50))
			f.packs.begins()
		}, 2*(queuedBytes+packedMore) + large + tiny, []int{90, 26}},
	} {
		t.Run(name, func(t *testing.T) {
			a := memory.New(1<<30, 0)
			f := &Flow{entry: a.NewEntry()}
			if c.packs {
				f.packs = new(packedRequests)
			}
			c.do(f)
			if got := f.entry.Messages(); got != c.left {
				t.Errorf("%d bytes count, want %d", got, c.left)
			}
			before, wrote := f.entry.InParts(), 0
			if c.packs && f.packs.leaving.left > 0 {
				wrote = int(f.packs.leaving.left)
				f.wrote(make([]byte, wrote))
			}
			for _, n := range c.wrote {
				wrote += n + prefixBytes
				f.wrote(packedPart(n, n))
			}
			if got := f.entry.InParts() - before; got != int64(wrote) {
				t.Errorf("of %d bytes that went out %d count as progress", wrote, got)
			}
			if got := f.entry.Messages(); got != 0 || f.IsFull() {
				t.Errorf("once all is written %d bytes count, full: %v", got, f.IsFull())
			}
		})
	}
}

// packedPart returns the beginning of a compressed message of this size: the prefix and n bytes.
func packedPart(size, n int) []byte { return append(prefixOf(uint32(size)), make([]byte, n)...) }

// TestCallWithoutAStreamIsForgotten: a call whose stream didn't begin isn't taken for
// another one with its id.
func TestCallWithoutAStreamIsForgotten(t *testing.T) {
	a := memory.New(16<<20, 0)
	near, far := net.Pipe()
	c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	defer c.Close()
	go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
	first, second := newPlace(a.NewEntry(), nil), newPlace(a.NewEntry(), nil)
	expectNow(t, c, first)
	c.GiveUp(first)
	askFor(t, c, second, 1<<20)
	if first.Call.Flow.entry.Messages() != 0 || second.Call.Flow.entry.Messages() == 0 {
		t.Errorf("the first call of an id, which has failed, holds %d bytes and the second %d", first.Call.Flow.entry.Messages(), second.Call.Flow.entry.Messages())
	}
}

// TestDataBehindAReset: the sizes of its messages are of no use, and aren't kept.
func TestDataBehindAReset(t *testing.T) {
	const most, frames = 64, 600
	a := memory.New(64<<20, 0)
	near, far := net.Pipe()
	defer far.Close()
	c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	defer c.Close()
	go io.Copy(io.Discard, far) //nolint:errcheck // it ends with the pipe
	p := newPlace(nil, nil)
	expectNow(t, c, p)
	beginStream(t, c)
	var block, sent bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range []hpack.HeaderField{{Name: ":status", Value: "200"}, {Name: "content-type", Value: "application/grpc"}, {Name: "grpc-encoding", Value: "gzip"}} {
		_ = fields.WriteField(f) // to memory
	}
	backend := http2.NewFramer(&sent, nil)
	_ = backend.WriteSettings()
	_ = backend.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	_ = backend.WriteData(1, false, prefixOf(0))
	_ = backend.WriteRSTStream(1, http2.ErrCodeInternal)
	for range frames { // of 3000 messages each
		_ = backend.WriteData(1, false, make([]byte, 3000*prefixBytes))
	}
	go func() {
		_, _ = far.Write(sent.Bytes()) // Read meets the error
		_ = far.Close()
	}()
	var err error
	for kept := false; err == nil; {
		_, err = c.Read(make([]byte, 1<<10))
		if n := p.packed.len(); n > most {
			t.Fatalf("%d sizes are kept", n)
		} else if kept = kept || n > 0; err != nil && !kept {
			t.Errorf("%v before the first message", err)
		}
	}
}

package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestFlowsFindTheirStreams: what comes counts with the call that it is for, among many
// calls on one connection of which some are cancelled at any moment.
func TestFlowsFindTheirStreams(t *testing.T) {
	const rounds, calls = 20, 50
	a := memory.New(64<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, sendTwice)}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	for range rounds {
		var all sync.WaitGroup
		for n := range calls {
			all.Go(func() {
				flowOf(t, up, a, fmt.Sprintf("%016x", rand.Uint64()), (n%5)*(n%5)*700, 100+n*300, n%4 == 3)
			})
		}
		all.Wait()
	}
	if used := a.Used(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// sendTwice sends two messages of the size that is the method's name.
func sendTwice(ss grpc.ServerStream) error {
	name, _ := grpc.MethodFromServerStream(ss)
	size, err := strconv.Atoi(path.Base(name))
	if err != nil {
		return err
	}
	for range 2 {
		if err := ss.SendMsg(make([]byte, size)); err != nil {
			return err
		}
	}
	return nil
}

// TestFlowsOfOneID: a client may give all its calls one id, and metadata of many frames,
// and what comes for them counts all the same.
func TestFlowsOfOneID(t *testing.T) {
	a := memory.New(16<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, sendTwice)}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	for range 10 {
		flowOf(t, up, a, "the same", 40_000, 5000, false)
	}
	var all sync.WaitGroup // at the same time
	for n := range 100 {
		all.Go(func() { flowOf(t, up, a, "the same", n%3*20_000, 100+n*300, n%4 == 3) })
	}
	all.Wait()
	if used := a.Used(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// flowOf makes a call with two replies of the size, or cancels it.
func flowOf(t *testing.T, up *Upstream, a *memory.Account, id string, metadataBytes, size int, cancelled bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	defer held.Settle()
	call, err := openCall(ctx, up, Request{Method: fmt.Sprintf("/test.Sizes/%d", size), Metadata: metadata.Pairs("x-request-id", id, "also", "the same", "much", strings.Repeat("m", metadataBytes)), Held: held, ID: id})
	if err != nil {
		t.Error(err)
		return
	}
	call.CloseSend()
	if cancelled {
		if rand.IntN(2) == 0 {
			_, _ = call.Header()
		}
		return
	}
	for n := range 2 {
		m, err := call.Recv()
		if err != nil {
			t.Errorf("message %d of %d bytes: %v", n, size, err)
			return
		}
		m.Free()
	}
	if _, err := call.Recv(); err != io.EOF { //nolint:errorlint // it is never wrapped
		t.Errorf("the end is %v", err)
	}
	if got, want := held.Messages(), int64(2*(size+prefixBytes)); got != want {
		t.Errorf("with two replies of %d bytes %d count with the call, want %d", size, got, want)
	}
	call.Sent(1, size)
	call.Sent(1, size)
	if got := held.Messages(); got != 0 {
		t.Errorf("once they are sent on %d bytes count with the call", got)
	}
}

// TestQueuedRequestsCount: small requests to a handler that doesn't read count with their
// call until they are on their way, with what grpc-go takes for each.
func TestQueuedRequestsCount(t *testing.T) {
	read := make(chan struct{})
	a := memory.New(256<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		<-read
		for {
			var m []byte
			if err := ss.RecvMsg(&m); err != nil {
				return nil //nolint:nilerr // the client's end
			}
		}
	})}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	call, err := openCall(ctx, up, Request{Method: "/test.Silent/Get", Metadata: metadata.Pairs("x-request-id", "one"), Held: held, ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	const messages = 30_000
	var sending sync.WaitGroup
	sending.Go(func() {
		for range messages {
			if err := call.Send(mem.BufferSlice{mem.SliceBuffer("x")}); err != nil {
				t.Error(err)
				return
			}
		}
		call.CloseSend()
	})
	poll(t, func() string {
		if n := held.Messages(); n < 5_000*queuedBytes {
			return fmt.Sprintf("%d bytes count with a call whose messages nobody reads", n)
		}
		return ""
	})
	close(read)
	sending.Wait()
	wantAllSent(t, call, held)
}

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

// TestPackedRequestsCount: what grpc-go has compressed for a handler that doesn't read
// counts with its call.
func TestPackedRequestsCount(t *testing.T) {
	const size = 1 << 20
	read := make(chan struct{})
	a := memory.New(256<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		<-read
		return ss.RecvMsg(new([]byte))
	})}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	call, err := openCall(ctx, up, Request{Method: "/test.Silent/Get", Metadata: metadata.Pairs("x-request-id", "one"), Coding: "gzip", Held: held, ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	poll(t, func() string {
		if !call.facts.place.Load().written.Load() {
			return "its stream isn't known"
		}
		return ""
	})
	noise := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(noise) //nolint:errcheck // it has none
	if err := call.Send(mem.BufferSlice{mem.SliceBuffer(noise)}); err != nil {
		t.Fatal(err)
	}
	// The backend's windows may have taken some of it.
	if got := held.Messages(); got < size-128<<10 || got > size+size/10 {
		t.Errorf("%d bytes count with a call that has a compressed message of %d bytes queued", got, size)
	}
	close(read)
	call.CloseSend()
	wantAllSent(t, call, held)
}

// wantAllSent holds that a call ends well once the backend has read all, and that nothing
// counts then.
func wantAllSent(t *testing.T, call *Stream, held *memory.Entry) {
	t.Helper()
	if _, err := call.Recv(); err != io.EOF { //nolint:errorlint // it is never wrapped
		t.Errorf("the end is %v", err)
	}
	if got := held.Messages(); got != 0 {
		t.Errorf("once all was sent, %d bytes count", got)
	}
}

// TestPackedRepliesCountAsTheyCame: a compressed reply that is handed out takes no other
// one's bytes off the count.
func TestPackedRepliesCountAsTheyCame(t *testing.T) {
	const size = 100_000 // it becomes a few hundred bytes
	a := memory.New(64<<20, 0)
	up, err := New(report.Backend{Target: startBackend(t, func(ss grpc.ServerStream) error {
		if err := grpc.SetSendCompressor(ss.Context(), "gzip"); err != nil {
			return err
		}
		for range 3 {
			if err := ss.SendMsg(make([]byte, size)); err != nil {
				return err
			}
		}
		return nil
	})}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	held := a.NewEntry()
	call, err := openCall(ctx, up, Request{Method: "/test.Packed/Get", Metadata: metadata.Pairs("x-request-id", "one"), Held: held, ID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	call.CloseSend()
	poll(t, func() string {
		if !call.facts.place.Load().Trailed() {
			return "the replies haven't come"
		}
		return ""
	})
	all := held.Messages()
	for left := int64(2); left >= 0; left-- {
		m, err := call.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.Len() != size || call.Wire() >= size/10 {
			t.Errorf("a reply of %d bytes that came as %d, want %d and much less", m.Len(), call.Wire(), size)
		}
		m.Free()
		call.Sent(1, call.Wire())
		if got, want := held.Messages(), all*left/3; got != want {
			t.Errorf("with %d of 3 replies left %d bytes count, want %d", left, got, want)
		}
	}
}

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

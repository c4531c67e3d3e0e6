package upstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/internal/wire"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

// serveSizes runs a backend whose methods have the sizes of their replies in their names,
// and a number of times: "3x70000,5" sends three messages of 70,000 bytes and one of 5.
func serveSizes(t *testing.T) string {
	t.Helper()
	return startBackend(t, func(ss grpc.ServerStream) error {
		name, _ := grpc.MethodFromServerStream(ss)
		for _, size := range sizesOf(path.Base(name)) {
			if err := ss.SendMsg(largest()[:size]); err != nil {
				return err
			}
		}
		return nil
	})
}

func sizesOf(name string) (sizes []int) {
	for part := range strings.SplitSeq(name, ",") {
		times, size, several := strings.Cut(part, "x")
		if !several {
			times, size = "1", part
		}
		n, _ := strconv.Atoi(times)
		bytes, _ := strconv.Atoi(size)
		sizes = append(sizes, slices.Repeat([]int{bytes}, n)...)
	}
	return sizes
}

// largest returns the largest message that a test here sends; the others are its beginning.
// It is made once: with the race detector that takes longer than to carry it.
var largest = sync.OnceValue(func() []byte { return pattern(2*wire.GRPCWindow + 16<<10) })

// receiveSizes makes a call, and holds that its replies come.
func receiveSizes(t *testing.T, up *Upstream, a *memory.Account, id int, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := Request{Method: "/test.Sizes/" + name}
	if id%4 > 0 { // else the call isn't known to its connection
		r.Held, r.ID, r.Metadata = a.NewEntry(), strconv.Itoa(id), metadata.Pairs("x-request-id", strconv.Itoa(id))
		defer r.Held.Settle()
	}
	call, err := openCall(ctx, up, r)
	if err != nil {
		t.Error(err)
		return
	}
	call.CloseSend()
	for n, size := range sizesOf(name) {
		m, err := call.Recv()
		if err != nil {
			t.Errorf("reply %d of %s: %v", n, name, err)
			return
		}
		if got := m.Materialize(); !bytes.Equal(got, largest()[:size]) {
			t.Errorf("reply %d of %s has %d bytes, or others, want %d", n, name, len(got), size)
		}
		m.Free()
		if id%3 == 0 {
			runtime.Gosched()
		}
		call.Sent(1, size)
	}
	if _, err := call.Recv(); err != io.EOF { //nolint:errorlint // it is never wrapped
		t.Errorf("the end of %s is %v", name, err)
	}
	if r.Held != nil && r.Held.Messages() != 0 {
		t.Errorf("%d bytes count behind %s", r.Held.Messages(), name)
	}
}

// TestMessagesOfAnySizeCome: grpc-go believes that the backend has a larger window than it
// has, and asks for nothing more. No message stands still for that, alone or in any row.
func TestMessagesOfAnySizeCome(t *testing.T) {
	var sizes []int
	for _, window := range []int{16 << 10, wire.StreamWindow, 2 * wire.StreamWindow, maxWithheld, wire.MaxStreamWindow, wire.GRPCWindow, wire.GRPCWindow + wire.StreamWindow, 2 * wire.GRPCWindow} {
		for _, more := range []int{-16 << 10, -100, -6, -5, -4, -1, 0, 1, 5, 100, 16 << 10} {
			sizes = append(sizes, window+more)
		}
	}
	var names []string
	for _, size := range sizes {
		several := max(3, min(8, wire.GRPCWindow*2/max(size, 1))) // more than any window
		names = append(names, strconv.Itoa(size), fmt.Sprintf("%dx%d", several, size), fmt.Sprintf("100x1000,%d,200x1000,%d,3", size, size), fmt.Sprintf("%d,60x1100,%d,3x60000,%d", size, size, size))
	}
	for range 40 {
		var row []string
		for range 10 {
			row = append(row, fmt.Sprintf("%dx%d", 1+rand.IntN(20), rand.IntN(5000)), strconv.Itoa(sizes[rand.IntN(len(sizes))]), strconv.Itoa(rand.IntN(2*wire.MaxStreamWindow)))
		}
		names = append(names, strings.Join(row, ","))
	}
	backend := serveSizes(t)
	for budget, together := range map[int64]int{8 << 20: 8, 64 << 20: 1, 256 << 20: 16} {
		t.Run(fmt.Sprintf("%d in %d MiB", together, budget>>20), func(t *testing.T) {
			a := memory.New(budget, 0)
			up, err := New(report.Backend{Target: backend}, largeMessages, testHeaderBytes, a, nil)
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			places := make(chan struct{}, together)
			for id, name := range names {
				places <- struct{}{}
				all.Go(func() {
					receiveSizes(t, up, a, id, name)
					<-places
				})
			}
			all.Wait()
			if used := a.Used(); used != 0 {
				t.Errorf("%d bytes are still counted", used)
			}
			_ = up.Close()
			if held := a.Held(); held != 0 {
				t.Errorf("%d bytes are still counted", held)
			}
		})
	}
}

// TestBackendThatWaitsForAWholeFrame: a backend that sends only whole DATA frames of the
// largest size doesn't stand still for the part of the window that is withheld. While nobody
// reads, it sends no more than that window, or the first message.
func TestBackendThatWaitsForAWholeFrame(t *testing.T) {
	for _, size := range []int{0, 1000, 16 << 10, 30_000, 40_000, 49_147, 60_000, wire.StreamWindow - prefixBytes, wire.StreamWindow, wire.StreamWindow + 1, 70_000, 200_000, wire.MaxStreamWindow - 200, wire.MaxStreamWindow + 1, wire.GRPCWindow - 200, wire.GRPCWindow + 1} {
		for _, b := range []frameByFrame{{}, {small: 17}, {small: 47}, {padding: 100}, {small: 17, padding: 100}} {
			for _, c := range []struct{ known, pressed bool }{{true, false}, {true, true}, {false, false}} {
				b.size = size
				t.Run(fmt.Sprintf("%d messages of 1000 before each of %d, padding of %d, known %v, pressed %v", b.small, size, b.padding, c.known, c.pressed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { b.test(t, c.known, c.pressed) })
				})
			}
		}
	}
}

// frameByFrame is a backend whose DATA frames have 16 KiB, except the first and the last one
// of the stream. It waits until such a frame fits both windows. RFC 9113 §5.2.
type frameByFrame struct {
	size    int
	small   int           // messages of 1,000 bytes before each of size
	padding int           // of each frame but the first
	sent    *atomic.Int64 // bytes of messages
}

func (b frameByFrame) test(t *testing.T, known, pressed bool) {
	b.sent = new(atomic.Int64)
	ln := parts.ListenPipe(t)
	sizes := append(slices.Repeat([]int{1000}, b.small), b.size)
	all := slices.Repeat(sizes, min(2<<20/(b.size+1000*b.small+prefixBytes), 5000))
	var serving sync.WaitGroup
	serving.Go(func() { b.serve(t, ln, all) })
	a := memory.New(64<<20, 0)
	u, err := New(inBubble(ln), largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
		_ = ln.Close()
		serving.Wait()
	}()
	if pressed { // two large requests, and room for one
		for range 2 {
			w, _ := a.Ask(nil, memory.Request, 20<<20, func() {})
			defer a.Drop(w)
		}
		if !a.Pressed() {
			t.Fatal("memory isn't scarce")
		}
	}
	held := a.NewEntry()
	defer held.Settle()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := Request{Method: "/test.Whole/Frames"}
	if known {
		r.Held, r.ID, r.Metadata = held, "one", metadata.Pairs("x-request-id", "one")
	}
	call, err := openCall(ctx, u, r)
	if err != nil {
		t.Fatal(err)
	}
	call.CloseSend()
	synctest.Wait()
	if n := b.sent.Load(); known && n > int64(max(wire.StreamWindow, b.size)+maxDataBytes) {
		t.Errorf("the backend has sent %d bytes, and nobody has read any", n)
	}
	for i, size := range all {
		m, err := call.Recv()
		if err != nil {
			t.Fatalf("reply %d of %d: %v; the backend has sent %d bytes", i, len(all), err, b.sent.Load())
		}
		if m.Len() != size {
			t.Errorf("a reply of %d bytes", m.Len())
		}
		m.Free()
		call.Sent(1, size)
	}
}

func (b frameByFrame) serve(t *testing.T, ln net.Listener, messages []int) {
	raw, err := ln.Accept()
	if err != nil {
		t.Error(err)
		return
	}
	defer raw.Close()
	if _, err := io.ReadFull(raw, make([]byte, len(http2.ClientPreface))); err != nil {
		t.Error(err)
		return
	}
	var rest []byte
	for _, size := range messages {
		rest = append(append(rest, prefixOf(uint32(size))...), make([]byte, size)...)
	}
	framer := http2.NewFramer(raw, raw)
	_ = framer.WriteSettings() // what fails ends the next read
	connection, stream, initial, open := 65535, 0, 65535, false
	for {
		f, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				break
			}
			if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
				initial = int(v)
			}
			_ = framer.WriteSettingsAck()
		case *http2.HeadersFrame:
			var block bytes.Buffer
			enc := hpack.NewEncoder(&block)
			_ = enc.WriteField(hpack.HeaderField{Name: ":status", Value: "200"}) // to memory
			_ = enc.WriteField(hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
			stream, open = initial, true
		case *http2.WindowUpdateFrame:
			if f.StreamID == 0 {
				connection += int(f.Increment)
			} else {
				stream += int(f.Increment)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = framer.WritePing(true, f.Data)
			}
		}
		for open && len(rest) > 0 {
			var padding []byte
			n := min(100, len(rest))
			if b.sent.Load() > 0 {
				if b.padding > 0 {
					padding = make([]byte, b.padding-1) // and its length
				}
				n = min(maxDataBytes-b.padding, len(rest))
			}
			whole := n
			if padding != nil {
				whole += b.padding
			}
			if whole > min(connection, stream) {
				break
			}
			if padding != nil {
				_ = framer.WriteDataPadded(1, false, rest[:n], padding)
			} else {
				_ = framer.WriteData(1, false, rest[:n])
			}
			rest = rest[n:]
			connection, stream = connection-whole, stream-whole
			b.sent.Add(int64(n))
		}
	}
}

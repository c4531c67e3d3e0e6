package upstream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
	"github.com/culvert-grpc/culvert/bridge/report"
)

// largeMessages is more than any reply here has.
var largeMessages = report.SizeLimit{Bytes: 16 << 20, Key: report.KeyMessageBytes}

// serveLarge runs a real backend that answers every call with one message of
// the size, and returns what New needs to reach it.
func serveLarge(t *testing.T, size int) report.Backend {
	t.Helper()
	reply := make([]byte, size)
	gs := grpc.NewServer(grpc.ForceServerCodecV2(bytesCodec{}), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		return ss.SendMsg(reply)
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = gs.Serve(ln) })
	t.Cleanup(func() { gs.Stop(); serving.Wait() })
	return report.Backend{Target: ln.Addr().String()}
}

// TestLargeRepliesStayWithinTheBudget opens many calls whose replies together
// are far over the budget and whose callers read slowly: the backend may send
// only what there is room for, and every reply comes whole all the same.
func TestLargeRepliesStayWithinTheBudget(t *testing.T) {
	const size, calls = 4 << 20, 32
	const budget = 16 << 20
	b := memory.New(budget, 0)
	up, err := New(serveLarge(t, size), largeMessages, testHeaderBytes, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()

	var most int64
	var mu sync.Mutex
	turn := make(chan struct{}, 1) // one at a time takes its reply
	var all sync.WaitGroup
	for n := range calls {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
			defer cancel()
			held, id := b.NewEntry(), strconv.Itoa(n)
			defer held.Settle()
			call, err := openCall(ctx, up, Request{Method: "/test.Large/Get", Metadata: metadata.Pairs("x-request-id", id), Held: held, ID: id})
			if err != nil {
				t.Error(err)
				return
			}
			call.CloseSend()
			m, err := call.Recv()
			if err != nil {
				t.Error(err)
				return
			}
			turn <- struct{}{}
			mu.Lock()
			most = max(most, b.Used())
			mu.Unlock()
			if m.Len() != size {
				t.Errorf("a reply of %d bytes, want %d", m.Len(), size)
			}
			m.Free()
			call.Sent(1, size)
			<-turn
			if _, err := call.Recv(); !errors.Is(err, io.EOF) {
				t.Errorf("the end is %v, want io.EOF", err)
			}
		})
	}
	all.Wait()
	// Data within a stream's fixed window needs no permission, and comes on top.
	if limit := int64(budget/8*3 + calls*StreamWindow); most > limit || most < size {
		t.Errorf("at most %d bytes were held, want up to %d and at least a reply of %d", most, limit, size)
	}
	if err := up.Close(); err != nil {
		t.Error(err)
	}
	if used := b.Used(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
}

// TestRepliesOfManyCallsAtOnceCome: the account is too small for all replies of a crowd. They
// begin at once, and come one after the other: the account isn't filled with parts of
// replies, none of which could be completed.
func TestRepliesOfManyCallsAtOnceCome(t *testing.T) {
	const size, calls, budget = 200 << 10, 150, 16 << 20
	var open sync.WaitGroup
	open.Add(calls)
	backend := startBackend(t, func(ss grpc.ServerStream) error {
		open.Done()
		open.Wait()
		return ss.SendMsg(make([]byte, size))
	})
	a := memory.New(budget, 0)
	up, err := New(report.Backend{Target: backend}, largeMessages, testHeaderBytes, a, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	received, done := receiveAll(t, up, calls, size)
	done()
	if n := received.Load(); n != calls {
		t.Errorf("%d of %d replies came", n, calls)
	}
}

// TestCancelledLargeRepliesGiveTheirRoomBack cancels calls that have room and
// calls that wait for it.
func TestCancelledLargeRepliesGiveTheirRoomBack(t *testing.T) {
	b := memory.New(4<<20, 0)
	up, err := New(serveLarge(t, 2<<20), largeMessages, testHeaderBytes, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range 8 {
		call, err := openCall(ctx, up, Request{Method: "/test.Large/Get"})
		if err != nil {
			t.Fatal(err)
		}
		call.CloseSend()
		all.Go(func() {
			if m, err := call.Recv(); err == nil {
				m.Free()
			}
		})
	}
	poll(t, waitsForRoom(b))
	cancel()
	all.Wait()
	poll(t, func() string {
		if used, pressed := b.Used(), b.Pressed(); used != 0 || pressed {
			return fmt.Sprintf("%d bytes are still counted, waiting: %v", used, pressed)
		}
		return ""
	})
}

// waitsForRoom is for poll.
func waitsForRoom(b *memory.Account) func() string {
	return func() string {
		if !b.Pressed() {
			return "no call waits for room"
		}
		return ""
	}
}

// FuzzH2Frames holds that what is handed on is what came, less the updates
// that are held back, however the bytes are cut.
func FuzzH2Frames(f *testing.F) {
	f.Add([]byte("\x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x10\x00\x00"), uint8(3))
	f.Add([]byte("\x00\x00\x05\x00\x01\x00\x00\x00\x01hello\x00\x00\x04\x08\x00\x00\x00\x00\x03\x00\x00\x00\x07"), uint8(1))
	f.Add([]byte("\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08\x00"), uint8(7))
	f.Add([]byte("\x00\x00\x0c\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x10\x00\x00\x03\x00\x00\x00\x64\x00\x00\x00\x04\x01\x00\x00\x00\x00"), uint8(6))                               // SETTINGS and their acknowledgement
	f.Add([]byte("\x00\x00\x02\x01\x00\x00\x00\x00\x01ab\x00\x00\x00\x09\x00\x00\x00\x00\x01\x00\x00\x01\x09\x04\x00\x00\x00\x01c"), uint8(2))                                        // HEADERS and CONTINUATION
	f.Add([]byte("\x00\x00\x05\x00\x08\x00\x00\x00\x01\x02hi\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x01\x00\x08\x00\x00\x00\x01\x09"), uint8(8))                         // DATA with padding
	f.Add([]byte("\x00\x00\x16\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0btoo_many_pings\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x0b"), uint8(4)) // GOAWAYs
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		step := int(cut)%16 + 1
		var limits []setting
		held := func(f h2Frame) bool {
			if f.kind == http2.FrameSettings {
				limits = append(limits, f.streams, f.table)
			}
			if f.kind == http2.FrameGoAway {
				limits = append(limits, setting{value: f.increment})
			}
			return f.kind != http2.FrameWindowUpdate || f.increment <= 1<<16
		}
		var blocks []byte
		noteBlock := func(stream uint32, part []byte, ends bool) {
			blocks = append(blocks, part...)
			if ends {
				blocks = fmt.Appendf(blocks, "<%d>", stream)
			}
		}
		noteGoAway := func(part []byte, ends bool) {
			blocks = append(blocks, part...)
			if ends {
				blocks = append(blocks, "<goaway>"...)
			}
		}
		whole, pieces := h2Frames{fields: noteBlock, goAway: noteGoAway}, h2Frames{fields: noteBlock, goAway: noteGoAway}
		want := whole.scan(bytes.Clone(in), held)
		wantLimits, wantBlocks := limits, blocks
		limits, blocks = nil, nil
		var got []byte
		for rest := in; len(rest) > 0; {
			n := min(step, len(rest))
			got = append(got, pieces.scan(bytes.Clone(rest[:n]), held)...)
			rest = rest[n:]
		}
		if !bytes.Equal(got, want) || !bytes.Equal(whole.carry, pieces.carry) || whole.skip != pieces.skip {
			t.Errorf("in pieces of %d: %x, want %x", step, got, want)
		}
		if !slices.Equal(limits, wantLimits) {
			t.Errorf("in pieces of %d, %x has the settings %v, want %v", step, in, limits, wantLimits)
		}
		if !bytes.Equal(blocks, wantBlocks) {
			t.Errorf("in pieces of %d the header blocks are %q, want %q", step, blocks, wantBlocks)
		}
		var all h2Frames
		same := all.scan(bytes.Clone(in), func(h2Frame) bool { return true })
		if !bytes.Equal(append(same, all.carry...), in) {
			t.Errorf("%x was handed on as %x and %x", in, same, all.carry)
		}
	})
}

// TestUpdateBetweenFrames holds that an update that is let out later never lands inside
// another frame, and lands behind it. It gives all that grpc-go has asked for meanwhile.
func TestUpdateBetweenFrames(t *testing.T) {
	near, far := net.Pipe()
	b := memory.New(8<<20, 0)
	w, _ := b.Ask(nil, memory.Reply, 3<<20, func() {}) // all that replies may fill
	c := NewConn(near, Options{Account: b, Window: ConnWindow(b)})
	defer c.Close()
	got := make(chan []byte, 1)
	go func() { // ends with the pipe
		all, _ := io.ReadAll(far)
		got <- all
	}()
	update := func(increment uint32) []byte {
		return binary.BigEndian.AppendUint32([]byte{0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 1}, increment)
	}
	data := append([]byte{0, 0, 10, byte(http2.FrameData), 0, 0, 0, 0, 3}, "0123456789"...)
	write := func(p []byte) {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	headers := []byte{0, 0, 0, byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders), 0, 0, 0, 1}
	write(append([]byte(http2.ClientPreface), headers...))
	const size = 3*MaxStreamWindow + 3
	c.arrive(1, prefixOf(size))
	write(update(size))
	write(update(2))
	write(data[:12])
	b.Drop(w) // now the update may go, but not here
	poll(t, func() string {
		if len(c.wake) > 0 {
			return "nobody saw that it may"
		}
		return ""
	})
	write(data[12:])
	poll(t, func() string {
		c.readyMu.Lock()
		defer c.readyMu.Unlock()
		if len(c.ready) > 0 {
			return "the update was not sent"
		}
		return ""
	})
	_ = c.Close()
	want := slices.Concat([]byte(http2.ClientPreface), headers, data, update(size+MaxStreamWindow-StreamWindow-maxWithheld), update(2))
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("sent %q, want %q", all, want)
	}
}

// TestResetsLeaveBeforeNewStreams, which may have their places: inside a frame they would wait.
func TestResetsLeaveBeforeNewStreams(t *testing.T) {
	near, far := net.Pipe()
	got := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(far) // to the close
		got <- all
	}()
	a := memory.New(1<<20, 0)
	c := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
	headers := func(id byte) []byte {
		return []byte{0, 0, 0, byte(http2.FrameHeaders), byte(http2.FlagHeadersEndHeaders), 0, 0, 0, id}
	}
	data := append([]byte{0, 0, 10, byte(http2.FrameData), 0, 0, 0, 0, 1}, "0123456789"...)
	reset := []byte{0, 0, 4, byte(http2.FrameRSTStream), 0, 0, 0, 0, 1, 0, 0, 0, byte(http2.ErrCodeCancel)}
	write := func(p ...[]byte) {
		if _, err := c.Write(slices.Concat(p...)); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte(http2.ClientPreface), headers(1), data[:12])
	for range 2 { // one reset is enough
		c.answers.found.push(&verdict{ofGRPC: true, cut: true})
		c.in.header = h2Frame{kind: http2.FrameHeaders, flags: http2.FlagHeadersEndStream, stream: 1}
		c.readBlock(1, nil, true)
	}
	write(data[12:], headers(3), headers(5))
	_ = c.Close()
	want := slices.Concat([]byte(http2.ClientPreface), headers(1), data, reset, headers(3), headers(5))
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("sent %q, want %q", all, want)
	}
}

// TestReplyJustOverTheWindowComes holds that a reply of which the most comes
// in the fixed window isn't forgotten while it waits for room.
func TestReplyJustOverTheWindowComes(t *testing.T) {
	for _, budget := range []int{8 << 20, 256 << 20} {
		for _, size := range []int{StreamWindow + 1, 2*StreamWindow - 1, 2*StreamWindow + 1, MaxStreamWindow, MaxStreamWindow + 1, 2*MaxStreamWindow + 1, 1 << 20} {
			replyOverTheWindow(t, budget, size)
		}
	}
}

func replyOverTheWindow(t *testing.T, budget, size int) {
	t.Helper()
	b := memory.New(int64(budget), 0)
	full, atOnce := b.Ask(nil, memory.Reply, int64(budget)/8*3, func() {}) // all that replies may fill
	if !atOnce {
		t.Fatal("the budget isn't empty at the beginning")
	}
	up, err := New(serveLarge(t, size), largeMessages, testHeaderBytes, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	call, err := openCall(ctx, up, Request{Method: "/test.Large/Get"})
	if err != nil {
		t.Fatal(err)
	}
	call.CloseSend()
	var reply mem.BufferSlice
	var recvErr error
	var receiving sync.WaitGroup
	receiving.Go(func() { reply, recvErr = call.Recv() })
	poll(t, waitsForRoom(b))
	b.Drop(full)
	receiving.Wait()
	if recvErr != nil || reply.Len() != size {
		t.Errorf("a reply of %d bytes came as %d: %v", size, reply.Len(), recvErr)
	}
	reply.Free()
	cancel()
	_ = up.Close()
}

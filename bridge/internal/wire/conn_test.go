package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"golang.org/x/net/http2"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

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
	want := slices.Concat([]byte(http2.ClientPreface), headers, data, update(size+prefixBytes+maxDataBytes-StreamWindow))
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

package websocket

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	coder "github.com/coder/websocket"
)

func TestFrameHeaders(t *testing.T) {
	for _, c := range []struct {
		length int
		want   []byte
	}{
		{0, []byte{0x82, 0}},
		{125, []byte{0x82, 125}},
		{126, []byte{0x82, 126, 0, 126}},
		{1<<16 - 1, []byte{0x82, 126, 0xff, 0xff}},
		{1 << 16, []byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
	} {
		if got := appendFrameHeader(nil, Binary, c.length); !bytes.Equal(got, c.want) {
			t.Errorf("the header of %d bytes is %x, want %x", c.length, got, c.want)
		}
	}
}

// readHead reads a header, mask aside. It returns the bytes that it takes.
func readHead(b []byte, masked bool) (h frameHead, n int, broken string) {
	h, more, broken := startHead(b[0], b[1], masked)
	if broken == "" {
		broken = h.setLength(b[2:][:more])
	}
	return h, 2 + more, broken
}

// TestFrameHeads: each rule, and the lengths at their bounds.
func TestFrameHeads(t *testing.T) {
	for _, c := range []struct {
		name, in, broken string
		want             frameHead
	}{
		{"small", "\x82\xfd", "", frameHead{op: Binary, final: true, length: 125}},
		{"two bytes", "\x02\xfe\xff\xff", "", frameHead{op: Binary, length: 1<<16 - 1}},
		{"eight bytes", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff", "", frameHead{op: Text, final: true, length: 1<<63 - 1}},
		{"longer than it needs", "\x80\xff\x00\x00\x00\x00\x00\x00\x00\x01", "", frameHead{op: opContinuation, final: true, length: 1}},
		{"a close", "\x88\x80", "", frameHead{op: opClose, final: true}},
		{"the longest ping", "\x89\xfd", "", frameHead{op: opPing, final: true, length: 125}},
		{"a pong", "\x8a\x80", "", frameHead{op: opPong, final: true}},
		{"top bit", "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", "top bit", frameHead{}},
		{"RSV1", "\xc2\x80", "reserved bit", frameHead{}},
		{"RSV3", "\x92\x80", "reserved bit", frameHead{}},
		{"no mask, or one", "\x82\x01", "masked", frameHead{}},
		{"opcode 3", "\x83\x80", "opcode", frameHead{}},
		{"opcode 11", "\x8b\x80", "opcode", frameHead{}},
		{"a ping in fragments", "\x09\x80", "fragmented", frameHead{}},
		{"a long close", "\x88\xfe", "125 bytes", frameHead{}},
	} {
		for _, masked := range []bool{true, false} {
			in := []byte(c.in)
			if !masked {
				in[1] ^= maskBit // a server's
			}
			got, n, broken := readHead(in, masked)
			if !strings.Contains(broken, c.broken) || (broken == "") != (c.broken == "") || broken == "" && (got != c.want || n != len(c.in)) {
				t.Errorf("%s, masked %v: %+v of %d bytes, %q; want %+v of %d, %q", c.name, masked, got, n, broken, c.want, len(c.in), c.broken)
			}
		}
	}
}

// FuzzFrameHead: no header panics, and what is read is what is there.
func FuzzFrameHead(f *testing.F) {
	for _, seed := range []string{"\x82\x85", "\x02\xfe\x01\x00", "\x89\xff\x00\x00\x00\x00\x00\x01\x00\x00"} {
		f.Add(append([]byte(seed), make([]byte, 10-len(seed))...))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 10 {
			return
		}
		h, n, broken := readHead(in, in[1]&maskBit != 0)
		if _, _, wrong := readHead(in, in[1]&maskBit == 0); wrong == "" {
			t.Errorf("%x reads as a frame of either end", in)
		}
		if broken != "" {
			return
		}
		if h.length > 1<<63-1 || h.control() && (h.length > maxControl || !h.final) || byte(h.op) != in[0]&opBits {
			t.Errorf("%x reads as %+v", in[:n], h)
		}
	})
}

// TestUnmask: in pieces of any size, in place or not.
func TestUnmask(t *testing.T) {
	key := [4]byte{0xa1, 0xb2, 0xc3, 0xd4}
	for _, size := range []int{0, 1, 3, 4, 255, 256, 257, 1000, 4 << 10, 9001} {
		want, in := make([]byte, size), make([]byte, size)
		for i := range want {
			want[i] = byte(i * 7)
			in[i] = want[i] ^ key[i%4]
		}
		for _, piece := range []int{1, 2, 3, 5, 256, 300, 1001, 4097, 9001} {
			got, mask := make([]byte, size), binary.LittleEndian.Uint32(key[:])
			for at := 0; at < size; at += piece {
				end := min(at+piece, size)
				mask = unmask(got[at:end], in[at:end], mask)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes in pieces of %d differ", size, piece)
			}
		}
		unmask(in, in, binary.LittleEndian.Uint32(key[:]))
		if !bytes.Equal(in, want) {
			t.Errorf("%d bytes in place differ", size)
		}
	}
}

func TestParseClose(t *testing.T) {
	const protocol, text = StatusProtocolError, coder.StatusInvalidFramePayloadData
	for _, c := range []struct {
		payload string
		want    coder.CloseError
		ok      bool
	}{
		{"", coder.CloseError{Code: StatusNoStatusRcvd}, true},
		{"\x03", coder.CloseError{Code: protocol}, false},
		{"\x03\xe8", coder.CloseError{Code: 1000}, true},
		{"\x03\xe8bye \u00fc", coder.CloseError{Code: 1000, Reason: "bye \u00fc"}, true},
		{"\x03\xe8\xff\xfe", coder.CloseError{Code: text}, false},
		{"\x03\xf6", coder.CloseError{Code: 1014}, true},
		{"\x0b\xb8", coder.CloseError{Code: 3000}, true},
		{"\x13\x87", coder.CloseError{Code: 4999}, true},
		{"\x00\x00", coder.CloseError{Code: protocol}, false},
		{"\x03\xe7", coder.CloseError{Code: protocol}, false},
		{"\x03\xec", coder.CloseError{Code: protocol}, false},
		{"\x03\xed", coder.CloseError{Code: protocol}, false},
		{"\x03\xee", coder.CloseError{Code: protocol}, false},
		{"\x03\xf7", coder.CloseError{Code: protocol}, false},
		{"\x0b\xb7", coder.CloseError{Code: protocol}, false},
		{"\x13\x88", coder.CloseError{Code: protocol}, false},
	} {
		if got, broken := parseClose([]byte(c.payload)); got != c.want || (broken == "") != c.ok {
			t.Errorf("%q is %v, %q; want %v, %v", c.payload, got, broken, c.want, c.ok)
		}
	}
}

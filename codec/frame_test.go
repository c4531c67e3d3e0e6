package codec

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

type frameVector struct {
	Name   string
	Hex    hexBytes
	Frames []struct {
		Flags   byte
		Payload hexBytes
	}
}

func TestFrames(t *testing.T) {
	for _, v := range readVectors[[]frameVector](t, "frame.json") {
		t.Run(v.Name, func(t *testing.T) {
			rest, written := []byte(v.Hex), []byte{}
			for _, want := range v.Frames {
				h, n, err := ParseFrameHeader(rest)
				if err != nil || n != FrameHeaderBytes {
					t.Fatalf("ParseFrameHeader(%x) used %d bytes, %v", rest, n, err)
				}
				if h.Flags != want.Flags || int(h.Length) != len(want.Payload) {
					t.Fatalf("ParseFrameHeader(%x) = %+v, want flags %#x and %d bytes", rest, h, want.Flags, len(want.Payload))
				}
				if got := rest[n : n+int(h.Length)]; !bytes.Equal(got, want.Payload) {
					t.Errorf("payload %x, want %x", got, want.Payload)
				}
				rest = rest[n+int(h.Length):]
				written = append(FrameHeader{want.Flags, uint32(len(want.Payload))}.AppendTo(written), want.Payload...)
			}
			if len(rest) != 0 {
				t.Errorf("%x is left over", rest)
			}
			if !bytes.Equal(written, v.Hex) {
				t.Errorf("written as %x, want %x", written, v.Hex)
			}
		})
	}
}

func TestFrameHeaderOfAnyLength(t *testing.T) {
	for _, length := range []uint32{0, 1, 255, 256, 1<<24 + 1, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		want := FrameHeader{FlagCompressed | FlagTrailers, length}
		got, n, err := ParseFrameHeader(want.AppendTo(nil))
		if got != want || n != FrameHeaderBytes || err != nil {
			t.Errorf("%+v came back as %+v, %d bytes, %v", want, got, n, err)
		}
	}
}

func TestFrameHeaderWaitsForItsBytes(t *testing.T) {
	whole := FrameHeader{FlagTrailers, 15}.AppendTo(nil)
	for i := range whole {
		if h, n, err := ParseFrameHeader(whole[:i]); h != (FrameHeader{}) || n != 0 || err != nil {
			t.Errorf("ParseFrameHeader(%x) = %+v, %d, %v, want nothing yet", whole[:i], h, n, err)
		}
	}
}

// A peer that sends a wrong byte and then waits for an answer must get one.
func TestReservedFlagIsRefusedAtItsByte(t *testing.T) {
	for flags := range 256 {
		known := flags == 0x00 || flags == 0x01 || flags == 0x80 || flags == 0x81
		for _, in := range [][]byte{{byte(flags)}, {byte(flags), 0, 0, 0, 0}} {
			_, n, err := ParseFrameHeader(in)
			if got := errors.Is(err, ErrReservedFlag); got == known {
				t.Errorf("ParseFrameHeader(%x): %v", in, err)
			}
			if err != nil && n != 0 {
				t.Errorf("ParseFrameHeader(%x) used %d bytes of an error", in, n)
			}
		}
	}
	_, _, err := ParseFrameHeader([]byte{0x02, 0, 0, 0, 0})
	if got, want := err.Error(), "0x02"; !strings.Contains(got, want) {
		t.Errorf("error %q, want %q", got, want)
	}
}

func TestFrameHeaderAppends(t *testing.T) {
	if got, want := (FrameHeader{0, 7}).AppendTo([]byte("ab")), []byte("ab\x00\x00\x00\x00\x07"); !bytes.Equal(got, want) {
		t.Errorf("AppendTo wrote %q, want %q", got, want)
	}
}

func FuzzParseFrameHeader(f *testing.F) {
	for _, v := range readVectors[[]frameVector](f, "frame.json") {
		f.Add([]byte(v.Hex))
	}
	f.Add([]byte{0x80, 0, 0, 0, 15})              // trailers
	f.Add([]byte{0x02, 0, 0, 0, 0})               // a reserved flag
	f.Add([]byte{0x00, 0xFF, 0xFF, 0xFF, 0xFF})   // 4 GiB are announced
	f.Add([]byte("HTTP/1.1 502 Bad Gateway\r\n")) // not gRPC at all
	f.Fuzz(func(t *testing.T, in []byte) {
		h, n, err := ParseFrameHeader(in)
		if err != nil || n == 0 {
			if h != (FrameHeader{}) || n != 0 {
				t.Errorf("%x: %+v and %d bytes beside %v", in, h, n, err)
			}
			return
		}
		if got := h.AppendTo(nil); !bytes.Equal(got, in[:n]) {
			t.Errorf("%x parsed as %+v, written again as %x", in[:n], h, got)
		}
	})
}

func BenchmarkParseFrameHeader(b *testing.B) {
	in := FrameHeader{0, 65536}.AppendTo(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, n, err := ParseFrameHeader(in); n == 0 || err != nil {
			b.Fatal(n, err)
		}
	}
}

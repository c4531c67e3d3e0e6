package h2

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/net/http2"
)

func FuzzFrameHeader(f *testing.F) {
	f.Add([]byte{0, 0, 5, 0, 1, 0, 0, 0, 1})                            // DATA with the end, stream 1
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff}) // the largest of all
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < frameHeaderBytes {
			return
		}
		h := parseFrameHeader(in)
		want := bytes.Clone(in[:frameHeaderBytes])
		want[5] &= 0x7f // the reserved bit is not looked at. RFC 9113 §4.1
		if got := h.appendTo(nil); !bytes.Equal(got, want) {
			t.Errorf("%x parsed as %+v, written again as %x", in[:frameHeaderBytes], h, got)
		}
	})
}

func TestPadding(t *testing.T) {
	for name, c := range map[string]struct {
		flags   http2.Flags
		payload string
		want    string
		code    http2.ErrCode
	}{
		"none":              {0, "abc", "abc", 0},
		"of 2":              {http2.FlagDataPadded, "\x02abc\x00\x00", "abc", 0},
		"of 0":              {http2.FlagDataPadded, "\x00abc", "abc", 0},
		"and nothing else":  {http2.FlagDataPadded, "\x02\x00\x00", "", 0},
		"one byte too many": {http2.FlagDataPadded, "\x03\x00\x00", "", http2.ErrCodeProtocol},
		"without a length":  {http2.FlagDataPadded, "", "", http2.ErrCodeFrameSize},
	} {
		got, err := frameHeader{flags: c.flags}.unpadded([]byte(c.payload))
		var e connError
		if errors.As(err, &e); string(got) != c.want || e.code != c.code {
			t.Errorf("%s: %q without padding is %q, %v; want %q, %v", name, c.payload, got, err, c.want, c.code)
		}
	}
}

// TestBlockInFrames: HEADERS and CONTINUATION, of which the last ends the
// block and the first the stream.
func TestBlockInFrames(t *testing.T) {
	for _, n := range []int{0, 1, 9, 10, 11, 20, 25} {
		block := bytes.Repeat([]byte{'x'}, n)
		r := http2.NewFramer(nil, bytes.NewReader(appendBlock(nil, 3, block, 10, true)))
		var got []byte
		for i := 0; ; i++ {
			f, err := r.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			var last bool
			switch f := f.(type) {
			case *http2.HeadersFrame:
				last = f.HeadersEnded()
				got = append(got, f.HeaderBlockFragment()...)
				if i != 0 || !f.StreamEnded() {
					t.Errorf("frame %d of %d bytes is %v", i, n, f)
				}
			case *http2.ContinuationFrame:
				last = f.HeadersEnded()
				got = append(got, f.HeaderBlockFragment()...)
			}
			if last {
				break
			}
		}
		if !bytes.Equal(got, block) {
			t.Errorf("%d bytes came as %d", n, len(got))
		}
	}
}

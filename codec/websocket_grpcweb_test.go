package codec

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func TestParseMarker(t *testing.T) {
	for _, c := range []struct {
		name   string
		first  byte
		length int
		want   Marker
		err    string
	}{
		{"data", 0x00, 13, MarkerData, ""},
		{"data of unknown length", 0x00, -1, MarkerData, ""},
		{"data marker alone", 0x00, 1, MarkerData, ""},
		{"half-close", 0x01, 1, MarkerHalfClose, ""},
		{"half-close of unknown length", 0x01, -1, MarkerHalfClose, ""},
		{"half-close with more", 0x01, 2, 0, "half-close"},
		{"empty", 0x00, 0, 0, "empty"},
		{"empty, whatever the byte", 0x01, 0, 0, "empty"},
		{"header frame", 0x80, 5, 0, "0x80"},
		{"text", 'h', -1, 0, "0x68"},
	} {
		got, err := ParseMarker(c.first, c.length)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != c.want || !strings.Contains(text, c.err) || (text == "") != (c.err == "") {
			t.Errorf("%s: ParseMarker(%#x, %d) = %d, %q, want %d, %q", c.name, c.first, c.length, got, text, c.want, c.err)
		}
	}
}

// TestClientMessages reads the messages of a grpc-websockets call after its
// first as they are on the wire.
func TestClientMessages(t *testing.T) {
	data, err := hex.DecodeString("0000000000070a05776f726c64")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ParseMarker(data[0], len(data))
	if m != MarkerData || err != nil {
		t.Fatalf("marker %d, %v", m, err)
	}
	h, n, err := ParseFrameHeader(data[1:])
	if err != nil || !bytes.Equal(data[1+n:], []byte("\n\x05world")) || int(h.Length) != len(data)-1-n {
		t.Errorf("frame %+v with %q, %v", h, data[1+n:], err)
	}
	if m, err := ParseMarker(0x01, 1); m != MarkerHalfClose || err != nil {
		t.Errorf("half-close is %d, %v", m, err)
	}
}

func FuzzParseMarker(f *testing.F) {
	f.Add(byte(0x00), 13)
	f.Add(byte(0x00), 0)
	f.Add(byte(0x01), 1)
	f.Add(byte(0x01), 2)
	f.Add(byte(0x01), -1)
	f.Add(byte(0x80), 5)
	f.Fuzz(func(t *testing.T, first byte, length int) {
		m, err := ParseMarker(first, length)
		if err != nil {
			if m != 0 {
				t.Errorf("ParseMarker(%#x, %d) = %d beside %v", first, length, m, err)
			}
			return
		}
		if byte(m) != first || first > 1 || length == 0 || first == 1 && length > 1 {
			t.Errorf("ParseMarker(%#x, %d) = %d, want an error", first, length, m)
		}
	})
}

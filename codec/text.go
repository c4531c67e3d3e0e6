package codec

import (
	"errors"
	"io"
)

// Errors of a text reader.
var (
	// ErrTextMalformed reports a character that is neither in the base64 alphabet
	// nor padding in its place.
	ErrTextMalformed = errors.New("malformed base64 in gRPC-Web-text body")
	// ErrTextTruncated reports that the text ended inside a quantum.
	ErrTextTruncated = errors.New("gRPC-Web-text body ends inside a group of four characters")
)

// Values of textValues that aren't six bits.
const (
	textPadding = 0x40 + iota
	textIgnored
	textInvalid
)

// textValues maps a character to its six bits or to one of the values above.
var textValues = func() (t [256]byte) {
	for i := range t {
		t[i] = textInvalid
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	for i := range len(alphabet) {
		t[alphabet[i]] = byte(i)
	}
	for _, c := range []byte("\r\n \t") {
		t[c] = textIgnored
	}
	t['='] = textPadding
	return t
}()

// NewTextReader returns a reader that decodes the base64 in r, for a body of
// gRPC-Web-text. Padding may end any group of four characters, not only the last,
// since senders pad at each flush. Line ends and blanks are ignored. Package
// base64's decoder supports neither.
//
// Bytes before an error are delivered before it. The errors are ErrTextMalformed,
// ErrTextTruncated if r ends inside a group, and r's own; after an error each Read
// returns it again. A Read reads r only to the end of the group that its last byte
// is in, and returns once it has a byte. The reader isn't safe for concurrent use.
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md#protocol-differences-vs-grpc-over-http2
func NewTextReader(r io.Reader) io.Reader {
	return &textReader{src: r}
}

type textReader struct {
	src io.Reader
	err error // the error of Read once spill is empty

	// The current group: bits of its characters, the number of characters, and
	// how many of those are padding.
	bits          uint32
	chars, padded int

	// Decoded bytes that the last Read had no room for.
	spill      [2]byte
	spillBytes int

	in [2048]byte // undecoded characters; empty between Reads
}

func (t *textReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if t.spillBytes > 0 {
		n := copy(p, t.spill[:t.spillBytes])
		t.spillBytes = copy(t.spill[:], t.spill[n:t.spillBytes])
		return n, nil
	}
	for t.err == nil {
		want := (len(p)+2)/3*4 - t.chars
		got, err := t.src.Read(t.in[:min(want, len(t.in))])
		n := t.decode(p, t.in[:got])
		if t.err == nil && err != nil {
			t.err = err
			if err == io.EOF && t.chars > 0 {
				t.err = ErrTextTruncated
			}
		}
		if n > 0 || got == 0 && err == nil {
			return n, nil
		}
	}
	return 0, t.err
}

// decode decodes in to p and, where p is full, to spill. It returns the bytes
// in p and stops with t.err set at a character that doesn't belong.
func (t *textReader) decode(p, in []byte) (n int) {
	for len(in) > 0 {
		if t.chars == 0 {
			used, made := decodeWhole(p[n:], in)
			in, n = in[used:], n+made
			if len(in) == 0 {
				break
			}
		}
		c := in[0]
		in = in[1:]
		switch v := textValues[c]; {
		case v == textIgnored:
			continue
		case v < textPadding && t.padded == 0:
			t.bits = t.bits<<6 | uint32(v)
		case v == textPadding && t.chars >= 2:
			t.bits <<= 6
			t.padded++
		default:
			t.err = ErrTextMalformed
			return n
		}
		if t.chars++; t.chars == 4 {
			n += t.endGroup(p[n:])
		}
	}
	return n
}

// decodeWhole decodes the groups at the beginning of in that are four
// characters of the alphabet in a row, as long as there is room for three bytes.
func decodeWhole(p, in []byte) (used, made int) {
	for len(in)-used >= 4 && len(p)-made >= 3 {
		q := in[used : used+4 : used+4]
		a, b, c, d := textValues[q[0]], textValues[q[1]], textValues[q[2]], textValues[q[3]]
		if a|b|c|d >= textPadding {
			break
		}
		o := p[made : made+3 : made+3]
		o[0], o[1], o[2] = a<<2|b>>4, b<<4|c>>2, c<<6|d
		used, made = used+4, made+3
	}
	return used, made
}

// endGroup puts the group's bytes into p, and into spill what p can't take. It
// returns the bytes in p.
func (t *textReader) endGroup(p []byte) int {
	group := [3]byte{byte(t.bits >> 16), byte(t.bits >> 8), byte(t.bits)}
	decoded := group[:3-t.padded]
	t.bits, t.chars, t.padded = 0, 0, 0
	n := copy(p, decoded)
	t.spillBytes = copy(t.spill[:], decoded[n:])
	return n
}

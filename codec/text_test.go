package codec

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

type textVectors struct {
	Decode []struct {
		Name, Text string
		Hex        hexBytes
	}
	Malformed []struct {
		Text      string
		Hex       hexBytes // what comes before the error
		Truncated bool
	}
	Encode []struct {
		Hex  hexBytes
		Text string
	}
}

// chunkReader gives its text in pieces of 1 to 256 bytes, whose sizes cycle
// through the bytes of chunks. The end comes with the last piece if eager.
type chunkReader struct {
	text   string
	chunks []byte
	eager  bool
	end    error
}

func (r *chunkReader) Read(p []byte) (int, error) {
	size := len(r.text)
	if len(r.chunks) > 0 {
		size = int(r.chunks[0]) + 1
		r.chunks = append(r.chunks[1:], r.chunks[0])
	}
	n := copy(p[:min(size, len(p))], r.text)
	r.text = r.text[n:]
	if r.text == "" && (n == 0 || r.eager) {
		return n, r.end
	}
	return n, nil
}

// readAll reads r with buffers whose sizes, 1 to 256 bytes, cycle through sizes.
func readAll(r io.Reader, sizes []byte) (all []byte, err error) {
	all = []byte{}
	for i := 0; ; i++ {
		p := make([]byte, int(sizes[i%len(sizes)])+1)
		n, err := r.Read(p)
		all = append(all, p[:n]...)
		if err != nil {
			return all, err
		}
	}
}

// decodePlainly is the slow and obvious decoder: without blanks, group by group,
// by package base64.
func decodePlainly(text string) ([]byte, error) {
	all := []byte{}
	text = strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "").Replace(text)
	for text != "" {
		group := text[:min(4, len(text))]
		text = text[len(group):]
		filler := "A" // for a group that ends too early: could it go on?
		if strings.Contains(group, "=") {
			filler = "="
		}
		decoded, err := base64.StdEncoding.DecodeString(group + strings.Repeat(filler, 4-len(group)))
		if err != nil {
			return all, ErrTextMalformed
		}
		if len(group) < 4 {
			return all, ErrTextTruncated
		}
		all = append(all, decoded...)
	}
	return all, io.EOF
}

func TestTextReader(t *testing.T) {
	for _, v := range readVectors[textVectors](t, "text.json").Decode {
		t.Run(v.Name, func(t *testing.T) {
			got, err := io.ReadAll(NewTextReader(strings.NewReader(v.Text)))
			if err != nil || !bytes.Equal(got, v.Hex) {
				t.Errorf("%q is %x, %v, want %x", v.Text, got, err, v.Hex)
			}
			if err := iotest.TestReader(NewTextReader(strings.NewReader(v.Text)), v.Hex); err != nil {
				t.Error(err)
			}
			if plain, err := decodePlainly(v.Text); !errors.Is(err, io.EOF) || !bytes.Equal(plain, v.Hex) {
				t.Errorf("the plain decoder: %x, %v", plain, err)
			}
		})
	}
}

// Each chunking of the text and each size of the reader's buffer gives the same
// bytes and the same error.
func TestTextReaderWhateverTheChunks(t *testing.T) {
	v := readVectors[textVectors](t, "text.json")
	texts := []string{strings.Repeat("YWJj", 2000) + "YQ==" + strings.Repeat("Y\nWJj", 2000)}
	for _, d := range v.Decode {
		texts = append(texts, d.Text)
	}
	for _, m := range v.Malformed {
		texts = append(texts, m.Text)
	}
	for _, text := range texts {
		want, wantErr := decodePlainly(text)
		for _, chunk := range []byte{0, 1, 2, 3, 4, 5, 6, 255} {
			for _, size := range []byte{0, 1, 2, 3, 4, 5, 255} {
				for _, eager := range []bool{false, true} {
					src := &chunkReader{text, []byte{chunk}, eager, io.EOF}
					got, err := readAll(NewTextReader(src), []byte{size})
					if !bytes.Equal(got, want) || !errors.Is(err, wantErr) {
						t.Errorf("%.40q in chunks of %d read by %d is %x, %v, want %x, %v",
							text, chunk+1, size+1, got, err, want, wantErr)
					}
				}
			}
		}
	}
}

func TestTextReaderRefuses(t *testing.T) {
	for _, v := range readVectors[textVectors](t, "text.json").Malformed {
		want := ErrTextMalformed
		if v.Truncated {
			want = ErrTextTruncated
		}
		r := NewTextReader(strings.NewReader(v.Text))
		got, err := io.ReadAll(r)
		if !bytes.Equal(got, v.Hex) || !errors.Is(err, want) {
			t.Errorf("%q is %x, %v, want %x, %v", v.Text, got, err, v.Hex, want)
		}
		if n, again := r.Read(make([]byte, 8)); n != 0 || !errors.Is(again, err) {
			t.Errorf("%q: read again gives %d bytes, %v, want %v", v.Text, n, again, err)
		}
	}
}

func TestTextReaderPassesAnErrorOn(t *testing.T) {
	reset := errors.New("connection reset")
	for _, eager := range []bool{false, true} {
		for _, text := range []string{"", "YWJj", "YWJjYQ"} { // inside a group it is the connection's fault, too
			got, err := io.ReadAll(NewTextReader(&chunkReader{text, nil, eager, reset}))
			if !errors.Is(err, reset) || string(got) != "abc"[:len(text)/4*3] {
				t.Errorf("%q is %q, %v, want %v", text, got, err, reset)
			}
		}
	}
}

// A reader that looked further would wait for characters that a client sends
// only after it got an answer.
func TestTextReaderReadsNoFurtherThanAsked(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("a frame "), 3000))
	for _, size := range []int{1, 2, 3, 4, 5, 6, 7, 100, 1024, 4096, 24000} {
		src := strings.NewReader(text)
		r := NewTextReader(src)
		got := 0
		for got < 24000 {
			n, err := io.ReadFull(r, make([]byte, min(size, 24000-got)))
			if err != nil {
				t.Fatal(err)
			}
			got += n
			if used := len(text) - src.Len(); used > (got+2)/3*4 {
				t.Fatalf("%d characters are read for %d bytes, %d at a time", used, got, size)
			}
		}
	}
}

// A Read that has a byte returns it instead of waiting for more.
func TestTextReaderReturnsWhatItHas(t *testing.T) {
	reads := 0
	src := readerFunc(func(p []byte) (int, error) {
		if reads++; reads > 1 {
			t.Error("the source is asked again")
		}
		return copy(p, "AAAAAAcK"), nil
	})
	p := make([]byte, 4096)
	n, err := NewTextReader(src).Read(p)
	if want := "\x00\x00\x00\x00\x07\n"; string(p[:n]) != want || err != nil {
		t.Errorf("Read gave %q, %v, want %q", p[:n], err, want)
	}
}

func TestTextReaderOfAReaderThatIsIdle(t *testing.T) {
	r := NewTextReader(readerFunc(func([]byte) (int, error) { return 0, nil }))
	if n, err := r.Read(make([]byte, 8)); n != 0 || err != nil {
		t.Errorf("Read gave %d, %v, want what the source gave", n, err)
	}
	if n, err := r.Read(nil); n != 0 || err != nil {
		t.Errorf("Read of nothing gave %d, %v", n, err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAppendText(t *testing.T) {
	for _, v := range readVectors[textVectors](t, "text.json").Encode {
		if got := appendText([]byte("> "), v.Hex); string(got) != "> "+v.Text {
			t.Errorf("appendText(%x) = %q, want %q", v.Hex, got, v.Text)
		}
	}
}

// TestTextRoundTrip writes frames of all lengths mod 3 as chunks of one text.
func TestTextRoundTrip(t *testing.T) {
	var text, want []byte
	for i := range 50 {
		frame := append(FrameHeader{0, uint32(i)}.AppendTo(nil), strings.Repeat("x", i)...)
		text, want = appendText(text, frame), append(want, frame...)
	}
	got, err := io.ReadAll(NewTextReader(bytes.NewReader(text)))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%q came back as %q, %v, want %q", text, got, err, want)
	}
}

func FuzzTextReader(f *testing.F) {
	v := readVectors[textVectors](f, "text.json")
	for _, d := range v.Decode {
		f.Add(d.Text, []byte{0}, []byte{4, 255}, false)
		f.Add(d.Text, []byte{2, 7}, []byte{0}, true)
	}
	for _, m := range v.Malformed {
		f.Add(m.Text, []byte{1}, []byte{255}, true)
	}
	f.Fuzz(func(t *testing.T, text string, chunks, sizes []byte, eager bool) {
		if len(sizes) == 0 {
			sizes = []byte{255}
		}
		want, wantErr := decodePlainly(text)
		got, err := readAll(NewTextReader(&chunkReader{text, chunks, eager, io.EOF}), sizes)
		if !bytes.Equal(got, want) || !errors.Is(err, wantErr) {
			t.Errorf("%q is %x, %v, want %x, %v", text, got, err, want, wantErr)
		}
		if errors.Is(wantErr, io.EOF) {
			again, err := io.ReadAll(NewTextReader(bytes.NewReader(appendText(nil, got))))
			if err != nil || !bytes.Equal(again, got) {
				t.Errorf("%x came back as %x, %v", got, again, err)
			}
		}
	})
}

func BenchmarkTextReader(b *testing.B) {
	frame := bytes.Repeat([]byte{0x5a}, 64<<10)
	text := appendText(nil, frame)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if _, err := io.ReadFull(NewTextReader(bytes.NewReader(text)), frame); err != nil {
			b.Fatal(err)
		}
	}
}

// appendText appends a frame to dst as one padded chunk of base64, which is written whole:
// clients decode the body in groups of four characters, wherever HTTP cuts it.
func appendText(dst, frame []byte) []byte {
	return base64.StdEncoding.AppendEncode(dst, frame)
}

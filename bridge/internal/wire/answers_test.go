package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/culvert-grpc/culvert/bridge/internal/memory"
)

// TestHeaderInManyPieces: pieces of a byte cost no copy of what came before, whether the block
// is one frame or many.
func TestHeaderInManyPieces(t *testing.T) {
	const bytesOfBlock = 30 << 10
	var block bytes.Buffer
	_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: "x-a", Value: strings.Repeat("~", bytesOfBlock), Sensitive: true})
	for name, size := range map[string]int{"one frame": block.Len(), "frames of a byte": 1} {
		var in bytes.Buffer
		framer, rest := http2.NewFramer(&in, nil), block.Bytes()
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: rest[:size], EndHeaders: size == len(rest)})
		for rest = rest[size:]; len(rest) > 0; rest = rest[size:] {
			_ = framer.WriteContinuation(1, size == len(rest), rest[:size])
		}
		a := answers{left: func(string) {}, most: 128 << 10}
		p := make([]byte, 1<<10)
		from := bytes.NewReader(in.Bytes())
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := a.read(p, func(p []byte) (int, error) { return from.Read(p[:1]) })
		runtime.ReadMemStats(&after)
		if n == 0 || err != nil || from.Len() > 0 {
			t.Errorf("%s: read %d bytes, %v, before %d others had come", name, n, err, from.Len())
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 20*uint64(in.Len()) {
			t.Errorf("%s: %d bytes took %d", name, in.Len(), took)
		}
	}
}

// blocks returns what a backend with an HPACK table sends: frames of all kinds, and blocks
// whose fields refer to earlier ones. odd ones need a change.
func blocks(odd bool) []byte {
	var out, block bytes.Buffer
	framer, enc := http2.NewFramer(&out, nil), hpack.NewEncoder(&block)
	headers := func(id uint32, end bool, fields ...string) {
		block.Reset()
		for pair := range slices.Chunk(fields, 2) {
			_ = enc.WriteField(hpack.HeaderField{Name: pair[0], Value: pair[1]})
		}
		b := block.Bytes()
		half := len(b) / 2
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:half], EndStream: end, PadLength: 3, Priority: http2.PriorityParam{Weight: 7}})
		_ = framer.WriteContinuation(id, false, nil)
		_ = framer.WriteContinuation(id, true, b[half:])
	}
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100})
	for id := uint32(1); id < 20; id += 2 {
		value := "AAEC"
		if odd && id%4 == 3 {
			value = "AAEC,/w,?"
		}
		headers(id, false, ":status", "200", "content-type", "application/grpc", "x-a-bin", value, "x-n", fmt.Sprint("n", id%6))
		_ = framer.WriteData(id, false, framed(0, pattern(50)))
		_ = framer.WritePing(true, [8]byte{1})
		headers(id, true, "grpc-status", fmt.Sprint(id%3), "grpc-message", "same", "x-a-bin", value)
	}
	return out.Bytes()
}

// mended returns what answers makes of in if it comes in pieces of these sizes.
func mended(in []byte, sizes ...int) ([]byte, error) {
	a := answers{left: func(string) {}, pong: func() {}, most: 8 << 10}
	var out []byte
	buffer, i := make([]byte, 64), 0
	for {
		n, err := a.read(buffer[:1+i%len(buffer)], func(p []byte) (int, error) {
			if len(in) == 0 {
				return 0, io.EOF
			}
			n := copy(p, in[:min(len(in), max(sizes[i%len(sizes)], 1))])
			in = in[n:]
			return n, nil
		})
		out = append(out, buffer[:n]...)
		if i++; err != nil {
			return out, err
		}
	}
}

// TestAnswersInPieces: what needs no change passes byte for byte, and a change is the same
// however the bytes come. All fields arrive that came, by HPACK's table too.
func TestAnswersInPieces(t *testing.T) {
	for _, odd := range []bool{false, true} {
		in := blocks(odd)
		whole, err := mended(in, len(in))
		if !errors.Is(err, io.EOF) || !odd && !bytes.Equal(whole, in) {
			t.Errorf("odd=%v: changed %d bytes to %d, %v", odd, len(in), len(whole), err)
		}
		for size := range 40 {
			if got, _ := mended(in, size+1, 7, size%5+1); !bytes.Equal(got, whole) {
				t.Fatalf("odd=%v: in pieces of %d it is another answer", odd, size+1)
			}
		}
		framer := http2.NewFramer(nil, bytes.NewReader(whole))
		framer.ReadMetaHeaders = hpack.NewDecoder(firstTableBytes, nil)
		var got []string
		for {
			f, err := framer.ReadFrame()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				text := fmt.Sprint(h.StreamID, h.StreamEnded())
				for _, field := range h.Fields {
					text += " " + field.Name + "=" + field.Value
				}
				got = append(got, text)
			}
		}
		var want []string
		for id := 1; id < 20; id += 2 {
			value := " x-a-bin=AAEC"
			if odd && id%4 == 3 {
				value += " x-a-bin=/w"
			}
			want = append(want, fmt.Sprint(id, false, " :status=200 content-type=application/grpc", value, " x-n=n", id%6),
				fmt.Sprint(id, true, " grpc-status=", id%3, " grpc-message=same", value))
		}
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "  ", " ")
		}
		if !slices.Equal(got, want) {
			t.Errorf("odd=%v: got\n%s\nwant\n%s", odd, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestKnownBlocks mean something else once HPACK's table has changed.
func TestKnownBlocks(t *testing.T) {
	block := func(fields ...string) []byte { // each gets the index 62, and moves the others up. RFC 7541 §6.2.1
		var b []byte
		for pair := range slices.Chunk(fields, 2) {
			b = append(append(b, 1<<6, byte(len(pair[0]))), pair[0]...)
			b = append(append(b, byte(len(pair[1]))), pair[1]...)
		}
		return b
	}
	known := []byte{1<<7 | 8, 1<<7 | 62, 1<<7 | 63} // :status 200, and the two latest
	var in bytes.Buffer
	framer := http2.NewFramer(&in, nil)
	write := func(block []byte) {
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}) // to memory
	}
	write(block("grpc-status", "5", "content-type", "application/grpc"))
	for range 3 {
		write(known)
	}
	write(block("grpc-status", "5", "content-type", "text/html"))
	same := in.Len()
	write(known) // now a page with a status
	out, err := mended(in.Bytes(), in.Len())
	if !errors.Is(err, io.EOF) || !bytes.Equal(out[:same], in.Bytes()[:same]) {
		t.Fatalf("blocks that need no change were changed: %q, %v", out, err)
	}
	if last := out[same:]; len(last) == 0 || !http2.Flags(last[4]).Has(http2.FlagHeadersEndStream) {
		t.Errorf("the page passed as %q, and its status ends nothing", last)
	}
}

// TestTablesOfHPACK: a backend may use the table that grpc-go's SETTINGS allow, and RFC 9113's
// without. grpc-go may use any that its own header blocks announce.
func TestTablesOfHPACK(t *testing.T) {
	const more = 2 * firstTableBytes
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	enc.SetMaxDynamicTableSizeLimit(more)
	enc.SetMaxDynamicTableSize(more)
	_ = enc.WriteField(hpack.HeaderField{Name: idHeader, Value: "one"}) // behind an update of the size
	header := func(w io.Writer) {
		_ = http2.NewFramer(w, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	}
	for _, c := range []struct {
		settings []http2.Setting
		passes   bool
	}{
		{nil, false},
		{[]http2.Setting{{ID: http2.SettingHeaderTableSize, Val: more - 1}}, false},
		{[]http2.Setting{{ID: http2.SettingHeaderTableSize, Val: more}}, true},
		{[]http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 0}, {ID: http2.SettingMaxFrameSize, Val: 1 << 20}, {ID: http2.SettingHeaderTableSize, Val: more}}, true},
	} {
		near, far := net.Pipe()
		a := memory.New(1<<20, 0)
		conn := NewConn(near, Options{Account: a, Window: ConnWindow(a)})
		p := newPlace(nil, nil)
		expectNow(t, conn, p)
		var sent bytes.Buffer
		sent.WriteString(http2.ClientPreface)
		_ = http2.NewFramer(&sent, nil).WriteSettings(c.settings...) // to memory
		header(&sent)
		go func() {
			_, _ = io.ReadFull(far, make([]byte, sent.Len()))
			_ = http2.NewFramer(far, nil).WriteSettings()
			header(far)
		}()
		if _, err := conn.Write(bytes.Clone(sent.Bytes())); err != nil || !p.written.Load() {
			t.Errorf("%v: the request isn't read: %v", c.settings, err)
		}
		var got []byte
		var err error
		for n := 0; err == nil && !bytes.HasSuffix(got, block.Bytes()); {
			b := make([]byte, 1<<10)
			n, err = conn.Read(b)
			got = append(got, b[:n]...)
		}
		if (err == nil) != c.passes || err != nil && !errors.Is(err, errAnswerUnreadable) {
			t.Errorf("%v: %v; want that the answer passes: %v", c.settings, err, c.passes)
		}
		_ = conn.Close()
		_ = far.Close()
	}
}

// TestPongsAreLeftOut: grpc-go gets no answer to a PING that it hasn't sent, and all others.
func TestPongsAreLeftOut(t *testing.T) {
	var in, want bytes.Buffer
	_, _ = in.Write(silencePong) // to memory
	for _, to := range []*bytes.Buffer{&in, &want} {
		framer := http2.NewFramer(to, nil)
		_ = framer.WriteSettings()
		_ = framer.WritePing(true, [8]byte{'c', 'u', 'l'})
		_ = framer.WritePing(false, [8]byte(silencePing[frameHeaderBytes:])) // the backend's own
		_ = framer.WriteData(1, false, silencePong)
		if to == &in {
			_, _ = in.Write(slices.Concat(silencePong, silencePong))
		}
		_ = framer.WriteData(1, true, []byte("hello"))
	}
	_, _ = in.Write(silencePong)
	for size := range in.Len() {
		if got, err := mended(in.Bytes(), size+1, size%7+1); !bytes.Equal(got, want.Bytes()) || !errors.Is(err, io.EOF) {
			t.Errorf("in pieces of %d: %q, %v, want %q", size+1, got, err, want.Bytes())
		}
	}
	if got, _ := mended(silencePong[:10], 3); !bytes.Equal(got, silencePong[:10]) {
		t.Errorf("the beginning of an answer became %q", got)
	}
}

// FuzzAnswers: bytes that need no change pass as they are, and pieces make no difference.
func FuzzAnswers(f *testing.F) {
	f.Add(blocks(false), uint8(3))
	f.Add(blocks(true), uint8(200))
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), uint8(1))
	f.Add([]byte{0, 0, 1, 1, 4, 0, 0, 0, 1, 0xff}, uint8(1))
	f.Add([]byte{0, 0, 1, 5, 4, 0, 0, 0, 1, 0xff}, uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		whole, err := mended(in, len(in))
		pieces, err2 := mended(in, int(size), 1, 5)
		if !bytes.Equal(whole, pieces) || !errors.Is(err2, err) {
			t.Errorf("in one piece %x, %v; in several %x, %v", whole, err, pieces, err2)
		}
		if again, err := mended(whole, len(whole)); errors.Is(err, io.EOF) && !bytes.Equal(again, whole) && bytes.Equal(whole, in) {
			t.Errorf("%x is changed the second time, to %x", whole, again)
		}
	})
}

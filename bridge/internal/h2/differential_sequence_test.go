package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The limits of the servers that are compared: a sequence gets beyond them.
const (
	maxStreams = 3
	maxHeader  = 1000
)

// A sequence is what a client sends.
type sequence struct {
	hold bool // handlers wait until all is sent
	in   []byte
}

// A step is one frame, or what is left behind the last whole one.
type step struct {
	bytes    []byte
	h        frameHeader
	payload  []byte
	whole    bool
	open     bool                // a header block that isn't whole
	fields   []hpack.HeaderField // of the header block that ends here
	end      bool                // END_STREAM, also of the HEADERS that a CONTINUATION ends
	onItself bool                // those HEADERS depend on their own stream
}

// steps are the frames as a server reads them, of which one may say a length that its
// writer didn't mean.
func (s *sequence) steps() []step {
	var list []step
	preface, in := s.in[:len(http2.ClientPreface)], s.in[len(http2.ClientPreface):]
	dec := hpack.NewDecoder(headerTableBytes, nil)
	var block []byte
	open, end, onItself := false, false, false
	for len(in) > 0 || preface != nil {
		st := step{bytes: in}
		if len(in) >= frameHeaderBytes {
			st.h = parseFrameHeader(in)
			if n := frameHeaderBytes + st.h.length; st.h.length <= maxFrameBytes && n <= len(in) {
				st.bytes, st.payload, st.whole = in[:n], in[frameHeaderBytes:n], true
			}
		}
		if st.whole && (st.h.kind == http2.FrameHeaders || st.h.kind == http2.FrameContinuation) {
			open = !st.h.flags.Has(http2.FlagHeadersEndHeaders)
			block = append(block, st.fragment()...)
			if st.h.kind == http2.FrameHeaders {
				end, onItself = st.h.flags.Has(http2.FlagHeadersEndStream), st.dependsOnItself()
			}
			st.end, st.onItself = end, onItself
			if !open {
				st.fields, _ = dec.DecodeFull(block) // nil: it isn't HPACK
				block = nil
			}
		}
		st.end = st.end || st.whole && st.h.kind == http2.FrameData && st.h.flags.Has(http2.FlagDataEndStream)
		st.open = open || !st.whole
		in = in[len(st.bytes):]
		st.bytes = append(preface[:len(preface):len(preface)], st.bytes...)
		preface = nil
		list = append(list, st)
	}
	return list
}

func (st *step) dependsOnItself() bool {
	p, _ := st.h.unpadded(st.payload) // nil: it hasn't
	return st.h.flags.Has(http2.FlagHeadersPriority) && len(p) >= 5 && dependsOnItself(st.h.stream, p)
}

// content returns how many bytes of a request's content a frame has.
func (st *step) content() int64 {
	if !st.whole || st.h.kind != http2.FrameData {
		return 0
	}
	p, _ := st.h.unpadded(st.payload) // nil: it has none
	return int64(len(p))
}

// values are those of the fields of a name.
func (st *step) values(name string) []string {
	var list []string
	for _, f := range st.fields {
		if f.Name == name {
			list = append(list, f.Value)
		}
	}
	return list
}

// fragment returns the part of a header block in a frame, if it has any.
func (st *step) fragment() []byte {
	if st.h.kind == http2.FrameContinuation {
		return st.payload
	}
	p, _ := st.h.unpadded(st.payload) // nil: it hasn't
	if st.h.flags.Has(http2.FlagHeadersPriority) {
		p = p[min(5, len(p)):]
	}
	return p
}

func (s *sequence) String() string {
	var b strings.Builder
	if s.hold {
		b.WriteString("handlers wait until all is sent\n")
	}
	for i, st := range s.steps() {
		text := fmt.Sprintf("%x", st.payload)
		if len(text) > 80 {
			text = text[:80] + "…"
		}
		if !st.whole {
			text = fmt.Sprintf("no whole frame: %x", st.bytes)
		}
		fmt.Fprintf(&b, "%2d %v flags %02x stream %d length %d: %s", i, st.h.kind, byte(st.h.flags), st.h.stream, st.h.length, text)
		for _, f := range st.fields {
			value := f.Value
			if len(value) > 60 {
				value = fmt.Sprintf("%s… of %d bytes", value[:60], len(value))
			}
			fmt.Fprintf(&b, "  %q: %q", f.Name, value)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// A writer makes a sequence.
type writer struct {
	dice    *rand.Rand
	out     []byte
	enc     *hpack.Encoder
	block   bytes.Buffer
	next    uint32
	streams []*written
	faults  int    // of 16 frames
	table   uint32 // the size of HPACK's table for answers: hpack's decoder doesn't take all changes
}

// A written stream is one whose request may go on.
type written struct {
	id    uint32
	left  int // of the content-length; -1: none was said
	ended bool
}

// newSequence makes the sequence of a seed: requests as a client sends them, of which
// some frames and fields break a rule.
func newSequence(seed uint64) *sequence {
	w := &writer{dice: rand.New(rand.NewPCG(seed, 0)), next: 1}
	w.enc = hpack.NewEncoder(&w.block)
	w.faults = w.dice.IntN(4)
	w.table = uint32(w.dice.IntN(5000))
	s := &sequence{hold: w.dice.IntN(3) == 0}
	w.out = append(w.out, http2.ClientPreface...)
	if !w.odds(500) {
		w.settings()
	}
	if !w.odds(20) {
		w.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	}
	for n := 1 + w.dice.IntN(12); n > 0; n-- {
		w.one()
	}
	if w.odds(20) {
		w.out = w.out[:max(len(w.out)-1-w.dice.IntN(30), len(http2.ClientPreface))]
	}
	s.in = w.out
	return s
}

func (w *writer) odds(n int) bool { return w.dice.IntN(n) == 0 }

// wrong reports whether the next frame is to be wrong.
func (w *writer) wrong() bool { return w.dice.IntN(16) < w.faults }

func pick[T any](w *writer, list ...T) T { return list[w.dice.IntN(len(list))] }

// one writes what a client may send next.
func (w *writer) one() {
	if w.wrong() {
		w.fault()
		return
	}
	st := w.unended()
	switch n := w.dice.IntN(20); {
	case n < 6 || st == nil && n < 12:
		w.request()
	case n < 11:
		w.data(st)
	case n < 12:
		w.trailers(st)
	case n < 13:
		w.windowUpdate(pick(w, 0, w.any()), uint32(1+w.dice.IntN(5000)))
	case n < 14:
		if id := w.any(); id > 0 {
			w.word(http2.FrameRSTStream, id, uint32(pick(w, http2.ErrCodeCancel, http2.ErrCodeNo, http2.ErrCodeRefusedStream, 0xbad)))
			w.end(id)
		}
	case n < 15:
		w.settings()
	case n < 16:
		w.frame(http2.FramePing, 0, 0, []byte("pingping"))
	case n < 17:
		w.priority()
	case n < 18:
		w.frame(http2.FrameType(0x20+w.dice.IntN(200)), http2.Flags(w.dice.Uint32()), w.any(), []byte("unknown"))
	case n < 19 && st != nil:
		w.data(st)
	default:
		w.request()
	}
}

// unended is one of the streams whose request goes on, or nil.
func (w *writer) unended() *written {
	var list []*written
	for _, st := range w.streams {
		if !st.ended {
			list = append(list, st)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return pick(w, list...)
}

// any is the number of any stream that was begun, or 0.
func (w *writer) any() uint32 {
	if len(w.streams) == 0 {
		return 0
	}
	return pick(w, w.streams...).id
}

func (w *writer) end(id uint32) {
	for _, st := range w.streams {
		if st.id == id {
			st.ended = true
		}
	}
}

// frame writes a frame, or one that is nearly so.
func (w *writer) frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
	h := frameHeader{length: len(payload), kind: kind, flags: flags, stream: stream}
	if w.wrong() && w.odds(4) {
		w.spoil(&h, &payload)
	}
	w.out = append(h.appendTo(w.out), payload...)
}

// spoil changes one thing about a frame.
func (w *writer) spoil(h *frameHeader, payload *[]byte) {
	switch w.dice.IntN(8) {
	case 0:
		h.length = max(0, h.length+w.dice.IntN(9)-4)
	case 1:
		h.kind = http2.FrameType(w.dice.IntN(11))
	case 2:
		h.flags ^= 1 << w.dice.IntN(8)
	case 3:
		if h.kind == http2.FrameHeaders {
			return // its handler would name the wrong stream
		}
		h.stream = pick(w, 0, 1, 2, 3, w.any(), w.any()+1, w.next, w.next+2, w.next+4, 1<<31-1)
	case 4:
		*payload = (*payload)[:w.dice.IntN(len(*payload)+1)]
		h.length = len(*payload)
	case 5:
		*payload = append(bytes.Clone(*payload), make([]byte, 1+w.dice.IntN(6))...)
		h.length = len(*payload)
	case 6:
		if n := len(*payload); n > 0 {
			*payload = bytes.Clone(*payload)
			(*payload)[w.dice.IntN(n)] ^= 1 << w.dice.IntN(8)
		}
	case 7:
		h.length = pick(w, maxFrameBytes, maxFrameBytes+1, 1<<24-1)
	}
}

func (w *writer) word(kind http2.FrameType, stream, word uint32) {
	w.frame(kind, 0, stream, binary.BigEndian.AppendUint32(nil, word))
}

func (w *writer) windowUpdate(stream, inc uint32) { w.word(http2.FrameWindowUpdate, stream, inc) }

func (w *writer) settings() {
	var p []byte
	for _, s := range []http2.Setting{
		{ID: http2.SettingHeaderTableSize, Val: w.table},
		{ID: http2.SettingEnablePush, Val: uint32(w.dice.IntN(2))},
		{ID: http2.SettingInitialWindowSize, Val: pick(w, uint32(0), 1, 100, 65535, 100_000)},
		{ID: http2.SettingMaxFrameSize, Val: pick(w, uint32(1<<14), 1<<20)},
		{ID: http2.SettingMaxConcurrentStreams, Val: 0},
		{ID: http2.SettingMaxHeaderListSize, Val: 1 << 20},
		{ID: 0xbad, Val: 1},
	} {
		if w.odds(4) {
			p = appendSetting(p, s.ID, s.Val)
		}
	}
	w.frame(http2.FrameSettings, 0, 0, p)
}

func appendSetting(b []byte, id http2.SettingID, v uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(id)), v)
}

func (w *writer) priority() {
	id := pick(w, w.any(), w.next, w.next+10)
	w.frame(http2.FramePriority, 0, max(id, 1), append(binary.BigEndian.AppendUint32(nil, id+2), 16))
}

// A field of a header block.
type headerField struct{ name, value string }

// request begins a stream.
func (w *writer) request() { w.requestOf(w.fields(w.next)) }

func (w *writer) requestOf(fields []headerField) {
	st := &written{id: w.next, left: -1, ended: w.odds(3)}
	w.next += uint32(pick(w, 2, 2, 2, 4))
	if w.odds(5) {
		n := 0
		if !st.ended {
			n = w.dice.IntN(60)
		}
		fields = append(fields, headerField{"content-length", strconv.Itoa(n)})
		st.left = n
	}
	w.streams = append(w.streams, st)
	w.headers(st.id, st.ended, fields)
}

// fields are those of a request that is right.
func (w *writer) fields(id uint32) []headerField {
	fields := []headerField{
		{":method", pick(w, "POST", "POST", "GET", "HEAD", "PUT", "ODD")},
		{":scheme", pick(w, "http", "http", "https")},
		{":authority", pick(w, "localhost", "localhost", "example.com:80")},
		{":path", pick(w, "/a.B/C", "/a.B/C", "/how/early", "/how/echo/50", "/how/read/2000", "/how/close", "/how/abort", "/how/first/9", "/a%2fb?c=d%20e", "//x/../y", "/")},
	}
	w.dice.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	fields = append(fields, headerField{"x-stream", strconv.FormatUint(uint64(id), 10)})
	for _, f := range []headerField{
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"user-agent", "culvert"},
		{"cookie", "a=b"},
		{"cookie", "c=d"},
		{"trailer", "X-A, x-b"},
		{"expect", "100-continue"},
		{"x-twice", "1"},
		{"x-twice", "2"},
		{"grpc-timeout", "1S"},
		{"x-empty", ""},
		{"x-long", strings.Repeat("l", w.dice.IntN(400))},
		{"x-token!#$%&'*+.^_`|~", "\tv\x80"},
		{"accept-encoding", "identity"},
	} {
		if w.odds(8) {
			fields = append(fields, f)
		}
	}
	return fields
}

// headers writes a header block in frames.
func (w *writer) headers(id uint32, end bool, fields []headerField) {
	w.block.Reset()
	if w.odds(30) {
		w.enc.SetMaxDynamicTableSize(uint32(w.dice.IntN(headerTableBytes + 1)))
	}
	for _, f := range fields {
		_ = w.enc.WriteField(hpack.HeaderField{Name: f.name, Value: f.value, Sensitive: w.odds(10)}) // to memory
	}
	w.blockFrames(id, end, bytes.Clone(w.block.Bytes()))
}

func (w *writer) blockFrames(id uint32, end bool, block []byte) {
	var flags http2.Flags
	if end {
		flags |= http2.FlagHeadersEndStream
	}
	parts := [][]byte{block}
	if w.odds(4) {
		for n := 1 + w.dice.IntN(3); n > 0; n-- {
			last := parts[len(parts)-1]
			at := w.dice.IntN(len(last) + 1)
			parts = append(parts[:len(parts)-1], last[:at], last[at:])
		}
	}
	kind := http2.FrameHeaders
	for i, p := range parts {
		p = bytes.Clone(p)
		if i == 0 && w.odds(10) {
			flags |= http2.FlagHeadersPriority
			p = append(binary.BigEndian.AppendUint32(nil, id-1), append([]byte{7}, p...)...)
		}
		if i == 0 && w.odds(10) {
			flags |= http2.FlagHeadersPadded
			p = padded(p, w.dice.IntN(10))
		}
		if i == len(parts)-1 {
			flags |= http2.FlagHeadersEndHeaders
		}
		w.frame(kind, flags, id, p)
		kind, flags = http2.FrameContinuation, 0
	}
}

func padded(p []byte, n int) []byte {
	return append(append([]byte{byte(n)}, p...), make([]byte, n)...)
}

// data writes a piece of a request's body.
func (w *writer) data(st *written) {
	n := w.dice.IntN(40)
	if w.odds(30) {
		n = w.dice.IntN(maxFrameBytes - 10)
	}
	end := w.odds(3)
	if st.left >= 0 {
		if n = min(n, st.left); end {
			n = st.left
		}
		st.left -= n
	}
	w.dataOf(st.id, end, n)
	st.ended = end
}

func (w *writer) dataOf(id uint32, end bool, n int) {
	p := make([]byte, n)
	for i := range p {
		p[i] = 'a' + byte(i%26)
	}
	var flags http2.Flags
	if end {
		flags |= http2.FlagDataEndStream
	}
	if w.odds(6) {
		flags |= http2.FlagDataPadded
		p = padded(p, w.dice.IntN(10))
	}
	w.frame(http2.FrameData, flags, id, p)
}

// trailers ends a request.
func (w *writer) trailers(st *written) {
	var fields []headerField
	for _, f := range []headerField{{"x-a", "1"}, {"x-a", "2"}, {"x-b", ""}, {"x-c", "unannounced"}} {
		if w.odds(2) {
			fields = append(fields, f)
		}
	}
	w.headers(st.id, true, fields)
	st.ended = true
}

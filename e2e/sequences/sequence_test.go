package sequences

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A step is one frame, or what a server sends in its place.
type step struct {
	bytes []byte
	fault string // its name, if the frame is the first of a fault
}

// A sequence is what a server sends on one connection, whose client opens streams when
// the first frame has come: requests without a body.
type sequence struct {
	seed    uint64
	steps   []step
	streams []*stream

	dice  *rand.Rand
	table *hpack.Encoder // writes to block
	block bytes.Buffer
}

// A stream is an answer: what is yet to be sent of it.
type stream struct {
	id      uint32
	plan    []func()
	begun   bool // its header has been sent
	started bool // anything of it has been sent
	ended   bool
}

// newSequence makes the sequence of a seed.
func newSequence(seed uint64) *sequence {
	s := &sequence{seed: seed, dice: rand.New(rand.NewPCG(seed, 0))}
	s.table = hpack.NewEncoder(&s.block)
	for i := range 1 + s.dice.IntN(4) {
		st := &stream{id: uint32(2*i + 1)}
		st.plan = s.answer(st)
		s.streams = append(s.streams, st)
	}
	var all fault
	at := -1
	if s.chance(3, 4) {
		all = faults[s.dice.IntN(len(faults))]
		at = s.dice.IntN(8)
	}
	if all.first != nil {
		s.fault(all.name, func() { all.first(s) })
		at = -1
	} else {
		s.settings()
		s.send(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	}
	for i := 0; ; i++ {
		if i >= at && at >= 0 && all.do != nil {
			if st := s.fit(all.state); st != nil {
				s.fault(all.name, func() { all.do(s, st) })
				at = -1
			}
		}
		open := slices.DeleteFunc(slices.Clone(s.streams), func(st *stream) bool { return len(st.plan) == 0 })
		if len(open) == 0 {
			return s
		}
		if s.chance(1, 4) {
			s.aside()
		}
		s.next(open[s.dice.IntN(len(open))])
	}
}

// next sends what comes next of an answer.
func (s *sequence) next(st *stream) {
	do := st.plan[0]
	st.plan = st.plan[1:]
	st.started = true
	do()
}

// fault does what is wrong, and notes where it begins.
func (s *sequence) fault(name string, do func()) {
	at := len(s.steps)
	do()
	s.steps[at].fault = name
}

// fit returns a stream in a state, or nil.
func (s *sequence) fit(state state) *stream {
	for _, i := range s.dice.Perm(len(s.streams)) {
		st := s.streams[i]
		switch state {
		case anyState:
			return st
		case waiting:
			if !st.started {
				return st
			}
		case begun:
			if st.begun && !st.ended {
				return st
			}
		case ended:
			if st.ended {
				return st
			}
		}
	}
	return nil
}

// chance is true in n of m cases.
func (s *sequence) chance(n, m int) bool { return s.dice.IntN(m) < n }

// answer plans a whole answer.
func (s *sequence) answer(st *stream) (plan []func()) {
	for s.chance(1, 6) {
		plan = append(plan, func() { s.header(st, false, field(":status", pick(s, "100", "103", "199")), s.field()) })
	}
	if s.chance(1, 12) { // it is reset
		return append(plan, func() {
			s.reset(st, http2.ErrCode(s.dice.IntN(14)))
		})
	}
	var content []int
	for s.chance(2, 3) {
		content = append(content, pick(s, 0, 1, 5, 20, 100, 100, s.dice.IntN(pick(s, 300, 300, 300, 16385))))
	}
	total := 0
	for _, n := range content {
		total += n
	}
	fields := []hpack.HeaderField{field(":status", pick(s, "200", "200", "200", "404", "503", "299"))}
	for s.chance(3, 4) {
		fields = append(fields, s.field())
	}
	if s.chance(1, 4) {
		fields = append(fields, field("content-length", fmt.Sprint(total)))
	}
	trailers := s.chance(1, 2)
	last := len(content) == 0 && !trailers
	plan = append(plan, func() {
		st.begun = true
		s.header(st, last, fields...)
	})
	for i, n := range content {
		last := i == len(content)-1 && !trailers
		plan = append(plan, func() { s.data(st, n, last) })
	}
	if trailers {
		var fields []hpack.HeaderField
		for s.chance(3, 4) {
			fields = append(fields, s.field())
		}
		plan = append(plan, func() { s.header(st, true, fields...) })
	}
	return plan
}

func field(name, value string) hpack.HeaderField { return hpack.HeaderField{Name: name, Value: value} }

func pick[T comparable](s *sequence, of ...T) T { return of[s.dice.IntN(len(of))] }

// field returns a random field, sometimes one that is in the tables.
func (s *sequence) field() hpack.HeaderField {
	name := pick(s, "content-type", "grpc-status", "grpc-message", "server", "date", "x-a", "x-trace-bin", "etag",
		"vary", "a-rather-long-name-for-a-field-that-takes-some-space", "x")
	if name == "content-type" {
		return field(name, "application/grpc")
	}
	n := pick(s, 0, 1, 7, 20, 60, s.dice.IntN(pick(s, 100, 100, 100, 5000)))
	value := make([]byte, n)
	kind := s.dice.IntN(3)
	for i := range value {
		switch kind {
		case 0:
			value[i] = byte('0' + s.dice.IntN(10))
		case 1:
			value[i] = byte('!' + s.dice.IntN('~'-'!'+1))
		case 2: // obs-text
			value[i] = byte(0x80 + s.dice.IntN(0x80))
		}
	}
	return hpack.HeaderField{Name: name, Value: string(value), Sensitive: s.chance(1, 8)}
}

// encode returns a header block, in all forms that HPACK has.
func (s *sequence) encode(fields ...hpack.HeaderField) []byte {
	resize := s.chance(1, 4) && len(fields) > 0
	if resize { // which the table writes before its next field
		s.table.SetMaxDynamicTableSize(uint32(pick(s, 0, 100, 4096, 4096, s.dice.IntN(4097))))
	}
	for i, f := range fields {
		if s.chance(1, 4) && !f.IsPseudo() && !(i == 0 && resize) {
			plain(&s.block, f.Name, f.Value)
			continue
		}
		_ = s.table.WriteField(f) // to a buffer
	}
	return bytes.Clone(taken(&s.block))
}

func taken(b *bytes.Buffer) []byte {
	defer b.Reset()
	return bytes.Clone(b.Bytes())
}

// plain writes a field without Huffman coding and without an index (RFC 7541 §6.2.2),
// which x/net's encoder does for short strings only.
func plain(b *bytes.Buffer, name, value string) {
	b.WriteByte(0)
	for _, text := range []string{name, value} {
		b.Write(integer(0, 7, uint64(len(text))))
		b.WriteString(text)
	}
}

// integer is an integer with a prefix of n bits (RFC 7541 §5.1).
func integer(first byte, n int, i uint64) []byte {
	most := uint64(1)<<n - 1
	if i < most {
		return []byte{first | byte(i)}
	}
	out := []byte{first | byte(most)}
	for i -= most; i >= 0x80; i >>= 7 {
		out = append(out, byte(i)|0x80)
	}
	return append(out, byte(i))
}

// header sends a header block, in as many frames as it likes.
func (s *sequence) header(st *stream, end bool, fields ...hpack.HeaderField) {
	st.ended = st.ended || end
	s.split(st.id, end, s.encode(fields...))
}

// split sends a block as HEADERS and CONTINUATION.
func (s *sequence) split(id uint32, end bool, block []byte) {
	flags := when(http2.FlagHeadersEndStream, end)
	var pieces [][]byte
	for s.chance(1, 3) || len(block) > 16000 {
		n := s.dice.IntN(min(len(block), 16000) + 1)
		pieces, block = append(pieces, block[:n]), block[n:]
	}
	pieces = append(pieces, block)
	first := pieces[0]
	if s.chance(1, 5) {
		first = slices.Concat([]byte{0, 0, 0, 0, byte(s.dice.IntN(256))}, first) // depends on stream 0
		flags |= http2.FlagHeadersPriority
	}
	if s.chance(1, 4) {
		first = pad(first, s.dice.IntN(256))
		flags |= http2.FlagHeadersPadded
	}
	s.send(http2.FrameHeaders, flags|when(http2.FlagHeadersEndHeaders, len(pieces) == 1), id, first)
	for i, p := range pieces[1:] {
		s.send(http2.FrameContinuation, when(http2.FlagContinuationEndHeaders, i == len(pieces)-2), id, p)
	}
}

func when(f http2.Flags, set bool) http2.Flags {
	if set {
		return f
	}
	return 0
}

func pad(payload []byte, n int) []byte {
	return slices.Concat([]byte{byte(n)}, payload, make([]byte, n))
}

// data sends n bytes of content.
func (s *sequence) data(st *stream, n int, end bool) {
	st.ended = st.ended || end
	content := make([]byte, n)
	for i := range content {
		content[i] = byte(i * 7)
	}
	flags := when(http2.FlagDataEndStream, end)
	if n < 16000 && s.chance(1, 3) {
		content = pad(content, s.dice.IntN(256))
		flags |= http2.FlagDataPadded
	}
	s.send(http2.FrameData, flags, st.id, content)
}

func (s *sequence) reset(st *stream, code http2.ErrCode) {
	st.ended, st.plan = true, nil
	s.send(http2.FrameRSTStream, 0, st.id, four(uint32(code)))
}

func four(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func setting(id http2.SettingID, value uint32) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(id)), four(value)...)
}

func (s *sequence) settings() {
	var payload []byte
	for s.chance(1, 2) {
		payload = append(payload, pick(s,
			string(setting(http2.SettingHeaderTableSize, uint32(pick(s, 0, 100, 4096, 65536)))),
			string(setting(http2.SettingMaxConcurrentStreams, uint32(len(s.streams)+s.dice.IntN(100)))),
			string(setting(http2.SettingInitialWindowSize, uint32(pick(s, 0, 65535, 1<<20, 1<<30)))),
			string(setting(http2.SettingMaxFrameSize, uint32(pick(s, 16384, 1<<20, 1<<24-1)))),
			string(setting(http2.SettingMaxHeaderListSize, uint32(pick(s, 16384, 1<<20)))),
			string(setting(0x7a7a, s.dice.Uint32())), // unknown (§5.5)
		)...)
	}
	s.send(http2.FrameSettings, 0, 0, payload)
}

// aside sends something valid that is about no answer.
func (s *sequence) aside() {
	switch s.dice.IntN(7) {
	case 0:
		s.send(http2.FramePing, 0, 0, binary.BigEndian.AppendUint64(nil, s.dice.Uint64()))
	case 1:
		s.send(http2.FramePing, http2.FlagPingAck, 0, make([]byte, 8)) // that nobody asked for
	case 2:
		s.settings()
	case 3:
		s.send(http2.FrameWindowUpdate, 0, 0, four(1+uint32(s.dice.IntN(1000))))
	case 4:
		s.send(http2.FrameWindowUpdate, 0, s.fit(anyState).id, four(1+uint32(s.dice.IntN(1000))))
	case 5:
		s.send(http2.FramePriority, 0, s.fit(anyState).id, make([]byte, 5))
	case 6:
		s.send(http2.FrameType(0x10+s.dice.IntN(0xf0)), http2.Flags(s.dice.IntN(256)), pick(s, 0, 1, s.dice.Uint32()>>1), make([]byte, s.dice.IntN(50))) // unknown (§5.5)
	}
}

// send adds a frame.
func (s *sequence) send(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) {
	head := append(four(uint32(len(payload))<<8|uint32(kind)), byte(flags))
	s.steps = append(s.steps, step{bytes: slices.Concat(head, four(id), payload)})
}

package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcgzip "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/protobuf/proto"

	"github.com/culvert-grpc/culvert/codec"
)

// answers mends the header blocks of a backend's answers on their way to grpc-go, which
// would lose the status for a field that it can't read. It looks at each block. A block
// that needs no change passes as it came. From the first change on, answers writes every
// block anew, since grpc-go's HPACK table no longer follows the backend's.
//
// It mends these fields:
//
//   - A -bin value that HTTP has joined from several becomes these. One that isn't base64
//     is left out.
//   - Details of a status are left out if their code contradicts grpc-status. If they
//     have no message, they get grpc-message.
//   - A number in grpc-status loses blanks around it and repetitions.
//   - A content-type of gRPC becomes lower case, without blanks. An answer that isn't of
//     gRPC, but has a status in its header, becomes an answer of this status alone:
//     "If grpc-status was provided, it must be used." gRPC http-grpc-status-mapping.md.
//   - A coding becomes lower case, and gzip gets the name of the namesake that takes an
//     empty message with the compressed flag.
//
// It leaves out the answers to silencePing, since grpc-go hasn't sent that PING.
//
// Only the connection's Read uses it.
type answers struct {
	left  func(name string)      // told of each value that is left out
	pong  func()                 // told of each answer to silencePing
	most  int                    // bytes of a block's fields that grpc-go takes
	table atomic.Pointer[uint32] // grpc-go's HEADER_TABLE_SIZE, which Write sets; nil: it has named none

	fields   *hpack.Decoder
	list     []hpack.HeaderField // of the block
	size     int                 // of list
	trailers int                 // of the list's fields named trailer, which golang.org/x/net counts apart
	odd      bool                // the block may need a change
	known    []knownBlock        // blocks that need no change, while the table stays as it is
	found    fifo[*verdict]      // on the blocks that are handed on

	untyped, coded bool // the block has a status of HTTP without a content-type, and one of gRPC
	broken         bool // its padding is longer than it, so grpc-go ends its stream alone, and doesn't read it
	cut            bool // the list ends with a field that grpc-go doesn't take

	detailed *string // the message of the status's details; nil: there are none

	skip   int    // bytes of a frame without a header block, still to come
	held   []byte // the beginning of a frame's header, or of a block
	walked int    // bytes of held that are whole frames
	need   int    // bytes of held without which there is nothing to do
	out    []byte // to be read before anything else
	err    error  // after out
	lost   bool   // what follows can't be read as HTTP/2
	anew   *hpack.Encoder
	block  bytes.Buffer // of anew
}

const (
	maxFrameBytes   = 16 << 10 // every peer takes frames of this size. RFC 9113 §4.2
	firstTableBytes = 4 << 10  // of HPACK's table, as long as nobody changes it. RFC 9113 §6.5.2
)

// mostBlockBytes returns a bound of a block on the wire. HPACK takes at most 30 bits for a
// byte, and grpc-go ends the connection for a block that is far over its limit.
func (a *answers) mostBlockBytes() int { return 4*a.most + maxFrameBytes }

var errAnswerUnreadable = errors.New("the backend's answer can't be read as HTTP/2")

// read reads from the backend by next.
func (a *answers) read(p []byte, next func(p []byte) (int, error)) (int, error) {
	for {
		if len(a.out) > 0 {
			n := copy(p, a.out)
			if a.out = a.out[n:]; len(a.out) == 0 {
				a.out = nil
			}
			return n, nil
		}
		if a.err != nil {
			return 0, a.err
		}
		n, err := next(p)
		in, held := p[:n], len(a.held) > 0
		if held {
			a.held = append(a.held, in...)
			if len(a.held) < a.need && err == nil {
				continue
			}
			in, a.held = a.held, nil
		}
		out, changed := a.pass(in, held)
		if a.lost {
			err = errAnswerUnreadable
		}
		if err != nil { // nothing follows what is held
			out, changed, a.held = append(out[:len(out):len(out)], a.held...), true, nil
		}
		if !held && !changed {
			if len(out) > 0 || n == 0 {
				return len(out), nil
			}
			continue
		}
		a.out, a.err = out, err
	}
}

// pass returns the bytes to hand on. They are the beginning of in, unless they changed.
// The rest is held. owned reports that in was held before.
func (a *answers) pass(in []byte, owned bool) (out []byte, changed bool) {
	at := 0 // in is handed on so far
	hand := func(from, to int) {
		if changed {
			out = append(out, in[from:to]...)
		}
	}
	for at < len(in) && !a.lost {
		if n := min(a.skip, len(in)-at); n > 0 {
			hand(at, at+n)
			a.skip -= n
			at += n
			continue
		}
		rest := in[at:]
		if len(rest) < frameHeaderBytes {
			a.need = frameHeaderBytes
			break
		}
		if n := min(len(rest), len(silencePong)); bytes.Equal(rest[:n], silencePong[:n]) {
			if n < len(silencePong) {
				a.need = len(silencePong)
				break
			}
			if !changed {
				changed, out = true, slices.Clone(in[:at])
			}
			at += n
			a.pong()
			continue
		}
		switch http2.FrameType(rest[frameKindAt]) {
		case http2.FrameHeaders:
		case http2.FrameContinuation: // of no block
			a.lost = true
			continue
		default: // grpc-go passes over PUSH_PROMISE, with its block
			a.skip = frameHeaderBytes + payloadBytes(rest)
			continue
		}
		n, whole := a.blockBytes(rest)
		if !whole && n <= a.mostBlockBytes() {
			break
		}
		b, same := a.mend(rest[:n], whole)
		if a.lost {
			continue
		}
		if same {
			hand(at, at+n)
		} else {
			if !changed {
				changed, out = true, slices.Clone(in[:at])
			}
			out = append(out, b...)
		}
		at += n
	}
	switch {
	case a.lost:
	case owned && at == 0: // a block that comes in many pieces isn't copied for each
		a.held = in
	default:
		a.held = append(a.held, in[at:]...)
	}
	if changed {
		return out, true
	}
	return in[:at], false
}

func payloadBytes(frame []byte) int {
	return int(frame[0])<<16 | int(frame[1])<<8 | int(frame[2])
}

// blockBytes returns the size of the header block at the beginning of b, with the frames'
// headers, and whether b has the whole. It doesn't look again at frames that were whole before.
func (a *answers) blockBytes(b []byte) (n int, whole bool) {
	for n = a.walked; n+frameHeaderBytes <= len(b); a.walked = n {
		frame := b[n:]
		if n > 0 && http2.FrameType(frame[frameKindAt]) != http2.FrameContinuation {
			return n, true // RFC 9113 §6.10 forbids it: parts finds no end
		}
		end := n + frameHeaderBytes + payloadBytes(frame)
		if end > len(b) {
			a.need = min(end, a.mostBlockBytes()+1)
			return len(b), false
		}
		if n = end; http2.Flags(frame[4]).Has(http2.FlagHeadersEndHeaders) {
			return n, true
		}
	}
	a.need = n + frameHeaderBytes
	return len(b), false
}

// mend returns the frames of a header block, or that they stay the same.
func (a *answers) mend(frames []byte, whole bool) (mended []byte, same bool) {
	defer a.forget()
	var indexed []byte
	if whole {
		indexed = indexedFields(frames)
	}
	if indexed != nil && a.anew == nil {
		for i := range a.known {
			if known := &a.known[i]; bytes.Equal(known.fields, indexed) {
				a.found.push(known.verdict)
				return nil, true
			}
		}
	}
	if !whole || !a.parse(frames) {
		a.lost = true
		return nil, true
	}
	ends, changed := http2.Flags(frames[4]).Has(http2.FlagHeadersEndStream), false
	end, stream := ends, binary.BigEndian.Uint32(frames[5:])&(1<<31-1)
	if a.odd {
		end, changed = a.repair(end)
	}
	v := a.judge()
	a.learn(indexed, v)
	v.cut = end && !ends
	a.found.push(&v)
	if !changed && (a.anew == nil || a.broken) {
		return nil, true
	}
	if a.anew == nil {
		a.anew = hpack.NewEncoder(&a.block)
		a.anew.SetMaxDynamicTableSizeLimit(0) // so the table that grpc-go has doesn't matter
	}
	for _, f := range a.list {
		_ = a.anew.WriteField(f) // a Buffer takes all
	}
	return appendBlock(nil, stream, a.block.Bytes(), end), false
}

// indexedFields returns a block of one frame that has nothing but references to HPACK's
// tables, as most answers have from the second on, or nil. RFC 7541 §6.1.
func indexedFields(frames []byte) []byte {
	const more = http2.FlagHeadersPadded | http2.FlagHeadersPriority
	fields := frames[frameHeaderBytes:]
	if len(fields) == 0 || len(fields) != payloadBytes(frames) || http2.Flags(frames[4])&more != 0 {
		return nil
	}
	for _, b := range fields {
		if b < 1<<7 || b == 1<<8-1 { // something else, or an index of several bytes
			return nil
		}
	}
	return fields
}

// A knownBlock is a block of references.
type knownBlock struct {
	fields  []byte
	verdict *verdict
}

// learn notes a block that was parsed. Without indexed it may have changed HPACK's table.
func (a *answers) learn(indexed []byte, v verdict) {
	const most, mostBytes = 4, 32 // a header and a trailer, of two kinds
	switch {
	case indexed == nil:
		a.known = a.known[:0]
	case !a.odd && len(a.known) < most && len(indexed) <= mostBytes:
		a.known = append(a.known, knownBlock{bytes.Clone(indexed), &v})
	}
}

// forget forgets a block.
func (a *answers) forget() {
	const most = 64 // fields that are worth their memory
	clear(a.list)
	if a.list = a.list[:0]; cap(a.list) > most {
		a.list = nil
	}
	a.size, a.trailers, a.odd, a.untyped, a.coded, a.broken, a.cut = 0, 0, false, false, false, false, false
	a.walked, a.need, a.detailed = 0, 0, nil
	if a.block.Reset(); a.block.Cap() > maxFrameBytes {
		a.block = bytes.Buffer{}
	}
}

// parse reads the fields of a block. It returns false for what isn't one.
func (a *answers) parse(frames []byte) bool {
	if a.fields == nil {
		a.fields = hpack.NewDecoder(firstTableBytes, func(f hpack.HeaderField) {
			a.odd = a.odd || a.isOdd(f)
			a.add(f)
		})
	}
	if table := a.table.Load(); table != nil {
		a.fields.SetAllowedMaxDynamicTableSize(*table)
	}
	a.fields.SetEmitEnabled(true)
	for len(frames) > 0 {
		n := frameHeaderBytes + payloadBytes(frames)
		part, flags := frames[frameHeaderBytes:n], http2.Flags(frames[4])
		if http2.FrameType(frames[frameKindAt]) == http2.FrameHeaders {
			pad := 0
			if flags.Has(http2.FlagHeadersPadded) {
				if len(part) == 0 {
					return false
				}
				pad, part = int(part[0]), part[1:]
			}
			if flags.Has(http2.FlagHeadersPriority) {
				if len(part) < 5 {
					return false
				}
				part = part[5:]
			}
			if a.broken = pad > len(part); a.broken {
				return true
			}
			part = part[:len(part)-pad]
		}
		if _, err := a.fields.Write(part); err != nil {
			return false
		}
		frames = frames[n:]
		if ended := flags.Has(http2.FlagHeadersEndHeaders); ended || len(frames) == 0 {
			a.odd = a.odd || a.untyped && a.coded
			return ended && a.fields.Close() == nil
		}
	}
	return false
}

// add adds a field to the list, which ends with the one that makes it longer than grpc-go
// takes: grpc-go then ends the call as it does for the whole list.
func (a *answers) add(f hpack.HeaderField) {
	a.list = append(a.list, f)
	n, size := int(f.Size()), &a.size
	if f.Name == "trailer" {
		n, size = len(f.Value)+31*strings.Count(f.Value, ",")+32, &a.trailers // as golang.org/x/net does
	}
	if *size += n; *size > a.most {
		a.cut = true
		a.fields.SetEmitEnabled(false)
	}
}

// isOdd reports whether a field may need a change.
func (a *answers) isOdd(f hpack.HeaderField) bool {
	switch f.Name {
	case ":status":
		a.untyped = true
	case "content-type":
		a.untyped = false
		return !isGRPC(f.Value)
	case "grpc-status":
		_, err := strconv.ParseInt(f.Value, 10, 32)
		a.coded = true
		return err != nil
	case detailsName:
		return true
	case "grpc-encoding":
		return plainCoding(f.Value) != f.Value
	default:
		return strings.HasSuffix(f.Name, "-bin") && !isBase64(f.Value)
	}
	return false
}

const detailsName = "grpc-status-details-bin"

// isGRPC reports whether grpc-go takes the content-type.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// isBase64 reports whether grpc-go can decode the value.
func isBase64(v string) bool {
	if len(v)%4 == 0 {
		v = strings.TrimSuffix(strings.TrimSuffix(v, "="), "=")
	}
	for i := range len(v) {
		if c := v[i]; (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '+' && c != '/' {
			return false
		}
	}
	return len(v)%4 != 1
}

// repair changes the list of a block, which ends the stream or not. It returns whether it
// ends the stream now.
func (a *answers) repair(ends bool) (end, changed bool) {
	if a.cut { // grpc-go refuses it
		return ends, false
	}
	fields := a.list
	a.list, a.size, a.trailers = make([]hpack.HeaderField, 0, len(fields)), 0, 0
	var h answerHeader
	for _, f := range fields {
		if a.cut {
			return ends, changed // grpc-go refuses it
		}
		was := f.Value
		switch {
		case f.Name == "content-type":
			f.Value = plainGRPC(was)
		case f.Name == "grpc-encoding":
			f.Value = plainCoding(was)
		case f.Name == "grpc-status":
			f.Value = plainNumber(was)
		case strings.HasSuffix(f.Name, "-bin") && !isBase64(f.Value):
			a.addParts(f)
			changed = true
			continue
		}
		changed = changed || f.Value != was
		h.note(f)
		a.add(f)
	}
	if h.http != "" && h.http[0] != '1' && !h.isGRPC && h.hasCode && (ends || h.code != codes.OK) {
		a.list = slices.DeleteFunc(a.list, func(f hpack.HeaderField) bool { return f.Name == "content-type" })
		a.add(hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
		ends, changed = true, true
	}
	if ends && a.repairDetails(&h) {
		changed = true
	}
	return ends, changed
}

// addParts adds the values that a -bin field joins. RFC 9110 §5.3.
func (a *answers) addParts(f hpack.HeaderField) {
	for part := range strings.SplitSeq(f.Value, ",") {
		if a.cut {
			return
		}
		if part = strings.Trim(part, " \t"); isBase64(part) {
			a.add(hpack.HeaderField{Name: f.Name, Value: part})
		} else {
			a.left(f.Name)
		}
	}
}

// repairDetails changes the details of a status if grpc-go would lose the rest for them. It
// reports whether it did.
func (a *answers) repairDetails(h *answerHeader) bool {
	isDetails := func(f hpack.HeaderField) bool { return f.Name == detailsName }
	at := slices.IndexFunc(a.list, isDetails)
	if at < 0 || slices.ContainsFunc(a.list[at+1:], isDetails) {
		return false // grpc-go ignores several
	}
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(a.list[at].Value, "="))
	st := &statuspb.Status{}
	if err != nil || proto.Unmarshal(raw, st) != nil {
		return false // grpc-go ignores it
	}
	code := codes.Unknown // as grpc-go understands it
	if h.hasCode {
		code = h.code
	}
	if codes.Code(uint32(st.GetCode())) != code {
		a.list = slices.Delete(a.list, at, at+1)
		a.left(detailsName)
		return true
	}
	a.detailed = new(st.GetMessage())
	if h.message == "" || st.GetMessage() != "" {
		return false
	}
	st.Message = codec.DecodeMessage(h.message)
	if raw, err = proto.Marshal(st); err != nil {
		return false // the message isn't UTF-8
	}
	a.detailed = &st.Message
	a.list[at].Value = base64.RawStdEncoding.EncodeToString(raw)
	return true
}

// An answerHeader has the fields of a block that decide on its status.
type answerHeader struct {
	http    string // the status of HTTP
	isGRPC  bool   // by its content-type
	code    codes.Code
	hasCode bool
	message string // as on the wire
}

func (h *answerHeader) note(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		h.http = f.Value
	case "content-type":
		h.isGRPC = h.isGRPC || isGRPC(f.Value)
	case "grpc-status":
		n, err := strconv.ParseInt(f.Value, 10, 32)
		h.code, h.hasCode = codes.Code(uint32(n)), err == nil
	case "grpc-message":
		h.message = f.Value
	}
}

// plainGRPC returns a content-type of gRPC as grpc-go compares it, and others as they are.
// RFC 9110 §8.3.1.
func plainGRPC(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	if kind = strings.ToLower(strings.Trim(kind, " \t")); isGRPC(contentType) || !isGRPC(kind) {
		return contentType
	}
	return kind
}

// plainCoding returns a coding as grpc-go compares it. Names of codings have no case. RFC
// 9110 §8.4.1.
func plainCoding(name string) string {
	if name = strings.ToLower(name); name == grpcgzip.Name {
		return gzipOrEmpty
	}
	return name
}

// plainNumber returns a number without blanks and repetitions, and others as they are.
func plainNumber(v string) string {
	first, rest, _ := strings.Cut(v, ",")
	first = strings.Trim(first, " \t")
	if _, err := strconv.ParseInt(first, 10, 32); err != nil {
		return v
	}
	for rest != "" {
		var part string
		if part, rest, _ = strings.Cut(rest, ","); strings.Trim(part, " \t") != first {
			return v
		}
	}
	return first
}

// appendBlock appends the frames of a header block to b. RFC 9113 §6.2, §6.10.
func appendBlock(b []byte, stream uint32, block []byte, end bool) []byte {
	kind, flags := http2.FrameHeaders, http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	for {
		part := block[:min(len(block), maxFrameBytes)]
		if block = block[len(part):]; len(block) == 0 {
			flags |= http2.FlagHeadersEndHeaders
		}
		b = append(b, byte(len(part)>>16), byte(len(part)>>8), byte(len(part)), byte(kind), byte(flags))
		b = append(binary.BigEndian.AppendUint32(b, stream), part...)
		if len(block) == 0 {
			return b
		}
		kind, flags = http2.FrameContinuation, 0
	}
}

package h2

import (
	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A headerBlock is the header block that is being received. RFC 9113 §4.3.
type headerBlock struct {
	dec   *hpack.Decoder
	limit int // of the list, in decoded bytes

	open    bool // more frames of it must follow, and no others
	stream  uint32
	end     bool // END_STREAM
	frames  int
	encoded int    // bytes so far
	pieces  []byte // the fragments of a block in several frames

	invalid   string // why the message is malformed; "": it is not
	truncated bool   // the list is larger than the limit
	left      int    // of the limit
	pseudo    pseudoFields
	fields    []hpack.HeaderField // the others
}

// pseudoFields are those of a request. RFC 9113 §8.3.1.
type pseudoFields struct {
	method, scheme, authority, path string
	seen                            map[string]bool
}

func (b *headerBlock) init(limit int) {
	b.limit = limit
	b.pseudo.seen = make(map[string]bool)
	b.dec = hpack.NewDecoder(headerTableBytes, b.field)
	b.dec.SetMaxStringLength(2 * limit) // as long as a block: a block over the limit is answered
}

func (b *headerBlock) begin(stream uint32, end bool) {
	*b = headerBlock{dec: b.dec, limit: b.limit, left: b.limit, fields: b.fields, pseudo: pseudoFields{seen: b.pseudo.seen}, open: true, stream: stream, end: end}
	b.dec.SetEmitEnabled(true)
}

// maxKeptFields bounds the fields for which a connection keeps room between blocks:
// more than ordinary requests have.
const maxKeptFields = 64

// anyField is an indexed field of HPACK's static table, which changes nothing.
var anyField = []byte{0x80 | 2}

// release frees the block's memory. The decoder refers to the last bytes that it was
// given, so it is given others.
func (b *headerBlock) release() {
	clear(b.fields)
	clear(b.pseudo.seen)
	b.fields, b.pseudo = b.fields[:0], pseudoFields{seen: b.pseudo.seen}
	if cap(b.fields) > maxKeptFields {
		b.fields = nil
	}
	b.dec.SetEmitEnabled(false)
	_, _ = b.dec.Write(anyField) // never fails
	_ = b.dec.Close()            // never fails
}

// field adds one field. After a fault, later fields are still decoded, to keep the
// table right, and dropped.
func (b *headerBlock) field(f hpack.HeaderField) {
	if size := int(f.Size()); size <= b.left {
		b.left -= size
	} else {
		b.left, b.truncated = 0, true
	}
	if b.invalid == "" {
		b.invalid = b.add(f)
	}
	if b.truncated || b.invalid != "" {
		b.dec.SetEmitEnabled(false)
	}
}

func (b *headerBlock) add(f hpack.HeaderField) (invalid string) {
	if !httpguts.ValidHeaderFieldValue(f.Value) {
		return "a field's value"
	}
	if len(f.Name) > 0 && f.Name[0] == ':' {
		return b.addPseudo(f)
	}
	if !validName(f.Name) {
		return "a field's name"
	}
	if !b.truncated {
		b.fields = append(b.fields, f)
	}
	return ""
}

func (b *headerBlock) addPseudo(f hpack.HeaderField) (invalid string) {
	if len(b.fields) > 0 {
		return "a pseudo-header field after other fields"
	}
	if b.pseudo.seen[f.Name] {
		return "a pseudo-header field comes twice"
	}
	switch f.Name {
	case ":method":
		b.pseudo.method = f.Value
	case ":scheme":
		b.pseudo.scheme = f.Value
	case ":authority":
		b.pseudo.authority = f.Value
	case ":path":
		b.pseudo.path = f.Value
	default:
		return "a pseudo-header field that requests don't have"
	}
	b.pseudo.seen[f.Name] = true
	return ""
}

// validName reports whether a name is valid on the wire: no upper case.
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !httpguts.IsTokenRune(rune(c)) || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return name != ""
}

func (c *conn) takeHeaders(h frameHeader, p []byte) error {
	if h.stream%2 == 0 {
		return connError{http2.ErrCodeProtocol, "HEADERS on a stream that a client may not open"}
	}
	p, err := h.unpadded(p)
	if err != nil {
		return err
	}
	c.block.begin(h.stream, h.flags.Has(http2.FlagHeadersEndStream))
	if h.flags.Has(http2.FlagHeadersPriority) {
		if len(p) < 5 {
			return connError{http2.ErrCodeFrameSize, "HEADERS are too short for their priority"}
		}
		if dependsOnItself(h.stream, p) {
			c.block.invalid = "a stream depends on itself"
		}
		p = p[5:]
	}
	return c.takeFragment(h, p)
}

// takeFragment adds a fragment of the block. The whole block is decoded at once:
// otherwise the decoder would keep a buffer as large as the largest string that came in
// fragments. A block that is too long is not read to its end, so the connection can't
// continue.
func (c *conn) takeFragment(h frameHeader, p []byte) error {
	b := &c.block
	b.frames++
	b.encoded += len(p)
	if b.frames > maxContinuations || b.encoded > 2*b.limit {
		return connError{http2.ErrCodeEnhanceYourCalm, "a header block is too long"}
	}
	if !h.flags.Has(http2.FlagHeadersEndHeaders) {
		b.pieces = append(b.pieces, p...)
		return nil
	}
	if b.pieces != nil {
		p = append(b.pieces, p...)
	}
	b.open, b.pieces = false, nil
	defer b.release()
	if _, err := b.dec.Write(p); err != nil {
		return connError{http2.ErrCodeCompression, err.Error()}
	}
	if err := b.dec.Close(); err != nil {
		return connError{http2.ErrCodeCompression, err.Error()}
	}
	return c.takeBlock()
}

// beginBlock processes trailers. It reports whether the block is a request's instead, which
// may begin.
func (c *conn) beginBlock(b *headerBlock) (fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[b.stream]; st != nil {
		c.useless.Earn(framesForMore, 0)
		return false, st.takeTrailers(b)
	}
	if fresh, err = c.admit(b.stream); fresh {
		c.useless.Earn(framesForMore, 0)
	}
	return fresh, err
}

// takeBlock processes a whole header block: a request or its trailers.
func (c *conn) takeBlock() error {
	b := &c.block
	c.blocks++
	fresh, err := c.beginBlock(b)
	if err != nil || !fresh {
		return err
	}
	if b.invalid != "" {
		return streamError{b.stream, http2.ErrCodeProtocol, b.invalid}
	}
	st, err := c.newStream(b)
	if err != nil {
		return err
	}
	return c.start(st)
}

// admit judges the number of a stream that doesn't exist: it accepts, refuses or
// ignores a new one. RFC 9113 §5.1, §5.1.1, §5.1.2. Header blocks for streams that are
// over may be under way; many of them are a flood, since each must be decoded. The
// caller holds mu.
func (c *conn) admit(id uint32) (fresh bool, err error) {
	if c.ignores(id) {
		return false, c.countWasted()
	}
	if id <= c.lastID {
		switch c.ended.of(id) {
		case endCut:
			return false, c.countWasted()
		case endReset:
			return false, streamError{id, http2.ErrCodeStreamClosed, "HEADERS on a stream that was reset"}
		case endBoth:
			return false, connError{http2.ErrCodeStreamClosed, "HEADERS on a stream that has ended"}
		}
		return false, connError{http2.ErrCodeProtocol, "HEADERS on a stream lower than the last"}
	}
	c.lastID = id
	if len(c.streams) >= c.settings.Streams && c.openStreams() >= c.settings.Streams {
		return false, streamError{id, http2.ErrCodeRefusedStream, "too many streams"}
	}
	return true, nil
}

// openStreams returns how many streams the client may consider open. If a stream's end
// has been sent, the stream is over for the client, even while its handler's goroutine
// is still returning here. The caller holds mu.
func (c *conn) openStreams() int {
	n := 0
	for _, st := range c.streams {
		if !st.localClosed || !st.remoteClosed {
			n++
		}
	}
	return n
}

// takeTrailers processes the trailers of a request. The caller holds mu.
func (st *stream) takeTrailers(b *headerBlock) error {
	switch {
	case st.remoteClosed:
		return streamError{b.stream, http2.ErrCodeStreamClosed, "HEADERS after the end of the stream"}
	case !b.end:
		return streamError{b.stream, http2.ErrCodeProtocol, "trailers without END_STREAM"}
	case b.invalid != "":
		return streamError{b.stream, http2.ErrCodeProtocol, b.invalid}
	case len(b.pseudo.seen) > 0:
		return streamError{b.stream, http2.ErrCodeProtocol, "a pseudo-header field in trailers"}
	case b.truncated:
		return streamError{b.stream, http2.ErrCodeEnhanceYourCalm, "trailers are too large"}
	}
	for _, f := range b.fields {
		name := st.c.names.canonical(f.Name)
		if forConnections[name] { // RFC 9113 §8.2.2
			return streamError{b.stream, http2.ErrCodeProtocol, "a connection-specific field among the trailers"}
		}
		if st.trailer == nil {
			continue // not announced
		}
		if !httpguts.ValidTrailerHeader(name) { // RFC 9110 §6.5.1
			return streamError{b.stream, http2.ErrCodeProtocol, "a field that may not be a trailer"}
		}
		st.trailer[name] = append(st.trailer[name], f.Value)
	}
	return st.receive(nil, 0, true)
}

package wire

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"

	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/codec"
)

// A verdict is what a header block of an answer says.
type verdict struct {
	malformed bool // RFC 9113 §8.1.1
	large     bool // it has more than grpc-go takes
	noStatus  bool // there is no status of gRPC
	noNumber  bool // the status of gRPC is no number
	ofGRPC    bool // the content-type is gRPC's
	coded     bool // it names a coding
	unknown   bool // which grpc-go doesn't know
	http      int  // the status of HTTP; 0: there is none, or it is no number
	cut       bool // the stream ends with it, but not at the backend
	status    answerStatus
}

// An answerStatus is a status of a backend, without details.
type answerStatus struct {
	code    codes.Code
	message string
}

// judge returns the verdict on the block.
func (a *answers) judge() (v verdict) {
	v.malformed, v.large, v.noStatus, v.status.code = a.broken || !isWellFormed(a.list), a.cut, true, codes.Unknown
	for _, f := range a.list {
		switch f.Name {
		case ":status":
			v.http, _ = strconv.Atoi(f.Value) // else 0
		case "content-type":
			v.ofGRPC = v.ofGRPC || isGRPC(f.Value)
		case "grpc-encoding":
			v.coded = !packing.IsIdentity(f.Value)
			v.unknown = v.coded && encoding.GetCompressor(f.Value) == nil
		case "grpc-status":
			n, err := strconv.ParseInt(f.Value, 10, 32)
			v.noStatus, v.noNumber = false, v.noNumber || err != nil
			v.status.code = codes.Code(uint32(n))
		case "grpc-message":
			v.status.message = codec.DecodeMessage(f.Value)
		}
	}
	if a.detailed != nil {
		v.status.message = *a.detailed
	}
	return v
}

// isWellFormed reports whether the fields are those of an answer. Pseudo-headers of a request
// pass alone. RFC 9113 §8.2.1, §8.3.
func isWellFormed(fields []hpack.HeaderField) bool {
	var ofRequest, ofAnswer, regular bool
	for i, f := range fields {
		if !httpguts.ValidHeaderFieldValue(f.Value) {
			return false
		}
		switch f.Name {
		case ":status":
			ofAnswer = true
		case ":method", ":path", ":scheme", ":authority", ":protocol":
			ofRequest = true
		default:
			if !httpguts.ValidHeaderFieldName(f.Name) || f.Name != strings.ToLower(f.Name) {
				return false
			}
			regular = true
			continue
		}
		repeated := slices.ContainsFunc(fields[:i], func(g hpack.HeaderField) bool { return g.Name == f.Name })
		if regular || repeated || ofRequest && ofAnswer {
			return false
		}
	}
	return true
}

// An answerStage is how much of an answer has come.
type answerStage int

const (
	awaitsHeader answerStage = iota
	hasHeader
	isOver // the call ends without the rest
)

// readBlock reads a part of a header block of an answer. At its end, it notes what the
// block says.
func (c *Conn) readBlock(_ uint32, _ []byte, whole bool) {
	if !whole {
		return
	}
	f := c.in.header
	v, judged := c.answers.found.pop()
	if !judged { // none is, once a block can't be read
		v = new(verdict)
	}
	c.countArrived()
	c.came.stream = 0 // the messages behind a header may be compressed
	c.mu.Lock()
	defer c.mu.Unlock()
	s, open := c.streams[f.stream]
	if !open {
		return
	}
	ends := f.ends()
	if s.place != nil {
		s.noteBlock(v, ends)
		c.streams[f.stream] = s
	}
	if ends {
		if v.cut {
			c.reset(f.stream)
		}
		c.forget(f.stream)
	}
}

// noteBlock notes a header block of the call.
func (s *stream) noteBlock(v *verdict, ends bool) {
	p, was := s.place, s.answer
	s.answer = isOver
	switch {
	case was == isOver:
	case v.malformed:
		p.ends(endMalformed)
	case was == hasHeader && !ends:
		p.ends(endTwoHeaders)
	case v.large:
		p.ends(endLargeMetadata)
	case v.noNumber:
		p.ends(endNoNumber)
	case was == awaitsHeader && !v.ofGRPC && 100 <= v.http && v.http < 200 && !ends:
		s.answer = awaitsHeader
	case was == awaitsHeader && !v.ofGRPC && (v.http == 0 || 100 <= v.http && v.http < 200):
		p.ends(endNotGRPC)
	case was == awaitsHeader && !v.ofGRPC:
		p.ends(endPage.of(v.http))
		p.answered.Store(true)
	case !ends:
		s.answer = hasHeader
		p.compressed.Store(v.coded)
		p.unknown.Store(v.unknown)
		p.http = v.http
		p.answered.Store(true)
		p.checkCoding()
	default:
		p.http = cmp.Or(v.http, p.http)
		p.answered.Store(true)
		p.checkCoding()
		if !s.messages.isWhole() {
			p.ends(endInside)
		}
		if v.noStatus {
			p.ends(endNoStatus.of(p.http))
		}
	}
	if ends {
		p.own = v.status
		p.trailer.Store(true)
	}
}

package upstream

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge/internal/packing"
	"github.com/culvert-grpc/culvert/codec"
)

// A verdict is what grpc-go makes of a header block of an answer (http2Client.operateHeaders).
type verdict struct {
	broken  bool // it ends the call by itself
	ofGRPC  bool // the content-type is gRPC's
	informs bool // the status of HTTP is below 200
	coded   bool // it names a coding
	cut     bool // the stream ends with it, but not at the backend
	status  answerStatus
}

// An answerStatus is a status of a backend, without details.
type answerStatus struct {
	code    codes.Code
	message string
}

// judge returns the verdict on the block.
func (a *answers) judge() (v verdict) {
	v.broken = a.broken || !isWellFormed(a.list)
	for _, f := range a.list {
		switch f.Name {
		case ":status":
			n, err := strconv.Atoi(f.Value)
			v.informs = err == nil && 100 <= n && n < 200
		case "content-type":
			v.ofGRPC = v.ofGRPC || isGRPC(f.Value)
		case "grpc-encoding":
			v.coded = !packing.IsIdentity(f.Value)
		case "grpc-status":
			n, err := strconv.ParseInt(f.Value, 10, 32)
			v.broken = v.broken || err != nil
			v.status.code = codes.Code(uint32(n))
		case "grpc-message":
			v.status.message = codec.DecodeMessage(f.Value)
		}
	}
	return v
}

// isWellFormed reports whether golang.org/x/net's HTTP/2 passes the fields on. For others,
// grpc-go ends the call. RFC 9113 §8.2.1, §8.3.
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
			ofRequest = true // alone they pass, too
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

// An answerStage is how much of an answer grpc-go has taken.
type answerStage int

const (
	awaitsHeader answerStage = iota
	hasHeader
	refused // grpc-go ends the call by itself
)

// readBlock reads a part of a header block of an answer. At its end, it notes what grpc-go
// makes of the block.
func (c *windowConn) readBlock(_ uint32, _ []byte, whole bool) {
	if !whole {
		return
	}
	f := c.in.header
	v, _ := c.answers.found.pop()
	c.countArrived()
	c.came.stream = 0 // the messages behind a header may be compressed
	c.mu.Lock()
	defer c.mu.Unlock()
	s, open := c.streams[f.stream]
	if !open {
		return
	}
	ends := f.ends()
	switch {
	case s.place == nil || s.answer == refused || f.stream > c.last:
	case v.broken, s.answer == hasHeader && !ends:
		s.answer = refused
	case s.answer == awaitsHeader && !v.ofGRPC:
		if ends || !v.informs {
			s.answer = refused
		}
	case ends:
		s.place.own = v.status
		s.place.endedIn.Store(c.reads.Load())
		s.place.answered.Store(true)
		s.place.trailer.Store(true)
	default:
		s.answer = hasHeader
		s.place.answered.Store(true)
		s.place.compressed.Store(v.coded)
	}
	c.streams[f.stream] = s
	if ends {
		if v.cut {
			c.reset(f.stream)
		}
		c.forget(f.stream)
	}
}

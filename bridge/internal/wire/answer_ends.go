package wire

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/codec"
)

// An end is how a call ends otherwise than with trailers of its backend, as the frames show.
// grpc-go makes a status then, which looks like one of the backend.
type end uint32

const (
	endNone          end = iota
	endTooLarge          // a message is over the limit
	endInside            // the stream ends inside a message
	endUnnamed           // a message is marked as compressed, and there is no coding
	endUnknown           // or one that isn't known
	endFlag              // a message has another mark
	endNotPacked         // a message can't be decompressed. No frame shows it
	endNoNumber          // the status is no number
	endNoTrailers        // the stream ends with DATA
	endNoStatus          // the trailers have no status
	endTwoHeaders        // a second header came
	endLargeMetadata     // a header block has more than grpc-go takes
	endMalformed         // a frame breaks RFC 9113's rules for its stream
	endNotGRPC           // the header isn't of gRPC, and not of a page either
	endPage              // the header of a page came
	endRefused           // RST_STREAM with REFUSED_STREAM
	endReset             // another RST_STREAM
	endLeftOut           // a GOAWAY leaves the call out
	endClosed            // culvert has closed the connection. No frame shows it

	endBits = 8 // of the kind. With endNoTrailers, endNoStatus and endPage, HTTP's status is above
)

func (e end) kind() end       { return e & (1<<endBits - 1) }
func (e end) of(http int) end { return e | end(http)<<endBits }
func (e end) http() int       { return int(e >> endBits) }

// An EndRow is what culvert makes of an end.
type EndRow struct {
	Code   codes.Code // of grpc-go's status
	Reason report.Reason
	Says   string
	Keep   bool   // the code, which follows gRPC's own mapping, instead of the reason's
	Cause  string // in front of grpc-go's words
	Unseen bool   // the backend hasn't seen the call, if it hasn't begun to answer. RFC 9113 §8.7
}

// Texts that several ends share.
const (
	saysTooLarge = "a response message is over the limit"
	SaysNoStatus = "the backend ended the call without a status"
	SaysNotGRPC  = "the backend's answer is not gRPC"
	SaysBroken   = "the backend broke off the call"
)

var endRows = [...]EndRow{
	endTooLarge:      {Code: codes.ResourceExhausted, Reason: report.ReasonResponseTooLarge, Says: saysTooLarge},
	endInside:        {Code: codes.Internal, Reason: report.ReasonUpstreamReset, Says: "the backend ended the call inside a message", Keep: true},
	endUnnamed:       {Code: codes.Internal, Reason: report.ReasonUpstreamReset, Says: "a response message is marked as compressed, but the backend names no coding", Keep: true},
	endUnknown:       {Code: codes.Internal, Reason: report.ReasonUpstreamReset, Says: "culvert doesn't support the compression of the backend's response", Keep: true},
	endFlag:          {Code: codes.Internal, Reason: report.ReasonUpstreamReset, Says: "a response message begins with an unknown flag", Keep: true},
	endNotPacked:     {Code: codes.Internal, Reason: report.ReasonUpstreamReset, Says: "a response message can't be decompressed", Keep: true},
	endNoNumber:      {Code: codes.Unknown, Reason: report.ReasonUpstreamReset, Says: "the backend's status is not a number", Keep: true},
	endNoTrailers:    {Code: codes.Internal, Reason: report.ReasonMissingTrailers, Says: SaysNoStatus, Keep: true},
	endNoStatus:      {Code: codes.Unknown, Reason: report.ReasonMissingTrailers, Says: SaysNoStatus, Keep: true, Cause: "there is no grpc-status: "},
	endTwoHeaders:    {Code: codes.Internal, Reason: report.ReasonUpstreamReset, Says: "the backend broke HTTP/2's rules", Keep: true},
	endLargeMetadata: {Code: codes.Internal, Reason: report.ReasonMetadataTooLarge, Says: "the response metadata is over the limit (" + report.Named(report.KeyHeaderBytes) + ")"},
	endMalformed:     {Code: codes.Internal, Reason: report.ReasonUpstreamReset, Says: SaysBroken, Keep: true},
	endNotGRPC:       {Code: codes.Internal, Reason: report.ReasonUpstreamNotGRPC, Says: SaysNotGRPC, Keep: true},
	endPage:          {Reason: report.ReasonUpstreamNotGRPC, Says: SaysNotGRPC, Keep: true},
	endRefused:       {Code: codes.Unavailable, Reason: report.ReasonUpstreamReset, Says: "the backend refused the call", Keep: true, Unseen: true},
	endReset:         {Reason: report.ReasonUpstreamReset, Says: "the backend reset the call", Keep: true},
	endLeftOut:       {Code: codes.Unavailable, Reason: report.ReasonUpstreamReset, Says: "the backend is shutting down and did not take the call", Keep: true, Unseen: true},
	endClosed:        {Code: codes.Canceled, Reason: report.ReasonUpstreamReset, Says: "culvert has closed its connections to the backend", Keep: true},
}

// ends notes how the call ends, unless it has ended before.
func (p *Place) ends(e end) { p.end.CompareAndSwap(uint32(endNone), uint32(e)) }

// begins notes that a message of n bytes begins to arrive.
func (p *Place) begins(n int64) {
	if most := p.Call.Most; most > 0 && n > int64(most) {
		p.ends(endTooLarge)
	}
}

// arrived notes that a message of n bytes with this mark has arrived.
func (p *Place) arrived(mark byte, n int64) {
	p.marked = p.marked || mark == 1
	if mark > 1 {
		p.ends(endFlag)
	}
	p.checkCoding()
	if p.end.Load() == uint32(endNone) && (p.compressed.Load() || !p.answered.Load()) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.packed.push(uint32(n))
	}
}

// checkCoding notes that grpc-go can't read a message for its coding, once the header, which
// may come behind the message, has named it or not.
func (p *Place) checkCoding() {
	switch {
	case !p.marked || !p.answered.Load():
	case !p.compressed.Load():
		p.ends(endUnnamed)
	case p.unknown.Load():
		p.ends(endUnknown)
	}
}

// Succeeded reports whether the backend has ended the call with OK.
func (p *Place) Succeeded() bool { return p.Trailed() && p.own.code == codes.OK }

// IsOwn reports whether a status is the backend's, in its trailers.
func (p *Place) IsOwn(st *status.Status) bool {
	return p.Trailed() && p.own == answerStatus{st.Code(), st.Message()}
}

// Trailed reports whether the backend has ended the call with trailers.
func (p *Place) Trailed() bool { return p.trailer.Load() }

// EndOf returns what the call ended with if grpc-go made the status. isClosed reports whether
// culvert has closed the connection.
func (p *Place) EndOf(st *status.Status, isClosed func() bool) (EndRow, bool) {
	e := end(p.end.Load())
	kind, code, own := e.kind(), st.Code(), p.IsOwn(st)
	switch unread := p.hasUnread(); {
	case own:
	case unread && code == codes.ResourceExhausted: // after its decompression
		kind = endTooLarge
	case unread && code == codes.Internal:
		kind = endNotPacked
	case kind == endNone && code == codes.Canceled && isClosed():
		kind = endClosed
	}
	row := endRows[kind]
	switch kind {
	case endNone:
		return row, false
	case endLeftOut: // unless grpc-go has passed over the GOAWAY
		return row, row.Code == code && !own
	case endReset:
		return row, true
	case endPage: // whatever comes after its header
		row.Code = codec.CodeFromHTTP(e.http())
		return row, true
	case endNoTrailers, endNoStatus:
		same := row.Code == code
		if http := e.http(); http != 0 && http != 200 {
			row.Code = codec.CodeFromHTTP(http)
		}
		return row, same
	}
	return row, row.Code == code
}

// hasUnread reports whether a message of a call with a known coding has arrived and wasn't
// received. grpc-go hands out whatever has arrived before an end, so if there is one,
// grpc-go can't decompress the message.
func (p *Place) hasUnread() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.compressed.Load() && !p.unknown.Load() && p.packed.len() > 0
}

// WasRefused reports whether the backend has refused the call unseen, if it ended so.
func (p *Place) WasRefused(why error) bool {
	return status.Code(why) == codes.Unavailable && endRows[end(p.end.Load()).kind()].Unseen && !p.answered.Load()
}

// Cause returns an error with a text that stands for a status of grpc-go.
func Cause(text string, st *status.Status) error { return &cause{text, st} }

type cause struct {
	text string
	st   *status.Status
}

func (c *cause) Error() string { return c.text }

// GRPCStatus lets status.Code find the code.
func (c *cause) GRPCStatus() *status.Status { return c.st }

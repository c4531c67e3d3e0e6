package bridgetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/report"
	"github.com/culvert-grpc/culvert/internal/parts"
)

var compressionScenarios = []scenario{
	{"gzip requests", codings, gzipRequests},
	{"codings in any case", codings, codingsInAnyCase},
	{"no coding in any case", rawHeaders | codings, noCodingInAnyCase},
	{"accepted codings in any case", nativeReplies, acceptedInAnyCase},
	{"codings of replies in any case", 0, replyCodingsInAnyCase},
	{"plain requests", 0, plainRequests},
	{"requests with mixed flags", rawFrames | manyRequests, mixedFlags},
	{"gzip replies for clients that read them", nativeReplies, gzipReplies},
	{"gzip replies for clients that don't", streamedReplies, gzipRepliesExpanded},
	{"mixed replies", streamedReplies, mixedReplies},
	{"gzip bomb in the request", rawFrames, requestBomb},
	{"gzip bomb in the reply", 0, replyBomb},
	{"more compressed bytes than a second's", codings, muchToExpand},
	{"empty messages with the compressed flag", rawFrames, emptyCompressed},
	{"requests that aren't gzip", rawFrames, badGzipRequests},
	{"replies that aren't gzip", 0, badGzipReplies},
	{"a compressed request without a coding", rawFrames, compressedWithoutCoding},
	{"a compressed reply without a coding", 0, compressedReplyWithoutCoding},
	{"a request's coding that nobody has", rawHeaders | codings, unknownRequestCoding},
	{"a reply's coding that nobody has", 0, unknownReplyCoding},
}

// compressible is text that gzip compresses well.
var compressible = bytes.Repeat([]byte("compressible "), 5000)

// gzipRequests: the direction's coding is kept on the way to the backend.
func gzipRequests(t *trial) {
	t.serve(echo)
	for _, m := range [][]byte{compressible, hello, nil} {
		t.wantOK(t.unary(call{encoding: "gzip"}, m), m)
		if got := t.nextCall().encoding; got != "gzip" {
			t.Errorf("the backend got grpc-encoding %q, want gzip", got)
		}
	}
}

// spelledGzip is some of gzip's names.
var spelledGzip = []string{"GZIP", "Gzip", "gZIP", "x-gzip", "X-GZip"}

// codingsInAnyCase: a coding's name is the same in any case, and x-gzip is gzip.
func codingsInAnyCase(t *trial) {
	t.serve(echo)
	for _, name := range spelledGzip {
		t.wantOK(t.unary(call{encoding: name}, compressible), compressible)
		if got := t.nextCall().encoding; got != "gzip" {
			t.Errorf("a request in %q: the backend got grpc-encoding %q, want gzip", name, got)
		}
	}
}

func noCodingInAnyCase(t *trial) {
	t.serve(echo)
	for _, name := range []string{"identity", "Identity", "IDENTITY"} {
		t.wantOK(t.unary(call{encoding: name}, compressible), compressible)
		if got := t.nextCall().encoding; got != "" && got != "identity" {
			t.Errorf("a request in %q: the backend got grpc-encoding %q, want none", name, got)
		}
	}
}

// acceptedInAnyCase: the codings in a client's list may be upper or lower case, too.
func acceptedInAnyCase(t *trial) {
	t.serve(compressing(echo))
	for _, list := range append(spelledGzip, "br, GZip;q=0.5") {
		r := t.unary(call{accepts: list}, compressible)
		t.wantOK(r, compressible)
		if r.compressed != 1 {
			t.Errorf("the reply for a client that reads %q came as it is", list)
		}
	}
	r := t.unary(call{accepts: "gzip;q=0"}, compressible)
	t.wantOK(r, compressible)
	if r.compressed != 0 {
		t.Error("a client that excludes gzip got it")
	}
}

// replyCodingsInAnyCase: so is what a backend says.
func replyCodingsInAnyCase(t *trial) {
	answered := t.serveScripts()
	for _, name := range spelledGzip {
		t.wantOK(answered(answerOf(frame(flagCompressed, parts.Gzipped(hello)), "grpc-encoding", name)), hello)
	}
	r := answered(answerOf(frame(0, hello), "grpc-encoding", "Identity"))
	t.wantOK(r, hello)
	if r.compressed != 0 {
		t.Error("a reply without a coding came compressed")
	}
}

func plainRequests(t *trial) {
	t.serve(echo)
	t.wantOK(t.unary(call{}, compressible), compressible)
	if got := t.nextCall().encoding; got != "" && got != "identity" {
		t.Errorf("the backend got grpc-encoding %q, want none", got)
	}
}

func mixedFlags(t *trial) {
	t.serve(echo)
	s := t.open(call{encoding: "gzip"})
	for _, f := range [][]byte{frame(0, hello), frame(flagCompressed, parts.Gzipped(compressible)), frame(0, nil), frame(flagCompressed, parts.Gzipped(nil)), frame(0, compressible)} {
		s.sendRaw(f)
	}
	s.closeSend()
	t.wantOK(s.end(), hello, compressible, nil, nil, compressible)
}

// emptyCompressed: an empty message is one, whatever its flag says of the coding. The
// backend gets it without the flag.
func emptyCompressed(t *trial) {
	wires := make(chan []byte, 8)
	t.serveFake(func(c *fakeConn, stream uint32) {
		wires <- c.body(stream)
		wholeAnswer(c, stream)
	})
	for _, encoding := range []string{"gzip", "X-GZIP"} {
		s := t.open(call{encoding: encoding})
		s.sendRaw(frame(flagCompressed, nil))
		s.closeSend()
		r := s.end()
		if t.wantOK(r, hello); r.status.Code() != codes.OK {
			return // the backend has no body
		}
		if got, want := <-wires, frame(0, nil); !bytes.Equal(got, want) {
			t.Errorf("the backend got %x, want %x", got, want)
		}
		if len(wires) > 0 {
			t.Error("the backend got the call twice")
		}
	}
}

// muchToExpand: a message is decompressed whole, and the next one only when the
// limit has caught up. Uncompressed messages pass.
func muchToExpand(t *trial) {
	t.serve(echo, func(c *bridge.Config) { c.Limits.Address.DecompressedPerSecond = len(compressible) / 1000 })
	t.wantOK(t.unary(call{encoding: "gzip"}, compressible), compressible)
	r := t.unary(call{encoding: "gzip"}, compressible)
	t.wantCulvert(r, codes.ResourceExhausted, report.ReasonLimitExceeded)
	if got := r.info().GetMetadata()["limit"]; got != "limits.address.decompressed_bytes_per_second" {
		t.Errorf("status %q for the limit %q", r.status.Message(), got)
	}
	if r.retry() <= 0 {
		t.Errorf("the client isn't told when to try again: %v", r.status)
	}
	t.wantOK(t.unary(call{}, compressible), compressible)
}

// compressing answers with gzip, however the request came.
func compressing(then handler) handler {
	return func(c *backendCall) error {
		if err := grpc.SetSendCompressor(c.ctx(), "gzip"); err != nil {
			return err
		}
		return then(c)
	}
}

func gzipReplies(t *trial) {
	t.serve(compressing(echo))
	r := t.unary(call{}, compressible)
	t.wantOK(r, compressible)
	if r.compressed != 1 {
		t.Errorf("the reply came as it is, want it compressed as the backend sent it")
	}
	// A client that doesn't say that it reads gzip gets none.
	t.backend.handleNext(echo)
	if r := t.unary(call{}, compressible); r.compressed != 0 {
		t.Errorf("a plain reply came compressed")
	}
}

// gzipRepliesExpanded: the clients here refuse a compressed flag where their
// protocol's own would.
func gzipRepliesExpanded(t *trial) {
	t.serve(compressing(replyWith(compressible, nil, hello)))
	t.wantOK(t.unary(call{}, hello), compressible, nil, hello)
}

func mixedReplies(t *trial) {
	answered := t.serveScripts()
	frames := slices.Concat(frame(0, hello), frame(flagCompressed, nil), frame(flagCompressed, parts.Gzipped(hello)), frame(0, nil), frame(flagCompressed, parts.Gzipped(nil)))
	for _, name := range []string{"gzip", "GZip", "x-gzip"} {
		t.wantOK(answered(answerOf(frames, "grpc-encoding", name)), hello, nil, hello, nil, nil)
	}
}

// bomb is small and decompresses to much more than the limit that is set for it.
var bomb = sync.OnceValue(func() []byte { return parts.Gzipped(make([]byte, 100*small)) })

func requestBomb(t *trial) {
	t.serve(untilCancelled, smallMessages)
	packed := frame(flagCompressed, bomb()) // before the call: on a busy machine it takes longer than a request's header may
	s := t.open(call{encoding: "gzip"})
	s.sendRaw(packed)
	_ = s.stream.closeSend() // refused already, maybe
	t.wantTooLarge(s.end(), report.ReasonRequestTooLarge)
	t.neverWhole(t.backend.seen(), 0)
	t.nextServed()
}

func replyBomb(t *trial) {
	answered := t.serveScripts(smallMessages)
	t.wantTooLarge(answered(answerOf(frame(flagCompressed, bomb()), "grpc-encoding", "gzip")), report.ReasonResponseTooLarge)
	t.wantOK(answered(wholeAnswer), hello)
}

func badGzipRequests(t *trial) {
	t.serve(untilCancelled)
	whole := parts.Gzipped(compressible)
	wrongSum := slices.Clone(whole)
	wrongSum[len(wrongSum)-5] ^= 0xff
	for _, bad := range [][]byte{[]byte("no gzip"), whole[:5], whole[:len(whole)/2], whole[:len(whole)-1], wrongSum} {
		s := t.open(call{encoding: "gzip"})
		s.sendRaw(frame(flagCompressed, bad))
		_ = s.stream.closeSend() // refused already, maybe
		t.wantCulvert(s.end(), codes.InvalidArgument, report.ReasonBadRequest)
	}
	t.neverWhole(t.backend.seen(), 0)
	t.nextServed()
}

func badGzipReplies(t *trial) {
	whole := parts.Gzipped(compressible)
	var cases []broken
	for _, bad := range [][]byte{[]byte("no gzip"), whole[:1], whole[:5], whole[:len(whole)/2], whole[:len(whole)-1]} {
		cases = append(cases, broken{fmt.Sprintf("gzip of %d bytes", len(bad)), answerOf(frame(flagCompressed, bad), "grpc-encoding", "gzip"), codes.Internal, report.ReasonUpstreamReset})
	}
	t.wantBroken(cases)
}

// compressedWithoutCoding is the sender's error, and INTERNAL by gRPC's
// compression.md.
func compressedWithoutCoding(t *trial) {
	t.serve(untilCancelled)
	for _, encoding := range []string{"", "identity", "Identity"} {
		for _, message := range [][]byte{parts.Gzipped(hello), nil} {
			s := t.open(call{encoding: encoding})
			s.sendRaw(frame(flagCompressed, message))
			_ = s.stream.closeSend() // refused already, maybe
			t.wantReason(fmt.Sprintf("grpc-encoding %q, %d bytes", encoding, len(message)), s.end(), codes.Internal, report.ReasonBadRequest)
		}
	}
	t.neverWhole(t.backend.seen(), 0)
	t.nextServed()
}

func compressedReplyWithoutCoding(t *trial) {
	t.wantBroken([]broken{{"no coding", answerOf(frame(flagCompressed, parts.Gzipped(hello))), codes.Internal, report.ReasonUpstreamReset}})
}

func unknownRequestCoding(t *trial) {
	t.serve(echo)
	r := t.unary(call{encoding: "br"}, hello)
	t.wantCulvert(r, codes.Unimplemented, report.ReasonUnsupportedEncoding)
	_, name := t.transport.dialect().encodingHeaders()
	accepts := append(r.header[name], r.trailer[name]...)
	if !strings.Contains(strings.Join(accepts, ","), "gzip") {
		t.Errorf("%s %q, want gzip among it", name, accepts)
	}
	t.wantOK(t.unary(call{encoding: "identity"}, hello), hello)
}

// unknownReplyCoding: culvert never asked for it, and can't read it.
func unknownReplyCoding(t *trial) {
	answered := t.serveScripts()
	r := answered(answerOf(frame(flagCompressed, hello), "grpc-encoding", "br"))
	if r.info() == nil || r.status.Code() != codes.Unimplemented && r.status.Code() != codes.Internal {
		t.Errorf("status %v with %v, want culvert's UNIMPLEMENTED or INTERNAL", r.status, r.info())
	}
	if len(r.messages) > 0 {
		t.Errorf("messages %s, want none", abridged(r.messages))
	}
	// A coding that is named but not used does no harm.
	t.wantOK(answered(answerOf(frame(0, hello), "grpc-encoding", "br")), hello)
}

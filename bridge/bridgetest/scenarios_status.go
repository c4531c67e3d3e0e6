package bridgetest

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/culvert-grpc/culvert/bridge/report"
)

var statusScenarios = []scenario{
	{"every code without a message", 0, func(t *trial) { everyCode(t, false) }},
	{"every code after a message", 0, func(t *trial) { everyCode(t, true) }},
	{"codes that nobody knows", 0, unknownCodes},
	{"unicode, long and hostile messages", 0, statusMessages},
	{"messages escaped badly", 0, badlyEscapedMessages},
	{"details byte for byte", detailBytes, detailsByteForByte},
	{"details that a backend made", 0, detailsOfGRPC},
	{"details that contradict the code", 0, contradictingDetails},
	{"a status beside binary metadata that is joined or not base64", answerTrailer, besideOddMetadata},
	{"a status in words that culvert's upstream uses itself", 0, statusInLibraryWords},
	{"a status that claims to be culvert's", 0, statusClaimsCulvert},
}

// askedCode makes the backend answer with the code that the request's message names.
func askedCode(replyFirst bool) handler {
	return asked(func(c *backendCall, got [][]byte) error {
		var code uint32
		if _, err := fmt.Sscan(string(got[0]), &code); err != nil {
			return err
		}
		if replyFirst {
			if err := c.send(hello); err != nil {
				return err
			}
		}
		if code == 0 {
			return nil
		}
		return status.Error(codes.Code(code), fmt.Sprintf("code %d", code))
	})
}

func everyCode(t *trial, replyFirst bool) {
	t.serve(askedCode(replyFirst))
	for code := range codes.Code(17) {
		r := t.unary(call{}, fmt.Append(nil, uint32(code)))
		message := ""
		if code != codes.OK {
			message = fmt.Sprintf("code %d", uint32(code))
		}
		oneReply := t.transport.lacks(streamedReplies) != ""
		if oneReply && code == codes.OK && !replyFirst {
			t.wantCulvert(r, codes.Unimplemented, report.ReasonBadCardinality)
			continue
		}
		t.wantUpstream(r, code, message)
		if want := replyFirst && (code == codes.OK || !oneReply); want != (len(r.messages) == 1) {
			t.Errorf("code %d: %s", code, abridged(r.messages))
		}
	}
}

// unknownCodes reach native clients as they are. Clients in browsers know none
// beyond 16, so they get UNKNOWN and the original beside it.
func unknownCodes(t *trial) {
	t.serve(askedCode(true))
	for _, code := range []codes.Code{17, 99, 1 << 30} {
		r := t.unary(call{}, fmt.Append(nil, uint32(code)))
		if !t.transport.browser {
			t.wantUpstream(r, code, fmt.Sprintf("code %d", uint32(code)))
			continue
		}
		t.wantUpstream(r, codes.Unknown, fmt.Sprintf("code %d", uint32(code)))
		t.wantValues("trailer", r.trailer, "x-grpc-status-original", fmt.Sprint(uint32(code)))
	}
}

func statusMessages(t *trial) {
	t.serve(asked(func(_ *backendCall, got [][]byte) error { return status.Error(codes.Aborted, string(got[0])) }))
	for _, want := range []string{
		"", " ", "plain", "100%", "50%zz", "%41", "%", "%%", "a\nb", "a\r\ngrpc-status: 0\r\n\r\n", "\x00", "\t", "\x7f",
		"café", "☃", "日本語", "🚇", "\u2028", "x=1; y=\"2\", <script>", "trailing blanks  ", "  leading",
		strings.Repeat("long ", 2000), strings.Repeat("☃", 2000),
	} {
		r := t.unary(call{}, []byte(want))
		if got := r.status; got.Code() != codes.Aborted || got.Message() != want {
			t.Errorf("status %v %.60q, want ABORTED %.60q", got.Code(), got.Message(), want)
		}
	}
}

// badlyEscapedMessages come from backends that aren't grpc-go. A message that can't
// be decoded stays unchanged, and all clients can decode culvert's own encoding.
func badlyEscapedMessages(t *trial) {
	answered := t.serveScripts()
	for sent, want := range map[string]string{
		"%zz": "%zz", "50%": "50%", "%C3%A9": "é", "%c3%a9": "é", "caf\xc3\xa9": "café", "a%2": "a%2", "%00": "\x00",
		"%0D%0Agrpc-status: 0": "\r\ngrpc-status: 0",
	} {
		r := answered(headOnly("grpc-status", "10", "grpc-message", sent))
		if got := r.status; got.Code() != codes.Aborted || got.Message() != want {
			t.Errorf("sent %q: status %v %q, want ABORTED %q", sent, got.Code(), got.Message(), want)
		}
	}
	// Invalid UTF-8 becomes text that a decoder can show.
	if r := answered(headOnly("grpc-status", "10", "grpc-message", "a%FFb")); r.status.Code() != codes.Aborted {
		t.Errorf("status %v, want ABORTED", r.status)
	}
}

// detailsByteForByte sends details that no marshaller would write: fields out
// of order, an unknown one, a length in more bytes than it needs.
func detailsByteForByte(t *trial) {
	want := []byte{
		0x1a, 0x82, 0x00, 0x0a, 0x00, // details: an Any with an empty type, its length written long
		0x7a, 0x01, 'u', // field 15, which Status doesn't have
		0x12, 0x05, 'q', 'u', 'o', 't', 'a', // message
		0x08, 0x88, 0x00, // code 8, written long
	}
	t.serveFake(answerWith(nil, frame(0, hello), "grpc-status", "8", "grpc-message", "quota", "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(want)))
	r := t.unary(call{}, hello)
	if r.status.Code() != codes.ResourceExhausted || r.status.Message() != "quota" {
		t.Errorf("status %v", r.status)
	}
	if got := r.trailer["grpc-status-details-bin"]; len(got) != 1 || got[0] != string(want) {
		t.Errorf("details %x, want %x", got, want)
	}
}

func detailsOfGRPC(t *trial) {
	packed, err := anypb.New(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "name", Description: "zu lang: ☃"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := &statuspb.Status{Code: 3, Message: "100% schlecht: é", Details: []*anypb.Any{
		packed, {TypeUrl: "type.example/unheard.Of", Value: []byte(everyByte)}, {},
	}}
	t.serve(asked(func(*backendCall, [][]byte) error { return status.ErrorProto(want) }))
	r := t.unary(call{}, hello)
	if t.transport.lacks(detailBytes) != "" { // JSON has the names of types, without hosts
		want.Details[1].TypeUrl, want.Details[2].TypeUrl = anyHost+"unheard.Of", anyHost
	}
	if !proto.Equal(&statuspb.Status{Details: r.status.Proto().GetDetails()}, &statuspb.Status{Details: want.GetDetails()}) {
		t.Errorf("details %v, want %v", r.status.Proto().GetDetails(), want.GetDetails())
	}
	if r.status.Message() != want.GetMessage() || r.status.Code() != codes.InvalidArgument {
		t.Errorf("status %v, want %v", r.status, want)
	}
}

// contradictingDetails: a client that believes the details over the code must
// not take an error for a success. (Clients here refuse a contradiction.)
func contradictingDetails(t *trial) {
	ok, _ := proto.Marshal(&statuspb.Status{Code: 0, Message: "fine"}) // plain strings can't fail
	t.serveFake(answerWith(nil, nil, "grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", base64.RawStdEncoding.EncodeToString(ok)))
	r := t.unary(call{}, hello)
	if r.status.Code() == codes.OK {
		t.Errorf("status %v, want an error", r.status)
	}
}

// besideOddMetadata: HTTP may join the values of a name. A value that can't be read costs
// only itself.
func besideOddMetadata(t *trial) {
	t.serveFake(answerWith([]string{"x-a-bin", "AAEC,/w==", "x-b-bin", "!!!", "x-c", "1"}, frame(0, hello),
		"x-d-bin", "AA, AQ", "x-e-bin", "A", "grpc-status", "5", "grpc-message", "gone", "grpc-status-details-bin", "not base64"))
	r := t.unary(call{}, hello)
	t.wantUpstream(r, codes.NotFound, "gone")
	md := metadata.Join(r.header, r.trailer)
	for name, want := range map[string][]string{"x-a-bin": {"\x00\x01\x02", "\xff"}, "x-b-bin": nil, "x-c": {"1"}, "x-d-bin": {"\x00", "\x01"}, "x-e-bin": nil} {
		if !slices.Equal(md[name], want) {
			t.Errorf("%s is %q, want %q", name, md[name], want)
		}
	}
}

// statusInLibraryWords: a backend may be a proxy that passes on the text of its own
// library. The status came in trailers, so it is the backend's.
func statusInLibraryWords(t *trial) {
	t.serve(asked(func(_ *backendCall, got [][]byte) error { return status.Error(codes.Unavailable, string(got[0])) }))
	for _, words := range []string{
		"error reading from server: EOF", "transport is closing", "the connection is draining",
		"connection error: desc = \"transport: Error while dialing\"", "stream terminated by RST_STREAM with error code: CANCEL",
		"unexpected HTTP status code received from server: 502 (Bad Gateway)",
	} {
		t.wantUpstream(t.unary(call{}, []byte(words)), codes.Unavailable, words)
	}
}

// statusClaimsCulvert: culvert behind culvert is a backend like any other, so
// its status passes with its details.
func statusClaimsCulvert(t *trial) {
	st, err := status.New(codes.Unavailable, "inner").WithDetails(&errdetails.ErrorInfo{
		Reason: string(report.ReasonDraining), Domain: "culvert", Metadata: map[string]string{"call_id": "inner-1", "sent": "no"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.serve(asked(func(*backendCall, [][]byte) error { return st.Err() }))
	r := t.unary(call{}, hello)
	if info := r.info(); r.status.Message() != "inner" || info.GetMetadata()["call_id"] != "inner-1" {
		t.Errorf("status %v with %v, want the backend's own", r.status, info)
	}
}

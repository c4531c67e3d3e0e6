package codec

import (
	"errors"
	"io"
	"maps"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// fieldsOf returns a sequence as the fields that a parser gets.
func fieldsOf(all []field) map[string][]string {
	fields := map[string][]string{}
	for _, f := range all {
		fields[f[0]] = append(fields[f[0]], f[1])
	}
	return fields
}

// sameStatus compares what clients see. Texts that aren't UTF-8 lose bytes on their way.
func sameStatus(got, want *status.Status) bool {
	return got.Code() == want.Code() && got.Message() == strings.ToValidUTF8(want.Message(), "\uFFFD") &&
		len(got.Proto().GetDetails()) == len(want.Proto().GetDetails())
}

func TestParseTrailersReadsWhatTrailersWrites(t *testing.T) {
	for _, st := range []*status.Status{
		status.New(codes.OK, ""), status.New(codes.NotFound, "no café: 100%"), status.New(codes.Code(77), "odd"),
		withDetails(t, codes.Unavailable, "down"),
	} {
		md := metadata.MD{"x-a": {"1", "2"}, "x-b-bin": {"\x00\x01", "\xff"}}
		got, trailer, err := ParseTrailers(fieldsOf(collect(Trailers(st, md))))
		if err != nil || !sameStatus(got, st) || !proto.Equal(got.Proto(), st.Proto()) || !reflect.DeepEqual(trailer, md) {
			t.Errorf("%v: %v, %v, %v", st, got, trailer, err)
		}
	}
}

func TestParseTrailersRefuses(t *testing.T) {
	for name, fields := range map[string]map[string][]string{
		"none":        {"x-a": {"1"}},
		"no number":   {"grpc-status": {"OK"}},
		"a sign":      {"grpc-status": {"-1"}},
		"empty":       {"grpc-status": {""}},
		"two":         {"grpc-status": {"7", "0"}},
		"too large":   {"grpc-status": {"4294967296"}},
		"not base64":  {"grpc-status": {"0"}, "x-bin": {"!"}},
		"in capitals": {"Grpc-Status": {"x"}},
	} {
		if st, _, err := ParseTrailers(fields); err == nil || st != nil {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	if _, _, err := ParseTrailers(nil); !errors.Is(err, ErrNoStatus) {
		t.Errorf("nothing: %v", err)
	}
	// Of details that contradict, the status stays.
	fields := fieldsOf(collect(Trailers(withDetails(t, codes.NotFound, "no"), nil)))
	fields["grpc-status"] = []string{"5", "5"}
	if st, _, err := ParseTrailers(fields); err != nil || len(st.Proto().GetDetails()) == 0 {
		t.Errorf("the same status twice: %v, %v", st, err)
	}
	fields["grpc-status"] = []string{"6"}
	if st, _, err := ParseTrailers(fields); err != nil || st.Code() != codes.AlreadyExists || len(st.Proto().GetDetails()) > 0 {
		t.Errorf("contradicting details: %v, %v", st, err)
	}
}

func FuzzParseTrailers(f *testing.F) {
	f.Add("grpc-status: 0\r\n")
	f.Add("grpc-status: 5\r\ngrpc-message: no caf%C3%A9\r\nx-b-bin: AAEC\r\n")
	f.Add("grpc-status: 7\r\ngrpc-status: 0\r\n")
	f.Add("Grpc-Status: 14\r\ngrpc-status-details-bin: CA4SFHVwc3RyZWFtIHVucmVhY2hhYmxl\r\n")
	f.Fuzz(func(t *testing.T, block string) {
		fields, err := ParseHeaderBlock([]byte(block))
		if err != nil {
			return
		}
		st, trailer, err := ParseTrailers(fields)
		if err != nil {
			if st != nil {
				t.Errorf("%q: %v beside %v", block, st, err)
			}
			return
		}
		again, rest, err := ParseTrailers(fieldsOf(collect(Trailers(st, trailer))))
		if err != nil || !sameStatus(again, st) || !maps.EqualFunc(rest, metadataOnWire(trailer), func(a, b []string) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("%q is %v %q, and written again %v %q, %v", block, st, trailer, again, rest, err)
		}
	})
}

// metadataOnWire returns what Fields writes of md.
func metadataOnWire(md metadata.MD) metadata.MD {
	on, err := DecodeMetadata(fieldsOf(collect(Fields(md))))
	if err != nil {
		panic(err)
	}
	return on
}

func TestParseConnectErrorReadsWhatConnectErrorWrites(t *testing.T) {
	for code := codes.Canceled; code <= maxCode; code++ {
		st, err := status.New(code, "no café").WithDetails(&errdetails.ErrorInfo{Reason: "R", Domain: "d"})
		if err != nil {
			t.Fatal(err)
		}
		_, body := ConnectError(st)
		if got, err := ParseConnectError(body); err != nil || !proto.Equal(got.Proto(), st.Proto()) {
			t.Errorf("%s: %v, %v", body, got, err)
		}
	}
	for body, want := range map[string]codes.Code{
		`{"code":"new_one"}`: codes.Unknown, `{"code":"ok"}`: codes.Unknown, `{"code":"not_found","debug":1}`: codes.NotFound,
		`{"code":"aborted","details":[{"type":"a.B","value":"AAE="}]}`: codes.Aborted,
	} {
		if got, err := ParseConnectError([]byte(body)); err != nil || got.Code() != want {
			t.Errorf("%s: %v, %v, want %v", body, got, err, want)
		}
	}
	for _, body := range []string{``, `{}`, `null`, `[]`, `<html>`, `{"code":""}`, `{"code":5}`, `{"code":"aborted","details":[{"type":"a.B","value":"!"}]}`} {
		if got, err := ParseConnectError([]byte(body)); err == nil || got.Code() == codes.OK && got != nil {
			t.Errorf("%s: %v, want an error", body, got)
		}
	}
}

func TestParseConnectEndReadsWhatConnectEndWrites(t *testing.T) {
	for _, v := range readConnectVectors(t).End {
		st, md, err := ParseConnectEnd([]byte(v.JSON))
		want := status.New(v.Code, v.Message)
		if v.Code > maxCode {
			want = status.New(codes.Unknown, v.Message)
		}
		if err != nil || !sameStatus(st, want) || len(v.Trailer) > 0 && len(md) == 0 {
			t.Errorf("%s: %v, %v, %v", v.JSON, st, md, err)
		}
	}
	for _, payload := range []string{``, `[]`, `{"error":null}`, `{"error":{}}`, `{"error":"x"}`, `{"metadata":{"a-bin":["!"]}}`, `{"metadata":1}`} {
		if st, _, err := ParseConnectEnd([]byte(payload)); err == nil {
			t.Errorf("%s: %v, want an error", payload, st)
		}
	}
}

func FuzzParseConnectEnd(f *testing.F) {
	for _, v := range readConnectVectors(f).End {
		f.Add([]byte(v.JSON))
	}
	f.Add([]byte(`{"error":{"code":"not_found","details":[{"type":"a.B","value":"AA"}]}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		st, md, err := ParseConnectEnd(payload)
		if err != nil {
			return
		}
		again, rest, err := ParseConnectEnd(ConnectEnd(st, md))
		if err != nil || !sameStatus(again, st) || len(rest) > len(md) {
			t.Errorf("%s is %v %q, and written again %v %q, %v", payload, st, md, again, rest, err)
		}
	})
}

func TestParseMessageCloseReadsWhatMessageCloseWrites(t *testing.T) {
	for code := codes.OK; code <= maxCode; code++ {
		n, text := MessageClose(status.New(code, "why"), "")
		if got, ok := ParseMessageClose(n, text); !ok || got.Code() != code || got.Message() != text {
			t.Errorf("%d %q: %v, %v", n, text, got, ok)
		}
	}
	for _, n := range []int{0, 1001, 1005, 1006, 1011, 3000, 4000, 5000, -1} {
		if got, ok := ParseMessageClose(n, ""); ok {
			t.Errorf("%d: %v, want no status", n, got)
		}
	}
}

func TestParseMessageStatusReadsWhatMessageStatusWrites(t *testing.T) {
	for _, st := range []*status.Status{status.New(codes.OK, ""), status.New(codes.NotFound, "no room"), withDetails(t, codes.Unavailable, "down"), status.New(99, "odd")} {
		if got, ok := ParseMessageStatus(MessageStatus(st)); !ok || !proto.Equal(got.Proto(), st.Proto()) {
			t.Errorf("%v: %v, %v", st, got, ok)
		}
	}
	for _, text := range []string{``, `{}`, `{"@status":null}`, `{"@status":{}}`, `{"@status":{"code":0},"a":{}}`, `{"status":{"code":5}}`, `[]`, `{"@status":{"code":-1}}`} {
		if got, ok := ParseMessageStatus([]byte(text)); ok {
			t.Errorf("%s: %v, want no status", text, got)
		}
	}
}

func FuzzParseMessageStatus(f *testing.F) {
	f.Add([]byte(`{"@status":{"code":5,"status":"NOT_FOUND","message":"no such room"}}`))
	f.Add([]byte(`{"@status":{"code":0}}`))
	f.Add([]byte(`{"left":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		st, ok := ParseMessageStatus(text)
		if !ok {
			return
		}
		again, ok := ParseMessageStatus(MessageStatus(st))
		if st.Code() == codes.OK {
			st = status.New(codes.OK, "")
		}
		if !ok || !sameStatus(again, st) {
			t.Errorf("%s is %v, and written again %v, %v", text, st, again, ok)
		}
	})
}

func TestEnvelopeFlags(t *testing.T) {
	for flags := range 256 {
		b := []byte{byte(flags), 0, 0, 0, 7}
		h, n, err := ParseEnvelopeHeader(b)
		if want := flags <= 3; want != (err == nil) || want && (n != FrameHeaderBytes || h.Flags != byte(flags) || h.Length != 7) {
			t.Errorf("%#x: %+v, %d, %v", flags, h, n, err)
		}
	}
}

// events returns all events of a text, and the comments among them.
func events(r io.Reader) (all []Event, comments []string, err error) {
	e := NewEventReader(r, 1<<10, func(text string) { comments = append(comments, text) })
	for {
		event, err := e.Next()
		if err != nil {
			return all, comments, err
		}
		all = append(all, event)
	}
}

func TestEvents(t *testing.T) {
	for _, c := range []struct {
		text     string
		want     []Event
		comments int
	}{
		{"", nil, 0},
		{"data: {}\n\n", []Event{{Data: "{}"}}, 0},
		{"data:a\r\n\r\ndata: b\r\rdata:  c\n\n", []Event{{Data: "a"}, {Data: "b"}, {Data: " c"}}, 0},
		{"\ufeffdata: a\n\n", []Event{{Data: "a"}}, 0},
		{"data: a\ndata: b\ndata\n\n", []Event{{Data: "a\nb\n"}}, 0},
		{"event: status\ndata: x\n\n", []Event{{Name: "status", Data: "x"}}, 0},
		{"id: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", []Event{{Data: "a", ID: "7"}, {Data: "b", ID: "7"}, {Data: "c"}}, 0},
		{"id: \x00\ndata: a\n\n", []Event{{Data: "a"}}, 0},
		{": heart\n:\n\ndata: a\n\n", []Event{{Data: "a"}}, 2},
		{"event: lost\n\ndata: a\n\n", []Event{{Data: "a"}}, 0},
		{"retry: 5\nother: x\ndata: a\n\n", []Event{{Data: "a"}}, 0},
		{"data: a\n\ndata: cut off\n", []Event{{Data: "a"}}, 0},
		{"data: a\n\ndata: cut off", []Event{{Data: "a"}}, 0},
		{EventID("x") + "data: {}\n\n" + LastEvent(status.New(codes.OK, "")), []Event{{Data: "{}", ID: "x"}, {Name: "status", Data: `{"@status":{"code":0,"status":"OK"}}`, ID: "x"}}, 0},
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(c.text), "by bytes": iotest.OneByteReader(strings.NewReader(c.text))} {
			got, comments, err := events(r)
			if !reflect.DeepEqual(got, c.want) || len(comments) != c.comments || !errors.Is(err, io.EOF) {
				t.Errorf("%q %s: %q, %q, %v, want %q", c.text, name, got, comments, err, c.want)
			}
		}
	}
	for _, text := range []string{"data: " + strings.Repeat("x", 2000), strings.Repeat("data: x\n", 500), strings.Repeat("x", 2000) + "\n"} {
		if got, _, err := events(strings.NewReader(text)); !errors.Is(err, ErrEventTooLarge) {
			t.Errorf("%d bytes: %d events, %v", len(text), len(got), err)
		}
	}
}

// FuzzEventReader: an event that is written as culvert writes it is read.
func FuzzEventReader(f *testing.F) {
	f.Add("data: a\n\n", "{}")
	f.Add(": \r\nid: 1\r\rdata", "x")
	f.Fuzz(func(t *testing.T, text, data string) {
		all, _, err := events(strings.NewReader(text))
		if err == nil {
			t.Fatal("no end")
		}
		slow, _, slowErr := events(iotest.OneByteReader(strings.NewReader(text)))
		if !reflect.DeepEqual(all, slow) || !errors.Is(slowErr, err) {
			t.Errorf("%q: %q by bytes, %q at once", text, slow, all)
		}
		if len(data) > 500 || strings.ContainsAny(data, "\r\n") || !utf8.ValidString(data) {
			return
		}
		if got, _, _ := events(strings.NewReader("data: " + data + "\n\n")); len(got) != 1 || got[0].Data != data {
			t.Errorf("%q: %q", data, got)
		}
	})
}

package codec

import (
	"encoding/base64"
	"encoding/json"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

type statusVector struct {
	Name           string
	Status         json.RawMessage // google.rpc.Status in protobuf's JSON
	Trailer        []field
	Block, Browser string // the latter if it differs
}

// parseStatus reads a status from protobuf's JSON.
func parseStatus(t testing.TB, text []byte) *status.Status {
	t.Helper()
	p := &spb.Status{}
	if err := protojson.Unmarshal(text, p); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return status.FromProto(p)
}

func TestTrailersBlocks(t *testing.T) {
	for _, v := range readVectors[[]statusVector](t, "status.json") {
		t.Run(v.Name, func(t *testing.T) {
			st := parseStatus(t, v.Status)
			trailer, err := DecodeMetadata(byName(v.Trailer))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(AppendHeaderBlock(nil, Trailers(st, trailer))); got != v.Block {
				t.Errorf("Trailers: %q, want %q", got, v.Block)
			}
			want := v.Browser
			if want == "" {
				want = v.Block
			}
			if got := string(AppendHeaderBlock(nil, BrowserTrailers(st, trailer))); got != want {
				t.Errorf("BrowserTrailers: %q, want %q", got, want)
			}
		})
	}
}

// withDetails is a status with one detail.
func withDetails(t testing.TB, code codes.Code, message string) *status.Status {
	t.Helper()
	detail, err := anypb.New(&errdetails.ErrorInfo{Reason: "NO_COFFEE", Domain: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	return status.FromProto(&spb.Status{Code: int32(code), Message: message, Details: []*anypb.Any{detail}})
}

// serialised is p in bytes that proto.Marshal would not write: its message comes
// last. Who passes them on must not touch them.
func serialised(t testing.TB, st *status.Status) string {
	t.Helper()
	p := st.Proto()
	message := &spb.Status{Message: p.Message}
	p.Message = ""
	var all []byte
	for _, part := range []*spb.Status{p, message} {
		b, err := proto.Marshal(part)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return string(all)
}

// unmarshalled reads the details that a trailer carries.
func unmarshalled(t testing.TB, value string) *spb.Status {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(value)
	if err != nil {
		t.Fatalf("%q: %v", value, err)
	}
	p := &spb.Status{}
	if err := proto.Unmarshal(b, p); err != nil {
		t.Fatalf("%q: %v", value, err)
	}
	return p
}

func TestDetailsPassAsTheyCame(t *testing.T) {
	st := withDetails(t, codes.NotFound, "no café")
	raw := serialised(t, st)
	trailer := metadata.MD{detailsKey: {raw}, "x-a": {"1"}}
	want := []field{
		{statusKey, "5"}, {messageKey, "no caf%C3%A9"}, {detailsKey, base64.RawStdEncoding.EncodeToString([]byte(raw))}, {"x-a", "1"},
	}
	for name, seq := range map[string]iter.Seq2[string, string]{
		"native":                    Trailers(st, trailer),
		"browser":                   BrowserTrailers(st, trailer),
		"status without details":    Trailers(status.New(codes.NotFound, "no café"), trailer),
		"status that has been read": Trailers(status.Convert(st.Err()), trailer),
	} {
		if got := collect(seq); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestDetailsOfAnOKCallPass(t *testing.T) {
	raw := serialised(t, withDetails(t, codes.OK, ""))
	want := []field{{statusKey, "0"}, {detailsKey, base64.RawStdEncoding.EncodeToString([]byte(raw))}}
	for _, st := range []*status.Status{nil, {}, status.New(codes.OK, "")} {
		if got := collect(Trailers(st, metadata.MD{detailsKey: {raw}})); !slices.Equal(got, want) {
			t.Errorf("%v: %q, want %q", st, got, want)
		}
	}
}

func TestOwnDetailsAreMarshalled(t *testing.T) {
	st := withDetails(t, codes.Unavailable, "upstream unreachable")
	foreign := withDetails(t, codes.Unavailable, "another's")
	for name, trailer := range map[string]metadata.MD{
		"no trailer":                    nil,
		"of another code":               {detailsKey: {serialised(t, withDetails(t, codes.NotFound, "x"))}},
		"two values":                    {detailsKey: {serialised(t, st), serialised(t, st)}},
		"another status of this code":   {detailsKey: {serialised(t, foreign)}},
		"bytes that are no status":      {detailsKey: {"\xff\xff"}},
		"a key without values":          {detailsKey: {}},
		"more under an invalid name":    {"Grpc-Status-Details-Bin": {"x"}},
		"status and message a 2nd time": {statusKey: {"0"}, messageKey: {"fine"}},
	} {
		got := collect(Trailers(st, trailer))
		if len(got) != 3 || got[0] != (field{statusKey, "14"}) || got[1] != (field{messageKey, "upstream unreachable"}) || got[2][0] != detailsKey {
			t.Errorf("%s: %q", name, got)
			continue
		}
		if p := unmarshalled(t, got[2][1]); !proto.Equal(p, st.Proto()) {
			t.Errorf("%s: details %v, want %v", name, p, st.Proto())
		}
	}
}

// A client that trusts the details more than grpc-status would take an error for
// success.
func TestDetailsThatContradictAreDropped(t *testing.T) {
	st := status.New(codes.PermissionDenied, "no")
	for name, raw := range map[string][]string{
		"code 0":        {serialised(t, withDetails(t, codes.OK, "no"))},
		"no code":       {""},
		"another error": {serialised(t, withDetails(t, codes.NotFound, "no"))},
		"two":           {serialised(t, withDetails(t, st.Code(), "no")), serialised(t, withDetails(t, st.Code(), "no"))},
		"no status":     {"\x08"},
		"not UTF-8":     {"\x08\x07\x12\x01\xff"},
	} {
		want := []field{{statusKey, "7"}, {messageKey, "no"}, {"x-a", "1"}}
		trailer := metadata.MD{detailsKey: raw, "x-a": {"1"}}
		for _, seq := range []iter.Seq2[string, string]{Trailers(st, trailer), BrowserTrailers(st, trailer)} {
			if got := collect(seq); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

func TestEveryCode(t *testing.T) {
	for code := range codes.Code(20) {
		st := status.New(code, "")
		native := []field{{statusKey, strconv.Itoa(int(code))}}
		if got := collect(Trailers(st, nil)); !slices.Equal(got, native) {
			t.Errorf("Trailers of %d: %q, want %q", code, got, native)
		}
		browser := native
		if code > 16 {
			browser = []field{{statusKey, "2"}, {originalStatusKey, native[0][1]}}
		}
		if got := collect(BrowserTrailers(st, nil)); !slices.Equal(got, browser) {
			t.Errorf("BrowserTrailers of %d: %q, want %q", code, got, browser)
		}
	}
}

// grpc-go makes the largest uint32 of "-1".
func TestCodeHasNoSign(t *testing.T) {
	st := status.New(codes.Code(math.MaxUint32), "odd")
	want := []field{{statusKey, "4294967295"}, {messageKey, "odd"}}
	if got := collect(Trailers(st, nil)); !slices.Equal(got, want) {
		t.Errorf("Trailers: %q, want %q", got, want)
	}
	raw := serialised(t, st)
	want = append(want, field{detailsKey, base64.RawStdEncoding.EncodeToString([]byte(raw))})
	if got := collect(Trailers(st, metadata.MD{detailsKey: {raw}})); !slices.Equal(got, want) {
		t.Errorf("Trailers with details: %q, want %q", got, want)
	}
}

func TestBrowserReadsOneCodeEverywhere(t *testing.T) {
	st := withDetails(t, 42, "the answer")
	for name, trailer := range map[string]metadata.MD{
		"own":             {originalStatusKey: {"0"}, "x-a": {"1"}},
		"as they came":    {originalStatusKey: {"0"}, "x-a": {"1"}, detailsKey: {serialised(t, st)}},
		"of another code": {"x-a": {"1"}, detailsKey: {serialised(t, withDetails(t, 0, "the answer"))}},
	} {
		got := collect(BrowserTrailers(st, trailer))
		if len(got) != 5 {
			t.Fatalf("%s: %q", name, got)
		}
		p := unmarshalled(t, got[2][1])
		want := st.Proto()
		want.Code = 2
		if !proto.Equal(p, want) {
			t.Errorf("%s: details %v, want %v", name, p, want)
		}
		got[2][1] = ""
		if want := []field{{statusKey, "2"}, {messageKey, "the answer"}, {detailsKey, ""}, {originalStatusKey, "42"}, {"x-a", "1"}}; !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestOriginalStatusOfABackendStays(t *testing.T) {
	got := collect(BrowserTrailers(status.New(codes.NotFound, ""), metadata.MD{originalStatusKey: {"x"}}))
	if want := []field{{statusKey, "5"}, {originalStatusKey, "x"}}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTrailerThatIsNoTrailer(t *testing.T) {
	trailer := metadata.MD{
		statusKey: {"0"}, messageKey: {"fine"}, "Grpc-Status": {"0"}, "GRPC-MESSAGE": {"x"},
		":status": {"200"}, "x-crlf": {"1\r\ngrpc-status: 0"}, "x-ok": {"1"},
	}
	got := string(AppendHeaderBlock(nil, Trailers(status.New(codes.Internal, "a\r\ngrpc-status: 0"), trailer)))
	if want := "grpc-status: 13\r\ngrpc-message: a%0D%0Agrpc-status: 0\r\nx-ok: 1\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// grpc-go hands on a message that isn't UTF-8, which protobuf refuses to write.
func TestMessageThatIsNotUTF8KeepsItsDetails(t *testing.T) {
	st := withDetails(t, codes.Internal, "bad \xff byte")
	got := collect(Trailers(st, nil))
	if len(got) != 3 || got[1] != (field{messageKey, "bad %EF%BF%BD byte"}) {
		t.Fatalf("%q", got)
	}
	if p := unmarshalled(t, got[2][1]); p.Message != "bad \ufffd byte" || len(p.Details) != 1 {
		t.Errorf("details %v", p)
	}
	if st.Message() != "bad \xff byte" {
		t.Error("the status was changed")
	}
}

func TestDetailsThatCannotBeWrittenAreLeftOut(t *testing.T) {
	st := status.FromProto(&spb.Status{Code: 13, Message: "no", Details: []*anypb.Any{{TypeUrl: "\xff"}}})
	if got, want := collect(Trailers(st, nil)), []field{{statusKey, "13"}, {messageKey, "no"}}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTrailersStopWhenAsked(t *testing.T) {
	st := withDetails(t, 17, "new")
	trailer := metadata.MD{"x-a": {"1"}, "x-b": {"2"}}
	for _, seq := range []iter.Seq2[string, string]{Trailers(st, trailer), BrowserTrailers(st, trailer)} {
		all := collect(seq)
		for n := 1; n <= len(all); n++ {
			got := []field{}
			for name, value := range seq {
				if got = append(got, field{name, value}); len(got) == n {
					break
				}
			}
			if !slices.Equal(got, all[:n]) {
				t.Errorf("the first %d are %q, want %q", n, got, all[:n])
			}
		}
	}
}

func TestCodeFromHTTP(t *testing.T) {
	for httpStatus, want := range map[int]codes.Code{
		400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14,
		0: 2, 200: 2, 204: 2, 302: 2, 405: 2, 415: 2, 426: 2, 431: 2, 499: 2, 500: 2, 501: 2, 999: 2,
	} {
		if got := CodeFromHTTP(httpStatus); got != want {
			t.Errorf("CodeFromHTTP(%d) = %v, want %v", httpStatus, got, want)
		}
	}
}

// FuzzTrailers writes any end of a call and reads it as a client does.
func FuzzTrailers(f *testing.F) {
	for _, v := range readVectors[[]statusVector](f, "status.json") {
		st := parseStatus(f, v.Status)
		f.Add(uint32(st.Code()), st.Message(), []byte(serialised(f, st)), true, "x-a", "1")
	}
	f.Add(uint32(7), "no", []byte("\x08\x00"), true, statusKey, "0")
	f.Add(uint32(17), "bad \xff", []byte("\x08\x11"), true, originalStatusKey, "0")
	f.Add(uint32(13), "a\r\nb: c", []byte("\xff"), false, detailsKey, "\xff")
	f.Add(uint32(0), " ", []byte{}, true, "x-b-bin", "\x00")
	f.Fuzz(func(t *testing.T, code uint32, message string, raw []byte, came bool, name, value string) {
		trailer := metadata.MD{name: {value}}
		if came {
			trailer.Append(detailsKey, string(raw))
		}
		st := status.New(codes.Code(code), message)
		p := &spb.Status{}
		isStatus := proto.Unmarshal(raw, p) == nil && uint32(p.Code) == code
		if isStatus { // as grpc-go has it
			st = status.FromProto(p)
		}
		for _, browser := range []bool{false, true} {
			seq, want := Trailers(st, trailer), code
			if browser {
				seq = BrowserTrailers(st, trailer)
				if code > 16 {
					want = 2
				}
			}
			h, err := ParseHeaderBlock(AppendHeaderBlock(nil, seq))
			if err != nil {
				t.Fatal(err)
			}
			checkTrailers(t, h, want, st)
			if got := h[detailsKey]; came && len(raw) > 0 && isStatus && name != detailsKey && want == code &&
				!slices.Equal(got, []string{base64.RawStdEncoding.EncodeToString(raw)}) {
				t.Errorf("details are %q, came as %q", got, raw)
			}
		}
	})
}

// checkTrailers holds trailers, as read by a client, to the status.
func checkTrailers(t *testing.T, h map[string][]string, code uint32, st *status.Status) {
	t.Helper()
	if got, want := h[statusKey], []string{strconv.FormatUint(uint64(code), 10)}; !slices.Equal(got, want) {
		t.Errorf("grpc-status is %q, want %q", got, want)
	}
	message := string([]rune(st.Message()))
	if got := h[messageKey]; message == "" && len(got) != 0 ||
		message != "" && (len(got) != 1 || DecodeMessage(got[0]) != message) {
		t.Errorf("grpc-message is %q, want %q", got, message)
	}
	switch details := h[detailsKey]; len(details) {
	case 0:
	case 1:
		if p := unmarshalled(t, details[0]); uint32(p.Code) != code {
			t.Errorf("details have the code %d, want %d", p.Code, code)
		}
	default:
		t.Errorf("details are %q", details)
	}
	if got := h[originalStatusKey]; code != uint32(st.Code()) && !slices.Equal(got, []string{codeText(st.Code())}) {
		t.Errorf("x-grpc-status-original is %q, want %d", got, st.Code())
	}
	for name := range h {
		if strings.HasPrefix(name, ":") {
			t.Errorf("%q is no trailer", name)
		}
	}
}

func BenchmarkTrailers(b *testing.B) {
	failed := withDetails(b, codes.NotFound, "no café")
	for _, c := range []struct {
		name    string
		st      *status.Status
		trailer metadata.MD
	}{
		{"OK", status.New(codes.OK, ""), nil},
		{"OK with metadata", nil, metadata.MD{"x-a": {"1", "2"}, "x-took": {"12ms"}}},
		{"error", status.New(codes.NotFound, "no such thing"), nil},
		{"details", failed, metadata.MD{detailsKey: {serialised(b, failed)}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendHeaderBlock(buf[:0], BrowserTrailers(c.st, c.trailer))
			}
		})
	}
}

package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// connectVectors are the vectors of the Connect protocol.
type connectVectors struct {
	Codes []struct {
		Code codes.Code
		Name string
		HTTP int
	}
	End []struct { // of a stream
		Code    codes.Code
		Message string
		Trailer metadata.MD
		JSON    string
	}
	Timeout []struct {
		Text string
		MS   int64
	}
	TimeoutRefuse []string
	Get           []struct {
		Query, Encoding, Compression string
		Message                      hexBytes
	}
	GetRefuse []string
}

func readConnectVectors(t testing.TB) connectVectors {
	return readVectors[connectVectors](t, "connect.json")
}

// TestConnectCodes: the name of each code is gRPC's own in lower case, and OK and unknown
// codes are "unknown".
func TestConnectCodes(t *testing.T) {
	seen := map[codes.Code]bool{}
	for _, v := range readConnectVectors(t).Codes {
		seen[v.Code] = true
		httpStatus, body := ConnectError(status.New(v.Code, "\"quoted\" <é>\n"))
		var e struct{ Code, Message string }
		if err := json.Unmarshal(body, &e); err != nil || e.Message != "\"quoted\" <é>\n" {
			t.Errorf("%v: %s (%v)", v.Code, body, err)
		}
		if e.Code != v.Name || httpStatus != v.HTTP {
			t.Errorf("%v is %q with HTTP status %d, want %q with %d", v.Code, e.Code, httpStatus, v.Name, v.HTTP)
		}
	}
	for code := codes.Canceled; code <= maxCode; code++ {
		if !seen[code] {
			t.Errorf("no vector for %v", code)
		}
	}
	for _, code := range []codes.Code{maxCode + 1, 1 << 31} {
		if httpStatus, body := ConnectError(status.New(code, "x")); httpStatus != 500 || !bytes.Contains(body, []byte(`"unknown"`)) {
			t.Errorf("the code %d is %s with HTTP status %d, want unknown with 500", code, body, httpStatus)
		}
	}
}

func TestConnectErrorHasDetails(t *testing.T) {
	st, err := status.New(codes.Unavailable, "upstream unreachable").WithDetails(&errdetails.ErrorInfo{Reason: "UPSTREAM_UNREACHABLE", Domain: "culvert"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"code":"unavailable","message":"upstream unreachable","details":[{"type":"google.rpc.ErrorInfo","value":"ChRVUFNUUkVBTV9VTlJFQUNIQUJMRRIHY3VsdmVydA"}]}`
	if _, got := ConnectError(st); string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := ConnectEnd(st, metadata.MD{"grpc-status-details-bin": {"x"}}); string(got) != `{"error":`+want+`}` {
		t.Errorf("the end is %s", got)
	}
}

func TestConnectEnd(t *testing.T) {
	for _, v := range readConnectVectors(t).End {
		if got := ConnectEnd(status.New(v.Code, v.Message), v.Trailer); string(got) != v.JSON {
			t.Errorf("%v %q %v: got %s, want %s", v.Code, v.Message, v.Trailer, got, v.JSON)
		}
	}
	if got := ConnectEnd(status.New(codes.OK, ""), metadata.MD{"x-bin": {"\x00\xff"}}); string(got) != `{"metadata":{"x-bin":["AP8"]}}` {
		t.Errorf("with binary metadata: %s", got)
	}
	got := ConnectEnd(status.New(99, ""), metadata.MD{originalStatusKey: {"1"}})
	if string(got) != `{"error":{"code":"unknown"},"metadata":{"x-grpc-status-original":["99"]}}` {
		t.Errorf("with an unknown code: %s", got)
	}
}

func TestParseConnectTimeout(t *testing.T) {
	vectors := readConnectVectors(t)
	for _, v := range vectors.Timeout {
		if got, err := ParseConnectTimeout(v.Text); err != nil || got != time.Duration(v.MS)*time.Millisecond {
			t.Errorf("ParseConnectTimeout(%q) = %v, %v, want %d ms", v.Text, got, err, v.MS)
		}
	}
	for _, text := range vectors.TimeoutRefuse {
		if got, err := ParseConnectTimeout(text); err == nil {
			t.Errorf("ParseConnectTimeout(%q) = %v, want an error", text, got)
		}
	}
}

func TestParseConnectGet(t *testing.T) {
	vectors := readConnectVectors(t)
	for _, v := range vectors.Get {
		got, err := ParseConnectGet(v.Query)
		if want := (ConnectGet{v.Encoding, v.Compression, v.Message}); err != nil || got.Encoding != want.Encoding || got.Compression != want.Compression || !bytes.Equal(got.Message, want.Message) {
			t.Errorf("ParseConnectGet(%q) = %+v, %v, want %+v", v.Query, got, err, want)
		}
	}
	for _, query := range vectors.GetRefuse {
		if got, err := ParseConnectGet(query); err == nil || !reflect.ValueOf(got).IsZero() {
			t.Errorf("ParseConnectGet(%q) = %+v, %v, want an error alone", query, got, err)
		}
	}
}

func FuzzParseConnectTimeout(f *testing.F) {
	vectors := readConnectVectors(f)
	for _, v := range vectors.Timeout {
		f.Add(v.Text)
	}
	for _, text := range vectors.TimeoutRefuse {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, in string) {
		d, err := ParseConnectTimeout(in)
		digits := in != "" && len(in) <= 10 && strings.Trim(in, "0123456789") == ""
		if (err == nil) != digits || d < 0 || err != nil && d != 0 {
			t.Errorf("ParseConnectTimeout(%q) = %v, %v", in, d, err)
		}
	})
}

// FuzzParseConnectGet: what was parsed and is written anew is parsed to the same.
func FuzzParseConnectGet(f *testing.F) {
	vectors := readConnectVectors(f)
	for _, v := range vectors.Get {
		f.Add(v.Query)
	}
	for _, query := range vectors.GetRefuse {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := ParseConnectGet(in)
		if err != nil {
			if !reflect.ValueOf(got).IsZero() {
				t.Errorf("ParseConnectGet(%q) = %+v beside %v", in, got, err)
			}
			return
		}
		again, err := ParseConnectGet(url.Values{
			"connect": {"v1"}, "base64": {"1"}, "encoding": {got.Encoding}, "compression": {got.Compression},
			"message": {base64.RawURLEncoding.EncodeToString(got.Message)},
		}.Encode())
		if err != nil || again.Encoding != got.Encoding || again.Compression != got.Compression || !bytes.Equal(again.Message, got.Message) {
			t.Errorf("ParseConnectGet(%q) = %+v, and written anew %+v, %v", in, got, again, err)
		}
	})
}

// FuzzConnectEnd: a client reads what was written, with U+FFFD for bytes that aren't
// UTF-8.
func FuzzConnectEnd(f *testing.F) {
	for _, v := range readConnectVectors(f).End {
		f.Add(uint32(v.Code), v.Message, "x-a", "1")
	}
	f.Add(uint32(14), "\xff<é>\u2028", "x-bin", "\x00")
	f.Add(uint32(17), "", "grpc-status", "0")
	f.Fuzz(func(t *testing.T, code uint32, message, name, value string) {
		st := status.New(codes.Code(code), message)
		body := ConnectEnd(st, metadata.MD{name: {value}})
		var end struct {
			Error    *struct{ Code, Message string }
			Metadata map[string][]string
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&end); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if (end.Error == nil) != (code == 0) {
			t.Errorf("code %d: %s", code, body)
		}
		if end.Error != nil && (end.Error.Message != string([]rune(message)) || end.Error.Code != codeOf(codes.Code(code)).name) {
			t.Errorf("code %d, message %q: %s", code, message, body)
		}
		crosses := ValidName(name) && (ValidValue(value) || strings.HasSuffix(name, binSuffix)) && !strings.HasPrefix(name, "grpc-") && name != originalStatusKey
		if crosses && len(end.Metadata[name]) != 1 || !utf8.Valid(body) {
			t.Errorf("metadata %q: %q: %s", name, value, body)
		}
		if end.Metadata[statusKey] != nil || end.Metadata[messageKey] != nil || end.Metadata[detailsKey] != nil {
			t.Errorf("the status is in the metadata: %s", body)
		}
	})
}

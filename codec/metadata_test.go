package codec

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
)

type metadataVectors struct {
	Decode []struct {
		Text   string
		Values []hexBytes
	}
	Encode []struct {
		Value hexBytes
		Text  string
	}
	Refuse []string
}

func TestDecodeBinMetadata(t *testing.T) {
	for _, v := range readVectors[metadataVectors](t, "metadata.json").Decode {
		want := []string{}
		for _, b := range v.Values {
			want = append(want, string(b))
		}
		md, err := DecodeMetadata(map[string][]string{"X-B-Bin": {v.Text}})
		if err != nil || !slices.Equal(md["x-b-bin"], want) || len(md) != 1 {
			t.Errorf("DecodeMetadata(%q) = %q, %v, want %q", v.Text, md, err, want)
		}
	}
}

func TestEncodeBinMetadata(t *testing.T) {
	for _, v := range readVectors[metadataVectors](t, "metadata.json").Encode {
		got := collect(Fields(metadata.MD{"x-b-bin": {string(v.Value)}}))
		if want := []field{{"x-b-bin", v.Text}}; !slices.Equal(got, want) {
			t.Errorf("Fields(%x) = %q, want %q", v.Value, got, want)
		}
	}
}

func TestBinMetadataThatIsNotBase64IsRefused(t *testing.T) {
	for _, in := range readVectors[metadataVectors](t, "metadata.json").Refuse {
		md, err := DecodeMetadata(map[string][]string{"x-a": {"1"}, "X-B-Bin": {in}})
		if err == nil {
			t.Errorf("DecodeMetadata(%q) = %q, want an error", in, md)
			continue
		}
		if got, want := err.Error(), `metadata "x-b-bin": `; !strings.HasPrefix(got, want) || !strings.Contains(got, "base64") {
			t.Errorf("DecodeMetadata(%q): %q, want %q", in, got, want)
		}
	}
}

func TestDecodeMetadata(t *testing.T) {
	for _, c := range []struct {
		name string
		in   map[string][]string
		want metadata.MD
	}{
		{"nothing", nil, metadata.MD{}},
		{"lower case", map[string][]string{"X-Request-Id": {"a B"}}, metadata.MD{"x-request-id": {"a B"}}},
		{"order of equal keys", map[string][]string{"X-A": {"2", "1", "2"}}, metadata.MD{"x-a": {"2", "1", "2"}}},
		{"text isn't split", map[string][]string{"x-a": {"a, b", "c,d"}}, metadata.MD{"x-a": {"a, b", "c,d"}}},
		{"text isn't base64", map[string][]string{"x-bina": {"!"}}, metadata.MD{"x-bina": {"!"}}},
		{"-bin in any case", map[string][]string{"X-B-BIN": {"AAEC", "/w==, AA"}}, metadata.MD{"x-b-bin": {"\x00\x01\x02", "\xff", "\x00"}}},
		{"names that differ in case", map[string][]string{"x-a": {"3"}, "X-A": {"1"}, "X-a": {"2"}}, metadata.MD{"x-a": {"1", "2", "3"}}},
		{"… and are bytes", map[string][]string{"x-bin": {"/w"}, "X-Bin": {"AA,AA"}}, metadata.MD{"x-bin": {"\x00", "\x00", "\xff"}}},
		{
			"reserved and odd ones stay",
			map[string][]string{":authority": {"x"}, "Te": {"trailers"}, "X a": {"tab\t"}, "x-u": {"é"}},
			metadata.MD{":authority": {"x"}, "te": {"trailers"}, "x a": {"tab\t"}, "x-u": {"é"}},
		},
		{"only ASCII letters change case", map[string][]string{"x-\u212a": {"kelvin"}}, metadata.MD{"x-\u212a": {"kelvin"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 10 { // maps come in any order
				got, err := DecodeMetadata(c.in)
				if err != nil || !maps.EqualFunc(got, c.want, slices.Equal) {
					t.Fatalf("DecodeMetadata(%q) = %q, %v, want %q", c.in, got, err, c.want)
				}
			}
		})
	}
}

func TestDecodedMetadataIsNotTheRequests(t *testing.T) {
	values := make([]string, 1, 4)
	values[0] = "1"
	h := map[string][]string{"X-A": values}
	md, err := DecodeMetadata(h)
	if err != nil {
		t.Fatal(err)
	}
	md.Append("x-a", "2")
	md.Set("x-b", "3")
	if got := values[:2]; got[1] != "" || len(h) != 1 {
		t.Errorf("the request's header became %q, its values %q", h, got)
	}
}

func TestErrorOfALongNameIsShort(t *testing.T) {
	_, err := DecodeMetadata(map[string][]string{strings.Repeat("x", 60000) + "-bin": {"!"}})
	if err == nil || len(err.Error()) > 100 {
		t.Errorf("error of %d bytes", len(fmt.Sprint(err)))
	}
}

func TestFields(t *testing.T) {
	for _, c := range []struct {
		name string
		md   metadata.MD
		want []field
	}{
		{"nothing", nil, []field{}},
		{
			"names are sorted, values are not",
			metadata.MD{"x-b": {"2", "1"}, "x-a": {"3"}, "a": {""}},
			[]field{{"a", ""}, {"x-a", "3"}, {"x-b", "2"}, {"x-b", "1"}},
		},
		{"bytes", metadata.MD{"x-bin": {"\x00", "", "\xfb\xff"}}, []field{{"x-bin", "AA"}, {"x-bin", ""}, {"x-bin", "+/8"}}},
		{
			"invalid names",
			metadata.MD{":authority": {"a"}, "X-A": {"b"}, "x a": {"c"}, "": {"d"}, "x-é": {"e"}, "x\r\ny": {"f"}, "ok": {"g"}},
			[]field{{"ok", "g"}},
		},
		{
			"invalid values",
			metadata.MD{"x-a": {"1", "tab\t", "é", "a\r\nb: c", "nul\x00", "del\x7f", "2"}},
			[]field{{"x-a", "1"}, {"x-a", "2"}},
		},
		{"a key without values", metadata.MD{"x-a": nil, "x-b": {}}, []field{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			seq := Fields(c.md)
			for range 3 { // a sequence can be used again
				if got := collect(seq); !slices.Equal(got, c.want) {
					t.Fatalf("Fields(%q) = %q, want %q", c.md, got, c.want)
				}
			}
		})
	}
}

func TestFieldsStopsWhenAsked(t *testing.T) {
	for name := range Fields(metadata.MD{"a": {"1", "2"}, "b": {"3"}}) {
		if name != "a" {
			t.Errorf("%q came after the loop was left", name)
		}
		break
	}
}

func TestFieldsOfManyNames(t *testing.T) {
	md := metadata.MD{}
	want := []field{}
	for i := range 100 {
		name := fmt.Sprintf("x-%02d", i)
		md.Set(name, "v")
		want = append(want, field{name, "v"})
	}
	if got := collect(Fields(md)); !slices.Equal(got, want) {
		t.Errorf("Fields yields %q, want %q", got, want)
	}
}

func TestValidName(t *testing.T) {
	for c := range 256 {
		want := strings.IndexByte("0123456789abcdefghijklmnopqrstuvwxyz_.-", byte(c)) >= 0
		for _, name := range []string{string([]byte{byte(c)}), string([]byte{'x', byte(c)}), string([]byte{byte(c), 'x'})} {
			if got := ValidName(name); got != want {
				t.Errorf("ValidName(%q) = %v, want %v", name, got, want)
			}
		}
	}
	if ValidName("") {
		t.Error("an empty name is valid")
	}
}

func TestValidValue(t *testing.T) {
	for c := range 256 {
		v := "a" + string([]byte{byte(c)}) + "b"
		if got, want := ValidValue(v), c >= 0x20 && c <= 0x7E; got != want {
			t.Errorf("ValidValue(%q) = %v, want %v", v, got, want)
		}
	}
	if !ValidValue("") {
		t.Error("an empty value is invalid")
	}
}

func TestFieldBytes(t *testing.T) {
	if got, want := FieldBytes("x-a", "12"), 3+2+32; got != want {
		t.Errorf("FieldBytes = %d, want %d", got, want)
	}
}

// legal is md without what Fields leaves out.
func legal(md metadata.MD) metadata.MD {
	kept := metadata.MD{}
	for name, values := range md {
		for _, v := range values {
			if ValidName(name) && (strings.HasSuffix(name, "-bin") || ValidValue(v)) {
				kept.Append(name, v)
			}
		}
	}
	return kept
}

func FuzzDecodeMetadata(f *testing.F) {
	f.Add("X-A", "1", "x-a", "2")
	f.Add("X-B-Bin", "AAEC, /w==", "x-b-bin", "")
	f.Add("x-b-bin", "AA,,AA=", "x-c", "tab\t")
	f.Add("x-b-bin", "A\r\nA", ":authority", "evil")
	f.Add("x-\u212a", "kelvin", "X-K", "k")
	for _, v := range readVectors[metadataVectors](f, "metadata.json").Decode {
		f.Add("x-b-bin", v.Text, "x-a", v.Text)
	}
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		h := map[string][]string{name1: {value1, value1}}
		h[name2] = append(h[name2], value2)
		md, err := DecodeMetadata(h)
		if err != nil {
			if md != nil || !strings.HasPrefix(err.Error(), "metadata ") {
				t.Errorf("DecodeMetadata(%q) = %q, %v", h, md, err)
			}
			return
		}
		// Encoding and decoding again gives the same metadata.
		out := map[string][]string{}
		for name, value := range Fields(md) {
			if !ValidName(name) || !ValidValue(value) {
				t.Errorf("Fields(%q) yields %q: %q", md, name, value)
			}
			out[name] = append(out[name], value)
		}
		again, err := DecodeMetadata(out)
		if want := legal(md); err != nil || !reflect.DeepEqual(again, want) {
			t.Errorf("%q came back as %q, %v, want %q", md, again, err, want)
		}
	})
}

// callMetadata is what an ordinary call carries.
var callMetadata = metadata.MD{
	"authorization":  {"Bearer eyJhbGciOiJIUzI1NiJ9.e30.ZRrHA1JJJW8opsbCGfG_HACGpVUMN_a9IV7pAx_Zmeo"},
	"x-request-id":   {"7f1c2a52-6b1e-4b8b-9a53-6c1de5b0f0a1"},
	"x-tenant":       {"acme"},
	"x-flags":        {"a", "b"},
	"traceparent":    {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
	"grpc-trace-bin": {"\x00\x00\x4b\xf9\x2f\x35\x77\xb3\x4d\xa6\xa3\xce\x92\x9d\x0e\x0e\x47\x36\x01\x00\xf0\x67\xaa\x0b\xa9\x02\xb7\x02\x01"},
}

func BenchmarkFields(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for name, value := range Fields(callMetadata) {
			n += FieldBytes(name, value)
		}
		if n == 0 {
			b.Fatal("no fields")
		}
	}
}

func BenchmarkDecodeMetadata(b *testing.B) {
	h := map[string][]string{}
	for name, value := range Fields(callMetadata) {
		h[name] = append(h[name], value)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeMetadata(h); err != nil {
			b.Fatal(err)
		}
	}
}

func TestEncodeValue(t *testing.T) {
	for v, want := range map[string]string{"": "", "a b~": "a b~", "50%": "50%", "caf\u00e9-7": "caf%C3%A9-7", "50% \u00e9": "50%25 %C3%A9", " a b%  ": "%20a b%25 %20", " ": "%20", "\xe9\t\x7f": "%E9%09%7F"} {
		if got := EncodeValue(v); got != want || !ValidValue(got) {
			t.Errorf("%q: %q, want %q", v, got, want)
		}
	}
}

// FuzzEncodeValue: every value can be sent and, if it had to be encoded, be read again.
func FuzzEncodeValue(f *testing.F) {
	f.Add("caf\u00e9 %")
	f.Fuzz(func(t *testing.T, v string) {
		got := EncodeValue(v)
		if !ValidValue(got) {
			t.Errorf("%q: %q can't be sent", v, got)
		}
		if back, err := url.PathUnescape(got); got != v && (err != nil || back != v) {
			t.Errorf("%q: %q is read as %q, %v", v, got, back, err)
		}
	})
}

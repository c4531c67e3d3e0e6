package codec

import (
	"strings"
	"testing"
	"unicode/utf8"
)

type percentVectors struct {
	Encode, Decode []struct {
		Hex  hexBytes
		Text string
	}
}

func TestEncodeMessage(t *testing.T) {
	for _, v := range readVectors[percentVectors](t, "percent.json").Encode {
		if got := EncodeMessage(string(v.Hex)); got != v.Text {
			t.Errorf("EncodeMessage(%q) = %q, want %q", v.Hex, got, v.Text)
		}
	}
}

func TestDecodeMessage(t *testing.T) {
	for _, v := range readVectors[percentVectors](t, "percent.json").Decode {
		if got := DecodeMessage(v.Text); got != string(v.Hex) {
			t.Errorf("DecodeMessage(%q) = %q, want %q", v.Text, got, v.Hex)
		}
	}
}

func TestEveryByteOfAMessageIsSafe(t *testing.T) {
	for c := range 256 {
		in := "a" + string([]byte{byte(c)}) + "b"
		got := EncodeMessage(in)
		plain := c >= 0x20 && c <= 0x7E && c != '%'
		if (got == in) != plain {
			t.Errorf("EncodeMessage(%q) = %q", in, got)
		}
		if !ValidValue(got) {
			t.Errorf("EncodeMessage(%q) = %q, which is no header value", in, got)
		}
	}
}

func TestPlainMessageIsNotCopied(t *testing.T) {
	in := strings.Repeat("deadline exceeded; ", 10) + "."
	allocs := testing.AllocsPerRun(100, func() {
		if EncodeMessage(in) != in || DecodeMessage(in) != in {
			t.Error("a plain message changed")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations, want none", allocs)
	}
}

func FuzzEncodeMessage(f *testing.F) {
	for _, v := range readVectors[percentVectors](f, "percent.json").Encode {
		f.Add(string(v.Hex))
	}
	f.Fuzz(func(t *testing.T, in string) {
		encoded := EncodeMessage(in)
		if !ValidValue(encoded) || strings.Trim(encoded, " ") != encoded {
			t.Errorf("EncodeMessage(%q) = %q, which isn't safe in a header", in, encoded)
		}
		want := string([]rune(in)) // each invalid byte is U+FFFD
		if got := DecodeMessage(encoded); got != want {
			t.Errorf("%q came back as %q, want %q", in, got, want)
		}
	})
}

func FuzzDecodeMessage(f *testing.F) {
	for _, v := range readVectors[percentVectors](f, "percent.json").Decode {
		f.Add(v.Text)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got := DecodeMessage(in)
		if len(got) > len(in) {
			t.Errorf("DecodeMessage(%q) grew to %q", in, got)
		}
		if !strings.Contains(in, "%") && got != in {
			t.Errorf("DecodeMessage(%q) = %q, though nothing is encoded", in, got)
		}
		// A client decodes our encoding to the same text.
		if again := DecodeMessage(EncodeMessage(got)); utf8.ValidString(got) && again != got {
			t.Errorf("%q decoded as %q, passed on as %q", in, got, again)
		}
	})
}

func BenchmarkEncodeMessage(b *testing.B) {
	for name, in := range map[string]string{
		"plain":   "upstream unreachable: try again later",
		"unicode": "no café: 100% of the ☃ are gone",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				EncodeMessage(in)
			}
		})
	}
}

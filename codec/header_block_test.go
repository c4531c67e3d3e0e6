package codec

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
)

type headerBlockVector struct {
	Name   string
	Hex    hexBytes
	Fields []field
}

// byName is fields as ParseHeaderBlock gives them.
func byName(fields []field) map[string][]string {
	h := map[string][]string{}
	for _, f := range fields {
		h[f[0]] = append(h[f[0]], f[1])
	}
	return h
}

func TestHeaderBlocks(t *testing.T) {
	for _, v := range readVectors[[]headerBlockVector](t, "header_block.json") {
		t.Run(v.Name, func(t *testing.T) {
			if got := AppendHeaderBlock([]byte{}, fieldSeq(v.Fields)); !bytes.Equal(got, v.Hex) {
				t.Errorf("AppendHeaderBlock(%q) = %q, want %q", v.Fields, got, v.Hex)
			}
			got, err := ParseHeaderBlock(v.Hex)
			if want := byName(v.Fields); err != nil || !maps.EqualFunc(got, want, slices.Equal) {
				t.Errorf("ParseHeaderBlock(%q) = %q, %v, want %q", v.Hex, got, err, want)
			}
		})
	}
}

func TestParseHeaderBlockIsLenient(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     map[string][]string
	}{
		{"canonical case", "Grpc-Status: 5\r\nX-A: B\r\n", map[string][]string{"grpc-status": {"5"}, "x-a": {"B"}}},
		{"names that differ in case", "X-A: 1\r\nx-a: 2\r\n", map[string][]string{"x-a": {"1", "2"}}},
		{"equal names apart", "x-a: 2\r\nx-b: 1\r\nx-a: 1\r\nx-b: 0\r\n", map[string][]string{"x-a": {"2", "1"}, "x-b": {"1", "0"}}},
		{"joined values stay joined", "x-a: 1, 2\r\nx-bin: AA, /w\r\n", map[string][]string{"x-a": {"1, 2"}, "x-bin": {"AA, /w"}}},
		{"LF", "x-a: 1\nx-b: 2\n", map[string][]string{"x-a": {"1"}, "x-b": {"2"}}},
		{"no last end", "x-a: 1\r\nx-b: 2", map[string][]string{"x-a": {"1"}, "x-b": {"2"}}},
		{"half of the last end", "x-a: 1\r", map[string][]string{"x-a": {"1"}}},
		{"no blank", "x-a:1\r\n", map[string][]string{"x-a": {"1"}}},
		{"many blanks", "x-a: \t 1 \t \r\n", map[string][]string{"x-a": {"1"}}},
		{"blanks inside", "x-a: a  b\r\n", map[string][]string{"x-a": {"a  b"}}},
		{"empty value", "x-a:\r\nx-a: \r\n", map[string][]string{"x-a": {"", ""}}},
		{"colons in the value", "x-a: a:b: c\r\n", map[string][]string{"x-a": {"a:b: c"}}},
		{"value that isn't ASCII", "x-a: é\ttab\r\n", map[string][]string{"x-a": {"é\ttab"}}},
		{"empty lines at the end", "x-a: 1\r\n\r\n\n", map[string][]string{"x-a": {"1"}}},
		{"nothing but an empty line", "\r\n", map[string][]string{}},
		{"nothing", "", map[string][]string{}},
	} {
		got, err := ParseHeaderBlock([]byte(c.in))
		if err != nil || !maps.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%s: ParseHeaderBlock(%q) = %q, %v, want %q", c.name, c.in, got, err, c.want)
		}
	}
}

func TestParseHeaderBlockRefuses(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"no colon", "x-a: 1\r\nnonsense\r\n", "line 2: … colon"},
		{"a frame", "\x00\x00\x00\x00\x07\n\x05world", "line 1: … colon"},
		{"empty name", ": 1\r\n", "line 1: … name"},
		{"pseudo-header", ":authority: evil\r\n", "line 1: … name"},
		{"blank before the colon", "x-forwarded-for : 1\r\n", "line 1: … name"},
		{"blank in the name", "x a: 1\r\n", "line 1: … name"},
		{"folded line", "x-a: 1\r\n 2: 3\r\n", "line 2: … name"},
		{"name that isn't ASCII", "x-\u212a: 1\r\n", "line 1: … name"},
		{"NUL in the name", "x\x00: 1\r\n", "line 1: … name"},
		{"CR in the value", "x-a: 1\rx-b: 2\r\n", "line 1: … value"},
		{"two CRs at the end", "x-a: 1\r\r\n", "line 1: … value"},
		{"NUL in the value", "x-a: 1\r\nx-b: a\x00b\r\n", "line 2: … value"},
		{"empty line inside", "x-a: 1\r\n\r\nx-b: 2\r\n", "line 3: … empty line"},
		{"HTTP after the block", "\r\nGET / HTTP/1.1\r\n", "line 2: … empty line"},
	} {
		h, err := ParseHeaderBlock([]byte(c.in))
		if !errors.Is(err, ErrMalformedBlock) || h != nil {
			t.Errorf("%s: ParseHeaderBlock(%q) = %q, %v", c.name, c.in, h, err)
			continue
		}
		line, about, _ := strings.Cut(c.want, " … ")
		if _, rest, found := strings.Cut(err.Error(), line); !found || !strings.Contains(rest, about) {
			t.Errorf("%s: %q, want %q", c.name, err, c.want)
		}
	}
}

func TestParsedHeaderBlockDoesNotKeepItsInput(t *testing.T) {
	in := []byte("x-a: 1\r\nx-a: 2\r\nx-b: 3\r\n")
	h, err := ParseHeaderBlock(in)
	if err != nil {
		t.Fatal(err)
	}
	clear(in)
	h["x-b"] = append(h["x-b"], "4") // and one name's values aren't another's
	want := map[string][]string{"x-a": {"1", "2"}, "x-b": {"3", "4"}}
	if !maps.EqualFunc(h, want, slices.Equal) {
		t.Errorf("got %q, want %q", h, want)
	}
}

func TestNoFieldCanBeginALineOfItsOwn(t *testing.T) {
	fields := []field{
		{"x-a", "1\r\ngrpc-status: 0"}, {"x-b\r\nx-c", "1"}, {"X-D", "1"}, {"", "1"}, {"x-e", "nul\x00"}, {"x-f", "é"}, {"x-ok", "1"},
	}
	if got, want := string(AppendHeaderBlock([]byte("> "), fieldSeq(fields))), "> x-ok: 1\r\n"; got != want {
		t.Errorf("AppendHeaderBlock = %q, want %q", got, want)
	}
}

// hostileBlocks are 64 KiB each, the default limit, made to cost as much memory
// as they can.
func hostileBlocks() map[string][]byte {
	var names strings.Builder
	for i := 0; names.Len() < 64<<10; i++ {
		fmt.Fprintf(&names, "%x:\n", i)
	}
	return map[string][]byte{
		"empty lines": bytes.Repeat([]byte("\n"), 64<<10),
		"one name":    bytes.Repeat([]byte("a:\n"), 64<<10/3),
		"many names":  []byte(names.String()),
		"one line":    bytes.Repeat([]byte("a:"), 32<<10),
	}
}

func TestHostileBlockCostsInProportion(t *testing.T) {
	for name, in := range hostileBlocks() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ParseHeaderBlock(in)
		runtime.ReadMemStats(&after)
		if cost := (after.TotalAlloc - before.TotalAlloc) / uint64(len(in)); err != nil || cost > 64 {
			t.Errorf("%s: %d bytes of memory for each of %d, %v", name, cost, len(in), err)
		}
	}
}

func FuzzParseHeaderBlock(f *testing.F) {
	for _, v := range readVectors[[]headerBlockVector](f, "header_block.json") {
		f.Add([]byte(v.Hex))
	}
	for _, s := range []string{
		"Grpc-Status: 5\nX-A:1\n", "x-a: 1\r\n\r\n", "no colon", ": 1\r\n", "x-a : 1\r\n", "x-a: 1\rx-b: 2\r\n",
		"x-a: 1\r\n folded\r\n", "x-\u212a: 1\r\n", "x-a: é\r\n", "x-a: a\x00b\r\n", "\r\nx-a: 1\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := ParseHeaderBlock(in)
		if err != nil {
			if h != nil || !errors.Is(err, ErrMalformedBlock) {
				t.Errorf("ParseHeaderBlock(%q) = %q, %v", in, h, err)
			}
			return
		}
		// Written and read again it is the same, without values that can't be
		// written.
		fields, want := []field{}, map[string][]string{}
		for _, name := range slices.Sorted(maps.Keys(h)) {
			if !ValidName(name) || len(h[name]) == 0 {
				t.Errorf("ParseHeaderBlock(%q) has the name %q with %q", in, name, h[name])
			}
			for _, v := range h[name] {
				if strings.ContainsAny(v, "\r\n\x00") || strings.Trim(v, " \t") != v {
					t.Errorf("ParseHeaderBlock(%q) has the value %q", in, v)
				}
				fields = append(fields, field{name, v})
				if ValidValue(v) {
					want[name] = append(want[name], v)
				}
			}
		}
		block := AppendHeaderBlock(nil, fieldSeq(fields))
		again, err := ParseHeaderBlock(block)
		if err != nil || !maps.EqualFunc(again, want, slices.Equal) {
			t.Errorf("%q is %q, written as %q, read again as %q, %v", in, h, block, again, err)
		}
	})
}

func BenchmarkParseHeaderBlock(b *testing.B) {
	in := AppendHeaderBlock(nil, Fields(callMetadata))
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, err := ParseHeaderBlock(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendHeaderBlock(b *testing.B) {
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendHeaderBlock(buf[:0], Fields(callMetadata))
	}
	b.SetBytes(int64(len(buf)))
}

package wire

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

func TestStaticNames(t *testing.T) {
	d := hpack.NewDecoder(firstTableBytes, nil)
	for i := 1; i < len(staticTable); i++ {
		fields, err := d.DecodeFull([]byte{0x80 | byte(i)})
		if err != nil || len(fields[0].Name) != int(staticTable[i].name) {
			t.Errorf("%d: got %d, want that of %v (%v)", i, staticTable[i].name, fields, err)
		}
	}
	if _, err := d.DecodeFull([]byte{0x80 | byte(len(staticTable))}); err == nil {
		t.Error("the table is longer")
	}
}

// requestBlocks returns the header blocks of calls, as grpc-go's encoder writes them.
func requestBlocks(calls int) [][]byte {
	var all [][]byte
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for n := range calls {
		switch n % 100 {
		case 60:
			e.SetMaxDynamicTableSizeLimit(700)
			e.SetMaxDynamicTableSize(300)
		case 80:
			e.SetMaxDynamicTableSizeLimit(2 * firstTableBytes)
			e.SetMaxDynamicTableSize(2 * firstTableBytes)
		case 90:
			e.SetMaxDynamicTableSize(0)
		case 95:
			e.SetMaxDynamicTableSize(firstTableBytes)
		}
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":path", Value: fmt.Sprintf("/service/Method%d", n/10)},
			{Name: "content-type", Value: "application/grpc"},
			{Name: "note", Value: strings.Repeat("~", n)}, // Huffman's code makes it longer
			{Name: idHeader, Value: fmt.Sprintf("one of two, %d", n), Sensitive: n%3 == 0},
			{Name: idHeader, Value: fmt.Sprintf("%08x-id\x00%s", n-n%7%2, strings.Repeat("y", n*n%5000))}, // some are in the table
			{Name: "authorization", Value: "Bearer secret", Sensitive: true},
		} {
			_ = e.WriteField(f) // to memory
		}
		all = append(all, bytes.Clone(block.Bytes()))
		block.Reset()
	}
	return all
}

// TestRequestIDs: the ids are those that a decoder reads, also of blocks in parts.
func TestRequestIDs(t *testing.T) {
	d := hpack.NewDecoder(firstTableBytes, nil)
	d.SetAllowedMaxDynamicTableSize(math.MaxUint32)
	r := requestIDs{limit: firstTableBytes}
	for n, block := range requestBlocks(300) {
		cut := n % len(block)
		if id, ok := r.read(block[:cut], false); id != "" || !ok {
			t.Fatalf("block %d: a part has the id %q, %v", n, id, ok)
		}
		id, ok := r.read(block[cut:], true)
		fields, err := d.DecodeFull(block)
		if want := idOf(fields); err != nil || !ok || id != want || want == "" {
			t.Fatalf("block %d: got %q, %v; want %q (%v)", n, id, ok, want, err)
		}
	}
}

// idOf is the last id of the fields.
func idOf(fields []hpack.HeaderField) (id string) {
	for _, f := range fields {
		if f.Name == idHeader {
			id = f.Value
		}
	}
	return id
}

// FuzzRequestIDs: what a decoder takes has the id that it reads.
func FuzzRequestIDs(f *testing.F) {
	var both []byte
	for _, block := range requestBlocks(3) {
		both = append(append(both, byte(len(block))), block...)
	}
	f.Add(both)
	f.Add([]byte{1, 0x80})
	f.Add([]byte{1, 0x40})
	f.Add([]byte{7, 0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add([]byte{5, 0x40, 1, 'a', 0x83, 0xff})
	f.Fuzz(func(t *testing.T, all []byte) {
		d := hpack.NewDecoder(firstTableBytes, nil)
		d.SetAllowedMaxDynamicTableSize(math.MaxUint32)
		r := requestIDs{limit: firstTableBytes}
		for len(all) > 0 {
			n := min(int(all[0]), len(all)-1)
			block := all[1 : 1+n]
			all = all[1+n:]
			fields, err := d.DecodeFull(block)
			id, ok := r.read(block, true)
			if err != nil {
				return // both may do what they like from here on
			}
			if want := idOf(fields); !ok || id != want {
				t.Fatalf("%x: got %q, %v; want %q", block, id, ok, want)
			}
		}
	})
}

package packing

import (
	"bytes"
	"io"
	"testing"

	"google.golang.org/grpc/mem"
)

// TestPackedMessagesComeBack, and the end of the stream is told from a cut.
func TestPackedMessagesComeBack(t *testing.T) {
	want := bytes.Repeat([]byte("to be packed "), 10_000)
	packed, err := Pack(mem.BufferSlice{mem.SliceBuffer(want[:7]), mem.SliceBuffer(want[7:])}, mem.DefaultBufferPool())
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Free()
	all := packed.Materialize()
	if len(all) > len(want)/10 {
		t.Errorf("%d bytes were packed into %d", len(want), len(all))
	}
	for _, cut := range []int{0, 1, 9} {
		r, err := NewReader(bytes.NewReader(all[:len(all)-cut]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if whole := cut == 0; r.AtEnd() != whole || (err == nil) != whole || whole && !bytes.Equal(got, want) {
			t.Errorf("without the last %d bytes: %d bytes with %v, at the end: %v", cut, len(got), err, r.AtEnd())
		}
		r.Release()
	}
}

package packing

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/grpc/mem"

	"github.com/culvert-grpc/culvert/bridge/internal/quota"
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

// TestEmptyBodyIsNotPacked: nothing has no coding, also if the header names one.
func TestEmptyBodyIsNotPacked(t *testing.T) {
	use := new(quota.Call)
	if got, err := io.ReadAll(NewBody(bytes.NewReader(nil), use, 1000)); len(got) > 0 || err != nil {
		t.Errorf("an empty body gave %q and %v", got, err)
	}
	cut := errors.New("cut")
	if _, err := io.ReadAll(NewBody(iotest.ErrReader(cut), use, 1000)); !errors.Is(err, cut) {
		t.Errorf("a cut before the first byte gave %v", err)
	}
	if _, err := io.ReadAll(NewBody(strings.NewReader("\x1f"), use, 1000)); err == nil {
		t.Error("a body of one byte passed as gzip")
	}
}

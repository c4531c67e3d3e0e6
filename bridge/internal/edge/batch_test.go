package edge

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc/mem"
)

// writes is a connection that remembers what is written to it.
type writes struct {
	net.Conn
	all [][]byte
	err error
}

func (w *writes) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	w.all = append(w.all, bytes.Clone(p))
	return len(p), nil
}

func TestBatchGoesOutInOrderAndTogether(t *testing.T) {
	w := &writes{}
	var b batch
	put := func(p []byte) {
		t.Helper()
		if n, err := b.write(w, p); n != len(p) || err != nil {
			t.Fatalf("write returned %d and %v, want %d and nil", n, err, len(p))
		}
	}
	put([]byte("at once"))
	b.hold(mem.DefaultBufferPool())
	put([]byte("a"))
	b.hold(mem.DefaultBufferPool()) // again, for the next message
	put([]byte("b"))
	if got := bytes.Join(w.all, nil); string(got) != "at once" {
		t.Errorf("%q was written beside a batch, want what came before it", got)
	}
	large := bytes.Repeat([]byte("l"), maxBatchBytes)
	put(large) // is too much, and goes out behind what was held
	put([]byte("c"))
	if err := b.end(w); err != nil {
		t.Fatal(err)
	}
	put([]byte("d"))
	if got, want := bytes.Join(w.all, nil), "at onceab"+string(large)+"cd"; string(got) != want {
		t.Errorf("%d bytes were written, want %d, or they differ", len(got), len(want))
	}
	if got, want := len(w.all), 5; got != want { // the two of net.Buffers are one on TCP
		t.Errorf("there were %d writes, want %d", got, want)
	}
	if err := b.end(w); err != nil || len(w.all) != 5 {
		t.Errorf("an end without a batch wrote something, or returned %v", err)
	}
}

func TestBatchTellsThatAWriteFailed(t *testing.T) {
	w := &writes{err: io.ErrClosedPipe}
	var b batch
	b.hold(mem.DefaultBufferPool())
	if n, err := b.write(w, []byte("held")); n != 4 || err != nil {
		t.Fatalf("write returned %d and %v, want 4 and nil", n, err)
	}
	if n, err := b.write(w, make([]byte, maxBatchBytes)); n != 0 || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("write returned %d and %v, want 0 and %v", n, err, io.ErrClosedPipe)
	}
	b.hold(mem.DefaultBufferPool())
	if _, err := b.write(w, []byte("held")); err != nil {
		t.Fatal(err)
	}
	if err := b.end(w); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("end returned %v, want %v", err, io.ErrClosedPipe)
	}
}

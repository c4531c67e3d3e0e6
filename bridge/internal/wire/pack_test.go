package wire

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"google.golang.org/grpc/encoding"
	grpcgzip "google.golang.org/grpc/encoding/gzip"
)

// pack packs as grpc-go does for a call with gzip.
func pack(tb testing.TB, w io.Writer, b []byte) {
	tb.Helper()
	z, err := encoding.GetCompressor(grpcgzip.Name).Compress(w)
	if err == nil {
		_, err = z.Write(b)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// TestRequestsArePackedFast: a client that chooses the bytes doesn't choose how long
// packing them for the backend takes.
func TestRequestsArePackedFast(t *testing.T) {
	var out bytes.Buffer
	want := zerosAndOnes(100_000)
	pack(t, &out, want)
	if got := out.Bytes()[8]; got != 4 { // XFL, RFC 1952 §2.3.1: the fastest algorithm
		t.Errorf("a message to the backend is packed with XFL %d, want 4", got)
	}
	z, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes expand to %d, %v", len(want), len(got), err)
	}
}

// zerosAndOnes are bytes of these values in no order: each has thousands of matches
// before it that are nearly as long as the best.
func zerosAndOnes(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(2))
	}
	return b
}

// BenchmarkGzip is what a byte costs that comes in compressed: to expand it, and to
// pack it again for the backend. The default limits of expansion follow from it.
func BenchmarkGzip(b *testing.B) {
	const size = 4 << 20
	orders := new(bytes.Buffer)
	for r := rand.New(rand.NewPCG(3, 4)); orders.Len() < size; {
		fmt.Fprintf(orders, "\x0a\x24%016x-%016x\x12\x05alice\x18%c\x22\x10order-%d", r.Uint64(), r.Uint64(), r.IntN(256), r.IntN(1e6))
	}
	for name, plain := range map[string][]byte{"zeros": make([]byte, size), "orders": orders.Bytes()[:size], "zeros and ones": zerosAndOnes(size)} {
		var packed bytes.Buffer
		pack(b, &packed, plain)
		b.Run(name, func(b *testing.B) {
			z := new(gzip.Reader)
			b.SetBytes(size)
			for b.Loop() {
				if err := z.Reset(bytes.NewReader(packed.Bytes())); err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, z); err != nil {
					b.Fatal(err)
				}
				pack(b, io.Discard, plain)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/byte")
			b.ReportMetric(float64(size)/float64(packed.Len()), "ratio")
		})
	}
}

// TestGzipInEverySpelling: gzip is found by every spelling of its name, and by none
// that only looks like one. Whatever it is found by, it has one name.
func TestGzipInEverySpelling(t *testing.T) {
	for _, name := range []string{"gzip", "GZIP", "gZiP", "x-gzip", "X-Gzip", "X-GZIP"} {
		if c := encoding.GetCompressor(name); c == nil || c.Name() != grpcgzip.Name {
			t.Errorf("%q isn't gzip: %v", name, c)
		}
	}
	for _, name := range []string{"", "identity", "gzi", "xgzip", "x-gzi\u017a"} {
		if encoding.GetCompressor(name) != nil {
			t.Errorf("%q is a coding", name)
		}
	}
}

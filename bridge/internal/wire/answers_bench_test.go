package wire

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// BenchmarkAnswers is the cost of a unary answer's two header blocks and its message, as
// grpc-go's server sends them.
func BenchmarkAnswers(b *testing.B) {
	var out, block bytes.Buffer
	framer, enc := http2.NewFramer(&out, nil), hpack.NewEncoder(&block)
	answer := func() []byte {
		out.Reset()
		headers := func(end bool, fields ...hpack.HeaderField) {
			block.Reset()
			for _, f := range fields {
				_ = enc.WriteField(f) // to memory
			}
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: end, EndHeaders: true})
		}
		headers(false, hpack.HeaderField{Name: ":status", Value: "200"}, hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
		_ = framer.WriteData(1, false, framed(0, pattern(50)))
		headers(true, hpack.HeaderField{Name: "grpc-status", Value: "0"}, hpack.HeaderField{Name: "grpc-message", Value: ""})
		return bytes.Clone(out.Bytes())
	}
	a := answers{left: func(string) {}, most: 16 << 10}
	p := make([]byte, 32<<10)
	next := answer()
	read := func(p []byte) (int, error) { return copy(p, next), nil }
	_, _ = a.read(p, read) // it never fails here
	a.found = fifo[*verdict]{}
	next = answer()
	b.ReportAllocs()
	for b.Loop() {
		if n, _ := a.read(p, read); n != len(next) {
			b.Fatal(n)
		}
		for range 2 { // the connection takes them
			a.found.pop()
		}
	}
}

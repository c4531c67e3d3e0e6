package check

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	bounded "github.com/culvert-grpc/culvert/auth/internal/cache"
)

// A key stands for all questions that have the same answer: the SHA-256 of everything that
// the answer may depend on. Credentials themselves aren't kept.
type key = bounded.Key

const maxKeyBuffer = 16 << 10 // to be used again

var keyBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 2<<10)
	return &b
}}

// keyOf returns the key of a question about r with the metadata of the names. Each part has
// its length before it and each list its count, so no two questions have the same bytes.
func keyOf(r *Request, names []string) key {
	buf := keyBuffers.Get().(*[]byte)
	b := (*buf)[:0]
	for _, part := range [...]string{r.Method, r.Authority, r.Scheme, r.SNI, r.Route} {
		b = appendPart(b, part)
	}
	b = append(b, r.CertificateHash[:]...)
	b = appendPart(b, string(r.Peer.Addr().Unmap().AsSlice())) // many policies look at it, and none at the port
	b = binary.AppendUvarint(b, uint64(len(r.Principals)))
	for _, p := range r.Principals {
		b = appendPart(b, p)
	}
	for _, name := range names { // the same for all questions of a Checker
		values := r.Metadata[name]
		b = binary.AppendUvarint(b, uint64(len(values)))
		for _, v := range values {
			b = appendPart(b, v)
		}
	}
	sum := sha256.Sum256(b)
	clear(b) // it held credentials
	if cap(b) <= maxKeyBuffer {
		*buf = b
		keyBuffers.Put(buf)
	}
	return sum
}

func appendPart(b []byte, part string) []byte {
	b = binary.AppendUvarint(b, uint64(len(part)))
	return append(b, part...)
}

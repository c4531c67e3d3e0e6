package check

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"

	bounded "github.com/culvert-grpc/culvert/auth/internal/cache"
)

// A key stands for all questions that have the same answer: the SHA-256 of everything that
// the answer may depend on. Credentials themselves aren't kept.
type key = bounded.Key

const maxKeyBuffer = 16 << 10 // to be used again

var keyBuffers = sync.Pool{New: func() any { return new(make([]byte, 0, 2<<10)) }}

// keyOf returns the key of a question about r with the metadata of the names. Each part has
// its length before it and each list its count, so no two questions have the same bytes.
func keyOf(r *Request, names []string) key {
	buf := keyBuffers.Get().(*[]byte)
	b := (*buf)[:0]
	for _, part := range [...]string{r.Method, r.Authority, r.Scheme, r.SNI, r.Route} {
		b = appendPart(b, part)
	}
	b = append(b, r.CertificateHash[:]...)
	b = appendAddr(b, r.Peer.Addr()) // many policies look at it, and none at the port
	b = appendAddr(b, r.Local.Addr())
	b = binary.AppendUvarint(b, uint64(r.Local.Port())) // it tells listeners apart
	b = appendParts(b, r.Principals)
	for _, name := range names { // the same for all questions of a Checker
		b = appendParts(b, r.Metadata[name])
	}
	sum := sha256.Sum256(b)
	clear(b) // it held credentials
	if cap(b) <= maxKeyBuffer {
		*buf = b
		keyBuffers.Put(buf)
	}
	return sum
}

// Credentials returns a key of the credentials that a question about r has: of the client's
// certificate, and of metadata that may hold a secret. It reports false if there are none.
func (c *Checker) Credentials(r *Request) (k bounded.Key, has bool) {
	var room [8]string
	names := room[:0]
	for name := range r.selected(c.o.Names) {
		if holdsSecret(name, c.o.Secrets) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var most [1024]byte // most are short enough for the stack
	b := append(most[:0], r.CertificateHash[:]...)
	for _, name := range names {
		b = appendParts(appendPart(b, name), r.Metadata[name])
	}
	return sha256.Sum256(b), len(names) > 0 || r.CertificateHash != [sha256.Size]byte{}
}

// appendAddr appends an address with its zone: the same link-local address is another host's in
// another one.
func appendAddr(b []byte, a netip.Addr) []byte {
	b = appendPart(b, string(a.Unmap().AsSlice()))
	return appendPart(b, a.Zone())
}

func appendPart(b []byte, part string) []byte {
	b = binary.AppendUvarint(b, uint64(len(part)))
	return append(b, part...)
}

func appendParts(b []byte, parts []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for _, part := range parts {
		b = appendPart(b, part)
	}
	return b
}

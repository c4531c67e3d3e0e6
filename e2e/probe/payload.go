package probe

import (
	"bytes"
	"math/rand/v2"
)

// MaxPayload is the longest payload that Payload makes.
const MaxPayload = 32 << 20

// block is incompressible, so that no layer can make a transfer cheaper than it
// looks, and the same in every process.
var block = func() []byte {
	b := make([]byte, 1<<20+4096)
	_, _ = rand.NewChaCha8([32]byte{'p', 'r', 'o', 'b', 'e'}).Read(b) // never fails
	return b
}()

// Payload returns the size bytes that the message number sequence of a call
// carries. Messages next to each other differ, so that a lost, doubled or
// swapped one shows. The result is shared and must not be changed.
func Payload(sequence uint64, size int) []byte {
	at := int(sequence % 4096)
	if size <= 1<<20 {
		return block[at : at+size]
	}
	b := make([]byte, 0, size)
	for len(b) < size {
		b = append(b, block[at:at+min(1<<20, size-len(b))]...)
	}
	return b
}

// SamePayload reports whether b is the payload of the message number sequence.
func SamePayload(sequence uint64, b []byte) bool {
	return bytes.Equal(b, Payload(sequence, len(b)))
}

package bridge

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
)

// requestID returns the id that a request has from its client, or a new one.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); saneID(id) {
		return id
	}
	return newID()
}

// newID makes a call's id. The id must be unique but isn't secret, so it costs no
// system call.
func newID() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], rand.Uint64()) //nolint:gosec // see above
	return hex.EncodeToString(b[:])
}

// saneID reports whether an id is safe to log, to send in a header and as one part of a URL's
// path. "." and ".." aren't: clients remove them from a path. RFC 3986 §5.2.4.
func saneID(id string) bool {
	if id == "" || id == "." || id == ".." || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

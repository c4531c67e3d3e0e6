package frame

import (
	"bytes"
	"testing"

	"golang.org/x/net/http2"
)

// FuzzFollower: a Follower is between two frames exactly where First finds whole ones, wherever the
// bytes are cut.
func FuzzFollower(f *testing.F) {
	ping := append([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0}, "12345678"...)
	settings := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	f.Add(bytes.Join([][]byte{settings, ping, settings}, nil), 12)
	f.Add(ping, 8)
	f.Add([]byte{0xff, 0xff, 0xff, 0}, 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = min(max(cut, 0), len(b))
		var follower Follower
		follower.Pass(b[:cut])
		follower.Pass(b[cut:])
		rest, seen := b, map[http2.FrameType]bool{}
		for whole := First(rest); whole != nil; whole = First(rest) {
			if len(whole) != HeaderBytes+Length(whole) || !bytes.HasPrefix(rest, whole) {
				t.Fatalf("First(%x) is %x", rest, whole)
			}
			seen[http2.FrameType(whole[3])] = true
			rest = rest[len(whole):]
		}
		if len(rest) >= HeaderBytes {
			seen[http2.FrameType(rest[3])] = true
		}
		for kind := range http2.FrameContinuation + 1 {
			if got := follower.Seen(kind); got != seen[kind] {
				t.Errorf("%x cut at %d: %v was seen: %t, want %t", b, cut, kind, got, seen[kind])
			}
		}
		if got, want := follower.Between(), len(rest) == 0; got != want {
			t.Errorf("%x cut at %d: between two frames: %t, want %t", b, cut, got, want)
		}
	})
}

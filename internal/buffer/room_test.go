package buffer

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
)

func TestWithRoomKeepsWhatIsHeld(t *testing.T) {
	pool := mem.NewTieredBufferPool(4, 16, 64)
	var buf *[]byte
	var want []byte
	for i := range 100 {
		more := bytes.Repeat([]byte{byte(i)}, i%7)
		buf = WithRoom(pool, buf, len(more))
		*buf = append(*buf, more...)
		want = append(want, more...)
		if !bytes.Equal(*buf, want) || Len(buf) != len(want) {
			t.Fatalf("after %d pieces: %v, want %v", i+1, *buf, want)
		}
	}
}

package bridge

import (
	"strconv"
	"testing"
	"unsafe"
)

// TestCallFitsIntoItsSize: Go's allocator gives a call 896 bytes, of which 8 are its own. One
// field more than that, and each call takes 1,024.
func TestCallFitsIntoItsSize(t *testing.T) {
	if got, want := unsafe.Sizeof(call{}), uintptr(896-8); strconv.IntSize == 64 && got > want {
		t.Errorf("a call has %d bytes, want at most %d", got, want)
	}
}

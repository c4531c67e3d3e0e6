package bridge

import (
	"strconv"
	"testing"
	"unsafe"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// TestRecordsFitIntoTheirSizes: Go's allocator has fixed sizes, and takes 8 bytes of one above 512
// for itself. One field more than fits, and each call takes up to 128 bytes more.
func TestRecordsFitIntoTheirSizes(t *testing.T) {
	for name, size := range map[string]struct{ got, want uintptr }{
		"call":       {unsafe.Sizeof(call{}), 896 - 8},
		"CallInfo":   {unsafe.Sizeof(report.CallInfo{}), 352},
		"grpcStream": {unsafe.Sizeof(grpcStream{}), 384},
	} {
		if strconv.IntSize == 64 && size.got > size.want {
			t.Errorf("%s has %d bytes, want at most %d", name, size.got, size.want)
		}
	}
}

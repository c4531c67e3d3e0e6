package parts

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// ErrorInfo returns the one ErrorInfo of a status.
func ErrorInfo(t testing.TB, st *status.Status) *errdetails.ErrorInfo {
	t.Helper()
	if details := st.Details(); len(details) == 1 {
		if info, ok := details[0].(*errdetails.ErrorInfo); ok {
			return info
		}
	}
	t.Errorf("the status %v has the details %v, want one ErrorInfo", st, st.Details())
	return &errdetails.ErrorInfo{}
}

// WantUsed compares the bytes of messages that an account counts. A *memory.Account is
// one.
func WantUsed(t testing.TB, account interface{ Used() int64 }, want int64) {
	t.Helper()
	if got := account.Used(); got != want {
		t.Errorf("%d bytes are counted, want %d", got, want)
	}
}

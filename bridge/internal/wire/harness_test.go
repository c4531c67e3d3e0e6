package wire

import (
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// Helpers that several packages share, by short names.
var (
	framed  = parts.Framed
	pattern = parts.Pattern
	poll    = parts.Poll
)

func await[T any](t testing.TB, what string, event <-chan T) T {
	t.Helper()
	return parts.Await(t, what, event)
}

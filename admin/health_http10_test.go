package admin

import (
	"log/slog"
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts"
)

func TestHTTP10EndsItsConnection(t *testing.T) {
	parts.WantHTTP10Ends(t, new(Health).Server(slog.New(slog.DiscardHandler), nil), "/livez", "/readyz", "/none")
}

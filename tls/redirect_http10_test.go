package proxytls

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/culvert-grpc/culvert/internal/parts"
)

func TestRedirectEndsConnectionsOfHTTP10(t *testing.T) {
	s := RedirectServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler)) // as one that answers a CA
	parts.WantHTTP10Ends(t, s, "/.well-known/acme-challenge/x", "/none")
}

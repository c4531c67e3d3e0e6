package webhook

import (
	"log/slog"
	"net/http"

	"github.com/culvert-grpc/culvert/kubernetes/inject"
)

// NewHandler returns the handler of both paths, without a server.
func NewHandler(c *inject.Config, log *slog.Logger) http.Handler {
	return newHandler(c, log, newMetrics("", nil)).paths()
}

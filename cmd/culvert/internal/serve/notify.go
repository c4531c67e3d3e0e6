package serve

import (
	"context"
	"log/slog"

	"github.com/culvert-grpc/culvert/cmd/culvert/internal/sockets"
)

// notify sends the state of this service to systemd, if systemd asked for it.
// The service works without it, so notify only logs an error.
func notify(ctx context.Context, log *slog.Logger, state string) {
	if err := sockets.Notify(ctx, state); err != nil {
		log.Warn("can't notify systemd", "state", state, "cause", err.Error())
	}
}

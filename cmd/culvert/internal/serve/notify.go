package serve

import (
	"context"
	"log/slog"
	"net"
	"os"
)

// notify sends the state of this service to systemd, if systemd asked for it.
// The service works without it, so notify only logs an error.
func notify(ctx context.Context, log *slog.Logger, state string) {
	if err := send(ctx, state); err != nil {
		log.Warn("can't notify systemd", "state", state, "cause", err.Error())
	}
}

// send sends a state as sd_notify does.
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
func send(ctx context.Context, state string) error {
	name := os.Getenv("NOTIFY_SOCKET") // a path, or @ and an abstract name; net takes both
	if name == "" {
		return nil
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unixgram", name)
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	_ = conn.Close() // a datagram has left with Write, or not at all
	return err
}

package sockets

import (
	"context"
	"net"
	"os"
)

// Notify sends a state to systemd, as sd_notify does, if systemd asked for it.
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
func Notify(ctx context.Context, state string) error {
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

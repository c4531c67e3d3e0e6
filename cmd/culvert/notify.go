package main

import (
	"context"
	"net"
	"os"
)

// notify tells systemd about the state of this service, where there is a
// systemd that asked to be told. An error is only for the log: the service
// works without.
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
func notify(ctx context.Context, state string) error {
	name := os.Getenv("NOTIFY_SOCKET") // a path, or @ and an abstract name: as net takes both
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

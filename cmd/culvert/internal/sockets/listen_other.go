//go:build !unix

package sockets

import (
	"context"
	"net"
	"syscall"
)

// ErrRefused is the error of a socket on which no process listens:
// WSAECONNREFUSED.
const ErrRefused = syscall.Errno(10061)

// listenPrivately binds a socket. The access rules of its directory apply.
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}

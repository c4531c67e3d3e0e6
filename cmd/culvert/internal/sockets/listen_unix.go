//go:build unix

package sockets

import (
	"context"
	"net"
	"syscall"
)

// ErrRefused is the error of a socket on which no process listens.
const ErrRefused = syscall.ECONNREFUSED

// listenPrivately binds a socket that only its owner can connect to, from the
// first moment. Other files that the program creates at the same time get the
// same mode, which does no harm.
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o177))
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}

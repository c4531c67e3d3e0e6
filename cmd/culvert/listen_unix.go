//go:build unix

package main

import (
	"context"
	"net"
	"syscall"
)

// errConnRefused is what a socket says that nobody listens on.
const errConnRefused = syscall.ECONNREFUSED

// listenPrivately binds a socket that only its owner can connect to from the
// first moment on. Other files that the program makes meanwhile are private,
// too: no harm.
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	defer syscall.Umask(syscall.Umask(0o177))
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}

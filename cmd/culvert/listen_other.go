//go:build !unix

package main

import (
	"context"
	"net"
	"syscall"
)

// errConnRefused is what a socket says that nobody listens on: WSAECONNREFUSED.
const errConnRefused = syscall.Errno(10061)

// listenPrivately binds a socket. Its directory's access rules count.
func listenPrivately(ctx context.Context, path string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "unix", path)
}

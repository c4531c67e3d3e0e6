//go:build !unix

package main

import (
	"errors"
	"net"
)

// openPassed returns an error: only systems of the Unix family pass sockets.
func openPassed(int) (net.Listener, error) {
	return nil, errors.New("can't be taken on this system: remove LISTEN_FDS")
}

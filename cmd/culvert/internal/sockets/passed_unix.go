//go:build unix

package sockets

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/culvert-grpc/culvert/bridge"
)

// Why a passed descriptor can't be used. Each continues a sentence about it.
var (
	errNotOpen   = errors.New("isn't open: the supervisor must pass as many sockets as LISTEN_FDS says")
	errNotSocket = errors.New("isn't a socket: the supervisor must pass listening sockets only")
	errNotStream = errors.New("isn't a stream socket, such as TCP: use ListenStream= in place of ListenDatagram=")
	errNoListen  = errors.New("doesn't listen: the supervisor must pass the listening socket, not a connection (Accept=no)")
)

// openPassed returns the listener of a descriptor from the supervisor. Children
// don't inherit the descriptor, and the end of the listener leaves the file of a
// unix socket.
func openPassed(fd int) (net.Listener, error) {
	if err := checkPassed(fd); err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "")
	ln, err := net.FileListener(file) // a duplicate with close-on-exec
	_ = file.Close()                  // the listener has its own
	if err != nil {
		return nil, errors.New("has a protocol that culvert doesn't have: use TCP or a unix socket")
	}
	if tcp, ok := ln.(*net.TCPListener); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			if control := bridge.ListenConfig().Control; control != nil {
				_ = control("tcp", "", raw) // only saves system calls for each connection
			}
		}
	}
	return ln, nil
}

// ownedByUs reports whether a file is root's or culvert's user's.
func ownedByUs(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && (s.Uid == 0 || s.Uid == uint32(os.Geteuid()))
}

// checkPassed looks at a descriptor before culvert owns it: a wrong number may
// be that of a file of the Go runtime.
func checkPassed(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case errors.Is(err, unix.EBADF):
		return errNotOpen
	case err != nil:
		return errNotSocket
	case kind != unix.SOCK_STREAM:
		return errNotStream
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return errNoListen
	}
	return nil
}

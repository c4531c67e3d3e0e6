package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

var (
	errSocketServed = errors.New("another process uses this socket")
	errNoSocket     = errors.New("a file of this name exists and is not a socket")
)

// maxUnixPath is how long the system lets the path of a unix socket be, in bytes.
const maxUnixPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// ListenUnix creates a unix socket. It creates the socket under a temporary
// name in the same directory, sets its mode, and renames it. So no client that
// the mode excludes can connect at any time. It replaces a socket on which no
// process listens.
func ListenUnix(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if err := socketFree(ctx, path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if over := len(temporary) - maxUnixPath; over > 0 {
		return nil, fmt.Errorf("%s: the path of a unix socket may have at most %d bytes here, and this one has %d", path, len(path)-over, len(path))
	}
	_ = os.Remove(temporary) // left by a process with the same ID
	ln, err := listenPrivately(ctx, temporary)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, Cause(err))
	}
	unix, _ := ln.(*net.UnixListener) // always, for the network "unix"
	unix.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, mode)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	var info fs.FileInfo
	if err == nil {
		info, err = os.Lstat(path) // another process may have removed it
	}
	if err != nil {
		_ = os.Remove(temporary) // unless it has its name
		_ = ln.Close()           // no client knows of it
		return nil, fmt.Errorf("%s: %w", path, Cause(err))
	}
	return &socket{UnixListener: unix, path: path, info: info}, nil
}

// socketPatience limits how long a process that uses the socket may take to
// accept.
const socketPatience = time.Second

// socketFree returns an error if a socket of that name can't be created.
func socketFree(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return Cause(err)
	case info.Mode().Type() != fs.ModeSocket:
		return errNoSocket
	}
	conn, err := (&net.Dialer{Timeout: socketPatience}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close() // the connection was only a test
		return errSocketServed
	}
	if errors.Is(Cause(err), ErrRefused) {
		return nil // left by a process that ended
	}
	return Cause(err)
}

// A socket is a listener on a unix socket. When it closes, it removes the
// file, unless the file belongs to another socket by then.
type socket struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

// Close also removes the file.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.info) {
		_ = os.Remove(s.path) // a directory that became read-only: the next start replaces it
	}
	return s.UnixListener.Close()
}

// Addr returns the final path, and not the temporary name.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

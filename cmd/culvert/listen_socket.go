package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

var (
	errSocketServed = errors.New("another process uses this socket")
	errNoSocket     = errors.New("a file of this name exists and is not a socket")
)

// listenSocket makes a socket in the file system. It is made under a name of
// its own beside its place and moved there with its mode set, so that at no
// time anybody connects whom the mode keeps out. A socket that nobody serves
// any more is replaced.
func listenSocket(ctx context.Context, path string, mode fs.FileMode) (net.Listener, error) {
	if err := socketFree(ctx, path); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(temporary) // of a process that had this id
	ln, err := listenPrivately(ctx, temporary)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, listenCause(err))
	}
	unix, _ := ln.(*net.UnixListener) // what the network "unix" gives
	unix.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, mode)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		_ = os.Remove(temporary)
		_ = ln.Close() // nobody knows of it
		return nil, fmt.Errorf("%s: %w", path, cause(err))
	}
	info, err := os.Lstat(path)
	if err != nil {
		_ = ln.Close() // somebody took it away at once
		return nil, fmt.Errorf("%s: %w", path, cause(err))
	}
	return &socket{UnixListener: unix, path: path, info: info}, nil
}

// socketPatience is how long whoever serves a socket may take to accept.
const socketPatience = time.Second

// socketFree says what stands in the way of a socket of that name.
func socketFree(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return cause(err)
	case info.Mode().Type() != fs.ModeSocket:
		return errNoSocket
	}
	conn, err := (&net.Dialer{Timeout: socketPatience}).DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close() // that it is there is all that was asked
		return errSocketServed
	}
	if errors.Is(listenCause(err), errConnRefused) {
		return nil // left behind by a process that is gone
	}
	return listenCause(err)
}

// A socket is a listener in the file system that takes its name away when it
// closes, unless it is another's by now.
type socket struct {
	*net.UnixListener
	path string
	info fs.FileInfo
}

// Close also removes the name.
func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.info) {
		_ = os.Remove(s.path) // a directory that became read-only: the next start replaces it
	}
	return s.UnixListener.Close()
}

// Addr is the place, not the name that the socket was bound by.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// cause drops the name of the file from an error that will be said with it.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

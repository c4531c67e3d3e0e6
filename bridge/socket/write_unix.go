//go:build unix

package socket

import (
	"errors"
	"net"
	"syscall"
)

// TryWriter returns a function that writes as much to a socket as it accepts at once,
// or nil if the connection is more than a socket.
func TryWriter(nc net.Conn) func([]byte) (int, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil // closed
	}
	w := &rawWriter{raw: raw}
	w.once = w.write
	return w.try
}

// A rawWriter keeps the state of a write, so that a write allocates nothing.
type rawWriter struct {
	raw  syscall.RawConn
	once func(fd uintptr) bool
	p    []byte
	n    int
	err  error
}

func (w *rawWriter) try(p []byte) (int, error) {
	w.p, w.n, w.err = p, 0, nil
	err := w.raw.Write(w.once)
	w.p = nil
	if err == nil {
		err = w.err
	}
	return w.n, err
}

func (w *rawWriter) write(fd uintptr) bool {
	for {
		n, err := syscall.Write(int(fd), w.p)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if !errors.Is(err, syscall.EAGAIN) {
			w.n, w.err = max(n, 0), err
		}
		return true // in any case: this doesn't wait
	}
}

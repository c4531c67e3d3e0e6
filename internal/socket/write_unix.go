//go:build unix

package socket

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// WritesLate reports whether WriteLate can continue a write to the connection.
func WritesLate(c net.Conn) bool { return Plain(c) != nil }

// WriteLate continues a write that has ended with n and err, if its deadline had passed: a
// deadline bounds how long a write waits for the peer, not when it may begin. On a busy
// machine a write can begin late although the peer reads. So WriteLate sends what the socket
// accepts at once, and returns the results for the whole write. It works for plain sockets:
// TLS must call it for the connection underneath.
func WriteLate(c net.Conn, p []byte, n int, err error) (int, error) {
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	return writeRest(c, p, n, err)
}

// writeRest is WriteLate behind its condition, which is all that most writes need: what it
// keeps on the heap costs the others nothing.
func writeRest(c net.Conn, p []byte, n int, err error) (int, error) {
	raw := rawConn(Plain(c))
	if raw == nil {
		return n, err
	}
	late := err
	controlErr := raw.Control(func(fd uintptr) { // RawConn.Write would heed the deadline
		w := rawWriter{p: p}
		for late != nil && n < len(p) {
			w.p, w.n, w.err = p[n:], 0, nil
			if w.write(fd); w.n == 0 {
				return
			}
			n += w.n
		}
		late = nil
	})
	if controlErr != nil {
		return n, err // it is closed
	}
	return n, late
}

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

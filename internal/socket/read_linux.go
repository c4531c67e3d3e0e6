package socket

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"
)

// A Reader reads a socket and holds no buffer while it waits. One goroutine at a time
// uses it.
type Reader struct {
	raw  syscall.RawConn
	pool mem.BufferPool
	try  func(fd uintptr) bool // r.readNow, made once
	got  *[]byte
	err  error
}

// readBytes is how much one read may return.
const readBytes = 32 << 10

// NewReader returns nil for a connection without a Plain socket: its bytes can't be
// read past the wrapper.
func NewReader(c net.Conn, pool mem.BufferPool) *Reader {
	raw := rawConn(Plain(c))
	if raw == nil {
		return nil
	}
	r := &Reader{raw: raw, pool: pool}
	r.try = r.readNow
	return r
}

// Read waits for bytes, until the connection's read deadline. It returns a buffer
// from the pool with at least one byte, which the caller puts back, or an error:
// io.EOF at the end.
func (r *Reader) Read() (*[]byte, error) {
	r.got, r.err = nil, nil
	if err := r.raw.Read(r.try); err != nil {
		return nil, err
	}
	return r.got, r.err
}

// readNow returns false when there is nothing to read yet.
func (r *Reader) readNow(fd uintptr) bool {
	buf := r.pool.Get(readBytes)
	n, err := unix.Read(int(fd), *buf)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(int(fd), *buf)
	}
	if n > 0 {
		*buf = (*buf)[:n]
		r.got = buf
		return true
	}
	r.pool.Put(buf)
	if errors.Is(err, unix.EAGAIN) {
		return false
	}
	if r.err = err; err == nil {
		r.err = io.EOF
	}
	return true
}

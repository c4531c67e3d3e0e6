package bridge

import (
	"cmp"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"
)

// A socketOption is what setsockopt(2) takes.
type socketOption struct{ level, name, value int }

// withOptions sets options on a socket before it connects or listens. A unix
// socket, and a kernel that hasn't one of them, does without.
func withOptions(options ...socketOption) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var setErr error
		err := c.Control(func(fd uintptr) {
			for _, o := range options {
				err := unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
				if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOPROTOOPT) {
					setErr = cmp.Or(setErr, err)
				}
			}
		})
		return cmp.Or(err, setErr)
	}
}

// controlUserTimeout bounds how long sent bytes may stay unacknowledged.
// RFC 5482.
func controlUserTimeout(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return withOptions(socketOption{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())})
}

func setUserTimeout(c net.Conn, d time.Duration) {
	if raw := rawConn(c); raw != nil {
		_ = controlUserTimeout(d)("", "", raw) // a unix socket has no such option
	}
}

// probeArrivals sets on a socket that will listen the keep-alive that watchTCP
// sets on each connection: those that it accepts begin with it.
var probeArrivals = withOptions(
	socketOption{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	socketOption{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(keepAliveIdle.Seconds())},
	socketOption{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(keepAliveEvery.Seconds())},
	socketOption{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveCount},
)

// beganProbing looks whether a connection came through probeArrivals: nothing
// else sets this time and this number.
func beganProbing(c *net.TCPConn) bool {
	raw := rawConn(c)
	if raw == nil {
		return false
	}
	count, every := 0, 0
	_ = raw.Control(func(fd uintptr) { // an error: it is closed
		count, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
		every, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
	})
	return count == keepAliveCount && every == int(keepAliveEvery.Seconds())
}

// peerHungUp looks, without reading, whether the peer has closed or reset
// the connection.
func peerHungUp(c net.Conn) bool {
	raw := rawConn(c)
	if raw == nil {
		return false
	}
	gone := false
	_ = raw.Control(func(fd uintptr) { // an error: the connection is closed here
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(fds, 0)
		gone = err == nil && n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLERR|unix.POLLHUP) != 0
	})
	return gone
}

// peerSilent looks whether the peer has left probes or retransmissions
// unanswered for the time. A peer that reads nothing still answers them.
func peerSilent(c net.Conn, d time.Duration) bool {
	raw := rawConn(c)
	if raw == nil {
		return false
	}
	silent := false
	_ = raw.Control(func(fd uintptr) { // an error: the connection is closed here
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		// Five retransmissions are more than 6 s: no hiccup. Nor are
		// two probes in a row, and a third may be long in coming: the longer a
		// client has read nothing, the more time lies between the probes of its
		// closed window.
		silent = err == nil && (info.Probes >= 2 || info.Retransmits >= 5) &&
			time.Duration(info.Last_ack_recv)*time.Millisecond >= d
	})
	return silent
}

// bytesAcked is how much of what was sent the peer has acknowledged.
func bytesAcked(c net.Conn) uint64 {
	raw := rawConn(c)
	if raw == nil {
		return 0
	}
	acked := uint64(0)
	_ = raw.Control(func(fd uintptr) { // an error: the connection is closed here
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			acked = info.Bytes_acked
		}
	})
	return acked
}

// queueEmpty looks whether a listener's kernel holds no connection that is
// still to be accepted.
func queueEmpty(ln *boundedListener) bool {
	tcp, ok := ln.Listener.(*net.TCPListener)
	if !ok {
		return true
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	empty := true
	_ = raw.Control(func(fd uintptr) { // an error: the listener is closed
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			empty = info.Unacked == 0 // of a listener: the queue's length
		}
	})
	return empty
}

// writable looks whether a small write would be taken at once.
func writable(c net.Conn) bool {
	raw := rawConn(c)
	if raw == nil {
		return true
	}
	ready := false
	_ = raw.Control(func(fd uintptr) { // an error: the connection is closed here
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, 0)
		ready = err != nil || n > 0 && fds[0].Revents == unix.POLLOUT // one that was reset takes nothing
	})
	return ready
}

// awaitWritable waits until a small write would be taken at once, or for the
// write deadline.
func awaitWritable(c net.Conn) error {
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	return raw.Write(pollOut)
}

// refuseArrivals makes a listening socket drop what asks for a new connection,
// while handshakes under way end and the queue can be emptied. The program
// looks at the flags of the TCP header: SYN without ACK is dropped.
func refuseArrivals(ln *boundedListener) bool {
	tcp, ok := ln.Listener.(*net.TCPListener)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	const flags, syn, synAck, all = 13, 0x02, 0x12, 0xffffffff
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: synAck},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: syn},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: all},
	}
	refused := false
	_ = raw.Control(func(fd uintptr) { // an error: the listener is closed
		err := unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
		refused = err == nil
	})
	return refused
}

// A socketReader reads a socket and holds no buffer while it waits.
type socketReader struct {
	raw  syscall.RawConn
	pool mem.BufferPool
	try  func(fd uintptr) bool // r.readNow, made once
	got  *[]byte
	err  error
}

// readBytes is how much is read at once.
const readBytes = 32 << 10

// newSocketReader returns nil for what isn't a socket.
func newSocketReader(c net.Conn, pool mem.BufferPool) *socketReader {
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	r := &socketReader{raw: raw, pool: pool}
	r.try = r.readNow
	return r
}

// read waits for bytes, until the read deadline. The buffer is the pool's.
func (r *socketReader) read() (*[]byte, error) {
	r.got, r.err = nil, nil
	if err := r.raw.Read(r.try); err != nil {
		return nil, err
	}
	return r.got, r.err
}

// readNow returns false when there is nothing to read yet.
func (r *socketReader) readNow(fd uintptr) bool {
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

func pollOut(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n > 0
}

// descriptorOf is the number of a connection's file descriptor, or 0.
func descriptorOf(c net.Conn) int {
	number := 0
	if raw := rawConn(c); raw != nil {
		_ = raw.Control(func(fd uintptr) { number = int(fd) }) // an error: it is closed
	}
	return number
}

func fileDescriptorLimit() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<20 {
		return 1 << 20
	}
	return int(limit.Cur)
}

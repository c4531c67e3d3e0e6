package socket

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// HungUp looks, without reading, whether the peer has closed or reset the
// connection.
func HungUp(c net.Conn) bool {
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

// Silent looks whether the peer has left probes or retransmissions unanswered
// for the time. A peer that reads nothing still answers them.
func Silent(c net.Conn, d time.Duration) bool {
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

// BytesAcked is how much of what was sent the peer has acknowledged.
func BytesAcked(c net.Conn) uint64 {
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

// Writable looks whether a small write would be taken at once.
func Writable(c net.Conn) bool {
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

// AwaitWritable waits until a small write would be taken at once, or for the
// connection's write deadline, whose error it returns.
func AwaitWritable(c net.Conn) error {
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	return raw.Write(pollOut)
}

func pollOut(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n > 0
}

func descriptor(raw syscall.RawConn) int {
	number := 0
	if raw != nil {
		_ = raw.Control(func(fd uintptr) { number = int(fd) }) // an error: it is closed
	}
	return number
}

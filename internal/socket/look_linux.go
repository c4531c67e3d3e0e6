package socket

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// HungUp reports, without reading, whether the peer has closed or reset the
// connection.
func HungUp(c net.Conn) bool {
	return events(c, unix.POLLRDHUP)&(unix.POLLRDHUP|unix.POLLERR|unix.POLLHUP) != 0
}

// Readable reports whether bytes, or the connection's end, wait to be read.
func Readable(c net.Conn) bool { return events(c, unix.POLLIN) != 0 }

// events returns what the kernel says of the connection when it is asked for the events. It
// is 0 if nobody knows.
func events(c net.Conn, asked int16) (found int16) {
	control(c, func(fd uintptr) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: asked}}
		if _, err := unix.Poll(fds, 0); err == nil {
			found = fds[0].Revents
		}
	})
	return found
}

// Look asks the kernel which data the peer has acknowledged.
func Look(c net.Conn) (s Sight) {
	control(c, func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return // a unix socket
		}
		s = Sight{
			Known:       true,
			Acked:       info.Bytes_acked,
			Outstanding: info.Unacked > 0 || info.Notsent_bytes > 0,
			Probes:      int(info.Probes),
			Retransmits: int(info.Retransmits),
			Heard:       info.Segs_in,

			Acknowledged: time.Duration(info.Last_ack_recv) * time.Millisecond,
		}
	})
	return s
}

// Unacked reports whether data waits here to be sent, or for the peer to acknowledge it.
// It costs less than Look. If nobody knows, it may.
func Unacked(c net.Conn) (unacked bool) {
	control(c, func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		unacked = err != nil || n > 0
	})
	return unacked
}

// Sent returns how much of the sent data the peer has acknowledged, and how much is
// still on its way or waits here to be sent.
func Sent(c net.Conn) (acked, pending uint64) {
	control(c, func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		info, infoErr := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && infoErr == nil {
			acked, pending = info.Bytes_acked, uint64(n)
		}
	})
	return acked, pending
}

// Writable reports whether a small write would succeed at once.
func Writable(c net.Conn) bool {
	raw := rawConn(c)
	if raw == nil {
		return true
	}
	ready := false
	_ = raw.Control(func(fd uintptr) { // an error: the connection is closed here
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds, 0)
		ready = err != nil || n > 0 && fds[0].Revents == unix.POLLOUT // one that was reset accepts nothing
	})
	return ready
}

// AwaitWritable waits until a small write would succeed at once, or for the
// connection's write deadline, whose error it returns.
func AwaitWritable(c net.Conn) error {
	raw := rawConn(c)
	if raw == nil {
		return nil
	}
	err := raw.Write(pollOut)
	if errors.Is(err, os.ErrDeadlineExceeded) && Writable(c) {
		return nil // it had passed before, on a busy machine
	}
	return err
}

// Blocked reports whether a write waits for the peer. If nobody knows, it may.
func Blocked(c net.Conn) bool { return rawConn(c) == nil || !Writable(c) }

func pollOut(fd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n > 0
}

// Descriptor returns the number of a connection's file descriptor. It returns 0 if
// the connection has none.
func Descriptor(c net.Conn) (number int) {
	control(c, func(fd uintptr) { number = int(fd) })
	return number
}

// control has ask look at the socket under a connection, if there is one.
func control(c net.Conn, ask func(fd uintptr)) {
	if raw := rawConn(c); raw != nil {
		_ = raw.Control(ask) // an error: the connection is closed here
	}
}

package socket

import (
	"cmp"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// An option is a parameter of setsockopt(2).
type option struct{ level, name, value int }

// withOptions sets options on a socket before it connects or listens. It ignores
// failures: a unix socket or a kernel may not have one of the options.
func withOptions(options ...option) func(network, address string, c syscall.RawConn) error {
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

// ControlUserTimeout is SetUserTimeout for the Control of a net.Dialer. It returns
// nil where there is no such option.
func ControlUserTimeout(d time.Duration) func(network, address string, c syscall.RawConn) error {
	return withOptions(option{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())})
}

// SetUserTimeout bounds how long sent bytes may stay unacknowledged; 0 leaves
// it to the kernel. RFC 5482.
func SetUserTimeout(c net.Conn, d time.Duration) {
	set(c, option{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())})
}

// set sets an option of a connection, if that has it and isn't closed.
func set(c net.Conn, o option) {
	control(c, func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value) }) // see above
}

// ControlProbes returns a function for the Control of a net.ListenConfig: accepted
// connections then begin with TCP keep-alive as in p, in whole seconds, which saves
// the calls that set it on each. It returns nil where that isn't possible.
func ControlProbes(p net.KeepAliveConfig) func(network, address string, c syscall.RawConn) error {
	return withOptions(
		option{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		option{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(p.Idle.Seconds())},
		option{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(p.Interval.Seconds())},
		option{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, p.Count},
	)
}

// unsentBytes limits the data that waits in the kernel's send buffer of a connection.
// Data on its way to the client doesn't count. Without a limit, the kernel buffers
// megabytes for a client that doesn't read.
const unsentBytes = 512 << 10

// boundUnsent sets that bound. A connection doesn't inherit it from a Go listener,
// which uses Multipath TCP.
func boundUnsent(c *net.TCPConn) {
	set(c, option{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentBytes})
}

// BeganProbing reports whether a connection came through ControlProbes: nothing else
// sets this interval and this number.
func BeganProbing(c *net.TCPConn, p net.KeepAliveConfig) bool {
	count, every := 0, 0
	control(c, func(fd uintptr) {
		count, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
		every, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
	})
	return count == p.Count && every == int(p.Interval.Seconds())
}

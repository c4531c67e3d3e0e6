package parts

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// UserTimeout returns how long sent bytes may stay unacknowledged; 0 is no bound of
// its own.
func UserTimeout(t testing.TB, c *net.TCPConn) time.Duration {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var ms int
	if cerr := raw.Control(func(fd uintptr) { ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return time.Duration(ms) * time.Millisecond
}

package bridge

import (
	"net"
	"syscall"
)

// rawConn finds the socket under a connection, or nil.
func rawConn(c net.Conn) syscall.RawConn {
	for {
		switch v := c.(type) {
		case nil:
			return nil
		case interface{ NetConn() net.Conn }: // TLS, and this package's own wrappers
			c = v.NetConn()
		case syscall.Conn:
			raw, err := v.SyscallConn()
			if err != nil {
				return nil
			}
			return raw
		default:
			return nil
		}
	}
}

package socket

import (
	"net"
	"syscall"
)

// rawConn finds the socket under a connection, whatever is between, or nil.
func rawConn(c net.Conn) syscall.RawConn {
	for {
		switch v := c.(type) {
		case nil:
			return nil
		case interface{ NetConn() net.Conn }: // TLS, and culvert's own wrappers
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

// Plain returns the socket whose bytes are the connection's, or nil where
// something else is between, as TLS is: *net.TCPConn or *net.UnixConn. A wrapper
// says so of itself by SyscallConn beside its NetConn.
func Plain(c net.Conn) net.Conn {
	for {
		switch v := c.(type) {
		case *net.TCPConn, *net.UnixConn:
			return c
		case interface {
			syscall.Conn
			NetConn() net.Conn
		}:
			c = v.NetConn()
		default:
			return nil
		}
	}
}

// Descriptor is the number of a connection's file descriptor; 0 where it has
// none, or where descriptors aren't numbered in order from 0.
func Descriptor(c net.Conn) int { return descriptor(rawConn(c)) }

// Probe makes TCP probe a silent peer as p says, unless the connection came
// through ControlProbes, and on Linux bounds what the kernel holds for it that isn't
// sent. It does nothing where the bottom isn't a TCP socket.
func Probe(c net.Conn, p net.KeepAliveConfig) {
	t, ok := bottom(c).(*net.TCPConn)
	if !ok {
		return
	}
	if !BeganProbing(t, p) {
		_ = t.SetKeepAliveConfig(p) // it is closed then
	}
	boundUnsent(t)
}

// Cut closes the connection at the bottom, under TLS and each wrapper. Nothing
// is written first, as TLS would, so it doesn't wait for the peer.
func Cut(c net.Conn) { _ = bottom(c).Close() } // it is of no use any more

// CloseWrite closes the sending side, where there is such a thing.
func CloseWrite(c net.Conn) {
	if w, ok := c.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // the client may be gone
	}
}

// bottom returns the connection under TLS and each wrapper.
func bottom(c net.Conn) net.Conn {
	for {
		under, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return c
		}
		c = under.NetConn()
	}
}

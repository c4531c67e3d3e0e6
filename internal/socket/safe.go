package socket

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// Safe returns an embedder's connection as one that doesn't panic: net/http, crypto/tls and
// grpc-go call it on goroutines that recover nothing. A panic in it is told to caught, on
// the goroutine that panicked. caught returns the error for it. The panic closes the
// connection: a deadline that isn't set would leave a reader waiting. Sockets are returned as
// they are.
func Safe(c net.Conn, caught func(v any) error) net.Conn {
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn, *net.UDPConn:
		return c
	}
	safe := &safeConn{c, caught}
	if secured, ok := c.(secured); ok {
		return &safeSecureConn{safe, secured}
	}
	if packets, ok := c.(net.PacketConn); ok {
		return &safePacketConn{safe, packets}
	}
	return safe
}

// A safePacketConn is a safeConn that keeps packets apart: Go's resolver looks for that.
type safePacketConn struct {
	*safeConn
	packets net.PacketConn
}

func (c *safePacketConn) ReadFrom(p []byte) (n int, from net.Addr, err error) {
	defer c.fail(&err)
	return c.packets.ReadFrom(p)
}

func (c *safePacketConn) WriteTo(p []byte, to net.Addr) (n int, err error) {
	defer c.fail(&err)
	return c.packets.WriteTo(p, to)
}

// secured is a tls.Conn, or a connection like one.
type secured interface {
	ConnectionState() tls.ConnectionState
}

// A safeSecureConn is a safeConn that shows that it has its TLS already.
type safeSecureConn struct {
	*safeConn
	secured secured
}

func (c *safeSecureConn) ConnectionState() (state tls.ConnectionState) {
	var err error // for nobody: the connection is closed
	defer c.fail(&err)
	return c.secured.ConnectionState()
}

type safeConn struct {
	net.Conn
	caught func(v any) error
}

// Pings reports what the connection's own method of that name does. Without one it is true.
func (c *safeConn) Pings() (yes bool) {
	var err error // for nobody: the connection is closed
	defer c.fail(&err)
	own, ok := c.Conn.(interface{ Pings() bool })
	return !ok || own.Pings()
}

// fail ends a panic in a method, which then returns an error. It must be deferred itself.
func (c *safeConn) fail(err *error) {
	if v := recover(); v != nil {
		*err = c.caught(v)
		defer func() { _ = recover() }() // the same, probably
		_ = c.Conn.Close()               // it is over either way
	}
}

// safeAbove returns the safeConn among a connection's wrappers, or nil.
func safeAbove(c net.Conn) *safeConn {
	for {
		switch s := c.(type) {
		case *safeConn:
			return s
		case *safeSecureConn:
			return s.safeConn
		}
		under, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = under.NetConn()
	}
}

// Original returns the connection that Safe has wrapped, or the connection itself.
func Original(c net.Conn) net.Conn {
	switch s := c.(type) {
	case *safeConn:
		return s.Conn
	case *safeSecureConn:
		return s.Conn
	case *safePacketConn:
		return s.Conn
	}
	return c
}

func (c *safeConn) Read(p []byte) (n int, err error) {
	defer c.fail(&err)
	return c.Conn.Read(p)
}

func (c *safeConn) Write(p []byte) (n int, err error) {
	defer c.fail(&err)
	return c.Conn.Write(p)
}

func (c *safeConn) Close() (err error) {
	defer c.fail(&err)
	return c.Conn.Close()
}

func (c *safeConn) SetDeadline(t time.Time) (err error) {
	defer c.fail(&err)
	return c.Conn.SetDeadline(t)
}

func (c *safeConn) SetReadDeadline(t time.Time) (err error) {
	defer c.fail(&err)
	return c.Conn.SetReadDeadline(t)
}

func (c *safeConn) SetWriteDeadline(t time.Time) (err error) {
	defer c.fail(&err)
	return c.Conn.SetWriteDeadline(t)
}

// LocalAddr implements net.Conn. It is never nil.
func (c *safeConn) LocalAddr() (a net.Addr) {
	defer c.named(&a)
	return c.Conn.LocalAddr()
}

// RemoteAddr implements net.Conn. It is never nil.
func (c *safeConn) RemoteAddr() (a net.Addr) {
	defer c.named(&a)
	return c.Conn.RemoteAddr()
}

// named puts an address in the place of one that is missing, also for a panic. It must be
// deferred itself.
func (c *safeConn) named(a *net.Addr) {
	if v := recover(); v != nil {
		_ = c.caught(v) // it is logged
		defer func() { _ = recover() }()
		defer c.Conn.Close()
	}
	if *a == nil {
		*a = &net.UnixAddr{} // as a socket without a name has
	}
}

func (c *safeConn) CloseWrite() (err error) {
	defer c.fail(&err)
	return CloseWrite(c.Conn)
}

// NetConn returns the connection underneath.
func (c *safeConn) NetConn() net.Conn { return c.Conn }

// SyscallConn returns the connection's, if it has one: its bytes pass unchanged.
func (c *safeConn) SyscallConn() (raw syscall.RawConn, err error) {
	defer c.fail(&err)
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

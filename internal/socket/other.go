//go:build !linux

package socket

import (
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc/mem"
)

// The functions that only Linux has report here, as doc.go promises, that all is
// well.

// ControlUserTimeout returns nil: there is no such option.
func ControlUserTimeout(time.Duration) func(network, address string, c syscall.RawConn) error {
	return nil
}

// SetUserTimeout does nothing.
func SetUserTimeout(net.Conn, time.Duration) {}

// ControlProbes returns nil: each connection is set on its own.
func ControlProbes(net.KeepAliveConfig) func(network, address string, c syscall.RawConn) error {
	return nil
}

func boundUnsent(*net.TCPConn) {}

// BeganProbing returns false.
func BeganProbing(*net.TCPConn, net.KeepAliveConfig) bool { return false }

// HungUp returns false.
func HungUp(net.Conn) bool { return false }

// Readable returns false.
func Readable(net.Conn) bool { return false }

// Look knows nothing.
func Look(net.Conn) Sight { return Sight{} }

// Sent returns 0.
func Sent(net.Conn) (acked, pending uint64) { return 0, 0 }

// Writable returns true.
func Writable(net.Conn) bool { return true }

// Blocked returns true: it may be.
func Blocked(net.Conn) bool { return true }

// Unacked returns false: nobody can say.
func Unacked(net.Conn) bool { return false }

// AwaitWritable doesn't wait.
func AwaitWritable(net.Conn) error { return nil }

// RefuseArrivals returns false: it can't.
func RefuseArrivals(net.Listener) bool { return false }

// QueueEmpty returns true.
func QueueEmpty(net.Listener) bool { return true }

// DescriptorLimit returns a guess.
func DescriptorLimit() int { return 1 << 12 }

// A Reader is never made.
type Reader struct{}

// NewReader returns nil.
func NewReader(net.Conn, mem.BufferPool) *Reader { return nil }

// Read is never called.
func (*Reader) Read() (*[]byte, error) { panic("BUG: there is none") }

// Descriptor returns 0: not everywhere are descriptors numbered in order from 0.
func Descriptor(net.Conn) int { return 0 }

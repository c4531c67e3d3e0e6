//go:build !linux

package bridge

import (
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc/mem"
)

// The looks at a socket that only Linux offers. Elsewhere TCP keep-alive and
// pings tell, later.

func controlUserTimeout(time.Duration) func(network, address string, c syscall.RawConn) error {
	return nil
}

func setUserTimeout(net.Conn, time.Duration) {}

var probeArrivals func(network, address string, c syscall.RawConn) error

func beganProbing(*net.TCPConn) bool { return false }

func peerHungUp(net.Conn) bool { return false }

func peerSilent(net.Conn, time.Duration) bool { return false }

func writable(net.Conn) bool { return true }

func awaitWritable(net.Conn) error { return nil }

type socketReader struct{}

func newSocketReader(net.Conn, mem.BufferPool) *socketReader { return nil }

func (*socketReader) read() (*[]byte, error) { panic("BUG: there is none") }

func bytesAcked(net.Conn) uint64 { return 0 }

func queueEmpty(*boundedListener) bool { return true }

func refuseArrivals(*boundedListener) bool { return false }

// descriptorOf says nothing: not everywhere are they numbers in order.
func descriptorOf(net.Conn) int { return 0 }

func fileDescriptorLimit() int { return 1 << 12 }

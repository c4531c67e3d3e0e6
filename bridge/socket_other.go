//go:build !linux

package bridge

import (
	"net"
	"syscall"
	"time"
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

func readNow(net.Conn, []byte) int { return 0 }

func bytesAcked(net.Conn) uint64 { return 0 }

func queueEmpty(*boundedListener) bool { return true }

func refuseArrivals(*boundedListener) bool { return false }

func fileDescriptorLimit() int { return 1 << 12 }

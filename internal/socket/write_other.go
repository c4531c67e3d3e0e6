//go:build !unix

package socket

import "net"

// TryWriter returns nil: here every write may wait.
func TryWriter(net.Conn) func([]byte) (int, error) { return nil }

// WritesLate returns false.
func WritesLate(net.Conn) bool { return false }

// WriteLate returns n and err.
func WriteLate(_ net.Conn, _ []byte, n int, err error) (int, error) { return n, err }

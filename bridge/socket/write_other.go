//go:build !unix

package socket

import "net"

// TryWriter returns nil: here every write may wait.
func TryWriter(net.Conn) func([]byte) (int, error) { return nil }

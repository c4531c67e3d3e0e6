//go:build !unix

package h2

import "net"

// tryWriter returns nil: here every write may wait.
func tryWriter(net.Conn) func([]byte) (int, error) { return nil }

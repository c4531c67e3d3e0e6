// Package sockets has the sockets that a program listens on: its own on addresses and paths,
// those that a supervisor passed to it, and a listener with a bound. It also has the client
// of a program on this host.
package sockets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/culvert-grpc/culvert/bridge"
)

// Listen listens on an address. Its errors begin with the address, without the text of
// net.OpError.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	ln, err := bridge.ListenConfig().Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, Cause(err))
	}
	return ln, nil
}

// Cause returns an error of the system without the operation, the address and the name of
// the file, because the caller adds what its reader knows.
func Cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	return err
}

// Remedy returns the remedy for a port, which key names as a flag or a
// key.
func Remedy(err error, key string) string {
	if errors.Is(err, os.ErrPermission) {
		return "choose a port of 1024 or more with " + key + ", or grant CAP_NET_BIND_SERVICE"
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		return "this host doesn't have the address: choose one of its addresses with " + key + ", or write only the port for all of its addresses, as in :8080"
	}
	return "choose another address with " + key + ", or stop the program that uses this one"
}

// IsLoopback reports whether only this host reaches an address.
func IsLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// AddressOf returns an address in the form of listen.
func AddressOf(addr net.Addr) string {
	if addr.Network() == "unix" {
		return "unix:" + addr.String()
	}
	return addr.String()
}

// unixPath returns the path of a unix socket in the form of listen. It is absolute: in
// "unix:9901", unix is a host.
func unixPath(address string) (path string, ok bool) {
	path, ok = strings.CutPrefix(address, "unix:")
	return path, ok && strings.HasPrefix(path, "/")
}

// Client returns a client of one address of this host, in the form of listen.
func Client(address string) http.Client {
	network := "tcp"
	if path, ok := unixPath(address); ok {
		network, address = "unix", path
	}
	return http.Client{
		// Without the proxy in the environment, which is not for this host.
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

package main

import (
	"fmt"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/culvert-grpc/culvert/internal/parts/script"
)

// reserve binds a port without listening there. Connections to it are refused, no
// other program gets the port from the kernel, and a program that asks for it by
// number can listen there: both sockets allow the reuse of the address.
func reserve(ts *testscript.TestScript, neg bool, args []string) {
	script.WantArgs(ts, neg, args, 0, "reserve")
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	ts.Check(err)
	ts.Defer(func() { _ = syscall.Close(fd) }) // the test is over
	ts.Check(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1))
	ts.Check(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := syscall.Getsockname(fd)
	ts.Check(err)
	ts.Setenv("RESERVED", fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port))
}

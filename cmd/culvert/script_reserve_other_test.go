//go:build !linux

package main

import (
	"context"
	"net"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/culvert-grpc/culvert/internal/parts/script"
)

// reserve returns a port that was free a moment ago: only Linux lets two sockets bind
// the same one.
func reserve(ts *testscript.TestScript, neg bool, args []string) {
	script.WantArgs(ts, neg, args, 0, "reserve")
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv("RESERVED", ln.Addr().String())
	ts.Check(ln.Close())
}

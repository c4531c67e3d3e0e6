package upstream

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/culvert-grpc/culvert/bridge/report"
)

// inProcess counts the Backends that InProcess has returned.
var inProcess atomic.Int64

// InProcess returns the Backend for a grpc.Server in this process, and a function
// that closes the way to it. The server is served until then. The caller stops the
// server.
func InProcess(s *grpc.Server) (report.Backend, func()) {
	ln := bufconn.Listen(256 << 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(ln) // until stop closes the listener
	}()
	backend := report.Backend{
		Target:    fmt.Sprintf("passthrough:///in-process/%d", inProcess.Add(1)), // so that no two are the Same
		Authority: "in-process",
		Dial:      func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) },
	}
	return backend, func() {
		_ = ln.Close()
		<-done
	}
}

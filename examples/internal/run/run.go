// Package run has what all examples do alike: it starts gRPC servers, web servers and
// culvert on free ports of this machine, prints what happens, and ends all of it.
package run

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
)

// checkTimeout is far from what a check takes, also on a busy machine.
const checkTimeout = 2 * time.Minute

// Main runs an example and exits. Ctrl-C and SIGTERM end the context. With --check the
// example has its conversation once and returns; otherwise it goes on until then.
func Main(example func(ctx context.Context, check bool) error) {
	check := flag.Bool("check", false, "have the whole conversation once, and exit with 0 or 1")
	flag.Parse()
	if err := run(example, *check); err != nil {
		Say("example", "failed: %v", err)
		os.Exit(1)
	}
}

func run(example func(ctx context.Context, check bool) error, check bool) error {
	// SIGPIPE would end this process and not culvert when nobody reads the output any more.
	// With signal.Notify, a broken socket would also end the example. So SIGPIPE is
	// ignored, and Say ends the example when a write fails.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	saying.Lock()
	unheard = end
	saying.Unlock()
	if check {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, checkTimeout, errors.New("the check took too long"))
		defer cancel()
	}
	return example(ctx, check)
}

var (
	saying  sync.Mutex
	unheard context.CancelCauseFunc // ends the example; nil in tests of its parts
)

// Say prints a line about one part of the system. The example ends if nobody can read it.
func Say(who, format string, args ...any) {
	saying.Lock()
	defer saying.Unlock()
	if _, err := fmt.Printf("%-10s %s\n", who, fmt.Sprintf(format, args...)); err != nil && unheard != nil {
		unheard(err)
	}
}

// A Server is a gRPC server or a web server on a free port of this machine.
type Server struct {
	Address string // host:port
	stop    func()
	serving sync.WaitGroup
}

// ServeGRPC starts a gRPC server.
func ServeGRPC(ctx context.Context, server *grpc.Server) (*Server, error) {
	return serve(ctx, server.Serve, server.Stop)
}

// ServeHTTP starts a web server.
func ServeHTTP(ctx context.Context, handler http.Handler) (*Server, error) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	return serve(ctx, server.Serve, func() { _ = server.Close() }) // the listener needs no remedy
}

func serve(ctx context.Context, serve func(net.Listener) error, stop func()) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Server{Address: listener.Addr().String(), stop: stop}
	s.serving.Go(func() {
		if err := serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) {
			Say("example", "%s: %v", s.Address, err)
		}
	})
	return s, nil
}

// Stop ends the server and its connections.
func (s *Server) Stop() {
	s.stop()
	s.serving.Wait()
}

// Command backend is the unmodified gRPC server behind culvert in the end-to-end
// tests: grpc-go with its defaults, the service Probe, health, and reflection unless it
// is told to do without. It
// is a process of its own, so that it can be killed, stopped, and put in a
// network namespace. What it saw of each call is told on a unix socket.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // as a backend has it that is sent compressed messages
	_ "google.golang.org/grpc/encoding/gzip" // for clients that compress
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` of the gRPC server: host:port, or unix:path")
	control := flag.String("control", "", "`path` of the unix socket that tells the records")
	streams := flag.Uint("max-streams", 0, "the server's MaxConcurrentStreams; 0: none")
	quiet := flag.Bool("no-reflection", false, "don't offer server reflection")
	grace := flag.Duration("grace", 0, "how long running calls may go on after SIGTERM")
	flag.Parse()
	if err := run(*listen, *control, uint32(*streams), *quiet, *grace); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

func run(listen, control string, streams uint32, quiet bool, grace time.Duration) error {
	network, address := "tcp", listen
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		network, address = "unix", path
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	_ = os.Remove(control) // a killed backend's; Listen says it if it stays
	side, err := net.Listen("unix", control)
	if err != nil {
		return err
	}

	records := newRecords()
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(probe.MaxPayload), // the tests look at culvert's limits
		grpc.StatsHandler(observer{records}),
	}
	if streams > 0 {
		options = append(options, grpc.MaxConcurrentStreams(streams))
	}
	server := grpc.NewServer(options...)
	e2epb.RegisterProbeServer(server, &service{records: records})
	healths := health.NewServer()
	healthpb.RegisterHealthServer(server, healths)
	if !quiet {
		reflection.Register(server)
	}

	pages := http.NewServeMux()
	pages.Handle("/", records)
	pages.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		states := map[string]healthpb.HealthCheckResponse_ServingStatus{"true": healthpb.HealthCheckResponse_SERVING, "false": healthpb.HealthCheckResponse_NOT_SERVING}
		healths.SetServingStatus(r.FormValue("service"), states[r.FormValue("serves")])
		_, _ = io.WriteString(w, "true") // who asked is gone
	})
	controlServer := &http.Server{Handler: pages, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 2) // one for each server
	var serving sync.WaitGroup
	serving.Go(func() { ended <- server.Serve(ln) })
	serving.Go(func() { ended <- controlServer.Serve(side) })
	fmt.Printf("listening %s\n", ln.Addr())

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	select {
	case <-ctx.Done():
	case err = <-ended: // nothing has told it to
	}
	// GracefulStop returns when the last call has ended, or when Stop has ended it.
	late := time.AfterFunc(grace, server.Stop)
	server.GracefulStop()
	late.Stop()
	_ = controlServer.Close() // the process ends
	serving.Wait()
	return err
}

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
	h2ts := flag.String("h2ts", "", "`address` of a server that takes the same calls as HTTP/2 in WebSockets; empty: none")
	control := flag.String("control", "", "`path` of the unix socket that tells the records")
	streams := flag.Uint("max-streams", 0, "the server's MaxConcurrentStreams; 0: none")
	quiet := flag.Bool("no-reflection", false, "don't offer server reflection")
	grace := flag.Duration("grace", 0, "how long running calls may go on after SIGTERM")
	flag.Parse()
	if err := run(*listen, *h2ts, *control, uint32(*streams), *quiet, *grace); err != nil {
		fmt.Fprintln(os.Stderr, "backend:", err)
		os.Exit(1)
	}
}

func run(listen, h2ts, control string, streams uint32, quiet bool, grace time.Duration) error {
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
	healths := health.NewServer()
	newServer := func() *grpc.Server {
		options := []grpc.ServerOption{
			grpc.MaxRecvMsgSize(probe.MaxPayload), // the tests look at culvert's limits
			grpc.StatsHandler(observer{records}),
		}
		if streams > 0 {
			options = append(options, grpc.MaxConcurrentStreams(streams))
		}
		server := grpc.NewServer(options...)
		e2epb.RegisterProbeServer(server, &service{records: records})
		healthpb.RegisterHealthServer(server, healths)
		if !quiet {
			reflection.Register(server)
		}
		return server
	}
	server := newServer()

	pages := http.NewServeMux()
	pages.Handle("/", records)
	pages.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		states := map[string]healthpb.HealthCheckResponse_ServingStatus{"true": healthpb.HealthCheckResponse_SERVING, "false": healthpb.HealthCheckResponse_NOT_SERVING}
		healths.SetServingStatus(r.FormValue("service"), states[r.FormValue("serves")])
		_, _ = io.WriteString(w, "true") // who asked is gone
	})
	sides := []*http.Server{{Handler: pages, ReadHeaderTimeout: 10 * time.Second}}
	ended := make(chan error, 3) // one for each server
	var serving sync.WaitGroup
	serving.Go(func() { ended <- server.Serve(ln) })
	serving.Go(func() { ended <- sides[0].Serve(side) })
	fmt.Printf("listening %s\n", ln.Addr())
	if h2ts != "" {
		ln, err := net.Listen("tcp", h2ts)
		if err != nil {
			return err
		}
		// A gRPC server that serves by ServeHTTP can't stop gracefully: these calls have their own.
		tunnels := newTunnelServer(newServer(), pages)
		sides = append(sides, tunnels)
		serving.Go(func() { ended <- tunnels.Serve(ln) })
		fmt.Printf("h2ts %s\n", ln.Addr())
	}

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
	for _, side := range sides {
		_ = side.Close() // the process ends
	}
	serving.Wait()
	return err
}

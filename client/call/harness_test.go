package call

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/internal/parts"
)

// patience ends a hang.
const patience = 20 * time.Second

const check = "grpc.health.v1.Health/Check"

// A result is what a run has printed, and how it ended.
type result struct {
	stdout, stderr string
	err            error
}

// run runs a call that ends within the patience.
func run(t testing.TB, cfg Config, words ...string) result {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context()) // a deadline would be the call's
	defer cancel()
	defer time.AfterFunc(patience, cancel).Stop()
	r := runUntil(ctx, cfg, words...)
	if ctx.Err() != nil {
		t.Fatalf("%s %q has no end\n%s", cfg.Via, words, r.stderr)
	}
	return r
}

func runUntil(ctx context.Context, cfg Config, words ...string) result {
	var stdout, stderr bytes.Buffer
	cfg.Words, cfg.Stdout, cfg.Stderr, cfg.Proxy = words, &stdout, &stderr, "none"
	err := Run(ctx, cfg)
	return result{stdout.String(), stderr.String(), err}
}

func text(s string) *string { return &s }

// startService serves health, with reflection.
func startService(t testing.TB, options ...grpc.ServerOption) (address string) {
	t.Helper()
	s := grpc.NewServer(options...)
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	ln := parts.Listen(t, "127.0.0.1:0")
	parts.ServeGRPC(t, ln, s)
	return ln.Addr().String()
}

// healthSet writes the descriptors of health.
func healthSet(t testing.TB) (file string) {
	return writeSetOf(t, healthpb.File_grpc_health_v1_health_proto)
}

func writeSetOf(t testing.TB, files ...protoreflect.FileDescriptor) string {
	t.Helper()
	set := new(descriptorpb.FileDescriptorSet)
	for _, f := range files {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "set.binpb")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// A script is what a server says once it has read a request's header. It may read on.
type script func(r *http.Request, conn net.Conn, in *bufio.Reader)

// says is a script that writes a text, and closes.
func says(text string) script {
	return func(_ *http.Request, conn net.Conn, _ *bufio.Reader) { _, _ = io.WriteString(conn, text) } // the client may be gone
}

// holds is a script that writes a text, and then waits for the client to go.
func holds(text string) script {
	return func(_ *http.Request, conn net.Conn, in *bufio.Reader) {
		_, _ = io.WriteString(conn, text) // the client may be gone
		_, _ = io.Copy(io.Discard, in)    // until the client goes
	}
}

// serveScript serves a script to each connection.
func serveScript(t testing.TB, s script) (url string) {
	t.Helper()
	ln := parts.Listen(t, "127.0.0.1:0")
	var serving sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			serving.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				var r *http.Request
				if first, _ := in.Peek(3); string(first) != "PRI" { // a client of HTTP/2 waits
					if r, err = http.ReadRequest(in); err != nil {
						return
					}
				}
				s(r, conn, in)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close() // ends Accept
		mu.Lock()
		for _, c := range conns {
			_ = c.Close() // it may be closed
		}
		mu.Unlock()
		serving.Wait()
	})
	return "http://" + ln.Addr().String()
}

// contains reports whether a text has all parts.
func contains(text string, all ...string) bool {
	for _, part := range all {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// scan sends each line.
func scan(from io.Reader, lines chan<- string) {
	defer close(lines)
	s := bufio.NewScanner(from)
	for s.Scan() {
		lines <- s.Text()
	}
}

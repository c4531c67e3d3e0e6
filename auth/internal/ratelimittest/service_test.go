package ratelimittest

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

//go:embed limits.yaml
var limits string

// program is Envoy's rate limit service.
var program string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "culvert-ratelimit-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "ratelimit")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/envoyproxy/ratelimit/src/service_cmd").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // left behind in a temporary directory
		os.Exit(code)
	}))
}

// A process is a program that runs until the test's end, or kill.
type process struct {
	cmd  *exec.Cmd
	kill func()
}

// start starts a program, and returns when a line of its output has a text: at once without
// one.
func start(t testing.TB, ready string, variables []string, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, variables...)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v: tools/deps.sh test installs what the tests need", name, err)
	}
	var said strings.Builder
	isReady := make(chan struct{})
	var read sync.WaitGroup
	read.Go(func() {
		found := ready == ""
		if found {
			close(isReady)
		}
		for lines := bufio.NewScanner(out); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if !found && strings.Contains(lines.Text(), ready) {
				found = true
				close(isReady)
			}
		}
	})
	p := &process{cmd: cmd}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		in.Close()
		read.Wait()
		close(ended)
	}()
	p.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // or it has ended by itself
		<-ended
	})
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", name, said.String())
		}
	})
	select {
	case <-isReady:
	case <-ended:
		t.Fatalf("%s has ended:\n%s", name, said.String())
	case <-time.After(2 * time.Minute):
		t.Fatalf("%s isn't ready", name)
	}
	return p
}

// A world is the service with its Redis.
type world struct {
	dir            string
	redis, service *process
	target         string // of the service
}

func startWorld(t testing.TB) *world {
	t.Helper()
	// Not t.TempDir, whose path may be too long for a socket.
	dir, err := os.MkdirTemp("", "rl-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w := &world{dir: dir, target: "unix://" + filepath.Join(dir, "grpc")}
	config := filepath.Join(dir, "runtime", "limits", "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "shop.yaml"), []byte(limits), 0o600); err != nil {
		t.Fatal(err)
	}
	w.redis = start(t, "ready to accept connections", nil, "redis-server",
		"--port", "0", "--unixsocket", filepath.Join(dir, "redis"), "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no")
	w.startService(t)
	return w
}

// startService returns when the service serves its configuration.
func (w *world) startService(t testing.TB) {
	t.Helper()
	socket := filepath.Join(w.dir, "grpc")
	_ = os.Remove(socket) // of a service that was killed
	w.service = start(t, "", []string{
		"HOST=127.0.0.1", "PORT=0", "DEBUG_HOST=127.0.0.1", "DEBUG_PORT=0", "GRPC_UDS=" + socket,
		"RUNTIME_ROOT=" + filepath.Join(w.dir, "runtime"), "RUNTIME_SUBDIRECTORY=limits", "RUNTIME_WATCH_ROOT=false",
		"REDIS_SOCKET_TYPE=unix", "REDIS_URL=" + filepath.Join(w.dir, "redis"),
		"DISABLE_STATS=true", "LIMIT_RESPONSE_HEADERS_ENABLED=true",
	}, program)
	conn, err := grpc.NewClient(w.target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1, MaxDelay: 20 * time.Millisecond}}))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	said, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: "ratelimit"}, grpc.WaitForReady(true))
	if err != nil || said.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("the service's health is %v, %v", said.GetStatus(), err)
	}
}

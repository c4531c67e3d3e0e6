package bridge_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/bridge/bridgetest"
)

// TestConformanceOfTheNPMPackage runs the scenarios with @culvert/web as the client, as far as
// it can carry them.
func TestConformanceOfTheNPMPackage(t *testing.T) {
	undo := bridge.StageSteps()
	t.Cleanup(undo)
	bridgetest.SetStages(stages)
	for _, place := range []string{"node", "chromium"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel() // a scenario mostly waits
			conformProgram(t, place)
		})
	}
}

// programs is the directory of the programs that make the calls.
const programs = "../e2e/node"

func conformProgram(t *testing.T, place string) {
	if _, err := os.Stat(programs + "/node_modules"); err != nil {
		t.Fatalf("the JavaScript clients are not installed: npm ci --prefix e2e/node (%v)", err)
	}
	bundle := exec.CommandContext(t.Context(), "node", "bundle.js", "scenarios-page.js")
	bundle.Dir, bundle.Stderr = programs, os.Stderr
	script, err := bundle.Output()
	if err != nil {
		t.Fatalf("node bundle.js: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	there := make(chan *websocket.Conn, 1) // there is one
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><meta charset=utf-8><title>scenarios</title><script src=page.js></script>")) // to a browser that may be gone
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(script) // to a browser that may be gone
	})
	mux.HandleFunc("GET /orders", func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("the program's WebSocket: %v", err)
			return
		}
		there <- conn
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until it is closed
	defer func() {
		_ = server.Close() // the program's WebSocket isn't its any more
		serving.Wait()
	}()

	ctx, stop := context.WithTimeout(t.Context(), 30*time.Minute)
	defer stop()
	program := exec.CommandContext(ctx, "node", "scenarios-run.js", place, "ws://"+ln.Addr().String()+"/orders")
	program.Dir, program.Stdout, program.Stderr = programs, os.Stderr, os.Stderr
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = program.Wait() // what it has not done is seen
	}()
	defer func() { <-exited }() // it ends with its WebSocket
	select {
	case conn := <-there:
		defer conn.CloseNow() //nolint:errcheck // the program is gone
		bridgetest.RunProgram(t, bridgetest.NewProgram(conn))
	case <-exited:
		t.Fatal("the program has ended")
	case <-time.After(2 * time.Minute): // a browser has to start
		stop()
		t.Fatal("no program comes")
	}
}

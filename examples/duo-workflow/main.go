// The example duo-workflow has a page and an IDE converse with a service like a
// language model, which uses their tools.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"

	"github.com/culvert-grpc/culvert/examples/duo-workflow/duopb"
	"github.com/culvert-grpc/culvert/examples/internal/run"
)

// client is the directory of the page and the IDE.
const client = "duo-workflow/client"

// protocols are those of the IDE. The page has all but h2ts.
var protocols = []string{"json", "protobuf", "grpc-websockets", "h2ts"}

func main() { run.Main(example) }

func example(ctx context.Context, check bool) error {
	server := grpc.NewServer()
	pause := 60 * time.Millisecond
	if check {
		pause = time.Millisecond // nobody watches
	}
	duopb.RegisterWorkflowServer(server, &service{pause: pause, workflows: map[string]*workflow{}})
	reflection.Register(server) // culvert asks what the messages are, to convert JSON
	workflows, err := run.ServeGRPC(ctx, server)
	if err != nil {
		return err
	}
	defer workflows.Stop()

	handler, err := page(ctx)
	if err != nil {
		return err
	}
	web, err := run.ServeHTTP(ctx, handler)
	if err != nil {
		return err
	}
	defer web.Stop()

	culvert, err := run.StartCulvert(ctx, "duo-workflow/culvert.yaml", "WORKFLOW="+workflows.Address, "PAGE="+web.Address)
	if err != nil {
		return err
	}
	defer culvert.Stop()
	if !check {
		run.Say("page", "open http://%s/", culvert.Address)
		run.Say("ide", "run: node examples/%s/ide.js %s h2ts", client, culvert.Address)
		return culvert.Wait(ctx)
	}
	for _, protocol := range protocols {
		if err := ide(ctx, culvert.Address, protocol); err != nil {
			return fmt.Errorf("the IDE over %s: %w", protocol, err)
		}
	}
	return nil
}

// page serves client/index.html and its script, which esbuild bundles.
func page(ctx context.Context) (http.Handler, error) {
	if _, err := os.Stat(client + "/node_modules"); errors.Is(err, fs.ErrNotExist) {
		run.Say("example", "installing the npm packages of the clients")
		if text, err := exec.CommandContext(ctx, "npm", "ci", "--prefix", client).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm ci: %w\n%s", err, text)
		}
	}
	bundle := exec.CommandContext(ctx, "node", "bundle.js")
	bundle.Dir = client
	bundle.Stderr = os.Stderr
	script, err := bundle.Output()
	if err != nil {
		return nil, fmt.Errorf("node bundle.js: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, client+"/index.html") })
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "text/javascript")
		_, _ = w.Write(script) // the browser has gone
	})
	return mux, nil
}

// ide runs client/ide.js for one conversation.
func ide(ctx context.Context, address, protocol string) error {
	cmd := exec.CommandContext(ctx, "node", "ide.js", address, protocol)
	cmd.Dir = client
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		run.Say("ide", "%s", lines.Text())
	}
	return cmd.Wait()
}

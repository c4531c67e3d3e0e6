package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// The clients, and whether they can stream a request.
var (
	goClients      = []string{"grpc-go h2c", "grpc-go h2ts"}
	nodeClients    = []string{"node improbable http", "node improbable fetch", "node improbable websocket", "node connect-web"}
	browserClients = []string{"chromium improbable fetch", "chromium improbable websocket", "chromium connect-web"}
)

func streamsRequests(client string) bool {
	return strings.HasPrefix(client, "grpc-go") || strings.HasSuffix(client, "websocket")
}

// TestPublishedClients runs every scenario that a client can do with each of the
// clients that people use, through culvert, and prints what came of it.
func TestPublishedClients(t *testing.T) {
	b := startBackend(t, backendOptions{})
	allowed, refused := servePage(t), servePage(t)
	c := startCulvert(t, b.address, culvertOptions{args: []string{"--allow-origin", allowed}})

	jobs := map[string][]job{}
	for _, client := range append(append(append([]string{}, goClients...), nodeClients...), browserClients...) {
		for _, s := range scenarios {
			if !s.needsRequestStream() || streamsRequests(client) {
				jobs[client] = append(jobs[client], s.job(t, client))
			}
		}
	}

	var seen []observation
	cc, tunnel := grpcClient(t, c.address), grpcClient(t, "culvert", throughTunnel(c.address))
	for _, j := range jobs["grpc-go h2c"] {
		seen = append(seen, runGRPC(cc, j))
	}
	for _, j := range jobs["grpc-go h2ts"] {
		seen = append(seen, runGRPC(tunnel, j))
	}
	var forNode, forBrowser []job
	for _, client := range nodeClients {
		forNode = append(forNode, jobs[client]...)
	}
	for _, client := range browserClients {
		forBrowser = append(forBrowser, jobs[client]...)
	}
	seen = append(seen, runNode(t, "node.js", work{Address: "http://" + c.address, Jobs: forNode})...)

	// The same page from an origin that is not allowed must not get through.
	var forStranger []job
	for _, client := range browserClients {
		forStranger = append(forStranger, scenarios[0].job(t, client))
	}
	browser := runNode(t, "chromium.js", []work{
		{Page: allowed, Address: "http://" + c.address, Jobs: forBrowser},
		{Page: refused, Address: "http://" + c.address, Jobs: forStranger},
	})
	seen = append(seen, browser[:len(forBrowser)]...)
	for _, o := range browser[len(forBrowser):] {
		if o.Code == 0 && o.Error == "" {
			t.Errorf("%s: a page of an origin that is not allowed had its call answered", o.Client)
		}
		if _, ok := b.saw(t, o.ID); ok {
			t.Errorf("%s: a call from an origin that is not allowed reached the backend", o.Client)
		}
	}

	judgeAll(t, b, seen)
}

// judgeAll judges every observation in a test of its own.
func judgeAll(t *testing.T, b *backend, seen []observation) {
	byName := map[string]scenario{}
	for _, s := range scenarios {
		byName[s.name] = s
	}
	var clients []string
	result := map[string]map[string]string{}
	for _, o := range seen {
		if result[o.Client] == nil {
			clients = append(clients, o.Client)
			result[o.Client] = map[string]string{}
			for _, s := range scenarios {
				result[o.Client][s.name] = "-" // fetch has no request stream
			}
		}
		ok := t.Run(strings.ReplaceAll(o.Client+"/"+o.Scenario, " ", "_"), func(t *testing.T) {
			o.decodeDetails(t)
			byName[o.Scenario].judge(t, o, b)
			if t.Failed() {
				t.Logf("seen by the client: %+v", o)
			}
		})
		result[o.Client][o.Scenario] = map[bool]string{true: "ok", false: "FAIL"}[ok]
	}
	t.Log("\n" + table(clients, result))
}

// decodeDetails reads the details that a client left in their wire form.
func (o *observation) decodeDetails(t *testing.T) {
	if o.DetailsBin != "" {
		raw, err := base64.RawStdEncoding.DecodeString(o.DetailsBin)
		if err != nil {
			t.Fatal(err)
		}
		st := new(spb.Status)
		if err := proto.Unmarshal(raw, st); err != nil {
			t.Fatal(err)
		}
		for _, d := range st.GetDetails() {
			o.Details = append(o.Details, observedDetail{
				Type:  strings.TrimPrefix(d.GetTypeUrl(), "type.googleapis.com/"),
				Value: base64.RawStdEncoding.EncodeToString(d.GetValue()),
			})
		}
	}
	for _, d := range o.Details {
		raw, err := base64.RawStdEncoding.DecodeString(d.Value)
		if err != nil {
			t.Fatal(err)
		}
		info := new(errdetails.ErrorInfo)
		if d.Type != string(info.ProtoReflect().Descriptor().FullName()) {
			continue
		}
		if err := proto.Unmarshal(raw, info); err != nil {
			t.Fatal(err)
		}
		o.Reasons = append(o.Reasons, info.GetReason())
	}
}

// work is what node/node.js reads, and node/chromium.js a list of.
type work struct {
	Page    string `json:"page,omitempty"`
	Address string `json:"address"`
	Jobs    []job  `json:"jobs"`
}

// runNode runs a program of node/ with input as JSON and returns the observations.
func runNode(t *testing.T, program string, input any) []observation {
	t.Helper()
	in, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	var out []observation
	text := node(t, program, in)
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatalf("%s: %v in %q", program, err, text)
	}
	return out
}

func node(t *testing.T, program string, stdin []byte) []byte {
	t.Helper()
	if _, err := os.Stat("node/node_modules"); err != nil {
		t.Fatalf("the JavaScript clients are not installed: npm ci --prefix e2e/node (%v)", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", program)
	cmd.Dir = "node"
	cmd.Stdin = bytes.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("node %s: %v\n%s", program, err, &stderr)
	}
	if stderr.Len() > 0 {
		t.Logf("node %s says:\n%s", program, &stderr)
	}
	return stdout.Bytes()
}

// servePage serves the page of the browser's clients from an origin of its own,
// which it returns.
func servePage(t *testing.T) string {
	t.Helper()
	script := node(t, "bundle.js", nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><meta charset=utf-8><title>probe</title><script src=page.js></script>")) // to a browser that may be gone
	})
	mux.HandleFunc("GET /page.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = w.Write(script) // likewise
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until it is closed
	t.Cleanup(func() {
		_ = server.Close() // the browser is gone
		serving.Wait()
	})
	_, port, _ := net.SplitHostPort(ln.Addr().String()) // it is one
	return "http://localhost:" + port
}

package docs

import (
	"context"
	"errors"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// callEcho makes one native call to the address: of the health service, which the
// demo's server has, too.
func callEcho(t testing.TB, address string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	res, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err == nil && res.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		err = fmt.Errorf("the service is %v", res.GetStatus())
	}
	return errors.Join(err, cc.Close())
}

// goImports are the packages that snippets use, by the name they use.
var goImports = map[string]string{
	"bridge": "github.com/culvert-grpc/culvert/bridge", "client": "github.com/culvert-grpc/culvert/client", "codes": "google.golang.org/grpc/codes", "context": "context",
	"credentials": "google.golang.org/grpc/credentials", "demopb": "github.com/culvert-grpc/culvert/demo/demopb",
	"errors": "errors", "fmt": "fmt", "grpc": "google.golang.org/grpc", "http": "net/http",
	"insecure": "google.golang.org/grpc/credentials/insecure", "log": "log", "net": "net", "os": "os",
	"status": "google.golang.org/grpc/status", "websocket": "github.com/coder/websocket",
	"errdetails": "google.golang.org/genproto/googleapis/rpc/errdetails",
	"gzip":       "google.golang.org/grpc/encoding/gzip", "keepalive": "google.golang.org/grpc/keepalive",
	"metadata": "google.golang.org/grpc/metadata", "slog": "log/slog", "strings": "strings",
	"telemetry": "github.com/culvert-grpc/culvert/telemetry", "time": "time",
}

var used = regexp.MustCompile(`\b([a-z]+)\.[A-Z]`)

// goProgram makes a program of a snippet: statements, as they stand in a function
// that has a ctx. A connection that the snippet makes and doesn't use is used.
func goProgram(snippet string) string {
	if strings.HasPrefix(snippet, "package ") {
		return snippet
	}
	after := "_ = ctx\n"
	if strings.Contains(snippet, "cc, err := ") && !strings.Contains(snippet, "demopb") {
		after += `if err != nil { log.Fatal(err) }
			if _, err := demopb.NewDemoClient(cc).Echo(ctx, &demopb.EchoRequest{Text: "hello"}); err != nil { log.Fatal(err) }
			`
	}
	if strings.Contains(snippet, "web.Serve(ln)") { // the snippet's own server: it answers, if only that it is none of ours
		after += `own, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil { log.Fatal(err) }
			if _, err = demopb.NewDemoClient(own).Echo(ctx, &demopb.EchoRequest{}); status.Code(err) != codes.Unimplemented { log.Fatal(err) }
			`
	}
	snippet = beforeServer(snippet) + snippet
	var imports []string
	for _, m := range used.FindAllStringSubmatch(snippet+after+"context.Background", -1) {
		if path, known := goImports[m[1]]; known {
			imports = append(imports, fmt.Sprintf("%q", path))
		}
	}
	slices.Sort(imports)
	return "package main\n\nimport (\n" + strings.Join(slices.Compact(imports), "\n") + "\n)\n\nfunc main() {\n" +
		"ctx := context.Background()\n" + snippet + after + "}\n"
}

// runGo runs a snippet before culvert and the demo's service.
func runGo(t *testing.T, b block) {
	if text, err := format.Source([]byte(b.text)); err != nil || strings.TrimRight(string(text), "\n") != strings.TrimRight(b.text, "\n") {
		t.Errorf("not as gofmt has it: %v\n%s", err, text)
	}
	startPath(t, b)
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(goProgram(b.text)), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := output(t, root, shell(environmentOf(b)+"exec go run "+file)...)
	wantPrinted(t, b, text, err, "fmt.Println(")
}

// wantPrinted holds what a snippet wrote to the comments behind its lines that
// print, one value after the other.
func wantPrinted(t *testing.T, b block, text string, err error, prints string) {
	t.Helper()
	var want []string
	for l := range strings.Lines(b.text) {
		if _, comment, ok := strings.Cut(l, " // "); ok && strings.Contains(l, prints) {
			want = append(want, strings.Split(strings.TrimSpace(comment), ", ")...)
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if got := strings.Split(strings.TrimSpace(text), "\n"); len(want) > 0 && !slices.Equal(got, want) {
		t.Errorf("it printed %q, want %q", got, want)
	}
}

package e2e

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
)

// called is how "culvert call" has ended.
type called struct {
	stdout, stderr string
	code           int
}

// callBy runs "culvert call" with an input.
func callBy(t testing.TB, input string, args ...string) called {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, culvertProgram, append([]string{"call"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = strings.NewReader(input), &stdout, &stderr, environment()
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("culvert call %q has no end\n%s", args, &stderr)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("culvert call: %v", err)
	}
	return called{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// probeSet writes the descriptors of Probe, for --protoset.
func probeSet(t testing.TB) string {
	t.Helper()
	data, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(e2epb.File_probe_proto)}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "probe.binpb")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// probes calls all kinds of methods of a server that sends each text back.
func probes(t *testing.T, url string, flags ...string) {
	t.Helper()
	for _, c := range []struct {
		method, input string
		stdout        string // without blanks
		code          int
		stderr        string // a part
	}{
		{"Unary", `{"text": "é"}`, `{"text":"é"}`, 0, ""},
		{"Unary", `{"text": "no"}`, "", 69, "the call ended with NOT_FOUND (5): no café"},
		{"ServerStream", `{"text": "x"}`, `{"text":"x"}{"sequence":"1","text":"x"}{"sequence":"2","text":"x"}`, 0, ""},
		{"ClientStream", `{} {"text": "x"} {}`, `{"received":"3"}`, 0, ""},
		{"Bidi", `{"text": "a"} {"text": "b"}`, `{"text":"a"}{"text":"b"}`, 0, ""},
	} {
		got := callBy(t, c.input, append([]string{url, "culvert.e2e.v1.Probe/" + c.method, "-d", "@-"}, flags...)...)
		if strings.Join(strings.Fields(got.stdout), "") != c.stdout || got.code != c.code || !strings.Contains(got.stderr, c.stderr) || c.stderr == "" && got.stderr != "" {
			t.Errorf("%s %s %q: %+v", c.method, c.input, flags, got)
		}
	}
}

// TestCallAgainstGRPCGo: without culvert between, with reflection.
func TestCallAgainstGRPCGo(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	for _, via := range []string{"grpc", "auto"} {
		got := callBy(t, "", "http://"+b.address, "list", "--via", via)
		if got.code != 0 || !strings.Contains(got.stdout, "culvert.e2e.v1.Probe\n") {
			t.Errorf("list by %s: %+v", via, got)
		}
		got = callBy(t, "", "http://"+b.address, "culvert.e2e.v1.Probe.Unary", "--via", via)
		if got.code != 0 || got.stderr != "" {
			t.Errorf("a call by %s: %+v", via, got)
		}
	}
	// It doesn't speak HTTP/1.1, and the error says so.
	got := callBy(t, "", "http://"+b.address, "list", "--via", "grpc-web", "--max-time", "30s")
	if got.code != 1 || !strings.HasPrefix(got.stderr, "culvert: ") {
		t.Errorf("list by grpc-web: %+v", got)
	}
}

// TestCallAgainstNode: a server without reflection.
func TestCallAgainstNode(t *testing.T) {
	t.Parallel()
	p := startProcess(t, "node", "", "node", "node/server-grpc-js.js")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	line, _, err := p.output.find(ctx, 0, func(l string) bool { return strings.HasPrefix(l, "listening ") })
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(line, "listening ")
	got := callBy(t, "", "http://"+address, "culvert.e2e.v1.Probe/Unary", "--via", "grpc")
	if got.code != 1 || !strings.Contains(got.stderr, "the server has no reflection") || !strings.Contains(got.stderr, "--protoset FILE") {
		t.Errorf("without descriptors: %+v", got)
	}
	set := probeSet(t)
	probes(t, "http://"+address, "--via", "grpc", "--protoset", set)
	c := startCulvert(t, address, culvertOptions{})
	for _, via := range []string{"auto", "grpc-web", "grpc-web-text", "connect", "websocket", "h2ts"} {
		probes(t, "http://"+c.address, "--via", via, "--protoset", set)
	}
}

// TestCallAgainstConnectGo: a server that speaks Connect, gRPC-Web and gRPC itself.
func TestCallAgainstConnectGo(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	const service = "/culvert.e2e.v1.Probe/"
	mux.Handle(service+"Unary", connect.NewUnaryHandlerSimple(service+"Unary", func(_ context.Context, r *e2epb.Request) (*e2epb.Reply, error) {
		if r.GetText() == "no" {
			return nil, connect.NewError(connect.CodeNotFound, errors.New("no café"))
		}
		return &e2epb.Reply{Text: r.GetText()}, nil
	}))
	mux.Handle(service+"ServerStream", connect.NewServerStreamHandler(service+"ServerStream", func(_ context.Context, r *connect.Request[e2epb.Request], s *connect.ServerStream[e2epb.Reply]) error {
		for i := range uint64(3) {
			if err := s.Send(&e2epb.Reply{Sequence: i, Text: r.Msg.GetText()}); err != nil {
				return err
			}
		}
		return nil
	}))
	mux.Handle(service+"ClientStream", connect.NewClientStreamHandler(service+"ClientStream", func(_ context.Context, s *connect.ClientStream[e2epb.Request]) (*connect.Response[e2epb.Reply], error) {
		received := uint64(0)
		for s.Receive() {
			received++
		}
		return connect.NewResponse(&e2epb.Reply{Received: received}), s.Err()
	}))
	mux.Handle(service+"Bidi", connect.NewBidiStreamHandler(service+"Bidi", func(_ context.Context, s *connect.BidiStream[e2epb.Request, e2epb.Reply]) error {
		for {
			r, err := s.Receive()
			if err != nil { // io.EOF is the half-close
				return nil
			}
			if err := s.Send(&e2epb.Reply{Text: r.GetText()}); err != nil {
				return err
			}
		}
	}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: mux, Protocols: protocols}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // until Close
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	url, set := "http://"+ln.Addr().String(), probeSet(t)
	probes(t, url, "--via", "grpc", "--protoset", set)
	for _, via := range []string{"grpc-web", "connect", "connect-json"} {
		// connect-go refuses bidirectional streams over HTTP/1.1.
		got := callBy(t, "{}", url, "culvert.e2e.v1.Probe/Bidi", "-d", "@-", "--via", via, "--protoset", set)
		if got.code != 1 || !strings.Contains(got.stderr, "505") {
			t.Errorf("%s: a bidirectional stream: %+v", via, got)
		}
		for _, c := range []struct{ method, input, stdout string }{
			{"Unary", `{"text": "é"}`, `{"text":"é"}`},
			{"ServerStream", `{"text": "x"}`, `{"text":"x"}{"sequence":"1","text":"x"}{"sequence":"2","text":"x"}`},
			{"ClientStream", `{} {"text": "x"} {}`, `{"received":"3"}`},
		} {
			got := callBy(t, c.input, url, "culvert.e2e.v1.Probe/"+c.method, "-d", "@-", "--via", via, "--protoset", set)
			if strings.Join(strings.Fields(got.stdout), "") != c.stdout || got.code != 0 || got.stderr != "" {
				t.Errorf("%s %s: %+v", via, c.method, got)
			}
		}
		if got := callBy(t, `{"text": "no"}`, url, "culvert.e2e.v1.Probe/Unary", "-d", "@-", "--via", via, "--protoset", set); got.code != 69 || !strings.Contains(got.stderr, "NOT_FOUND (5): no café") {
			t.Errorf("%s: an error: %+v", via, got)
		}
	}
	// Unary JSON needs no descriptors; a stream does.
	if got := callBy(t, "", url, "culvert.e2e.v1.Probe/Unary", "-d", `{"text": "x"}`, "--via", "connect-json"); got.code != 0 || !strings.Contains(got.stdout, `"text": "x"`) {
		t.Errorf("JSON without descriptors: %+v", got)
	}
	if got := callBy(t, "", url, "culvert.e2e.v1.Probe/ServerStream", "-d", `{}`, "--via", "connect-json"); got.code != 1 || !strings.Contains(got.stderr, "--protoset FILE") {
		t.Errorf("a stream in JSON without descriptors: %+v", got)
	}
}

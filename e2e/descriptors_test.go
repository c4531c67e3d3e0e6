package e2e

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/culvert-grpc/culvert/e2e/e2epb"
	"github.com/culvert-grpc/culvert/e2e/probe"
	"github.com/culvert-grpc/culvert/e2e/wire"
)

// TestDescriptorsFromAFile: before a backend without reflection, JSON passes as soon as
// the file has its methods, and a broken file changes nothing. A stream of the same backend
// goes on all the while, on the only connection.
func TestDescriptorsFromAFile(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{quiet: true})
	file := filepath.Join(t.TempDir(), "probe.binpb")
	replaceFile(t, file, descriptorSet(t, healthpb.File_grpc_health_v1_health_proto))
	c := startCulvert(t, b.address, culvertOptions{config: fmt.Sprintf("backend: {descriptors: %q}\n", file)})
	stream := open(t, dial(t, wire.GRPC, c.address), wire.Bidi, probe.Script{Echo: true})
	say(t, stream, 0)

	if status, body := postJSON(t, c, `{"text":"hello"}`); status != 415 || !strings.Contains(body, "descriptors") {
		t.Errorf("with the descriptors of another backend: %d %s", status, body)
	}
	replaceFile(t, file, descriptorSet(t, e2epb.File_probe_proto))
	c.logged(t, "descriptors reloaded", "file")
	if status, body := postJSON(t, c, `{"text":"hello"}`); status != 200 || !strings.Contains(body, `"text":"hello"`) {
		t.Errorf("with the backend's descriptors: %d %s", status, body)
	}
	say(t, stream, 1)
	replaceFile(t, file, []byte("message Request {}"))
	line := c.logged(t, "descriptors not reloaded", "cause")
	if cause := fmt.Sprint(line["cause"]); !strings.Contains(cause, "proxy.yaml:1: backend.descriptors: "+file) || !strings.Contains(cause, "protoc --include_imports") {
		t.Errorf("the log says of the broken file: %v", line)
	}
	if status, body := postJSON(t, c, `{"text":"hello"}`); status != 200 || !strings.Contains(body, `"text":"hello"`) {
		t.Errorf("after the file broke: %d %s", status, body)
	}
	say(t, stream, 2)
	if n := b.connections(t); n != 1 {
		t.Errorf("the backend has %d connections, want 1", n)
	}
}

// descriptorSet returns what protoc writes for a file with --include_imports.
func descriptorSet(t testing.TB, of protoreflect.FileDescriptor) []byte {
	t.Helper()
	all := &descriptorpb.FileDescriptorSet{}
	for i := range of.Imports().Len() {
		all.File = append(all.File, protodesc.ToFileDescriptorProto(of.Imports().Get(i)))
	}
	all.File = append(all.File, protodesc.ToFileDescriptorProto(of))
	data, err := proto.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// postJSON makes a unary call as curl does, which the backend answers with its request.
func postJSON(t testing.TB, c *culvert, message string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+c.address+"/culvert.e2e.v1.Probe/Unary", strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(probe.ScriptKey, probe.Script{Echo: true}.String())
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

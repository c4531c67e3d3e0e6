package files

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/culvert-grpc/culvert/bridge"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/cmdtest"
	"github.com/culvert-grpc/culvert/cmd/culvert/internal/wiring"
	"github.com/culvert-grpc/culvert/config"
)

const echoes = "grpc.testing.TestService"

// TestBackendsKeepTheirDescriptors: a reload makes another source for a backend with
// another file alone, one that fails takes everything back, and backends share a file.
func TestBackendsKeepTheirDescriptors(t *testing.T) {
	t.Chdir(t.TempDir())
	data, err := cmdtest.DescriptorSet(testpb.File_grpc_testing_test_proto)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.binpb", "b.binpb"} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(backends string) *config.Loaded { return cmdtest.Load(t, "backends: ["+backends+"]") }
	here := func(file string) string { return "descriptors: " + absolute(t, file) + "}" }
	var (
		users  = "{name: default, address: users:9000, " + here("a.binpb")
		orders = "{name: orders, address: orders:9000, " + here("a.binpb")
		other  = "{name: orders, address: orders:9000, " + here("b.binpb")
		asked  = "{name: orders, address: orders:9000}"
	)
	first := load(users + "," + orders)
	d, err := OpenDescriptors(first, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	sources := func(c *config.Loaded) map[string]bridge.DescriptorSource {
		backends, all := wiring.Bridge(c).Backends, map[string]bridge.DescriptorSource{}
		d.Describe(backends, c)
		for _, b := range backends {
			all[b.Name] = b.Descriptors
		}
		return all
	}
	before := sources(first)
	if before["default"] == nil || before["default"] != before["orders"] {
		t.Fatalf("the backends have %v", before)
	}
	if services := before["default"].Descriptors().Services(); !slices.Contains(services, echoes) {
		t.Errorf("the services are %q", services)
	}
	for _, step := range []struct {
		what  string
		next  *config.Loaded
		order bool // whether orders keeps its source
	}{
		{"another order", load(orders + "," + users), true},
		{"another file", load(users + "," + other), false},
		{"reflection", load(users + "," + asked), false},
	} {
		_, undo, err := d.Change(first, step.next)
		if err != nil {
			t.Fatal(err)
		}
		now := sources(step.next)
		if now["default"] != before["default"] || (now["orders"] == before["orders"]) != step.order || (now["orders"] == nil) != (step.what == "reflection") {
			t.Errorf("%s: %v, before %v", step.what, now, before)
		}
		undo()
		if again := sources(first); again["default"] != before["default"] || again["orders"] != before["orders"] {
			t.Errorf("%s, undone: %v, want %v", step.what, again, before)
		}
	}
	if _, _, err := d.Change(first, load(users+", {name: orders, address: orders:9000, "+here("c.binpb"))); err == nil || !strings.Contains(err.Error(), "backends[1].descriptors: ") || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that isn't there: %v", err)
	}
	if again := sources(first); again["orders"] != before["orders"] {
		t.Errorf("after a reload that failed: %v, want %v", again, before)
	}
}

func absolute(t *testing.T, file string) string {
	t.Helper()
	path, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDescriptorFileThatGoesBad: the version before stays, the log says each problem once
// unless somebody asks, and /readyz has it until it is solved.
func TestDescriptorFileThatGoesBad(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(data string) {
		if err := os.WriteFile("a.binpb", []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	right, err := cmdtest.DescriptorSet(testpb.File_grpc_testing_test_proto)
	if err != nil {
		t.Fatal(err)
	}
	write(string(right))
	var out bytes.Buffer
	c := cmdtest.Load(t, "backend: {address: users:9000, descriptors: "+absolute(t, "a.binpb")+"}")
	d, err := OpenDescriptors(c, slog.New(slog.NewTextHandler(&out, nil)))
	if err != nil {
		t.Fatal(err)
	}
	source := d.all()[absolute(t, "a.binpb")]
	first := source.Descriptors()
	for _, step := range []struct {
		what, data string
		asked      bool
		says       string // in the one line of the log; "": there is none
		problem    string
		same       bool // the descriptors are those of the step before
	}{
		{"the same", string(right), false, "", "", true},
		{"the same, asked", string(right), true, `msg="descriptors reloaded"`, "", true},
		{"no descriptors", "syntax", false, "level=WARN", "not a FileDescriptorSet", true},
		{"as before", "syntax", false, "", "not a FileDescriptorSet", true},
		{"as before, asked", "syntax", true, "level=WARN", "not a FileDescriptorSet", true},
		{"empty", "", false, "level=WARN", "has no descriptors", true},
		{"solved", string(right), false, "msg=\"solved", "", true},
		{"other bytes", string(right) + string(right), false, `msg="descriptors reloaded"`, "", false},
	} {
		out.Reset()
		write(step.data)
		d.update(step.asked)
		lines := strings.Count(out.String(), "\n")
		if step.says == "" && lines != 0 || step.says != "" && (lines != 1 || !strings.Contains(out.String(), step.says)) {
			t.Errorf("%s: the log has %q, want %q", step.what, &out, step.says)
		}
		problems := strings.Join(d.Problems(), "\n")
		if (problems != "") != (step.problem != "") || !strings.Contains(problems, step.problem) || step.problem != "" && !strings.Contains(problems, "backend.descriptors: ") {
			t.Errorf("%s: the problems are %q, want %q", step.what, problems, step.problem)
		}
		now := source.Descriptors()
		if services := now.Services(); (now == first) != step.same || !slices.Contains(services, echoes) {
			t.Errorf("%s: other descriptors, or wrong ones: %q", step.what, services)
		}
	}
}

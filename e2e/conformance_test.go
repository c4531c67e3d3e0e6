package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A conformanceRun is one run of connectrpc.com/conformance. Its runner has one end
// of the calls. The other end is a program of the suite with culvert in front of it.
type conformanceRun struct {
	name string
	mode string // of e2e/conformance: which end the program is
	// The features of that end and culvert select the cases.
	features []string
	args     []string // of e2e/conformance
	program  string
	place    string // of @culvert/web, in place of program: node or chromium
	convert  bool   // JSON, by the descriptors of the suite's service, which the program can't give
	cases    int    // that the features select
	differs  []conformanceDiffers
}

var conformanceRuns = []conformanceRun{
	{
		name: "in front of grpc-go", mode: "server", program: "grpcserver", cases: 1310 + 880,
		features: append(conformanceFeatures, conformanceProtocols, "codecs: [CODEC_PROTO]", "supportsConnectGet: false"),
		differs:  append(conformanceRequests, conformanceOfGRPCServer...),
	},
	{
		name: "in front of grpc-go, with JSON", mode: "server", program: "grpcserver", cases: 736, convert: true,
		features: append(conformanceFeatures, "protocols: [PROTOCOL_CONNECT]", "codecs: [CODEC_JSON]", "supportsConnectGet: false"),
		differs:  []conformanceDiffers{conformanceDeadlines},
	},
	{
		name: "in front of connect-go", mode: "server", program: "referenceserver", cases: 2196 + 1624,
		features: append(conformanceFeatures, conformanceProtocols, "codecs: [CODEC_PROTO, CODEC_JSON]"),
		differs:  append(conformanceRequests, conformanceOfConnectServer...),
	},
	// The suite's servers here also give answers that no library gives.
	{
		name: "odd servers called by grpc-go", mode: "client", program: "grpcclient", cases: 409,
		features: append(conformanceOddServers, "codecs: [CODEC_PROTO]", "supportsTls: false"),
		differs:  append(conformanceAnswers, conformanceOfGRPCClient...),
	},
	{
		name: "odd servers called by connect-go", mode: "client", program: "referenceclient", cases: 1052,
		features: append(conformanceOddServers, "codecs: [CODEC_PROTO, CODEC_JSON]", "supportsTlsClientCerts: true"),
		differs:  append(conformanceAnswers, conformanceOfConnectClient...),
	},
	{
		name: "odd servers called by gRPC-Web", mode: "client", program: "referenceclient", cases: 611,
		args:     []string{"-protocol", "grpc-web"},
		features: append(conformanceOddServers, "codecs: [CODEC_PROTO, CODEC_JSON]", "supportsTls: false"),
		differs:  append(conformanceAnswers, conformanceOfConnectClient...),
	},
	{
		name: "odd servers called by gRPC-Web over HTTP/1.1", mode: "client", program: "referenceclient", cases: 611,
		args:     []string{"-protocol", "grpc-web", "-http", "1"},
		features: append(conformanceOddServers, "codecs: [CODEC_PROTO, CODEC_JSON]", "supportsTls: false"),
		differs:  append(conformanceAnswers, conformanceOfConnectClient...),
	},
	{
		name: "odd servers called by Connect", mode: "client", program: "referenceclient", cases: 611,
		args:     []string{"-protocol", "connect"},
		features: append(conformanceOddServers, "codecs: [CODEC_PROTO, CODEC_JSON]", "supportsTls: false"),
		differs:  slices.Concat(conformanceAnswers, conformanceOfConnectClient, conformanceConnectAnswers),
	},
	{
		name: "odd servers called by Connect over HTTP/1.1", mode: "client", program: "referenceclient", cases: 611,
		args:     []string{"-protocol", "connect", "-http", "1"},
		features: append(conformanceOddServers, "codecs: [CODEC_PROTO, CODEC_JSON]", "supportsTls: false"),
		differs:  slices.Concat(conformanceAnswers, conformanceOfConnectClient, conformanceConnectAnswers),
	},
	{
		name: "odd servers called by the npm package in Node", mode: "client", place: "node", cases: 409,
		features: append(conformanceOddServers, "codecs: [CODEC_PROTO]", "supportsTls: false"),
		differs:  conformanceAnswers,
	},
	{
		name: "odd servers called by the npm package in Chromium", mode: "client", place: "chromium", cases: 409,
		features: append(conformanceOddServers, "codecs: [CODEC_PROTO]", "supportsTls: false"),
		differs:  conformanceAnswers,
	},
}

const conformanceProtocols = "protocols: [PROTOCOL_CONNECT, PROTOCOL_GRPC, PROTOCOL_GRPC_WEB]"

// conformanceConfig is culvert's configuration in all runs but one.
const conformanceConfig = `
allow_origins: ["http://127.0.0.1:*"]
connect:
  json: pass
  get: [connectrpc.conformance.v1.ConformanceService/IdempotentUnary]
`

// TestPublicConformance runs the public conformance suite of Connect, gRPC and
// gRPC-Web.
func TestPublicConformance(t *testing.T) {
	program := filepath.Join(t.TempDir(), "conformance")
	if err := goBuild(".", program, "./conformance"); err != nil {
		t.Fatal(err)
	}
	for _, r := range conformanceRuns {
		t.Run(r.name, func(t *testing.T) { r.run(t, program) })
	}
}

var (
	conformanceTotal    = regexp.MustCompile(`Total cases: (\d+)\n(\d+) passed, (\d+) failed`)
	conformanceAsListed = regexp.MustCompile(`Another (\d+) failed as expected`)
	// A case that failed, and the lines of its reasons.
	conformanceFailure = regexp.MustCompile(`(?m)^(FAILED|INFO): (.*)\n((?:\t.*\n)*)`)
)

// run runs the suite. The runner fails for a case that fails and isn't listed, and
// for one that passes and is listed as failing.
func (r conformanceRun) run(t *testing.T, program string) {
	text := conformanceConfig
	if r.convert {
		text = "backend:\n  descriptors: " + conformanceDescriptors(t, program) + "\n"
	}
	features, config := filepath.Join(t.TempDir(), "features.yaml"), filepath.Join(t.TempDir(), "proxy.yaml")
	err := errors.Join(os.WriteFile(features, []byte("features:\n  "+strings.Join(r.features, "\n  ")+"\n"), 0o600),
		os.WriteFile(config, []byte(text), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	argv := []string{tool(t, "connectconformance"), "--mode", r.mode, "--conf", features}
	for _, d := range r.differs {
		argv = append(argv, d.flag(), d.cases)
	}
	argv = append(append(argv, "--", program, "-config", config), r.args...)
	argv = append(argv, r.mode, culvertProgram)
	if r.place != "" {
		script, err := filepath.Abs("node/conformance.js")
		if err != nil {
			t.Fatal(err)
		}
		argv = append(argv, "node", script, r.place, conformanceDescriptors(t, program))
	} else {
		argv = append(argv, tool(t, r.program))
	}
	p := startProcess(t, "connectconformance", "", argv...)
	code := p.wait(t, 2*time.Minute)

	output := strings.Join(p.output.all(), "\n") + "\n"
	for _, f := range conformanceFailure.FindAllStringSubmatch(output, -1) {
		if f[1] == "FAILED" || !r.knows(f[3]) {
			t.Errorf("%s\n%s", f[2], f[3])
		}
	}
	total := conformanceTotal.FindStringSubmatch(output)
	if total == nil || code != 0 {
		t.Fatalf("connectconformance exits with %d", code)
	}
	passed, listed := conformanceNumber(total[2]), 0
	if m := conformanceAsListed.FindStringSubmatch(output); m != nil {
		listed = conformanceNumber(m[1])
	}
	if passed+listed != r.cases {
		t.Errorf("%d cases pass and %d fail as listed, want %d cases together", passed, listed, r.cases)
	}
	t.Logf("%d cases pass, %d fail as listed", passed, listed)
}

// conformanceDescriptors returns a file with the descriptors of the suite's service.
func conformanceDescriptors(t *testing.T, program string) string {
	t.Helper()
	module, err := exec.Command("go", "-C", "../tools", "list", "-m", "-f", "{{.Dir}}", "connectrpc.com/conformance").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	file := filepath.Join(t.TempDir(), "suite.binpb")
	if text, err := exec.Command(program, "descriptors", strings.TrimSpace(string(module)), file).CombinedOutput(); err != nil {
		t.Fatalf("conformance descriptors: %v\n%s", err, text)
	}
	return file
}

// knows reports whether the complaints about a listed case are listed, too: a case whose
// status is culvert's must still have the right code, for example.
func (r conformanceRun) knows(complaints string) bool {
	for line := range strings.Lines(complaints) {
		if !slices.ContainsFunc(r.differs, func(d conformanceDiffers) bool { return strings.HasPrefix(strings.TrimSpace(line), d.says) }) {
			return false
		}
	}
	return true
}

// tool returns the path of one of the tools of the module tools, built.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.Command("../tools/tool.sh", name).Output()
	if err != nil {
		t.Fatalf("tools/tool.sh %s: %v", name, err)
	}
	return strings.TrimSpace(string(path))
}

// conformanceNumber is for what \d+ has matched.
func conformanceNumber(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	return n
}

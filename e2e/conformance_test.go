package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	cases    int // that the features select
	differs  []conformanceDiffers
}

var conformanceRuns = []conformanceRun{
	{
		name: "in front of grpc-go", mode: "server", program: "grpcserver", cases: 1310,
		features: append(conformanceFeatures, "codecs: [CODEC_PROTO]"),
		differs:  append(conformanceRequests, conformanceOfGRPCServer...),
	},
	{
		name: "in front of connect-go", mode: "server", program: "referenceserver", cases: 2196,
		features: append(conformanceFeatures, "codecs: [CODEC_PROTO, CODEC_JSON]"),
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
}

// TestPublicConformance runs the public conformance suite of gRPC and gRPC-Web.
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
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte("features:\n  "+strings.Join(r.features, "\n  ")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	argv := []string{conformanceTool(t, "connectconformance"), "--mode", r.mode, "--conf", config}
	for _, d := range r.differs {
		argv = append(argv, d.flag(), d.cases)
	}
	argv = append(append(argv, "--", program), r.args...)
	p := startProcess(t, "connectconformance", "", append(argv, r.mode, culvertProgram, conformanceTool(t, r.program))...)
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

// knows reports whether the reasons of a listed case are among the listed reasons.
// A case whose status is culvert's must still have the right code, for example.
func (r conformanceRun) knows(reasons string) bool {
	for _, d := range r.differs {
		if strings.HasPrefix(strings.TrimSpace(reasons), d.says) && strings.Count(reasons, "\n") == 1 {
			return true
		}
	}
	return false
}

// conformanceTool returns the path of a program of the suite.
func conformanceTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.Command("go", "-C", "../tools", "tool", "-n", name).Output()
	if err != nil {
		t.Fatalf("go tool -n %s: %v", name, err)
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

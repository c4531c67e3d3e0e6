package e2e

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

// TestConnectInNode makes calls with the Connect transports of connect-node and
// connect-web. They send JSON by default.
func TestConnectInNode(t *testing.T) {
	t.Parallel()
	b := startBackend(t, backendOptions{})
	c := startCulvert(t, b.address, culvertOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "connect.js", "http://"+c.address)
	cmd.Dir = "node"
	output, err := cmd.CombinedOutput() // it ends by itself, or with ctx
	if err != nil {
		t.Fatalf("node: %v\n%s", err, output)
	}
	want := strings.TrimSpace(`
connect-node http1 unary ok
connect-node http1 error NotFound
connect-node http1 server stream FailedPrecondition 3
connect-node http1 client stream 3n
connect-node h2c unary ok
connect-node h2c error NotFound
connect-node h2c server stream FailedPrecondition 3
connect-node h2c client stream 3n
connect-node h2c bidi 3
connect-node json unary ok
connect-node json error NotFound
connect-node json server stream FailedPrecondition 3
connect-node json client stream 3n
connect-node json bidi 3
connect-web unary ok
connect-web error NotFound
connect-web server stream FailedPrecondition 3
connect-web json unary ok
connect-web json error NotFound
connect-web json server stream FailedPrecondition 3`)
	if got := strings.TrimSpace(string(output)); got != want {
		t.Errorf("node wrote\n%s\nwant\n%s", got, want)
	}
}

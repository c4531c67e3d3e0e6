package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// patience is how long a test waits for what takes seconds on a busy machine.
const patience = time.Minute

// controllersRun waits until controllers do their work.
func controllersRun(ctx context.Context) error {
	return controlplane.AwaitAccount(ctx, kube, metav1.NamespaceDefault)
}

// makeNamespace makes a namespace that ends with the test. Labels are pairs.
func makeNamespace(t *testing.T, labels ...string) string {
	t.Helper()
	by := map[string]string{}
	for i := 0; i < len(labels); i += 2 {
		by[labels[i]] = labels[i+1]
	}
	ns, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: by}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The controllers go on with it while other tests run.
		if err := kube.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := controlplane.AwaitAccount(ctx, kube, ns.Name); err != nil {
		t.Fatalf("no account in %s: %v", ns.Name, err)
	}
	return ns.Name
}

// An outcome is what a command has said.
type outcome struct {
	stdout, stderr string
	err            error
}

func (o outcome) String() string {
	if o.err != nil {
		return o.err.Error() + "\n" + o.stdout + o.stderr
	}
	return o.stdout + o.stderr
}

// runProgram runs a program to its end.
func runProgram(t *testing.T, stdin []byte, name string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), programs[name], args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	return outcome{stdout.String(), stderr.String(), err}
}

// kubectl runs kubectl as a user who may do everything.
func kubectl(t *testing.T, stdin []byte, args ...string) outcome {
	t.Helper()
	cacheDir := filepath.Join(filepath.Dir(cluster.Admin), "kubectl")
	return runProgram(t, stdin, "kubectl", append([]string{"--kubeconfig", cluster.Admin, "--cache-dir", cacheDir}, args...)...)
}

// dryRun has the API server check manifests, which may not have unknown fields, and
// make nothing.
func dryRun(t *testing.T, verb string, manifests []byte, args ...string) outcome {
	t.Helper()
	return kubectl(t, manifests, append([]string{verb, "--dry-run=server", "--validate=strict", "-f", "-"}, args...)...)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// has reports whether the text has all the words.
func has(text string, words ...string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// eventually calls check until it succeeds. It is for what the API server notices
// without telling, such as a new webhook.
func eventually(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not after %v: %v", what, patience, err)
		case <-again.C:
		}
	}
}

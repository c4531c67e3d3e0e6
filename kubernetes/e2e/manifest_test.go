package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// oddities are the manifests that the API server refuses with and without culvert,
// and what it says of them.
var oddities = map[string]string{
	"documents.in.yaml": `unknown field "x-ports"`,
	"pod.in.yaml":       `unknown field "spec.containers[0].futureField"`,
	"pod.in.json":       `unknown field "spec.big"`,
	"podlist.in.json":   `spec.containers[0].image: Required value`,
}

// TestManifestsWithCulvertAreAccepted gives the results of inject to a real API
// server. It refuses those only that it refuses without culvert, with the same words.
func TestManifestsWithCulvertAreAccepted(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../manifest/testdata/*.in.*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d manifests: %v", len(files), err)
	}
	makeShop(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			without := dryRun(t, "create", read(t, file))
			with := dryRun(t, "create", read(t, strings.Replace(file, ".in.", ".out.", 1)))
			odd, refused := oddities[filepath.Base(file)]
			switch {
			case !refused && (without.err != nil || with.err != nil):
				t.Errorf("want both accepted:\n%s\nwith culvert:\n%s", without, with)
			case refused && !strings.Contains(without.stderr, odd):
				t.Errorf("want %q in:\n%s", odd, without)
			case without.stderr != with.stderr:
				t.Errorf("with culvert the API server says:\n%s\nwithout:\n%s", with.stderr, without.stderr)
			}
		})
	}
}

// restrictedPod is a pod that the policy "restricted" of Pod Security accepts.
const restrictedPod = `apiVersion: v1
kind: Pod
metadata:
  name: orders
  labels: {culvert.dev/inject: enabled}
  annotations: {ANNOTATIONS}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: orders
      image: orders:1
      ports: [{name: grpc, containerPort: 9000}]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`

// annotated are annotations that a pod may have without the injector's permission.
var annotated = map[string]string{
	"none":          ``,
	"ports":         `culvert.dev/backend-port: "9000", culvert.dev/listen-port: "8080"`,
	"configuration": `culvert.dev/config: orders-proxy`,
	"limits":        `culvert.dev/allow_origins: "https://a.example.com https://b.example.com", culvert.dev/limits.message_bytes: 4MiB, culvert.dev/drain_timeout: 90s`,
}

// TestInjectedPodsAreRestricted has pods in a namespace with Pod Security's strictest
// policy.
func TestInjectedPodsAreRestricted(t *testing.T) {
	t.Parallel()
	namespace := makeNamespace(t, "pod-security.kubernetes.io/enforce", "restricted")
	for name, annotations := range annotated {
		t.Run(name, func(t *testing.T) {
			pod := strings.Replace(restrictedPod, "ANNOTATIONS", annotations, 1)
			injected := runProgram(t, []byte(pod), "culvert-kube", "inject", "-f", "-", "--sidecar-image", "culvert:1.0.0")
			if injected.err != nil || !has(injected.stdout, "restartPolicy: Always") {
				t.Fatal(injected)
			}
			if o := dryRun(t, "create", []byte(injected.stdout), "--namespace", namespace); o.err != nil {
				t.Error(o)
			}
			// Without culvert's own security context the policy refuses the pod.
			loose := strings.ReplaceAll(injected.stdout, "runAsUser: 65532", "runAsUser: 0")
			if o := dryRun(t, "create", []byte(loose), "--namespace", namespace); o.err == nil || !has(o.stderr, `violates PodSecurity "restricted`, `"culvert"`) {
				t.Errorf("culvert as root: %s", o)
			}
		})
	}
}

// TestExamplesAreAccepted has the examples for people to copy.
func TestExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../deploy/kubernetes/examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	makeShop(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if o := dryRun(t, "apply", read(t, file)); o.err != nil {
				t.Error(o)
			}
		})
	}
}

// makeShop makes the namespace of manifests that have it as a document of their own: a
// dry run doesn't make it.
func makeShop(t *testing.T) {
	t.Helper()
	_, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	if err != nil && !errors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

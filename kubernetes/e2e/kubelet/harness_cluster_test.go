package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// patience is how long a test waits for what takes seconds on a busy machine.
const patience = 2 * time.Minute

// install installs the injector as the guide does, and waits until pods get culvert. They
// may name Secrets.
func install(ctx context.Context, n *node) error {
	text, err := os.ReadFile(filepath.Join(root, "deploy/kubernetes/install.yaml"))
	if err != nil {
		return err
	}
	const spec = "    spec:\n      serviceAccountName:"
	if n := strings.Count(string(text), spec); n != 1 {
		return fmt.Errorf("install.yaml has %d pods with %q, want 1", n, spec)
	}
	manifest := strings.NewReplacer(
		spec, "    spec:\n      nodeName: "+nodeName+"\n      serviceAccountName:",
		"  injector.yaml: |\n", "  injector.yaml: |\n    allow: [{namespaces: ['*'], annotations: [tls-secret]}]\n",
		"culvert-kube:"+released, "culvert-kube:"+version,
		"culvert:"+released, "culvert:"+version,
	).Replace(string(text))
	if err := n.kubectl([]byte(manifest), "apply", "--validate=strict", "-f", "-"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the injector isn't ready"))
	defer cancel()
	if err := rolledOut(ctx, "culvert-system", "culvert-injector"); err != nil {
		return errors.Join(context.Cause(ctx), err, errors.New(describe("culvert-system")))
	}
	return nil
}

// uninstall removes the injector, and waits until the kubelet has ended all pods. Those
// that watch the API server would keep it from ending.
func uninstall(n *node) error {
	return errors.Join(
		n.kubectl(nil, "delete", "mutatingwebhookconfiguration/culvert-injector", "namespace/culvert-system", "--wait=false"),
		n.kubectl(nil, "wait", "--for=delete", "pods", "--all", "--all-namespaces", "--timeout", patience.String()),
	)
}

// kubectl runs kubectl as a user who may do everything.
func (n *node) kubectl(stdin []byte, args ...string) error {
	return output(stdin, append([]string{n.Programs["kubectl"], "--kubeconfig", cluster.Admin, "--cache-dir", filepath.Join(n.Dir, "kubectl")}, args...)...)
}

// released is the version of the images in install.yaml.
const released = "0.1.0"

// rolledOut waits until a Deployment has only pods of its newest template, and all are
// ready.
func rolledOut(ctx context.Context, namespace, name string) error {
	deployments := kube.AppsV1().Deployments(namespace)
	return controlplane.Await(ctx, &appsv1.Deployment{}, deployments.List, deployments.Watch, func(d *appsv1.Deployment) bool {
		want := *d.Spec.Replicas
		s := d.Status
		return d.Name == name && s.ObservedGeneration >= d.Generation && s.Replicas == want && s.UpdatedReplicas == want && s.AvailableReplicas == want
	})
}

// makeNamespace makes a namespace whose pods get culvert. It ends with the test.
func makeNamespace(t *testing.T) string {
	t.Helper()
	ns, err := kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "test-",
		Labels:       map[string]string{"culvert.dev/inject": "enabled", "pod-security.kubernetes.io/enforce": "restricted"},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(describe(ns.Name))
		}
		// Nobody calls these pods any more, so they needn't end slowly.
		if err := errors.Join(
			kube.CoreV1().Namespaces().Delete(context.Background(), ns.Name, metav1.DeleteOptions{}),
			kube.CoreV1().Pods(ns.Name).DeleteCollection(context.Background(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(1))}, metav1.ListOptions{}),
		); err != nil {
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

// describe returns the states of a namespace's pods, and what happened in it.
func describe(namespace string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var text strings.Builder
	pods, err := kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, p := range pods.Items {
		fmt.Fprintf(&text, "%s: %s %s\n", p.Name, p.Status.Phase, p.Status.Message)
		for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			fmt.Fprintf(&text, "  %s: ready %v, %d restarts, %v; before: %v\n", c.Name, c.Ready, c.RestartCount, &c.State, &c.LastTerminationState)
		}
	}
	events, err := kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	for _, e := range events.Items {
		fmt.Fprintf(&text, "%s %s: %s: %s\n", e.LastTimestamp.Format(time.TimeOnly), e.InvolvedObject.Name, e.Reason, e.Message)
	}
	return text.String()
}

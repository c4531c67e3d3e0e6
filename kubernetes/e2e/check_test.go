package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// checked are a service whose pods have culvert from the manifest, one whose pods
// were made without an injector, and one that is refused.
const checked = `apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  replicas: 2
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders, culvert.dev/inject: enabled}, annotations: {culvert.dev/config: orders-proxy}}
    spec:
      containers:
        - {name: orders, image: "orders:1", ports: [{name: grpc, containerPort: 9000}, {name: metrics, containerPort: 9090}]}
---
apiVersion: v1
kind: Service
metadata: {name: orders}
spec: {type: NodePort, selector: {app: orders}, ports: [{port: 9000, targetPort: grpc}]}
`

const unchecked = `apiVersion: apps/v1
kind: StatefulSet
metadata: {name: stock}
spec:
  serviceName: stock
  replicas: 1
  selector: {matchLabels: {app: stock}}
  template:
    metadata: {labels: {app: stock}}
    spec: {containers: [{name: stock, image: "stock:1", ports: [{name: grpc, containerPort: 9000}]}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
spec:
  schedule: "0 0 1 1 *"
  jobTemplate: {spec: {template: {metadata: {labels: {culvert.dev/inject: enabled}}, spec: {restartPolicy: Never, containers: [{name: report, image: "report:1"}]}}}}
`

// A finding is one of those that check prints in JSON.
type finding struct{ Severity, Object, Problem, Remedy, Manifest string }

// runCheck returns the findings and the exit code.
func runCheck(t *testing.T, kubeconfig string, args ...string) (found []finding, code int, said outcome) {
	t.Helper()
	said = runProgram(t, nil, "culvert-kube", append([]string{"check", "--kubeconfig", kubeconfig, "-o", "json"}, args...)...)
	if exit, ok := errors.AsType[*exec.ExitError](said.err); ok {
		code = exit.ExitCode()
	}
	var report struct{ Findings []finding }
	if code != 2 {
		if err := json.Unmarshal([]byte(said.stdout), &report); err != nil {
			t.Fatalf("%v in:\n%s", err, said)
		}
	}
	return report.Findings, code, said
}

// wantFinding returns the finding about an object whose problem has the text.
func wantFinding(t *testing.T, found []finding, severity, object, text string) finding {
	t.Helper()
	i := slices.IndexFunc(found, func(f finding) bool { return f.Object == object && strings.Contains(f.Problem, text) })
	if i < 0 || found[i].Severity != severity {
		t.Errorf("want %s: %s: %s, got %s", severity, object, text, listed(found))
		return finding{}
	}
	return found[i]
}

func listed(found []finding) string {
	var text strings.Builder
	for _, f := range found {
		fmt.Fprintf(&text, "\n  %s: %s: %s", f.Severity, f.Object, f.Problem)
	}
	return text.String()
}

// injectorFile returns the path of a file with the injector's configuration.
func injectorFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "injector.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// makeObjects makes the objects of manifests.
func makeObjects(t *testing.T, namespace, manifests string) {
	t.Helper()
	if made := kubectl(t, []byte(manifests), "create", "--validate=strict", "--namespace", namespace, "-f", "-"); made.err != nil {
		t.Fatal(made)
	}
}

// awaitPods waits until the controllers have made pods.
func awaitPods(t *testing.T, namespace string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pods, names := kube.CoreV1().Pods(namespace), map[string]bool{}
	if err := controlplane.Await(ctx, &corev1.Pod{}, pods.List, pods.Watch, func(p *corev1.Pod) bool {
		names[p.Name] = true
		return len(names) >= n
	}); err != nil {
		t.Fatalf("%d pods of %d: %v", len(names), n, err)
	}
}

// injectedByHand returns manifests with culvert.
func injectedByHand(t *testing.T, manifests string) string {
	t.Helper()
	done := runProgram(t, []byte(manifests), "culvert-kube", "inject", "-f", "-", "--sidecar-image", "culvert:1")
	if done.err != nil {
		t.Fatal(done)
	}
	return done.stdout
}

// TestCheckOfACluster looks at objects as the API server and its controllers make
// them, with all their defaults.
func TestCheckOfACluster(t *testing.T) {
	namespace := makeNamespace(t, "culvert.dev/inject", "enabled")
	makeObjects(t, namespace, injectedByHand(t, checked))
	makeObjects(t, namespace, unchecked)
	awaitPods(t, namespace, 3)
	orders, stock := "Deployment "+namespace+"/orders", "StatefulSet "+namespace+"/stock"

	found, code, said := runCheck(t, cluster.Admin, "-n", namespace, "--config", injectorFile(t, "image: culvert:1"))
	if code != 1 {
		t.Errorf("exit code %d, want 1: %s", code, said)
	}
	wantFinding(t, found, "error", orders, "the ConfigMap orders-proxy, which doesn't exist")
	wantFinding(t, found, "note", orders, "has culvert: culvert:1 (2 pods)")
	wantFinding(t, found, "warning", orders, "every pod of the cluster can reach the backend's port 9000")
	wantFinding(t, found, "warning", "Service "+namespace+"/orders", "past culvert, also from outside the cluster: it is a NodePort")
	wantFinding(t, found, "warning", stock, "pods without culvert: 1 of 1")
	wantFinding(t, found, "error", "CronJob "+namespace+"/report", "refused: no container has a port named grpc")
	for _, f := range found {
		if strings.Contains(f.Problem, "outdated") || strings.Contains(f.Problem, "not checked") {
			t.Errorf("%s: %s: the defaults that the API server sets are no difference", f.Object, f.Problem)
		}
	}

	// Another configuration makes them outdated.
	found, _, _ = runCheck(t, cluster.Admin, "-n", namespace, "--config", injectorFile(t, "image: culvert:2\nhealthPort: 15999"))
	wantFinding(t, found, "warning", orders, "culvert is outdated: the injector now sets image culvert:2, variable CULVERT_HEALTH_LISTEN, ports")

	// The remedies are accepted, and they are remedies.
	if made := kubectl(t, nil, "create", "configmap", "orders-proxy", "-n", namespace, "--from-literal=proxy.yaml="); made.err != nil {
		t.Fatal(made)
	}
	if moved := kubectl(t, nil, "patch", "service", "orders", "-n", namespace, "--type=json",
		"-p", `[{"op": "replace", "path": "/spec/ports/0/targetPort", "value": "culvert"}]`); moved.err != nil {
		t.Fatal(moved)
	}
	remedies := runProgram(t, nil, "culvert-kube", "check", "--kubeconfig", cluster.Admin, "-n", namespace, "-o", "yaml", "--fail-on", "never")
	makeObjects(t, namespace, remedies.stdout)
	found, _, _ = runCheck(t, cluster.Admin, "-n", namespace)
	for _, f := range found {
		if f.Manifest != "" || f.Object == orders && (f.Severity == "error" || strings.Contains(f.Problem, "can reach")) {
			t.Errorf("after the remedies: %s: %s: %s", f.Severity, f.Object, f.Problem)
		}
	}
}

// TestCheckOfFailingPods has the status that a kubelet would write.
func TestCheckOfFailingPods(t *testing.T) {
	namespace := makeNamespace(t)
	makeObjects(t, namespace, injectedByHand(t, checked))
	awaitPods(t, namespace, 2)
	pods, err := kube.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		pod := &pods.Items[i]
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
			Name: "culvert", RestartCount: 3,
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Message: "culvert: proxy.yaml: line 3: unknown key"}},
		}}
		if _, err := kube.CoreV1().Pods(namespace).UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	found, code, _ := runCheck(t, cluster.Admin, "-n", namespace)
	wantFinding(t, found, "error", "Deployment "+namespace+"/orders",
		"culvert doesn't run in 2 pods: CrashLoopBackOff: it ended with exit code 2: culvert: proxy.yaml: line 3: unknown key")
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
}

// TestCheckOfTheInjector finds the injector's own configuration, and that nothing
// serves its webhook.
func TestCheckOfTheInjector(t *testing.T) {
	namespace := makeNamespace(t)
	makeObjects(t, namespace, injectedByHand(t, checked))
	makeObjects(t, namespace, `apiVersion: v1
kind: ConfigMap
metadata: {name: injector}
data: {injector.yaml: "drainTimeout: 40s"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: injector}
spec:
  replicas: 0
  selector: {matchLabels: {app: injector}}
  template:
    metadata: {labels: {app: injector}}
    spec:
      containers:
        - name: injector
          image: culvert-kube:1
          args: [webhook, --sidecar-image=culvert:3, --config, /etc/injector/injector.yaml]
          volumeMounts: [{name: config, mountPath: /etc/injector}]
      volumes: [{name: config, configMap: {name: injector}}]
`)
	awaitPods(t, namespace, 2)
	ignore, none := admissionv1.Ignore, admissionv1.SideEffectClassNone
	hook, err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "check-"},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name:                    "check.inject.culvert.dev",
			ClientConfig:            admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: namespace, Name: "injector"}},
			FailurePolicy:           &ignore,
			SideEffects:             &none,
			AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(context.Background(), hook.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	found, _, _ := runCheck(t, cluster.Admin, "-n", namespace)
	object := "MutatingWebhookConfiguration " + hook.Name
	wantFinding(t, found, "error", object, "check.inject.culvert.dev: the caBundle is empty: pods that ask for culvert start without it")
	wantFinding(t, found, "error", object, "the Service "+namespace+"/injector has no ready endpoint")
	wantFinding(t, found, "note", object, "failurePolicy is Ignore")
	wantFinding(t, found, "warning", "Deployment "+namespace+"/orders", "culvert is outdated: the injector now sets image culvert:3, variable CULVERT_DRAIN_TIMEOUT")
}

// TestCheckReadsAllPages has more policies than a page. Only the last one closes the
// backend's port.
func TestCheckReadsAllPages(t *testing.T) {
	namespace := makeNamespace(t)
	makeObjects(t, namespace, injectedByHand(t, checked))
	for i := range 501 {
		policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("policy-%03d", i)}}
		policy.Spec.PodSelector.MatchLabels = map[string]string{"app": "other"}
		if i == 500 {
			policy.Spec.PodSelector.MatchLabels["app"] = "orders"
		}
		if _, err := kube.NetworkingV1().NetworkPolicies(namespace).Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	found, _, _ := runCheck(t, cluster.Admin, "-n", namespace)
	wantFinding(t, found, "error", "Deployment "+namespace+"/orders", "the NetworkPolicy policy-500 closes culvert's port 15080")
}

// TestCheckNamesMissingRights reads with the rights of somebody who may see a part of
// a namespace, and of somebody who may see nothing.
func TestCheckNamesMissingRights(t *testing.T) {
	namespace := makeNamespace(t)
	makeObjects(t, namespace, injectedByHand(t, checked))
	user := namespace + "-viewer"
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "viewer"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{appsv1.GroupName}, Resources: []string{"deployments"}, Verbs: []string{"list"}}},
	}
	if _, err := kube.RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "viewer"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "viewer"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	}
	if _, err := kube.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	viewer, err := cluster.Kubeconfig(user, user)
	if err != nil {
		t.Fatal(err)
	}
	// The authorizer reads new rights from a watch.
	allowed := []string{"auth", "can-i", "list", "deployments", "--namespace", namespace, "--as", user}
	for kubectl(t, nil, allowed...).err != nil {
		if t.Context().Err() != nil {
			t.Fatal("the rights never came")
		}
	}
	found, _, said := runCheck(t, viewer, "-n", namespace)
	for kind, right := range map[string]string{
		"Namespace":                    `grant the verb get on the resource namespaces of the API group "", by a ClusterRole`,
		"Pod":                          `grant the verb list on the resource pods of the API group "", by a Role in the namespace ` + namespace,
		"NetworkPolicy":                `grant the verb list on the resource networkpolicies of the API group "networking.k8s.io", by a Role in the namespace ` + namespace,
		"MutatingWebhookConfiguration": `grant the verb list on the resource mutatingwebhookconfigurations of the API group "admissionregistration.k8s.io", by a ClusterRole`,
	} {
		wantFinding(t, found, "warning", kind, right)
	}
	wantFinding(t, found, "note", "Deployment "+namespace+"/orders", "has culvert: culvert:1")
	if t.Failed() {
		t.Log(said)
	}

	nobody, err := cluster.Kubeconfig(namespace+"-nobody", namespace+"-nobody")
	if err != nil {
		t.Fatal(err)
	}
	if _, code, said := runCheck(t, nobody, "-n", namespace); code != 2 || !strings.Contains(said.stderr, "neither pods nor workloads can be read") {
		t.Errorf("exit code %d, want 2: %s", code, said)
	}
	if _, code, said := runCheck(t, cluster.Admin, "-n", "nowhere"); code != 2 || !strings.Contains(said.stderr, `there is no namespace "nowhere"`) {
		t.Errorf("exit code %d, want 2: %s", code, said)
	}
}

package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// TestOptIn creates pods with each combination of the labels of pod and namespace.
func TestOptIn(t *testing.T) {
	t.Parallel()
	_, enabled, whose := setup(t)
	namespaces := map[string]string{
		"enabled":  enabled,
		"disabled": makeNamespace(t, injectLabel, "disabled", own, whose),
		"none":     makeNamespace(t, own, whose),
	}
	const refused = -1
	for _, c := range []struct {
		namespace, pod string
		injected       int
	}{
		{"enabled", "", 1},
		{"enabled", "enabled", 1},
		{"enabled", "disabled", 0},
		{"enabled", "true", refused},
		{"none", "", 0},
		{"none", "enabled", 1},
		{"none", "disabled", 0},
		{"none", "true", refused},
		{"disabled", "", 0},
		{"disabled", "enabled", 1}, // the pod's label wins
		{"disabled", "disabled", 0},
		{"disabled", "true", refused},
	} {
		t.Run("namespace "+c.namespace+", pod "+c.pod, func(t *testing.T) {
			pod := newPod()
			if c.pod != "" {
				pod.Labels[injectLabel] = c.pod
			}
			made, err := create(t.Context(), namespaces[c.namespace], pod, metav1.CreateOptions{})
			if c.injected == refused {
				if err == nil || !has(err.Error(), `"true" is neither "enabled" nor "disabled"`) {
					t.Errorf("%v: want a refusal that names the values", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := sidecars(&made.Spec); got != c.injected {
				t.Errorf("%d sidecars, want %d", got, c.injected)
			}
			if c.injected == 1 {
				wantSidecar(t, &made.Spec)
			}
		})
	}
}

// wantSidecar checks what only the API server can: its defaults leave the sidecar as
// it was, and its own admission plugins give it no token.
func wantSidecar(t *testing.T, pod *corev1.PodSpec) {
	t.Helper()
	c := pod.InitContainers[0]
	if c.Name != "culvert" || c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		t.Errorf("the first init container isn't culvert as a native sidecar: %+v", c)
	}
	volumes := map[string]corev1.VolumeSource{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = v.VolumeSource
	}
	for _, mount := range c.VolumeMounts {
		if v := volumes[mount.Name]; v.Projected != nil || v.Secret != nil {
			t.Errorf("culvert has the volume %s: %+v", mount.Name, v)
		}
	}
	token := false // of the application, which the service account's plugin adds
	for _, mount := range pod.Containers[0].VolumeMounts {
		token = token || volumes[mount.Name].Projected != nil
	}
	if !token {
		t.Error("the application has no token either, so this shows nothing")
	}
}

// TestSystemNamespaceIsLeftAlone has kube-system, which must work without an injector.
func TestSystemNamespaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	_, _, whose := setup(t)
	ctx := context.Background()
	label := func(value string) {
		patch := `{"metadata":{"labels":{"` + injectLabel + `":` + value + `,"` + own + `":` + strings.ReplaceAll(value, "enabled", whose) + `}}}`
		if _, err := kube.CoreV1().Namespaces().Patch(ctx, "kube-system", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	label(`"enabled"`)
	defer label("null")
	pod, err := create(t.Context(), "kube-system", newPod(injectLabel, "enabled"), onlyDry)
	if err != nil || sidecars(&pod.Spec) != 0 {
		t.Errorf("%+v, %v: want it as it was", pod, err)
	}
}

// TestRefusedPodShowsTheReason looks at what the user sees, in kubectl and in the
// status of the Deployment.
func TestRefusedPodShowsTheReason(t *testing.T) {
	t.Parallel()
	i, namespace, _ := setup(t)
	manifest := strings.Replace(restrictedPod, "ANNOTATIONS", `culvert.dev/backend-prot: "9000"`, 1)
	o := kubectl(t, []byte(manifest), "create", "--namespace", namespace, "-f", "-")
	// Not Invalid: kubectl would call that a faulty field.
	if o.err == nil || !has(o.stderr, "(Forbidden)", "admission webhook", "culvert.dev/backend-prot", `did you mean "backend-port"?`) {
		t.Errorf("kubectl says:\n%s", o)
	}
	if n := i.metrics(t)[`culvert_injector_reviews_total{result="refused"}`]; n != 1 {
		t.Errorf("%v refusals in the metrics, want 1", n)
	}

	d := newDeployment(1)
	d.Spec.Template.Annotations = map[string]string{"culvert.dev/backend-port": "grpc-other"}
	deployments := kube.AppsV1().Deployments(namespace)
	if _, err := deployments.Create(t.Context(), d, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := controlplane.Await(ctx, d, deployments.List, deployments.Watch, replicasRefused); err != nil {
		t.Errorf("the Deployment doesn't say why it has no pods: %v", err)
	}
}

// TestDryRunHasNoEffect creates and makes nothing.
func TestDryRunHasNoEffect(t *testing.T) {
	t.Parallel()
	_, namespace, _ := setup(t)
	pod := newPod()
	pod.Name, pod.GenerateName = "orders", ""
	dry, err := create(t.Context(), namespace, pod, onlyDry)
	if err != nil || sidecars(&dry.Spec) != 1 {
		t.Fatalf("%+v, %v: want it with culvert", dry, err)
	}
	if made, err := kube.CoreV1().Pods(namespace).Get(t.Context(), "orders", metav1.GetOptions{}); !errors.IsNotFound(err) {
		t.Errorf("%+v, %v: want no pod", made, err)
	}
	// The name isn't taken, and the pod is the same without a dry run.
	made, err := create(t.Context(), namespace, pod, metav1.CreateOptions{})
	if err != nil || sidecars(&made.Spec) != 1 {
		t.Errorf("%+v, %v: want it with culvert", made, err)
	}
}

// TestPodSecurityAcceptsInjectedPods has a namespace with the strictest policy, whose
// plugin sees the pod after the webhooks.
func TestPodSecurityAcceptsInjectedPods(t *testing.T) {
	t.Parallel()
	_, _, whose := setup(t)
	namespace := makeNamespace(t, injectLabel, "enabled", own, whose, "pod-security.kubernetes.io/enforce", "restricted")
	pod, err := create(t.Context(), namespace, newPod(), metav1.CreateOptions{})
	if err != nil || sidecars(&pod.Spec) != 1 {
		t.Errorf("%+v, %v: want it with culvert", pod, err)
	}
	loose := newPod()
	loose.Spec.Containers[0].SecurityContext = nil
	if _, err := create(t.Context(), namespace, loose, metav1.CreateOptions{}); err == nil || !has(err.Error(), "PodSecurity", `"orders"`) || has(err.Error(), `"culvert"`) {
		t.Errorf("%v: want a refusal of the application's container alone", err)
	}
}

// TestOnlyTheAPIServerIsServed calls the webhook without the certificate that the API
// server presents.
func TestOnlyTheAPIServerIsServed(t *testing.T) {
	t.Parallel()
	i, _, _ := setup(t)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(read(t, cluster.CA.File("ca.crt")))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	response, err := client.Post("https://"+i.address+":8443/inject/pod", "application/json", strings.NewReader("{}"))
	if err == nil {
		_ = response.Body.Close()
		t.Errorf("%s: want no answer", response.Status)
	} else if !has(err.Error(), "certificate required") {
		t.Error(err)
	}
}

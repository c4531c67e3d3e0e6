package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	chart       = root + "/deploy/kubernetes/chart"
	installYAML = root + "/deploy/kubernetes/install.yaml"
)

// noOperator are the kinds of the Prometheus operator, which this API server doesn't
// have: no module that this one requires has their definitions.
var noOperator = []string{"kind: ServiceMonitor", "kind: PodMonitor"}

// TestChartIsAccepted gives the chart with each set of its options to the API server,
// which knows the kinds of cert-manager from its module. The namespace has Pod
// Security's strictest policy.
func TestChartIsAccepted(t *testing.T) {
	defineCertManager(t)
	files, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d sets of options: %v", len(files), err)
	}
	namespace := makeNamespace(t, "pod-security.kubernetes.io/enforce", "restricted")
	left := map[string]bool{}
	for _, file := range append(files, chart+"/values.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			rendered := runProgram(t, nil, "helm", "template", "culvert", chart, "--namespace", namespace, "--values", file)
			if rendered.err != nil {
				t.Fatal(rendered)
			}
			var known []string
			for d := range strings.SplitSeq(rendered.stdout, "\n---\n") {
				if i := indexOf(noOperator, d); i >= 0 {
					left[noOperator[i]] = true
					continue
				}
				known = append(known, d)
				podsAreAccepted(t, namespace, d)
			}
			if o := dryRun(t, "apply", []byte(strings.Join(known, "\n---\n"))); o.err != nil {
				t.Error(o)
			}
		})
	}
	if len(left) != len(noOperator) {
		t.Errorf("only %v were left out: remove the others from noOperator", left)
	}
}

func indexOf(parts []string, text string) int {
	for i, p := range parts {
		if strings.Contains(text, p) {
			return i
		}
	}
	return -1
}

// podsAreAccepted makes a pod of the document, if that is a Deployment, as its
// controller would.
func podsAreAccepted(t *testing.T, namespace, document string) {
	t.Helper()
	var d appsv1.Deployment
	if err := yaml.Unmarshal([]byte(document), &d); err != nil {
		t.Fatal(err)
	}
	if d.Kind != "Deployment" {
		return
	}
	pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
	pod.GenerateName = d.Name + "-"
	// A dry run makes neither the account nor a class of priorities.
	pod.Spec.ServiceAccountName, pod.Spec.PriorityClassName = "", ""
	if _, err := create(t.Context(), namespace, pod, onlyDry); err != nil {
		t.Errorf("a pod of %s: %v", d.Name, err)
	}
	pod.Spec.Containers[0].SecurityContext.Capabilities = nil
	if _, err := create(t.Context(), namespace, pod, onlyDry); err == nil || !has(err.Error(), `violates PodSecurity "restricted`) {
		t.Errorf("a pod with capabilities: %v", err)
	}
}

// defineCertManager defines cert-manager's kinds until the end of the test. They come
// from the module whose library culvert-kube has.
func defineCertManager(t *testing.T) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager")
	cmd.Dir = ".."
	dir, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"certificates", "issuers"} {
		file := filepath.Join(strings.TrimSpace(string(dir)), "deploy/crds/cert-manager.io_"+kind+".yaml")
		if o := kubectl(t, nil, "create", "-f", file); o.err != nil {
			t.Fatal(o)
		}
		t.Cleanup(func() { remove(t, "-f", file) })
		eventually(t, kind+" are served", func(context.Context) error { return kubectl(t, nil, "get", kind+".cert-manager.io").err })
	}
}

// remove deletes objects and waits until they have gone, also at the end of a test.
func remove(t *testing.T, args ...string) {
	cmd := exec.CommandContext(context.Background(), programs["kubectl"], append([]string{"--kubeconfig", cluster.Admin, "delete", "--ignore-not-found", "--timeout=60s"}, args...)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%q: %v: %s", args, err, text)
	}
}

// TestUpgradesKeepTheCertificate installs the injector, which makes its CA, in two
// ways, and installs it again with other values. The Secret and the caBundle aren't in
// the manifests, and stay as the injector has written them.
func TestUpgradesKeepTheCertificate(t *testing.T) {
	const namespace = "culvert-system" // of install.yaml
	rollout := func(t *testing.T) {
		t.Helper()
		if o := kubectl(t, nil, "-n", namespace, "rollout", "status", "deployment/culvert-injector", "--timeout=60s"); o.err != nil {
			t.Fatal(o)
		}
	}
	helm := func(args ...string) []string {
		return append([]string{"helm", "--kubeconfig", cluster.Admin, "--namespace", namespace}, args...)
	}
	apply := func(args ...string) []string {
		return append([]string{"kubectl", "--kubeconfig", cluster.Admin, "apply", "-f", installYAML}, args...)
	}
	values := "injector.logFormat=text,injector.timeoutSeconds=7,commonLabels.team=edge"
	for name, commands := range map[string][][]string{
		"helm": {
			helm("install", "culvert", chart, "--create-namespace"),
			helm("upgrade", "culvert", chart, "--set", values),
			helm("upgrade", "culvert", chart, "--set", values+",injector.replicas=1", "--force-conflicts"),
			helm("rollback", "culvert"),
		},
		"kubectl":             {apply(), apply(), apply("--overwrite")},
		"kubectl server-side": {apply("--server-side"), apply("--server-side"), apply("--server-side", "--force-conflicts")},
	} {
		t.Run(name, func(t *testing.T) {
			runNodes(t, namespace)
			t.Cleanup(func() { remove(t, "-f", installYAML) })
			if o := runProgram(t, nil, commands[0][0], commands[0][1:]...); o.err != nil {
				t.Fatal(o)
			}
			rollout(t)
			before := whatTheInjectorWrote(t, namespace)
			for _, c := range commands[1:] {
				seen := bundlesDuring(t, func() {
					if o := runProgram(t, nil, c[0], c[1:]...); o.err != nil {
						t.Fatalf("%q: %v", c, o)
					}
				})
				for _, bundle := range seen {
					if bundle != before[1] {
						t.Errorf("%q changed the caBundle to %q", c, bundle)
					}
				}
				if after := whatTheInjectorWrote(t, namespace); after != before {
					t.Errorf("%q changed the certificate from\n%v to\n%v", c, before, after)
				}
				rollout(t)
			}
			if name == "helm" {
				anotherCA(t, namespace)
			}
		})
	}
}

// anotherCA has the operator bring a certificate after the injector has made one. The
// guide says that this takes --force-conflicts.
func anotherCA(t *testing.T, namespace string) {
	t.Helper()
	rendered := runProgram(t, nil, "helm", "template", "culvert", chart, "--namespace", namespace, "--show-only", "templates/injector/webhook.yaml",
		"--set", "injector.certificate.source=secret,injector.certificate.secretName=tls", "--set-file", "injector.certificate.caBundle="+cluster.CA.File("ca.crt"))
	if rendered.err != nil {
		t.Fatal(rendered)
	}
	asHelm := []string{"--server-side", "--field-manager", "helm"} // dryRun has the rest
	if o := dryRun(t, "apply", []byte(rendered.stdout), asHelm...); o.err == nil || !has(o.stderr, `conflicts with "culvert-injector"`, "caBundle") {
		t.Errorf("want a conflict: %v", o)
	}
	if o := dryRun(t, "apply", []byte(rendered.stdout), append(asHelm, "--force-conflicts")...); o.err != nil {
		t.Error(o)
	}
}

// whatTheInjectorWrote returns the data of the Secret, and the caBundle of the webhooks.
func whatTheInjectorWrote(t *testing.T, namespace string) (written [2]string) {
	t.Helper()
	secret, err := kube.CoreV1().Secrets(namespace).Get(t.Context(), "culvert-injector-certs", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	config, err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), "culvert-injector", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	written = [2]string{fmt.Sprintf("%s", secret.Data), bundleOf(config)}
	if !has(written[0], "tls.key", "ca.crt") || !has(written[1], "BEGIN CERTIFICATE") {
		t.Fatalf("the injector hasn't written its CA: %v", written)
	}
	return written
}

// bundleOf returns the caBundle that both webhooks have.
func bundleOf(c *admissionv1.MutatingWebhookConfiguration) string {
	first, second := c.Webhooks[0].ClientConfig.CABundle, c.Webhooks[1].ClientConfig.CABundle
	if !bytes.Equal(first, second) {
		return fmt.Sprintf("%s, or %s", first, second)
	}
	return string(first)
}

// bundlesDuring returns the caBundles that the API server tells its watchers about
// while do runs.
func bundlesDuring(t *testing.T, do func()) (seen []string) {
	t.Helper()
	configs, err := kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=culvert-injector"})
	if err != nil {
		t.Fatal(err)
	}
	defer configs.Stop()
	do()
	// A change of the test's own comes after those of do.
	const mark = "e2e/mark"
	now := time.Now().Format(time.RFC3339Nano)
	if o := kubectl(t, nil, "annotate", "--overwrite", "mutatingwebhookconfiguration", "culvert-injector", mark+"="+now); o.err != nil {
		t.Fatal(o)
	}
	for event := range configs.ResultChan() {
		c, ok := event.Object.(*admissionv1.MutatingWebhookConfiguration)
		if !ok || event.Type == watch.Deleted {
			t.Fatalf("%s %v", event.Type, event.Object)
		}
		seen = append(seen, bundleOf(c))
		if c.Annotations[mark] == now {
			break
		}
	}
	return seen
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// helm builds Helm once for all tests.
var helm = sync.OnceValues(func() (string, error) { return findHelm(context.Background()) })

// aHelm returns the path of Helm.
func aHelm(t *testing.T) string {
	t.Helper()
	program, err := helm()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// options returns the values files of the chart's ci folder by name, and none for
// "defaults".
func options(t *testing.T) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(chart + "/ci/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("the chart has no values files for tests")
	}
	all := map[string][]string{"defaults": nil}
	for _, file := range files {
		all[strings.TrimSuffix(filepath.Base(file), ".yaml")] = []string{"--values", file}
	}
	return all
}

// manifests returns the documents of the chart with options.
func manifests(t *testing.T, args ...string) [][]byte {
	t.Helper()
	out, err := template(t.Context(), aHelm(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	return documents(t, out)
}

func documents(t *testing.T, text []byte) (all [][]byte) {
	t.Helper()
	reader := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer reader.Close()
	buffer := make([]byte, len(text)+1)
	for {
		n, err := reader.Read(buffer)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if d := bytes.Clone(buffer[:n]); len(bytes.TrimSpace(d)) > 0 {
			all = append(all, d)
		}
	}
}

// foreign are kinds of cert-manager, whose types this module doesn't have. The tests with
// an API server check them.
var foreign = map[schema.GroupKind]bool{
	{Group: "cert-manager.io", Kind: "Certificate"}: true,
	{Group: "cert-manager.io", Kind: "Issuer"}:      true,
}

var strict = serializer.NewCodecFactory(types(), serializer.EnableStrict).UniversalDeserializer()

// types returns the types of Kubernetes and of the Prometheus operator.
func types() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(errors.Join(scheme.AddToScheme(s), monitoringv1.AddToScheme(s)))
	return s
}

// objects decodes the documents into the API's types. An unknown or repeated field
// fails the test. Foreign kinds are left out.
func objects(t *testing.T, docs [][]byte) (all []runtime.Object) {
	t.Helper()
	for _, d := range docs {
		text, err := yaml.ToJSON(d)
		if err != nil {
			t.Fatal(err)
		}
		kind, err := json.DefaultMetaFactory.Interpret(text)
		if err == nil && foreign[kind.GroupKind()] {
			continue
		}
		object, _, err := strict.Decode(d, nil, nil)
		if err != nil {
			t.Errorf("%v\n%s", err, d)
			continue
		}
		all = append(all, object)
	}
	return all
}

func TestChartIsClean(t *testing.T) {
	for name, args := range options(t) {
		t.Run(name, func(t *testing.T) {
			if _, err := runHelm(t, append([]string{"lint", "--strict", "--quiet", chart}, args...)...); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestManifestsAreOfTheAPI(t *testing.T) {
	for name, args := range options(t) {
		t.Run(name, func(t *testing.T) {
			if len(objects(t, manifests(t, args...))) == 0 {
				t.Error("the chart is empty")
			}
		})
	}
}

// numbers are names that YAML takes for something else, unless they are in quotes.
const numbers = `
imagePullSecrets: [{name: "123"}]
commonLabels: {"1": "2", y: "no"}
injector:
  clientCA: {configMap: "1e3", key: "0x10"}
  priorityClassName: "12"
  podAnnotations: {"3": "~"}
gateway:
  enabled: true
  config: {backend: {address: "a:1"}, allow_origins: ["null", "~https://pr-[0-9]+\\.example\\.com", "http://localhost:*"], limits: {message_bytes: 33554432}}
  env: [{name: "N", value: "1_000"}]
  tls: {secretName: "1"}
  priorityClassName: "true"
  terminationGracePeriodSeconds: 86400
`

// TestNamesInQuotes renders names of which each is right, and would be another type
// without quotes.
func TestNamesInQuotes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "numbers.yaml")
	if err := os.WriteFile(file, []byte(numbers), 0o600); err != nil {
		t.Fatal(err)
	}
	all := options(t)
	all["numbers"] = []string{"--values", file}
	for name, args := range all {
		t.Run(name, func(t *testing.T) {
			out, err := runHelm(t, append([]string{"template", "n.123", chart, "--namespace", "1e3"}, args...)...)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects(t, documents(t, []byte(out))) {
				m, err := meta.Accessor(o)
				if err != nil {
					t.Fatal(err)
				}
				if got := m.GetLabels()["app.kubernetes.io/instance"]; got != "n.123" || m.GetNamespace() != "1e3" && m.GetNamespace() != "" {
					t.Errorf("%T %s is of %q in %q", o, m.GetName(), got, m.GetNamespace())
				}
				if s, ok := o.(*corev1.Service); ok && len(validation.IsDNS1035Label(s.Name)) > 0 {
					t.Errorf("%q isn't the name of a Service", s.Name)
				}
			}
		})
	}
}

// TestLongestName has a name of the length that Helm allows.
func TestLongestName(t *testing.T) {
	long := strings.Repeat("x", 53)
	out, err := runHelm(t, append([]string{"template", long, chart}, options(t)["everything"]...)...)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects(t, documents(t, []byte(out))) {
		if s, ok := o.(*corev1.Service); ok && len(validation.IsDNS1035Label(s.Name)) > 0 {
			t.Errorf("%q isn't the name of a Service", s.Name)
		}
	}
}

// TestWebhooksSelectPods matches the selectors with the labels of namespaces and pods. The
// injector must see a value that it doesn't know, because it refuses the pod.
func TestWebhooksSelectPods(t *testing.T) {
	var hooks []admissionv1.MutatingWebhook
	for _, o := range objects(t, manifests(t)) {
		if c, ok := o.(*admissionv1.MutatingWebhookConfiguration); ok {
			hooks = c.Webhooks
		}
	}
	matches := func(s *metav1.LabelSelector, label string) bool {
		t.Helper()
		selector, err := metav1.LabelSelectorAsSelector(s)
		if err != nil {
			t.Fatal(err)
		}
		set := labels.Set{}
		if label != "" {
			set["culvert.dev/inject"] = label
		}
		return selector.Matches(set)
	}
	for _, c := range []struct{ namespace, pod, want string }{
		{"", "", ""},
		{"", "enabled", "pod"},
		{"", "disabled", ""},
		{"", "true", "pod"},
		{"enabled", "", "namespace"},
		{"enabled", "enabled", "namespace"},
		{"enabled", "disabled", ""},
		{"enabled", "true", "namespace"},
		{"disabled", "", ""},
		{"disabled", "enabled", "pod"},
		{"disabled", "disabled", ""},
		{"disabled", "true", "pod"},
	} {
		var called []string
		for _, h := range hooks {
			if matches(h.NamespaceSelector, c.namespace) && matches(h.ObjectSelector, c.pod) {
				called = append(called, strings.TrimSuffix(h.Name, ".inject.culvert.dev"))
			}
		}
		if got := strings.Join(called, " "); got != c.want {
			t.Errorf("for a pod with the label %q in a namespace with %q, the API server calls %q, want %q", c.pod, c.namespace, got, c.want)
		}
	}
}

// TestInjectorsRights lists the rights of the injector's account. That they are enough
// is seen by the tests with an API server.
func TestInjectorsRights(t *testing.T) {
	got := map[string]string{}
	for _, o := range objects(t, manifests(t)) {
		switch o := o.(type) {
		case *rbacv1.Role:
			for _, r := range o.Rules {
				got[fmt.Sprint(o.Namespace, r.APIGroups, r.Resources, r.ResourceNames)] = fmt.Sprint(r.Verbs)
			}
		case *rbacv1.ClusterRole:
			for _, r := range o.Rules {
				got[fmt.Sprint(r.APIGroups, r.Resources, r.ResourceNames)] = fmt.Sprint(r.Verbs)
			}
		}
	}
	want := map[string]string{
		"culvert-system[] [secrets] [culvert-injector-certs]":                               "[get list watch update]",
		"[admissionregistration.k8s.io] [mutatingwebhookconfigurations] [culvert-injector]": "[get patch]",
	}
	if !maps.Equal(got, want) {
		t.Errorf("the rights are\n%v, want\n%v", got, want)
	}
}

// TestOneCPU reads the variable of containers whose limit is about one CPU.
func TestOneCPU(t *testing.T) {
	for limit, want := range map[string]bool{
		"1": true, "0.5": true, "500m": true, "1000m": true, "1.0": true, "1001m": false, "1.5": false, "2": false, "10": false,
	} {
		args := []string{"--set", "injector.resources.limits.cpu=" + limit + ",gateway.resources.limits.cpu=" + limit, "--set", "gateway.enabled=true,gateway.config.backend.address=a:1"}
		seen := 0
		for _, o := range objects(t, manifests(t, args...)) {
			if d, ok := o.(*appsv1.Deployment); ok {
				seen++
				c := d.Spec.Template.Spec.Containers[0]
				if got := slices.Contains(c.Env, corev1.EnvVar{Name: "GOMAXPROCS", Value: "1"}); got != want {
					t.Errorf("%s with %s CPU: one thread is %v, want %v", d.Name, limit, got, want)
				}
			}
		}
		if seen != 2 {
			t.Errorf("%d Deployments, want 2", seen)
		}
	}
}

// TestPodsAreRestricted asks the code that the API server enforces Pod Security with.
func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for name, args := range options(t) {
		t.Run(name, func(t *testing.T) {
			pods := 0
			for _, o := range objects(t, manifests(t, args...)) {
				d, ok := o.(*appsv1.Deployment)
				if !ok {
					continue
				}
				pods++
				pod := d.Spec.Template
				if r := policy.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec)); !r.Allowed {
					t.Errorf("%s: %s", d.Name, r.ForbiddenDetail())
				}
				for _, c := range pod.Spec.Containers {
					if s := c.SecurityContext; s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
						t.Errorf("%s: the root of %s can be written", d.Name, c.Name)
					}
				}
			}
			if pods == 0 {
				t.Error("the chart has no pods")
			}
		})
	}
}

func TestInstallManifestIsUpToDate(t *testing.T) {
	want, err := installManifest(t.Context(), aHelm(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(install)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s isn't what the chart makes: run \"make chart\"", install)
	}
	objects(t, documents(t, got))
}

// TestNotes reads what Helm prints after an installation.
func TestNotes(t *testing.T) {
	for name, want := range map[string]string{
		"defaults": "rollout status deployment/culvert-injector",
		"gateway":  "Clients in the cluster reach the gateway at culvert-gateway.culvert-system:8080, in plaintext.",
		"issuer":   "Warning: with one replica",
	} {
		args := append([]string{"install", release, chart, "--namespace", namespace, "--dry-run=client"}, options(t)[name]...)
		if got, err := runHelm(t, args...); err != nil || !strings.Contains(got, want) {
			t.Errorf("%s: %v, want notes with %q, got\n%s", name, err, want, got)
		}
	}
}

// runHelm runs Helm, with folders of its own, and returns its output.
func runHelm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := command(t, aHelm(t), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return string(out), nil
}

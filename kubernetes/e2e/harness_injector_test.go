package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// The addresses of injectors and of other servers of the tests: 10.77.0.2 and so on.
var lastAddress atomic.Int64

func newAddress() string { return fmt.Sprintf("10.77.0.%d", 2+lastAddress.Add(1)) }

// An injector is a running "culvert-kube webhook".
type injector struct {
	*controlplane.Process
	address string // of port 8443 for the API server, and of 9901
	health  string // URL
}

// startInjector starts the webhook, and waits until it is ready. It ends with the
// test, which fails if the exit code isn't 0.
func startInjector(t *testing.T, program, address string, env []string, args ...string) *injector {
	t.Helper()
	i := launchInjector(t, program, address, env, args...)
	i.awaitReady(t)
	return i
}

func launchInjector(t *testing.T, program, address string, env []string, args ...string) *injector {
	t.Helper()
	argv := append([]string{
		programs[program], "webhook", "--sidecar-image", "culvert:1.0.0", "--drain-delay", "0s",
		"--listen", address + ":8443", "--health-listen", address + ":9901",
	}, args...)
	p, err := starter.Start("injector-"+address, env, argv...)
	if err != nil {
		t.Fatal(err)
	}
	i := &injector{Process: p, address: address, health: "http://" + address + ":9901"}
	t.Cleanup(func() {
		select {
		case <-p.Exited(): // the test has ended it
		default:
			if err := p.Stop(patience); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("%s, its last lines:\n%s", p.Name, p.Tail(20))
		}
	})
	return i
}

func (i *injector) awaitReady(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := i.Until(ctx, func(ctx context.Context) error { _, err := get(ctx, i.health+"/readyz"); return err }); err != nil {
		t.Fatal(err)
	}
}

// get returns the body of an answer that says OK.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, response.Status, text)
	}
	return string(text), err
}

// metrics returns the values of the injector's metrics, by name and labels.
func (i *injector) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	text, err := get(t.Context(), i.health+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		if values[line[:end]], err = strconv.ParseFloat(line[end+1:], 64); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return values
}

// withCertificate issues a serving certificate, and returns the flags for it. The API
// server must present a certificate.
func withCertificate(t *testing.T, address string) []string {
	t.Helper()
	file := "injector-" + address
	if err := cluster.CA.Issue(file, "culvert-injector", nil, []string{address}); err != nil {
		t.Fatal(err)
	}
	ca := cluster.CA
	return []string{"--tls-cert", ca.File(file + ".crt"), "--tls-key", ca.File(file + ".key"), "--client-ca", ca.File("ca.crt")}
}

// own is a label of namespaces whose pods go to webhooks of one test only.
const own = "e2e/own"

// hooks returns the two webhooks that are registered for an injector, as the chart
// does, for namespaces with the value of the label own.
func hooks(t *testing.T, address, whose string) []admissionv1.MutatingWebhook {
	t.Helper()
	expression := func(key string, operator metav1.LabelSelectorOperator, values ...string) metav1.LabelSelectorRequirement {
		return metav1.LabelSelectorRequirement{Key: key, Operator: operator, Values: values}
	}
	hook := func(path string, namespaces metav1.LabelSelectorOperator, pods ...metav1.LabelSelectorRequirement) admissionv1.MutatingWebhook {
		return admissionv1.MutatingWebhook{
			Name: path + ".inject.culvert.dev",
			ClientConfig: admissionv1.WebhookClientConfig{
				URL:      new("https://" + address + ":8443/inject/" + path),
				CABundle: read(t, cluster.CA.File("ca.crt")),
			},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
				expression(injectLabel, namespaces, "enabled"),
				expression(corev1.LabelMetadataName, metav1.LabelSelectorOpNotIn, "kube-system", "kube-public", "kube-node-lease"),
				expression(own, metav1.LabelSelectorOpIn, whose),
			}},
			ObjectSelector:          &metav1.LabelSelector{MatchExpressions: pods},
			FailurePolicy:           new(admissionv1.Fail),
			SideEffects:             new(admissionv1.SideEffectClassNone),
			ReinvocationPolicy:      new(admissionv1.IfNeededReinvocationPolicy),
			TimeoutSeconds:          new(int32(30)), // the most: a busy machine needs more than install.yaml's 5 s
			AdmissionReviewVersions: []string{"v1"},
		}
	}
	notDisabled := expression(injectLabel, metav1.LabelSelectorOpNotIn, "disabled")
	return []admissionv1.MutatingWebhook{
		hook("namespace", metav1.LabelSelectorOpIn, notDisabled),
		hook("pod", metav1.LabelSelectorOpNotIn, expression(injectLabel, metav1.LabelSelectorOpExists), notDisabled),
	}
}

// register registers webhooks until the end of the test, and waits until the API
// server calls them: works says whether it does.
func register(t *testing.T, name string, webhooks []admissionv1.MutatingWebhook, works func(context.Context) error) {
	t.Helper()
	registered := kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := registered.Create(t.Context(), &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: webhooks}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := registered.Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the API server calls "+name, works)
}

var errNotInjected = errors.New("a pod wasn't injected")

// injects returns a check that the pods of a namespace get culvert.
func injects(namespace string) func(context.Context) error {
	return func(ctx context.Context) error {
		pod, err := create(ctx, namespace, newPod(), onlyDry)
		if err == nil && sidecars(&pod.Spec) == 0 {
			err = errNotInjected
		}
		return err
	}
}

// setup starts an injector whose webhooks are registered, and makes a namespace with
// the label that asks for culvert.
func setup(t *testing.T) (i *injector, namespace, whose string) {
	t.Helper()
	address := newAddress()
	whose = strings.ReplaceAll(address, ".", "-")
	i = startInjector(t, "culvert-kube", address, nil, withCertificate(t, address)...)
	namespace = makeNamespace(t, injectLabel, "enabled", own, whose)
	register(t, "culvert-"+whose, hooks(t, address, whose), injects(namespace))
	return i, namespace, whose
}

package e2e

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/culvert-grpc/culvert/kubernetes/e2e/controlplane"
)

// TestInjectorFails has an injector that doesn't answer, for each reason that the page
// on troubleshooting names, with both policies.
func TestInjectorFails(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		begin  func(t *testing.T, address string, client *admissionv1.WebhookClientConfig)
		reason string // of a refusal, which the user sees
	}{
		{"down", func(*testing.T, string, *admissionv1.WebhookClientConfig) {}, "connection refused"},
		{"hung", hang, "deadline exceeded"},
		{"of another CA", distrust, "certificate signed by unknown authority"},
		{"no endpoints", serveNowhere, "no endpoints available"},
	} {
		for _, policy := range []admissionv1.FailurePolicyType{admissionv1.Fail, admissionv1.Ignore} {
			t.Run(c.name+", "+string(policy), func(t *testing.T) {
				t.Parallel()
				address := newAddress()
				whose := strings.ReplaceAll(address, ".", "-")
				namespace := makeNamespace(t, injectLabel, "enabled", own, whose)
				other := makeNamespace(t, own, whose)
				webhooks := hooks(t, address, whose)
				c.begin(t, address, &webhooks[0].ClientConfig)
				for i := range webhooks {
					webhooks[i].ClientConfig = webhooks[0].ClientConfig
					webhooks[i].Name = whose + "." + webhooks[i].Name // for the API server's metrics
					webhooks[i].FailurePolicy = &policy
					webhooks[i].TimeoutSeconds = new(int32(1))
				}
				// The first refusal, or the API server's metrics, show that it calls.
				works := refuses(namespace)
				if policy == admissionv1.Ignore {
					works = failsOpen(namespace, webhooks[0].Name)
				}
				register(t, "culvert-"+whose, webhooks, works)

				pod, err := create(t.Context(), namespace, newPod(), metav1.CreateOptions{})
				switch {
				case policy == admissionv1.Fail && (err == nil || !has(err.Error(), "failed calling webhook", "namespace.inject.culvert.dev", c.reason)):
					t.Errorf("%v: want a refusal that names the webhook and %q", err, c.reason)
				case policy == admissionv1.Ignore && (err != nil || sidecars(&pod.Spec) != 0):
					t.Errorf("%+v, %v: want it without culvert", pod, err)
				}
				// Pods that don't ask for culvert are no affair of the injector.
				for namespace, label := range map[string]string{namespace: "disabled", other: "disabled"} {
					if _, err := create(t.Context(), namespace, newPod(injectLabel, label), metav1.CreateOptions{}); err != nil {
						t.Error(err)
					}
				}
				if _, err := create(t.Context(), other, newPod(), metav1.CreateOptions{}); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// hang accepts connections and answers nothing.
func hang(t *testing.T, address string, _ *admissionv1.WebhookClientConfig) {
	t.Helper()
	l, err := net.Listen("tcp", address+":8443")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close() // when the listener ends
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		accepting.Wait()
	})
}

// distrust has an injector that works, and a CA that isn't its own.
func distrust(t *testing.T, address string, client *admissionv1.WebhookClientConfig) {
	t.Helper()
	startInjector(t, "culvert-kube", address, nil, withCertificate(t, address)...)
	dir := t.TempDir()
	if _, err := controlplane.NewAuthority(dir); err != nil {
		t.Fatal(err)
	}
	client.CABundle = read(t, filepath.Join(dir, "ca.crt"))
}

// serveNowhere has a Service without pods.
func serveNowhere(t *testing.T, _ string, client *admissionv1.WebhookClientConfig) {
	t.Helper()
	namespace := makeNamespace(t)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "injector"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}, Selector: map[string]string{"app": "injector"}},
	}
	if _, err := kube.CoreV1().Services(namespace).Create(t.Context(), service, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client.URL, client.Service = nil, &admissionv1.ServiceReference{Namespace: namespace, Name: "injector"}
}

var (
	errNotRefused = errors.New("a pod wasn't refused")
	errNotCalled  = errors.New("the API server hasn't called the webhook")
)

// failsOpen returns a check that the API server has called a webhook in vain: its
// metrics count that.
func failsOpen(namespace, webhook string) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := create(ctx, namespace, newPod(), onlyDry); err != nil {
			return err
		}
		text, err := kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "apiserver_admission_webhook_fail_open_count") && has(line, webhook) {
				return nil
			}
		}
		return errNotCalled
	}
}

// refuses returns a check that pods are refused.
func refuses(namespace string) func(context.Context) error {
	return func(ctx context.Context) error {
		if _, err := create(ctx, namespace, newPod(), onlyDry); err != nil {
			return nil
		}
		return errNotRefused
	}
}

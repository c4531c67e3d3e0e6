package e2e

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestInjectorFails has an injector that is down, and one that hangs, with both
// policies.
func TestInjectorFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		begin  func(t *testing.T, address string)
		reason string // of a refusal, which the user sees
	}{
		{"down", func(*testing.T, string) {}, "connection refused"},
		{"hung", hang, "deadline exceeded"},
	} {
		for _, policy := range []admissionv1.FailurePolicyType{admissionv1.Fail, admissionv1.Ignore} {
			t.Run(c.name+", "+string(policy), func(t *testing.T) {
				t.Parallel()
				address := newAddress()
				c.begin(t, address)
				whose := strings.ReplaceAll(address, ".", "-")
				namespace := makeNamespace(t, injectLabel, "enabled", own, whose)
				other := makeNamespace(t, own, whose)
				webhooks := hooks(t, address, whose)
				for i := range webhooks {
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
				case policy == admissionv1.Fail && (err == nil || !has(err.Error(), "namespace.inject.culvert.dev", c.reason)):
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
func hang(t *testing.T, address string) {
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
